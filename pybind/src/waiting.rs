//! How a Python thread waits: without the interpreter's lock, and not at all for what is there.

use objsync::{ObjectError, Pending};
use pyo3::prelude::*;

use crate::errors;

/// The result of a call; other Python threads run while this one waits for it.
pub(crate) fn wait<T: Send>(py: Python<'_>, pending: Pending<T>) -> PyResult<T> {
    py.detach(move || pending.wait())
        .map_err(|error| errors::raise(py, &error))
}

/// The result of a read: what is in memory is returned without letting go of the interpreter's lock.
///
/// Not for writes: to ask one for its result starts it, through another thread, where to wait for it
/// runs it in this one.
pub(crate) fn wait_for_read<T: Send>(py: Python<'_>, mut pending: Pending<T>) -> PyResult<T> {
    match pending.try_take() {
        Some(result) => result.map_err(|error| errors::raise(py, &error)),
        None => wait(py, pending),
    }
}

/// The result of something that can block; other Python threads run meanwhile.
pub(crate) fn blocking<T: Send>(
    py: Python<'_>,
    work: impl Send + FnOnce() -> Result<T, ObjectError>,
) -> PyResult<T> {
    py.detach(work).map_err(|error| errors::raise(py, &error))
}
