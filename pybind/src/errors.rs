//! The way from an error to its Python exception, whose classes are written in Python
//! (`objsync.errors`), where anybody can import them and pickle finds them.

use objsync::{ErrorKind, ObjectError};
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;

use crate::codec::decode_key;
use crate::interrupt;

/// The exception for a failed call.
pub(crate) fn raise(py: Python<'_>, error: &ObjectError) -> PyErr {
    if error.kind() == ErrorKind::Interrupted
        && let Some(raised) = interrupt::take()
    {
        return raised;
    }
    if let ObjectError::PastRetention { revision, oldest } = error {
        let fields = (error.to_string(), revision.0, oldest.0);
        return build(py, "PastRetentionError", fields);
    }
    if let ObjectError::NoStore { path } = error {
        return build(
            py,
            "StoreNotFoundError",
            (error.to_string(), path.as_path()),
        );
    }
    if let ObjectError::Gap(gap) = error {
        let fields = (
            error.to_string(),
            gap.after.0,
            gap.oldest.0,
            gap.same_history,
        );
        return build(py, "HistoryGapError", fields);
    }
    let message = error.to_string();
    match error {
        ObjectError::NoMemory { .. } => PyMemoryError::new_err(message),
        ObjectError::Unanswered { op, .. } => {
            let numbers = (op.session.epoch, op.session.frame.0, op.sequence.0);
            build(py, "unanswered", (message, numbers))
        }
        ObjectError::SnapshotExpired { revision } => {
            build(py, "SnapshotExpiredError", (message, revision.0))
        }
        ObjectError::Overtaken { key, .. } => {
            let key = key.as_ref().and_then(|key| decode_key(py, key).ok());
            build(py, "ConflictError", (message, key))
        }
        ObjectError::Moved { key, .. } => named(py, "ConflictError", message, key),
        ObjectError::Fenced { name, .. } => named(py, "FencedError", message, name),
        ObjectError::LockTimeout { name, .. } => named(py, "LockTimeoutError", message, name),
        ObjectError::LeaseEnded { lease, .. } => build(py, "LeaseExpiredError", (message, lease.0)),
        other => of_kind(py, other.kind(), message),
    }
}

/// An error about the lock of that name.
fn named(py: Python<'_>, class: &str, message: String, name: &[u8]) -> PyErr {
    build(py, class, (message, decode_key(py, name).ok()))
}

/// An error of a value, with a note of the key that it was to be put under.
pub(crate) fn under_key(key: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    if let Ok(shown) = key.repr() {
        let note = format!("value: the one for the key {shown}");
        // The error matters, the note does not.
        let _ = error.value(key.py()).call_method1("add_note", (note,));
    }
    error
}

/// `InvalidError`: the request itself is wrong.
pub(crate) fn invalid(py: Python<'_>, message: String) -> PyErr {
    of_kind(py, ErrorKind::Invalid, message)
}

/// `CorruptError`: stored bytes are damaged.
pub(crate) fn corrupt(py: Python<'_>, message: String) -> PyErr {
    of_kind(py, ErrorKind::Corrupt, message)
}

/// `ClosedError`: the object is closed.
pub(crate) fn closed(py: Python<'_>, message: String) -> PyErr {
    of_kind(py, ErrorKind::Closed, message)
}

/// `UnserialisableError`: an object of a type that is not stored, and where it is.
pub(crate) fn unserialisable(
    py: Python<'_>,
    message: String,
    path: String,
    type_name: String,
) -> PyErr {
    build(py, "UnserialisableError", (message, path, type_name))
}

/// The exception of a kind.
pub(crate) fn of_kind(py: Python<'_>, kind: ErrorKind, message: String) -> PyErr {
    build(py, class_name(kind), (message,))
}

/// The class in `objsync.errors` for each kind.
pub(crate) fn class_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Invalid => "InvalidError",
        ErrorKind::NotFound => "NotFoundError",
        ErrorKind::Conflict => "ConflictError",
        ErrorKind::Denied => "DeniedError",
        ErrorKind::Unavailable => "UnavailableError",
        ErrorKind::Corrupt => "CorruptError",
        ErrorKind::Full => "FullError",
        ErrorKind::Closed => "ClosedError",
        ErrorKind::OutcomeUnknown => "OutcomeUnknownError",
        ErrorKind::Interrupted => "CallInterruptedError",
        // Kinds that a later version adds are unsupported by this one.
        _ => "UnsupportedError",
    }
}

fn build<'py, A>(py: Python<'py>, class: &str, arguments: A) -> PyErr
where
    A: pyo3::call::PyCallArgs<'py>,
{
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let exception = MODULE
        .get_or_try_init(py, || py.import("objsync.errors").map(Bound::unbind))
        .and_then(|module| module.bind(py).getattr(class)?.call1(arguments));
    match exception {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}
