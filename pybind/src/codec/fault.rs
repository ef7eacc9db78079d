//! Why a Python object cannot be a value, and where in it the trouble lies.

use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PyType};

use crate::errors;

/// Steps shown at each end of a path that is too long to show whole.
const SHOWN_STEPS: usize = 4;
/// Characters of a dict key's `repr` that are shown.
const SHOWN_KEY_CHARS: usize = 60;

/// One step from a container into what it holds.
enum Step {
    /// `container[3]`
    Index(usize),
    /// `container['a']`, with the key as Python writes it.
    Key(String),
    /// `list(container)[2]`: a key of a dict, or an element of a set.
    Nth(usize),
    /// `object.name`: a field of a registered class.
    Field(String),
    /// `encode(object)`: what the function that was registered for its class made of it.
    Encoded,
}

enum Problem {
    /// Its type is not one that is stored.
    Type { type_name: String, remedy: String },
    /// Its type is fine and it is not: why.
    Invalid(String),
    /// Python code that was asked for its content raised.
    Raised(PyErr),
}

/// Why a value was refused. The path is built while the refusal travels outwards, so that a value
/// that is fine pays nothing for it.
pub(crate) struct Fault {
    /// From the inside out.
    steps: Vec<Step>,
    problem: Problem,
}

impl Fault {
    pub(crate) fn unknown_type(object: &Bound<'_, PyAny>) -> Box<Self> {
        let remedy = remedy(object, &object.get_type());
        Self::refused(object, remedy)
    }

    /// An object of a type that is not stored, and what to do about it.
    pub(crate) fn refused(object: &Bound<'_, PyAny>, remedy: String) -> Box<Self> {
        let class = object.get_type();
        let type_name = match class.fully_qualified_name() {
            Ok(name) => name.to_string(),
            Err(_) => String::from("object"),
        };
        Box::new(Self {
            steps: Vec::new(),
            problem: Problem::Type { type_name, remedy },
        })
    }

    pub(crate) fn invalid(why: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            steps: Vec::new(),
            problem: Problem::Invalid(why.into()),
        })
    }

    pub(crate) fn at_index(mut self: Box<Self>, index: usize) -> Box<Self> {
        self.steps.push(Step::Index(index));
        self
    }

    pub(crate) fn at_key(mut self: Box<Self>, key: &Bound<'_, PyAny>) -> Box<Self> {
        let shown = key.repr().map(|text| text.to_string_lossy().into_owned());
        let mut shown = shown.unwrap_or_else(|_| String::from("?"));
        if let Some((cut, _)) = shown.char_indices().nth(SHOWN_KEY_CHARS) {
            shown.truncate(cut);
            shown.push_str("...");
        }
        self.steps.push(Step::Key(shown));
        self
    }

    pub(crate) fn at_nth(mut self: Box<Self>, place: usize) -> Box<Self> {
        self.steps.push(Step::Nth(place));
        self
    }

    pub(crate) fn at_field(mut self: Box<Self>, name: String) -> Box<Self> {
        self.steps.push(Step::Field(name));
        self
    }

    pub(crate) fn at_encoded(mut self: Box<Self>) -> Box<Self> {
        self.steps.push(Step::Encoded);
        self
    }

    /// The path from `value` to the trouble, as a Python expression.
    fn path(&self) -> String {
        let mut path = String::from("value");
        let count = self.steps.len();
        for (done, step) in self.steps.iter().rev().enumerate() {
            if done == SHOWN_STEPS && count > 2 * SHOWN_STEPS {
                path.push_str("...");
            }
            if done >= SHOWN_STEPS && done + SHOWN_STEPS < count {
                continue;
            }
            path = match step {
                Step::Index(index) => format!("{path}[{index}]"),
                Step::Key(key) => format!("{path}[{key}]"),
                Step::Nth(place) => format!("list({path})[{place}]"),
                Step::Field(name) => format!("{path}.{name}"),
                Step::Encoded => format!("encode({path})"),
            };
        }
        path
    }

    /// The Python exception that says all this.
    pub(crate) fn raise(self, py: Python<'_>) -> PyErr {
        let path = self.path();
        match self.problem {
            Problem::Type { type_name, remedy } => {
                let message =
                    format!("{path} is of type {type_name}, which cannot be stored: {remedy}");
                errors::unserialisable(py, message, path, type_name)
            }
            Problem::Invalid(why) => errors::invalid(py, format!("{path} {why}")),
            Problem::Raised(error) => error,
        }
    }
}

impl From<PyErr> for Box<Fault> {
    fn from(error: PyErr) -> Self {
        Self::new(Fault {
            steps: Vec::new(),
            problem: Problem::Raised(error),
        })
    }
}

/// What to store instead of an object of an unknown type.
fn remedy(object: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> String {
    let has = |name: &str| class.hasattr(name).unwrap_or(false);
    if object.is_instance_of::<PyType>() {
        return String::from("store its name");
    }
    if has("_member_map_") {
        return String::from("decorate its class with @objsync.value, or store its .value");
    }
    if has("__dataclass_fields__") {
        return String::from(
            "decorate its class with @objsync.value, or store dataclasses.asdict() of it",
        );
    }
    if has("_asdict") {
        return String::from(
            "decorate its class with @objsync.value, or store tuple() or ._asdict() of it",
        );
    }
    if has("__array_interface__") {
        return String::from("the subclass would be lost, so store numpy.asarray() of it");
    }
    if object.is_instance_of::<PyMemoryView>() || class.name().is_ok_and(|name| name == "array") {
        return String::from("store bytes() of it");
    }
    if has("tolist") {
        return String::from("store its .tolist()");
    }
    for (base, name) in [
        (object.is_instance_of::<pyo3::types::PyDict>(), "dict"),
        (object.is_instance_of::<pyo3::types::PyList>(), "list"),
        (object.is_instance_of::<pyo3::types::PyTuple>(), "tuple"),
        (object.is_instance_of::<pyo3::types::PySet>(), "set"),
        (
            object.is_instance_of::<pyo3::types::PyFrozenSet>(),
            "frozenset",
        ),
        (object.is_instance_of::<pyo3::types::PyString>(), "str"),
        (object.is_instance_of::<pyo3::types::PyBytes>(), "bytes"),
        (object.is_instance_of::<pyo3::types::PyInt>(), "int"),
        (object.is_instance_of::<pyo3::types::PyFloat>(), "float"),
    ] {
        if base {
            return format!(
                "the subclass would be lost, so store {name}() of it, or register it with objsync.register()"
            );
        }
    }
    if has("keys") && has("__getitem__") {
        return String::from("store dict() of it");
    }
    if has("__iter__") {
        return String::from("store list() of it");
    }
    if has("__fspath__") {
        return String::from("store str() of it");
    }
    String::from("register its class with objsync.register(), or store its fields as a dict")
}
