//! Opening the index, and making it again from snapshot and log.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, RwLock};

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::ids::{NamespaceId, Revision};
use objsync_proto::wire::Entry;

use super::{DictState, Mover, Room, StateOptions, home};
use crate::error::StoreError;
use crate::index::{Index, IndexBatch, IndexChange, MemoryIndex, SledIndex};
use crate::options::IndexKind;
use crate::recent::Recent;
use crate::store::Stored;

/// Entries of a snapshot per batch of the index.
const FILL_COUNT: usize = 2048;
/// Bytes of them.
const FILL_BYTES: usize = 2 << 20;
/// Bytes of log held while it is replayed.
const REPLAY_BYTES: usize = 8 << 20;

/// The changes of one transaction, in order.
pub type Changes = Vec<(NamespaceId, Change)>;

/// Log and snapshots, as the index needs them.
pub trait History: Send + Sync + 'static {
    /// What the index keeps beside the state of a revision, to know later what it holds.
    fn mark_at(&self, revision: Revision) -> Bytes;

    /// The revision of a mark; none when it is not on this history, or when the log no longer
    /// reaches back to it.
    fn revision_of(&self, mark: &[u8]) -> Option<Revision>;

    /// Calls `each` with all entries of the newest snapshot, ordered within each namespace, and
    /// tells its revision; 0 when there is none.
    fn load(
        &self,
        each: &mut dyn FnMut(NamespaceId, Entry) -> Result<(), StoreError>,
    ) -> Result<Revision, StoreError>;

    /// Calls `each` with the transactions after a revision, up to another, in order.
    fn replay(
        &self,
        after: Revision,
        to: Revision,
        each: &mut dyn FnMut(Revision, Changes) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;
}

/// An index and what is known of it.
struct Filled {
    index: Arc<dyn Index>,
    counts: Vec<(NamespaceId, u64)>,
    revision: Revision,
}

impl DictState {
    /// Opens the index, or makes it again if it cannot be used, and brings the state to `end`,
    /// the last revision of the log.
    pub fn open(options: StateOptions, end: Revision) -> Result<Self, StoreError> {
        let is_there = options.index == IndexKind::Sled && options.index_directory.exists();
        let filled = match is_there.then(|| reuse(&options)) {
            None => make_again(&options, Revision(0))?,
            Some(Err(StoreError::Index { what })) => {
                tracing::warn!(what, "the index is made again");
                make_again(&options, Revision(0))?
            }
            Some(other) => other?,
        };
        let history = Arc::clone(&options.history);
        let state = Self::over(options, filled);
        let indexed = state.indexed();
        history.replay(indexed, end, &mut |revision, changes| {
            state.apply_all(revision, changes);
            state.publish(revision);
            while state.is_full() && state.advance(revision)? {}
            Ok(())
        })?;
        state.publish(end);
        Ok(state)
    }

    fn over(options: StateOptions, filled: Filled) -> Self {
        Self {
            options,
            recent: RwLock::new(Recent::new(&filled.counts)),
            index: RwLock::new(filled.index),
            mover: Mutex::new(Mover {
                counts: filled.counts.into_iter().collect(),
                mark: filled.revision,
            }),
            pins: Arc::default(),
            committed: filled.revision.0.into(),
            indexed: filled.revision.0.into(),
            room: Room::default(),
        }
    }

    /// Puts a new index in the place of `broken`, unless somebody has done so by now.
    pub(super) fn replace_broken(
        &self,
        broken: &Arc<dyn Index>,
        what: &str,
    ) -> Result<(), StoreError> {
        let mut mover = self.mover();
        if !Arc::ptr_eq(broken, &self.index()) {
            return Ok(());
        }
        tracing::warn!(what, "the index failed and is made again");
        // It may have panicked: dropping it could hang. It keeps its memory and its files.
        std::mem::forget(Arc::clone(broken));
        let result = make_again(&self.options, self.indexed());
        if let Ok(filled) = &result {
            self.pins.expire_before(filled.revision);
            *self
                .index
                .write()
                .unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::clone(&filled.index);
            self.recent_mut().rebase(filled.revision, &filled.counts);
            mover.counts = filled.counts.iter().copied().collect();
            mover.mark = filled.revision;
            self.indexed.store(filled.revision.0, Ordering::SeqCst);
        }
        self.tell_waiters();
        result.map(drop)
    }
}

/// The index that is there, if its mark is on the history.
fn reuse(options: &StateOptions) -> Result<Filled, StoreError> {
    if !home::is_trusted(&options.index_directory) {
        let what = "the machine stopped while it was open".to_owned();
        return Err(StoreError::Index { what });
    }
    let index = open_index(options)?;
    let mark = index.mark()?;
    let revision = mark.and_then(|mark| options.history.revision_of(&mark));
    match revision {
        Some(revision) => Ok(Filled {
            counts: index.counts()?,
            index,
            revision,
        }),
        None => Err(StoreError::Index {
            what: "it is not whole, or of another history".to_owned(),
        }),
    }
}

fn open_index(options: &StateOptions) -> Result<Arc<dyn Index>, StoreError> {
    Ok(match options.index {
        IndexKind::Sled => {
            home::begin(&options.index_directory)?;
            Arc::new(SledIndex::open(&options.index_directory)?)
        }
        IndexKind::Memory => Arc::new(MemoryIndex::default()),
    })
}

/// Moves the index aside and fills a new one from snapshot and log, at least up to `to`.
fn make_again(options: &StateOptions, to: Revision) -> Result<Filled, StoreError> {
    if options.index == IndexKind::Sled {
        home::move_aside(&options.index_directory)?;
    }
    let index = open_index(options)?;
    let mut filled = load_snapshot(options, index)?;
    if filled.revision < to {
        replay_log(options, &mut filled, to)?;
    }
    Ok(filled)
}

fn load_snapshot(options: &StateOptions, index: Arc<dyn Index>) -> Result<Filled, StoreError> {
    let mut counts: HashMap<NamespaceId, u64> = HashMap::new();
    let mut batch = IndexBatch::default();
    let mut bytes = 0;
    let revision = options.history.load(&mut |namespace, entry| {
        *counts.entry(namespace).or_default() += 1;
        bytes += entry.key.len() + entry.value.len();
        batch.changes.push(IndexChange {
            namespace,
            key: entry.key,
            entry: Some(Stored {
                value: entry.value,
                revision: entry.revision,
            }),
        });
        if batch.changes.len() >= FILL_COUNT || bytes >= FILL_BYTES {
            index.apply(&std::mem::take(&mut batch))?;
            bytes = 0;
        }
        Ok(())
    })?;
    batch.counts = counts.into_iter().collect();
    batch.mark = Some(options.history.mark_at(revision));
    index.apply(&batch)?;
    Ok(Filled {
        index,
        counts: batch.counts,
        revision,
    })
}

/// Brings a new index, which nobody else has yet, to exactly `to`.
fn replay_log(options: &StateOptions, filled: &mut Filled, to: Revision) -> Result<(), StoreError> {
    let history = Arc::clone(&options.history);
    let ahead = DictState::over(
        StateOptions {
            index_directory: options.index_directory.clone(),
            clock: Arc::clone(&options.clock),
            history: Arc::clone(&history),
            ..*options
        },
        Filled {
            index: Arc::clone(&filled.index),
            counts: filled.counts.clone(),
            revision: filled.revision,
        },
    );
    let index = Arc::clone(&filled.index);
    let advance = |to| ahead.advance_index(&mut ahead.mover(), &*index, to);
    history.replay(filled.revision, to, &mut |revision, changes| {
        ahead.apply_all(revision, changes);
        while ahead.recent_bytes() > REPLAY_BYTES && advance(revision)? {}
        Ok(())
    })?;
    while advance(to)? {}
    filled.counts = ahead.mover().counts.iter().map(|(n, c)| (*n, *c)).collect();
    filled.revision = ahead.indexed();
    Ok(())
}
