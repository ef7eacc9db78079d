//! Where the index of a store lives from one owner to the next.
//!
//! An index is a cache. What lies in its home is used again only if it is proven to be what was
//! left there, or after every entry of it was compared with snapshot and log.

use std::os::fd::RawFd;
use std::sync::Arc;

use super::{Index, MemoryIndex};
use crate::error::StoreError;

/// Keeps an index for the next owner.
pub trait IndexHome: Send + Sync + 'static {
    /// Opens the index that is there; none if there is none.
    ///
    /// # Errors
    /// [`StoreError::Index`] if it cannot be opened: another is to be made.
    fn reuse(&self) -> Result<Option<Reused>, StoreError>;

    /// Sets aside what is there and makes an empty index.
    fn make(&self) -> Result<Arc<dyn Index>, StoreError>;

    /// Removes an index that could not be finished; nobody has it open any more.
    fn discard(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Notes that the index is whole and that nobody has it open any more.
    fn closed(&self) -> Result<(), StoreError>;

    /// Descriptors of the index, open or about to be, that a forked child must close.
    fn inherited_fds(&self) -> Vec<RawFd>;
}

/// An index that was there.
pub struct Reused {
    /// The index.
    pub index: Arc<dyn Index>,
    /// Its files are, byte for byte, those that a clean end left.
    pub is_proven: bool,
}

/// No home: each owner begins with an empty index in memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct MemoryHome;

impl IndexHome for MemoryHome {
    fn reuse(&self) -> Result<Option<Reused>, StoreError> {
        Ok(None)
    }

    fn make(&self) -> Result<Arc<dyn Index>, StoreError> {
        Ok(Arc::new(MemoryIndex::default()))
    }

    fn closed(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn inherited_fds(&self) -> Vec<RawFd> {
        Vec::new()
    }
}
