//! The mark that a write or a sync failed in a way that leaves its outcome open.
//!
//! After a failed sync the kernel may forget the pages and report success the next time, so a
//! second try could acknowledge what is gone. The first failure is kept, and every later write is
//! refused with it until the store is opened again. Reads go on.

use std::sync::OnceLock;

use crate::error::StoreError;

/// Whether writes are refused, and since what.
#[derive(Debug, Default)]
pub struct Poison(OnceLock<String>);

impl Poison {
    /// That writes are still accepted.
    pub fn check(&self) -> Result<(), StoreError> {
        match self.0.get() {
            None => Ok(()),
            Some(cause) => Err(StoreError::Poisoned {
                cause: cause.clone(),
            }),
        }
    }

    /// Refuses writes from now on; gives the error of the write that met the failure.
    pub fn set(&self, failure: &StoreError) -> StoreError {
        let cause = failure.to_string();
        tracing::error!(%cause, "store refuses writes from now on");
        let _ = self.0.set(cause.clone());
        StoreError::OutcomeUnknown { cause }
    }

    /// What failed first.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}
