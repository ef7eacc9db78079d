//! The index of the dictionary: a cache of log and snapshots that finds a value by its key.
//!
//! Deleting it loses nothing: [`crate::state`] makes it again. No answer to a write waits for it.
//!
//! Invariants
//! * A batch is applied whole or not at all, with its counts and its mark, whenever the process
//!   is killed. How far behind a power cut leaves the index does not matter: the mark tells.
//! * The mark is opaque here; who gives it also says whether it still lies on the log's history.
//!
//! `sled.rs` is the only file that names sled. `conformance` holds what every index must do.

mod closed;
mod compare;
mod home;
mod layered;
mod memory;
mod sled;
mod sled_home;

#[cfg(test)]
mod conformance;

use std::ops::ControlFlow;

use bytes::Bytes;
use objsync_proto::ids::NamespaceId;
use objsync_proto::wire::KeyRange;

pub(crate) use closed::ClosedIndex;
pub(crate) use compare::{Difference, compare};
pub use home::{IndexHome, MemoryHome, Reused};
pub(crate) use layered::LayeredIndex;
pub use memory::MemoryIndex;
pub use sled::SledIndex;
pub use sled_home::SledHome;

use crate::error::StoreError;
use crate::store::Stored;

/// Finds values by key, as of its mark.
pub trait Index: Send + Sync + 'static {
    /// The entry of a key.
    fn get(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<Stored>, StoreError>;

    /// Whether there is an entry of a key.
    fn contains(&self, namespace: NamespaceId, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.get(namespace, key)?.is_some())
    }

    /// Calls `visit` with the entries of a range in key order (or against it) until it breaks.
    /// A batch applied meanwhile may be seen in part.
    fn scan(
        &self,
        namespace: NamespaceId,
        range: &KeyRange,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError>;

    /// Applies a batch with its counts and its mark, all or nothing.
    fn apply(&self, batch: &IndexBatch) -> Result<(), StoreError>;

    /// The mark of the last batch; none before the first.
    fn mark(&self) -> Result<Option<Bytes>, StoreError>;

    /// How many keys each namespace has, by the batches applied; namespaces without keys may
    /// be missing.
    fn counts(&self) -> Result<Vec<(NamespaceId, u64)>, StoreError>;

    /// Hands everything to the operating system.
    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Bytes it takes, on disk or in memory.
    fn bytes(&self) -> u64;
}

/// Takes one entry of a scan.
pub type Visit<'a> = dyn FnMut(Bytes, Stored) -> ControlFlow<()> + 'a;

/// What goes into an index in one step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexBatch {
    /// Each key at most once.
    pub changes: Vec<IndexChange>,
    /// New counts of the namespaces whose count changed.
    pub counts: Vec<(NamespaceId, u64)>,
    /// Where in the history the index is then; none while a rebuild is on its way, so that an
    /// index that was cut half way through it is known as one.
    pub mark: Option<Bytes>,
}

/// One key's new entry, or its removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexChange {
    /// Which dictionary.
    pub namespace: NamespaceId,
    /// The encoded key.
    pub key: Bytes,
    /// The new entry; none removes the key.
    pub entry: Option<Stored>,
}

/// Whether no key can lie in the range: the end is not behind the start.
pub(crate) fn is_empty_range(range: &KeyRange) -> bool {
    range.end.as_ref().is_some_and(|end| *end <= range.start)
}

/// An entry with nothing but what a test needs.
#[cfg(test)]
pub(crate) fn stored(value: &[u8], revision: u64) -> Stored {
    Stored {
        value: Bytes::copy_from_slice(value),
        revision: objsync_proto::ids::Revision(revision),
    }
}
