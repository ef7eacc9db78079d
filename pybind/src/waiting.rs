//! How a Python thread waits: without the interpreter's lock, and not at all for what is there.

use objsync::{ObjectError, Pending};
use pyo3::prelude::*;

use crate::errors;

/// The result of a call; other Python threads run while this one waits for it.
pub(crate) fn wait<T: Send>(py: Python<'_>, mut pending: Pending<T>) -> PyResult<T> {
    let result = match pending.try_take() {
        Some(result) => result,
        None => py.detach(move || pending.wait()),
    };
    result.map_err(|error| errors::raise(py, &error))
}

/// The result of something that can block; other Python threads run meanwhile.
pub(crate) fn blocking<T: Send>(
    py: Python<'_>,
    work: impl Send + FnOnce() -> Result<T, ObjectError>,
) -> PyResult<T> {
    py.detach(work).map_err(|error| errors::raise(py, &error))
}
