//! Opening the index or making it again, while a stand-in answers.
//!
//! An index that is there is used if its mark is on the history, and if its files are proven or
//! every entry of it is what snapshot and log say. Else it is made again: filled from the newest
//! snapshot, then from the log. When it has caught up with the stand-in it takes its place.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::ids::{NamespaceId, Revision};
use objsync_proto::wire::Entry;

use super::{DictState, Mover, Room, StateOptions, lock};
use crate::dict::Logged;
use crate::error::StoreError;
use crate::index::{Index, IndexBatch, IndexChange, Reused};
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

/// The same as the log has them: of some only the part that changed.
pub type LoggedChanges = Vec<(NamespaceId, Logged)>;

/// Log and snapshots, as the state needs them.
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
    ///
    /// # Errors
    /// [`StoreError::Index`] if the log no longer reaches back that far.
    fn replay(
        &self,
        after: Revision,
        to: Revision,
        each: &mut dyn FnMut(Revision, LoggedChanges) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;

    /// How many entries the newest snapshot has.
    fn entry_count(&self) -> u64;

    /// The first revision, from this one on, that snapshot and footers still show.
    fn reachable(&self, revision: Revision) -> Revision;

    /// The state as of a revision, read from snapshot and footers.
    fn stand_in(&self, revision: Revision) -> Result<Arc<dyn Index>, StoreError>;

    /// Compares an index whose mark is `revision` with snapshot and log; none if they agree, else
    /// in what they differ.
    fn difference(
        &self,
        index: &dyn Index,
        revision: Revision,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<Option<String>, StoreError>;
}

/// How far the building of an index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BuildProgress {
    /// Revision up to which the new index holds everything.
    pub revision: Revision,
    /// Entries of the snapshot that it holds, while it is filled from one.
    pub done_count: u64,
    /// Entries of the snapshot; 0 while the index that was there is opened.
    pub total_count: u64,
}

/// The building of an index, as others see it.
#[derive(Default)]
pub(super) struct Build {
    wanted: Mutex<Wanted>,
    changed: Condvar,
    revision: AtomicU64,
    done_count: AtomicU64,
    total_count: AtomicU64,
}

#[derive(Default)]
struct Wanted {
    is_wanted: bool,
    is_closed: bool,
}

impl Build {
    pub(super) fn want(&self) {
        lock(&self.wanted).is_wanted = true;
        self.changed.notify_all();
    }

    pub(super) fn close(&self) {
        lock(&self.wanted).is_closed = true;
        self.changed.notify_all();
    }

    fn is_closed(&self) -> bool {
        lock(&self.wanted).is_closed
    }

    fn begin(&self, total_count: u64) {
        self.revision.store(0, Ordering::Relaxed);
        self.done_count.store(0, Ordering::Relaxed);
        self.total_count.store(total_count, Ordering::Relaxed);
    }

    fn refuse_if_closed(&self) -> Result<(), StoreError> {
        match self.is_closed() {
            true => Err(StoreError::Closed),
            false => Ok(()),
        }
    }
}

/// Keys by namespace.
type Counts = Vec<(NamespaceId, u64)>;

/// An index on its way, and what is known of it.
struct Candidate {
    index: Arc<dyn Index>,
    counts: Counts,
    revision: Revision,
}

/// An index that failed is never dropped: it may have panicked, and dropping it could hang.
fn abandoned<T>(index: &Arc<dyn Index>, result: Result<T, StoreError>) -> Result<T, StoreError> {
    if let Err(StoreError::Index { .. }) = result {
        std::mem::forget(Arc::clone(index));
    }
    result
}

impl DictState {
    /// The state as of `end`, the last revision of the log. A stand-in answers until
    /// [`DictState::build_index`] was called.
    pub fn open(options: StateOptions, end: Revision) -> Result<Self, StoreError> {
        let index = options.history.stand_in(end)?;
        let mover = Mover {
            counts: None,
            mark: end,
        };
        Ok(Self::over(options, index, mover))
    }

    /// Asks for the index to be opened, or made again, by whoever waits for that.
    pub fn want_index(&self) {
        self.build.want();
    }

    fn over(options: StateOptions, index: Arc<dyn Index>, mover: Mover) -> Self {
        let counts: Option<Vec<_>> = mover
            .counts
            .as_ref()
            .map(|counts| counts.iter().map(|(n, c)| (*n, *c)).collect());
        Self {
            options,
            recent: RwLock::new(Recent::new(counts.as_deref())),
            index: RwLock::new(index),
            committed: mover.mark.0.into(),
            indexed: mover.mark.0.into(),
            mover: Mutex::new(mover),
            pins: Arc::default(),
            room: Room::default(),
            build: Build::default(),
        }
    }

    /// Waits until an index is wanted; false once the state is closed.
    pub fn wait_until_index_is_wanted(&self) -> bool {
        let wanted = lock(&self.build.wanted);
        let waited = self
            .build
            .changed
            .wait_while(wanted, |wanted| !wanted.is_wanted && !wanted.is_closed);
        !waited.unwrap_or_else(PoisonError::into_inner).is_closed
    }

    /// Waits a while, or until the state is closed.
    pub fn pause_building(&self, pause: std::time::Duration) {
        let wanted = lock(&self.build.wanted);
        let _ = self
            .build
            .changed
            .wait_timeout_while(wanted, pause, |wanted| !wanted.is_closed);
    }

    /// How far the building of the index is; none when it is in place.
    #[must_use]
    pub fn build_progress(&self) -> Option<BuildProgress> {
        let build = &self.build;
        lock(&build.wanted).is_wanted.then(|| BuildProgress {
            revision: Revision(build.revision.load(Ordering::Relaxed)),
            done_count: build.done_count.load(Ordering::Relaxed),
            total_count: build.total_count.load(Ordering::Relaxed),
        })
    }

    /// Opens the index, or makes it again, and puts it in the place of the stand-in. Takes about
    /// a third of a second per million keys for one that is proven, 10 for one that is not there.
    /// Tells whether there was anything to do.
    ///
    /// # Errors
    /// It failed, or the disk is full; the stand-in goes on, and a later call begins anew.
    /// [`StoreError::Closed`] when the state was closed meanwhile.
    pub fn build_index(&self) -> Result<bool, StoreError> {
        if !self.stands_in() {
            return Ok(false);
        }
        self.build.begin(0);
        let reused = self.reuse();
        let mut candidate = match reused {
            Ok(Some(candidate)) => candidate,
            Ok(None) => self.make_again()?,
            Err(StoreError::Index { what }) => {
                tracing::warn!(what, "the index is made again");
                self.make_again()?
            }
            Err(error) => return Err(error),
        };
        while !self.switch(&candidate) {
            self.build.refuse_if_closed()?;
            let index = Arc::clone(&candidate.index);
            abandoned(&index, self.replay_log(&mut candidate, self.indexed()))?;
        }
        tracing::debug!(revision = %candidate.revision, "the index is in place");
        Ok(true)
    }

    /// The index that is there, if it is what it should be.
    fn reuse(&self) -> Result<Option<Candidate>, StoreError> {
        let Some(Reused { index, is_proven }) = self.options.home.reuse()? else {
            return Ok(None);
        };
        match abandoned(&index, self.examine(&*index, is_proven))? {
            Ok((revision, counts)) => Ok(Some(Candidate {
                index,
                counts,
                revision,
            })),
            Err(what) => Err(StoreError::Index { what }),
        }
    }

    /// The revision and the counts of an index that is there, or why it cannot be used.
    fn examine(
        &self,
        index: &dyn Index,
        is_proven: bool,
    ) -> Result<Result<(Revision, Counts), String>, StoreError> {
        let history = &self.options.history;
        let mark = index.mark()?;
        let Some(revision) = mark.and_then(|mark| history.revision_of(&mark)) else {
            return Ok(Err("it is not whole, or of another history".to_owned()));
        };
        if !is_proven {
            let is_stopped = || self.build.is_closed();
            if let Some(what) = history.difference(index, revision, &is_stopped)? {
                return Ok(Err(what));
            }
        }
        Ok(Ok((revision, index.counts()?)))
    }

    /// An empty index, filled from the newest snapshot.
    fn make_again(&self) -> Result<Candidate, StoreError> {
        let index = self.options.home.make()?;
        let filled = abandoned(&index, self.fill_from_snapshot(&index));
        if let Err(StoreError::Full { .. }) = filled {
            // What there is of it takes the room that the log needs.
            drop(index);
            self.options.home.discard()?;
        }
        filled
    }

    fn fill_from_snapshot(&self, index: &Arc<dyn Index>) -> Result<Candidate, StoreError> {
        self.build.begin(self.options.history.entry_count());
        let mut counts: HashMap<NamespaceId, u64> = HashMap::new();
        let mut batch = IndexBatch::default();
        let mut bytes = 0;
        let revision = self.options.history.load(&mut |namespace, entry| {
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
                self.fill(&**index, &std::mem::take(&mut batch))?;
                bytes = 0;
            }
            Ok(())
        })?;
        batch.counts = counts.into_iter().collect();
        batch.mark = Some(self.options.history.mark_at(revision));
        self.fill(&**index, &batch)?;
        Ok(Candidate {
            index: Arc::clone(index),
            counts: batch.counts,
            revision,
        })
    }

    fn fill(&self, index: &dyn Index, batch: &IndexBatch) -> Result<(), StoreError> {
        self.build.refuse_if_closed()?;
        let count = batch.changes.len() as u64;
        index.apply(batch)?;
        self.build.done_count.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    /// Brings an index that nobody else has yet to exactly `to`.
    fn replay_log(&self, candidate: &mut Candidate, to: Revision) -> Result<(), StoreError> {
        let index = Arc::clone(&candidate.index);
        let counts = std::mem::take(&mut candidate.counts);
        let mover = Mover {
            counts: Some(counts.into_iter().collect()),
            mark: candidate.revision,
        };
        let ahead = Self::over(self.options.clone(), Arc::clone(&index), mover);
        let advance = |to| {
            self.build.refuse_if_closed()?;
            let moved = ahead.advance_index(&mut ahead.mover(), &*index, to)?;
            let revision = ahead.indexed().0;
            self.build.revision.store(revision, Ordering::Relaxed);
            Ok::<bool, StoreError>(moved)
        };
        let history = &self.options.history;
        history.replay(candidate.revision, to, &mut |revision, changes| {
            ahead.apply_logged(revision, changes)?;
            while ahead.recent_bytes() > REPLAY_BYTES && advance(revision)? {}
            Ok(())
        })?;
        while advance(to)? {}
        let counts = ahead.mover().counts.take().unwrap_or_default();
        candidate.counts = counts.into_iter().collect();
        candidate.revision = ahead.indexed();
        Ok(())
    }

    /// Puts an index that has caught up in the place of the stand-in.
    fn switch(&self, candidate: &Candidate) -> bool {
        let mut mover = self.mover();
        let at = candidate.revision;
        if at < self.indexed() {
            return false;
        }
        self.put_index(Arc::clone(&candidate.index), (at, Some(&candidate.counts)));
        *mover = Mover {
            counts: Some(candidate.counts.iter().copied().collect()),
            mark: at,
        };
        lock(&self.build.wanted).is_wanted = false;
        drop(mover);
        self.tell_waiters();
        true
    }
}
