//! Keys: from a Python object to an encoded key and back.

use objsync::KeyRange;
use objsync::bigint::BigInt;
use objsync::key::{self, Key, KeyBytes, KeyError, KeyWriter};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple,
};

use super::types::ValueTypes;
use super::{decode, encode, moment};
use crate::errors;

const ALLOWED: &str = "a key is a str, int, float, bool, bytes, None, UUID, datetime, or a tuple of \
                       those";

/// The encoded form of a Python key.
pub(crate) fn encode_key(object: &Bound<'_, PyAny>) -> PyResult<KeyBytes> {
    let mut writer = KeyWriter::new();
    write(&mut writer, object)?;
    writer
        .finish()
        .map_err(|error| refused(object.py(), &error))
}

fn refused(py: Python<'_>, error: &KeyError) -> PyErr {
    errors::invalid(py, error.to_string())
}

/// Whether Python's `==` and `hash` tell this key apart from others exactly as its encoding does,
/// so that a dict may stand before the encoding.
///
/// Not so for subclasses, which can redefine both, nor for aware datetimes, which Python compares
/// without `fold` within one zone.
pub(crate) fn is_cacheable(object: &Bound<'_, PyAny>) -> bool {
    object.cast_exact::<PyString>().is_ok()
        || object.cast_exact::<PyInt>().is_ok()
        || object.cast_exact::<PyBytes>().is_ok()
        || object.cast_exact::<PyFloat>().is_ok()
        || object.cast_exact::<PyBool>().is_ok()
        || object.is_none()
        || object
            .cast_exact::<PyTuple>()
            .is_ok_and(|tuple| tuple.iter_borrowed().all(|element| is_cacheable(&element)))
}

fn write(writer: &mut KeyWriter, object: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = object.py();
    let refused = |error: KeyError| refused(py, &error);
    if let Ok(text) = object.cast_exact::<PyString>() {
        let text = text.to_str().map_err(|_| {
            errors::invalid(
                py,
                "key has half of a surrogate pair, which is no character".into(),
            )
        })?;
        writer.str(text).map_err(refused)
    } else if let Ok(number) = object.cast_exact::<PyInt>() {
        write_int(writer, number)
    } else if let Ok(number) = object.cast_exact::<PyFloat>() {
        writer.float(number.value()).map_err(refused)
    } else if let Ok(truth) = object.cast_exact::<PyBool>() {
        writer.int(i128::from(truth.is_true()));
        Ok(())
    } else if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        writer.bytes(bytes.as_bytes()).map_err(refused)
    } else if object.is_none() {
        writer.none();
        Ok(())
    } else if let Ok(tuple) = object.cast_exact::<PyTuple>() {
        writer.begin_tuple().map_err(refused)?;
        for element in tuple.iter_borrowed() {
            write(writer, &element)?;
        }
        writer.end_tuple();
        Ok(())
    } else {
        write_rare(writer, object)
    }
}

fn write_int(writer: &mut KeyWriter, number: &Bound<'_, PyInt>) -> PyResult<()> {
    if let Ok(small) = number.extract::<i64>() {
        writer.int(small.into());
        return Ok(());
    }
    let (negative, magnitude) = encode::big_parts(number)?;
    let number = BigInt::from_parts(negative, magnitude.as_bytes());
    writer
        .big_int(&number)
        .map_err(|error| refused(magnitude.py(), &error))
}

fn write_rare(writer: &mut KeyWriter, object: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = object.py();
    let types = ValueTypes::get(py)?;
    let class = object.get_type();
    if class.is(&types.uuid) {
        let bytes: [u8; 16] = object.getattr(intern!(py, "bytes"))?.extract()?;
        writer.uuid(uuid::Uuid::from_bytes(bytes));
    } else if class.is(&types.datetime) {
        match moment::key_micros(object)? {
            (micros, true) => writer.datetime_aware(micros),
            (micros, false) => writer.datetime_naive(micros),
        }
    } else {
        return Err(wrong_type(object));
    }
    Ok(())
}

fn wrong_type(object: &Bound<'_, PyAny>) -> PyErr {
    let class = object.get_type();
    let name = class.fully_qualified_name().map(|name| name.to_string());
    let name = name.unwrap_or_else(|_| String::from("object"));
    let mutable = object.is_instance_of::<PyList>()
        || object.is_instance_of::<PyDict>()
        || object.is_instance_of::<PySet>();
    let message = if mutable {
        format!("key is an unhashable type, '{name}': {ALLOWED}")
    } else if object.is_instance_of::<PyFrozenSet>() {
        format!("key is a {name}, which has no order: {ALLOWED}")
    } else {
        format!("key is a {name}: {ALLOWED}")
    };
    errors::unserialisable(object.py(), message, String::from("key"), name)
}

/// The Python key of an encoded one.
pub(crate) fn decode_key<'py>(py: Python<'py>, encoded: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    // A short text without a zero byte is most keys: it stands in the encoding as it is.
    if let [key::tag::STR, text @ .., 0, 0] = encoded
        && !text.contains(&0)
        && let Ok(text) = std::str::from_utf8(text)
    {
        return Ok(PyString::new(py, text).into_any());
    }
    let key = key::decode(encoded).map_err(|error| errors::corrupt(py, error.to_string()))?;
    object_of(py, key)
}

fn object_of(py: Python<'_>, key: Key) -> PyResult<Bound<'_, PyAny>> {
    Ok(match key {
        Key::None => py.None().into_bound(py),
        Key::Int(number) => match i64::try_from(number) {
            Ok(small) => PyInt::new(py, small).into_any(),
            Err(_) => big_object(py, &BigInt::from(number))?,
        },
        Key::BigInt(number) => big_object(py, &number)?,
        Key::Float(number) => PyFloat::new(py, number).into_any(),
        Key::Str(text) => PyString::new(py, &text).into_any(),
        Key::Bytes(bytes) => PyBytes::new(py, &bytes).into_any(),
        Key::DateTimeNaive(micros) => moment::datetime_of_key(py, micros, false)?,
        Key::DateTimeAware(micros) => moment::datetime_of_key(py, micros, true)?,
        Key::Uuid(uuid) => decode::uuid(py, uuid.as_bytes())?,
        Key::Tuple(elements) => {
            let objects: PyResult<Vec<_>> = elements
                .into_iter()
                .map(|element| object_of(py, element))
                .collect();
            PyTuple::new(py, objects?)?.into_any()
        }
    })
}

fn big_object<'py>(py: Python<'py>, number: &BigInt) -> PyResult<Bound<'py, PyAny>> {
    decode::int_from_parts(py, number.is_negative(), number.magnitude())
}

/// The range of all keys that start with `prefix`: a str, bytes, or the first elements of a tuple.
pub(crate) fn prefix_range(prefix: &Bound<'_, PyAny>) -> PyResult<KeyRange> {
    let py = prefix.py();
    if let Ok(text) = prefix.cast_exact::<PyString>() {
        let text = text
            .to_str()
            .map_err(|error| errors::invalid(py, error.to_string()))?;
        Ok(key::str_prefix(text))
    } else if let Ok(bytes) = prefix.cast_exact::<PyBytes>() {
        Ok(key::bytes_prefix(bytes.as_bytes()))
    } else if prefix.cast_exact::<PyTuple>().is_ok() {
        let key = encode_key(prefix)?;
        // Without the mark that ends a tuple, what goes on after its elements comes too.
        Ok(objsync::prefix_range(&key[..key.len() - 1]))
    } else {
        let name = prefix.get_type().name()?.to_string();
        let message = format!("prefix is a {name}: it is a str, bytes or a tuple");
        Err(errors::unserialisable(
            py,
            message,
            String::from("prefix"),
            name,
        ))
    }
}
