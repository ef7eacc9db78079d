//! The state of the dictionary: the recent map over the index.
//!
//! Trail of a change: commit -> [`DictState::apply`] -> [`DictState::publish`] (readers see it)
//! -> [`DictState::advance`] (it moves from the recent map into the index).
//! Trail of a read: [`DictState::get`] -> recent map -> index.
//!
//! Invariants
//! * The recent map is read before the index. A batch is in the index before its versions leave
//!   the recent map, so a read between the two finds it in one of them.
//! * The index holds the state of exactly one revision, its mark, and that never passes what is
//!   both durable and committed, nor the oldest pin.
//! * Only who holds `mover` changes the index or relies on it to stand still.
//!
//! A state begins over a *stand-in* made of snapshot and footers, which is there at once, and
//! goes back to one when the index fails or panics. The index is opened, compared or made again
//! beside it (`build.rs`) and takes its place when it has caught up.

mod advance;
mod build;
mod stand_in;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::ids::{NamespaceId, Revision};

use crate::clock::Clock;
use crate::dict::Logged;
use crate::error::StoreError;
use crate::index::{ClosedIndex, Index, IndexHome};
use crate::options::StoreLimits;
use crate::pins::{Pin, Pins};
use crate::recent::Recent;
use crate::store::Stored;
use crate::told;

use build::Build;
pub use build::{BuildProgress, Changes, History, LoggedChanges};

/// What the state of the dictionary is opened with.
#[derive(Clone)]
pub struct StateOptions {
    /// Where the index is kept.
    pub home: Arc<dyn IndexHome>,
    /// Bounds of the recent map and of readers.
    pub limits: StoreLimits,
    /// How old readers are.
    pub clock: Arc<dyn Clock>,
    /// Log and snapshots, from which the index is made again.
    pub history: Arc<dyn History>,
}

/// The dictionary's entries at every revision from the index's mark on.
pub struct DictState {
    options: StateOptions,
    recent: RwLock<Recent>,
    index: RwLock<Arc<dyn Index>>,
    mover: Mutex<Mover>,
    pins: Arc<Pins>,
    committed: AtomicU64,
    indexed: AtomicU64,
    room: Room,
    build: Build,
}

/// What changes with the index.
struct Mover {
    /// Keys in the index, by namespace; none of a stand-in.
    counts: Option<HashMap<NamespaceId, u64>>,
    /// The revision of its mark.
    mark: Revision,
}

impl Mover {
    /// Whether the index has a key. Of a namespace without keys that is known without a look.
    fn has(
        &self,
        index: &dyn Index,
        namespace: NamespaceId,
        key: &[u8],
    ) -> Result<bool, StoreError> {
        match &self.counts {
            Some(counts) if counts.get(&namespace).is_none_or(|count| *count == 0) => Ok(false),
            _ => index.contains(namespace, key),
        }
    }
}

/// Where writers wait while the recent map is full.
#[derive(Default)]
struct Room {
    lock: Mutex<()>,
    changed: Condvar,
    is_closed: AtomicBool,
    /// Why the index does not move.
    failure: Mutex<Option<StoreError>>,
}

/// How long a writer waits for room before it asks whether it still should.
const ROOM_PAUSE: Duration = Duration::from_millis(100);
/// Keys looked up per step of a count.
const RESOLVE_COUNT: usize = 1024;

impl DictState {
    /// A change of a committed transaction, or of one that is about to be: it is read by
    /// [`DictState::get_latest`] at once, and by others from [`DictState::publish`] on.
    pub fn apply(
        &self,
        revision: Revision,
        namespace: NamespaceId,
        key: &Bytes,
        value: Option<Bytes>,
    ) {
        self.recent_mut().apply(revision, namespace, key, value);
    }

    /// As [`DictState::apply`], all changes of a transaction at once.
    pub fn apply_all(&self, revision: Revision, changes: Changes) {
        let mut recent = self.recent_mut();
        for (namespace, change) in changes {
            recent.apply(revision, namespace, &change.key, change.value);
        }
    }

    /// As [`DictState::apply_all`], of what the log has: a part of a value goes onto the entry that
    /// is there. An entry that is already at that revision or later is left alone.
    ///
    /// # Errors
    /// [`StoreError::Index`] if that entry is not the one that the part was decided on.
    pub fn apply_logged(
        &self,
        revision: Revision,
        changes: LoggedChanges,
    ) -> Result<(), StoreError> {
        let mut whole = Vec::with_capacity(changes.len());
        for (namespace, change) in changes {
            match change {
                Logged::Whole(change) => whole.push((namespace, change)),
                Logged::Patch(patch) => {
                    let there = self.get_latest(namespace, &patch.key)?;
                    if there
                        .as_ref()
                        .is_some_and(|there| there.revision >= revision)
                    {
                        continue;
                    }
                    let value = told::whole(there.as_ref(), &patch)
                        .map_err(|what| StoreError::Index { what })?;
                    let change = Change {
                        key: patch.key,
                        value: Some(value),
                    };
                    whole.push((namespace, change));
                }
            }
        }
        self.apply_all(revision, whole);
        Ok(())
    }

    /// Makes everything up to `committed` visible.
    pub fn publish(&self, committed: Revision) {
        self.committed.fetch_max(committed.0, Ordering::SeqCst);
    }

    /// The last revision that is visible.
    #[must_use]
    pub fn committed(&self) -> Revision {
        Revision(self.committed.load(Ordering::SeqCst))
    }

    /// The revision of the index, or of what stands in for it.
    #[must_use]
    pub fn indexed(&self) -> Revision {
        Revision(self.indexed.load(Ordering::SeqCst))
    }

    /// The committed entry of a key.
    pub fn get(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        self.get_at(namespace, key, self.committed())
    }

    /// The newest entry of a key, whether committed or not: what the next write is decided on.
    pub fn get_latest(
        &self,
        namespace: NamespaceId,
        key: &[u8],
    ) -> Result<Option<Stored>, StoreError> {
        self.get_at(namespace, key, Revision(u64::MAX))
    }

    /// The entry of a key as of a revision that the index has not passed.
    pub(crate) fn get_at(
        &self,
        namespace: NamespaceId,
        key: &[u8],
        at: Revision,
    ) -> Result<Option<Stored>, StoreError> {
        if let Some(found) = self.recent().get(namespace, key, at) {
            return Ok(found);
        }
        self.with_index(|index| index.get(namespace, key))
    }

    /// How many keys a dictionary has. The first call after many writes looks each of their keys
    /// up in the index; the first one over a stand-in walks over all keys.
    pub fn count(&self, namespace: NamespaceId) -> Result<u64, StoreError> {
        // The committed revision is read first: what is applied later is taken off again.
        let at = self.committed();
        loop {
            let index = self.index();
            match self.try_count(namespace, at) {
                Err(StoreError::Index { what }) => self.replace_broken(&index, &what)?,
                other => return other,
            }
        }
    }

    /// As [`DictState::count`]; none while a stand-in answers that nobody has counted.
    #[must_use]
    pub fn count_at_once(&self, namespace: NamespaceId) -> Option<u64> {
        let is_counted = self.recent().is_counted();
        is_counted.then(|| self.count(namespace).ok())?
    }

    fn try_count(&self, namespace: NamespaceId, at: Revision) -> Result<u64, StoreError> {
        {
            // One taking of the lock: an index that comes between makes all of it unresolved again.
            let mut recent = self.recent_mut();
            let (unresolved, number) = recent.unresolved(1);
            if unresolved.is_empty() {
                recent.resolved_up_to(number);
                if recent.is_counted() {
                    return Ok(recent.count(namespace, at));
                }
            }
        }
        let mover = self.mover();
        self.count_stand_in(&mover)?;
        self.resolve_all(&mover)?;
        Ok(self.recent().count(namespace, at))
    }

    /// Pins the committed revision.
    pub(crate) fn pin(&self) -> Pin {
        let now_ms = self.options.clock.monotonic_ms();
        self.pins.pin(now_ms, || self.committed())
    }

    /// Bytes of the recent map.
    #[must_use]
    pub fn recent_bytes(&self) -> usize {
        self.recent().bytes()
    }

    /// Whether writers must wait for the index.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.recent_bytes() >= self.options.limits.recent_bytes_max
    }

    /// Whether the index has everything.
    #[must_use]
    pub fn is_indexed(&self) -> bool {
        self.recent().is_empty()
    }

    /// Waits until there is room for a change. To be called before the writer's role is taken:
    /// the index cannot move past what is not durable yet. Asks `go_on` now and then.
    ///
    /// # Errors
    /// What `go_on` says, or why the index does not move, or [`DictState::close`] was called.
    pub fn wait_for_room(
        &self,
        go_on: &dyn Fn() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if !self.is_full() {
            return Ok(());
        }
        let mut guard = lock(&self.room.lock);
        loop {
            if self.room.is_closed.load(Ordering::SeqCst) {
                return Err(StoreError::Closed);
            }
            if !self.is_full() {
                return Ok(());
            }
            if let Some(failure) = lock(&self.room.failure).clone() {
                return Err(failure);
            }
            go_on()?;
            let waited = self.room.changed.wait_timeout(guard, ROOM_PAUSE);
            guard = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lets go of the index's files, so that another process can have them; notes that they are
    /// whole, if this is a clean end. Reads fail from now on.
    pub fn release_index(&self, is_clean: bool) {
        let mover = self.mover();
        let closed: Arc<dyn Index> = Arc::new(ClosedIndex);
        let mut index = {
            let mut slot = self.index.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *slot, closed)
        };
        // While somebody still reads, it is not closed; and a failed one is never dropped.
        if Arc::get_mut(&mut index).is_none() {
            return;
        }
        let flushed = index.flush();
        drop(index);
        if !is_clean || mover.counts.is_none() {
            return;
        }
        if let Err(error) = flushed.and_then(|()| self.options.home.closed()) {
            tracing::warn!(%error, "the index was closed and will be compared when it is opened");
        }
    }

    /// Whether so much waits for the index that it should not wait for more.
    #[must_use]
    pub fn is_filling(&self) -> bool {
        self.recent_bytes() >= self.options.limits.recent_bytes_max / 4
    }

    /// Wakes whoever waits for room; later waits fail.
    pub fn close(&self) {
        self.room.is_closed.store(true, Ordering::SeqCst);
        self.build.close();
        self.tell_waiters();
    }

    /// Bytes of the index.
    #[must_use]
    pub fn index_bytes(&self) -> u64 {
        self.index().bytes()
    }

    /// Descriptors that a forked child must close.
    #[must_use]
    pub fn inherited_fds(&self) -> Vec<RawFd> {
        self.options.home.inherited_fds()
    }

    /// Runs `read` on the index; if that fails, puts a stand-in in its place and runs it once more.
    pub(crate) fn with_index<T>(
        &self,
        read: impl Fn(&dyn Index) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let index = self.index();
        match read(&*index) {
            Err(StoreError::Index { what }) => {
                self.replace_broken(&index, &what)?;
                read(&*self.index())
            }
            result => result,
        }
    }

    /// Looks up every key whose presence in the index is not known. The index stands still
    /// meanwhile, because the caller holds `mover`.
    fn resolve_all(&self, mover: &Mover) -> Result<(), StoreError> {
        let index = self.index();
        loop {
            let (mut keys, number) = self.recent().unresolved(RESOLVE_COUNT);
            // Neighbours lie in one page of the index.
            keys.sort_unstable();
            let mut answers = Vec::with_capacity(keys.len());
            for (namespace, key) in keys {
                let in_index = mover.has(&*index, namespace, &key)?;
                answers.push((namespace, key, in_index));
            }
            let is_last = answers.len() < RESOLVE_COUNT;
            let mut recent = self.recent_mut();
            for (namespace, key, in_index) in answers {
                recent.resolve(namespace, &key, in_index);
            }
            recent.resolved_up_to(number);
            if is_last {
                return Ok(());
            }
        }
    }

    fn tell_waiters(&self) {
        // Taken so that nobody is between looking and waiting.
        drop(lock(&self.room.lock));
        self.room.changed.notify_all();
    }

    pub(crate) fn recent(&self) -> std::sync::RwLockReadGuard<'_, Recent> {
        self.recent.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn recent_mut(&self) -> std::sync::RwLockWriteGuard<'_, Recent> {
        self.recent.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self) -> Arc<dyn Index> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&index)
    }

    fn mover(&self) -> MutexGuard<'_, Mover> {
        lock(&self.mover)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
