//! Everything as of one revision of the past.
//!
//! Trail: [`Store::at`] -> `LogHistory::layered_at` (the snapshot before it, and footers) ->
//! [`Past::get`], [`Past::page`].
//!
//! Invariants
//! * Only what is committed is read, so what was seen once is seen again.
//! * What is read stays readable for as long as the [`Past`] lives, whatever is trimmed meanwhile:
//!   its files are held open. It holds up nothing: neither the index nor the trimming.

use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{NamespaceId, Position, Revision};
use objsync_proto::wire::{Entry, KeyRange};

use crate::error::StoreError;
use crate::history::LogHistory;
use crate::index::{Index, LayeredIndex};
use crate::packs::ChunkHold;
use crate::reader::ENTRY_BYTES;
use crate::store::{Store, Stored};

/// Everything as of one revision of the past. Clones share it.
#[derive(Clone)]
pub struct Past(Arc<Opened>);

struct Opened {
    index: LayeredIndex,
    position: Position,
    /// The chunks of what is read stay, whatever is trimmed.
    _chunks: ChunkHold,
    /// Keys of each dictionary that has any, once they were counted.
    counts: OnceLock<Vec<(NamespaceId, u64)>>,
}

impl Store {
    /// Everything as of a committed revision. Opens a snapshot and reads up to a segment of the
    /// log; what follows from it is cheaper.
    ///
    /// A revision that was never given, because its owner ended uncleanly, stands for the last one
    /// before it.
    ///
    /// # Errors
    /// [`StoreError::PastRetention`] when the revision is no longer kept; of kind `Invalid` when it
    /// is not there yet.
    pub fn at(&self, revision: Revision) -> Result<Past, StoreError> {
        let core = self.core();
        core.refuse_if_closed()?;
        // Before it is looked whether the revision is kept: a collection may follow.
        let hold = self.chunks().hold();
        let newest = core.committed();
        if revision > newest {
            let text = format!("revision {revision} is not there yet; the newest is {newest}");
            return Err(Failure::new(ErrorKind::Invalid, text).into());
        }
        let oldest = core.history.oldest();
        if revision < oldest {
            return Err(StoreError::PastRetention { revision, oldest });
        }
        match core.history.layered_at(revision)? {
            Some(index) => Ok(Past(Arc::new(Opened {
                index,
                position: core.position_at(revision),
                _chunks: hold,
                counts: OnceLock::new(),
            }))),
            // Trimmed since it was asked.
            None => Err(StoreError::PastRetention {
                revision,
                oldest: core.history.oldest(),
            }),
        }
    }
}

impl Past {
    /// What is read.
    #[must_use]
    pub fn position(&self) -> Position {
        self.0.position
    }

    /// The value of a key at that revision.
    pub fn get(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        self.0.index.get(namespace, key)
    }

    /// Entries of a range in key order (or against it), until they hold `bytes_max` bytes; at
    /// least one if there is one. An empty page is the end. Continue after the last key.
    pub fn page(
        &self,
        namespace: NamespaceId,
        range: &KeyRange,
        reverse: bool,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        self.0
            .index
            .scan(namespace, range, reverse, &mut |key, stored| {
                let Stored { value, revision } = stored;
                bytes += key.len() + value.len() + ENTRY_BYTES;
                entries.push(Entry {
                    key,
                    value,
                    revision,
                });
                match bytes < bytes_max {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            })?;
        Ok(entries)
    }

    /// How many keys a dictionary had. The first time costs a walk over all keys.
    pub fn count(&self, namespace: NamespaceId) -> Result<u64, StoreError> {
        let counts = match self.0.counts.get() {
            Some(counts) => counts,
            None => {
                let counts = self.0.index.counts()?;
                self.0.counts.get_or_init(|| counts)
            }
        };
        let found = counts.iter().find(|(counted, _)| *counted == namespace);
        Ok(found.map_or(0, |(_, count)| *count))
    }
}

impl std::fmt::Debug for Past {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Past")
            .field("position", &self.0.position)
            .finish_non_exhaustive()
    }
}

impl LogHistory {
    /// The oldest revision that can be read.
    pub(crate) fn oldest(&self) -> Revision {
        let begins = self.segments.after(Revision(0), self.open.info());
        match (begins, self.snapshots.list().first()) {
            (None, Some(snapshot)) => snapshot.revision,
            _ => Revision(0),
        }
    }
}
