//! Registered classes: the way to `objsync/_classes.py`, which knows them.
//!
//! Body of the extension: the class's name as a str, then one payload: a dict of fields, the name
//! of an enum's member, or what the function that was registered made of the object. Names are
//! looked up among what this process has registered; nothing is ever imported by a name.

use objsync::value::ext;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyAnyMethods, PyDict, PyString, PyType};

use super::encode::{self, Encoded};
use super::fault::Fault;
use super::fresh::Fresh;

struct Classes {
    /// From a class to the function that takes its objects apart.
    takers: Py<PyDict>,
    rebuild: Py<PyAny>,
}

fn classes(py: Python<'_>) -> PyResult<&Classes> {
    static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();
    CLASSES.get_or_try_init(py, || {
        let module = py.import("objsync._classes")?;
        Ok(Classes {
            takers: module.getattr("takers")?.cast_into::<PyDict>()?.unbind(),
            rebuild: module.getattr("rebuild")?.unbind(),
        })
    })
}

/// What takes objects of this class apart, if it is registered.
pub(super) fn taker<'py>(class: &Bound<'py, PyType>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = class.py();
    classes(py)?.takers.bind(py).get_item(class)
}

/// Writes an object of a registered class. It is one level of nesting, its content is another.
pub(super) fn write(
    out: &mut Vec<u8>,
    object: &Bound<'_, PyAny>,
    taker: &Bound<'_, PyAny>,
    depth: usize,
) -> Encoded {
    let (name, by_field, content): (Bound<'_, PyString>, bool, Bound<'_, PyAny>) =
        taker.call1((object,))?.extract()?;
    let depth = encode::deeper(depth)?;
    encode::write_ext(out, ext::OBJECT, |out| {
        encode::write_str(out, &name)?;
        match content.cast_exact::<PyDict>() {
            Ok(fields) if by_field => write_fields(out, fields, depth),
            _ => encode::write_value(out, &content, depth).map_err(Fault::at_encoded),
        }
    })
}

fn write_fields(out: &mut Vec<u8>, fields: &Bound<'_, PyDict>, depth: usize) -> Encoded {
    let depth = encode::deeper(depth)?;
    encode::push_dict_length(out, encode::length(fields.len())?);
    for (name, value) in fields.iter() {
        encode::write_value(out, &name, depth)?;
        encode::write_value(out, &value, depth)
            .map_err(|fault| fault.at_field(name.to_string()))?;
    }
    Ok(())
}

/// An object of a registered class, or what stands for one of a class that is not registered here.
pub(super) struct Rebuilt<'py> {
    pub(super) object: Bound<'py, PyAny>,
    /// Whether nothing in it can change, so that all readers can have the same.
    pub(super) is_shareable: bool,
}

pub(super) fn rebuild<'py>(
    py: Python<'py>,
    name: &str,
    content: &Bound<'py, PyAny>,
) -> PyResult<Rebuilt<'py>> {
    let rebuilt = classes(py)?.rebuild.bind(py).call1((name, content))?;
    let (object, is_frozen): (Bound<'_, PyAny>, bool) = rebuilt.extract()?;
    Ok(Rebuilt {
        object,
        is_shareable: is_frozen && Fresh::holds_nothing_that_changes(content),
    })
}
