//! Ctrl-C while a call waits: the waiting thread asks Python now and then whether a signal came.

use std::cell::RefCell;

use pyo3::prelude::*;

thread_local! {
    /// What the signal's handler raised in this thread, until the interrupted call returns.
    static RAISED: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// Runs the handlers of pending signals; true when one raised (or Python is going away), so the call
/// must return.
pub(crate) fn check() -> bool {
    let raised = Python::try_attach(|py| match py.check_signals() {
        Ok(()) => false,
        Err(error) => {
            RAISED.set(Some(error));
            true
        }
    });
    raised.unwrap_or(true)
}

/// What interrupted this thread's last call.
pub(crate) fn take() -> Option<PyErr> {
    RAISED.take()
}
