//! Leases, times to live and locks of an open store: what ends when, and who is told.
//!
//! The entries of `NamespaceId::LEASES` are the truth; this is memory that is made again at each
//! open. Something ends by a transaction of its own, for which the writer's queue is asked
//! (`commit::Request::Expire`), by the store's own thread or by a test.

mod counts;
mod keeper;
mod table;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::evaluate::{Due, Leased};
use objsync_proto::ids::{LeaseId, NamespaceId, Revision};
use objsync_proto::lease::{EntryKey, HeldLock};
use objsync_proto::wire::{KeyRange, LeaseStatus};

use crate::core::Core;
use crate::error::StoreError;
use crate::reader::PageLimits;
use crate::state::DictState;

pub(crate) use counts::Counts;
pub use keeper::Keeper;
pub(crate) use table::Applied;
use table::Table;

/// Bytes of entries read at once when a store is opened.
const PAGE_BYTES: usize = 1 << 20;
/// How long nothing is ended after a try of which nothing came.
const RETRY_MS: u64 = 1_000;
/// How long what could not be read is left alone: it may be repaired.
const PUT_OFF_MS: u64 = 60_000;
/// The wall clock can be set while somebody waits for it; it is looked at this often at least.
const LOOK_MS_MAX: u64 = 10_000;

/// A lock that nobody holds any more: its dictionary and its name.
pub type FreedLock = (NamespaceId, Bytes);

/// What is told of locks that are free, from the writing thread: it must not block.
pub type UnlockWaker = dyn Fn(&[FreedLock]) + Send + Sync;

/// Leases, times to live and locks.
#[derive(Default)]
pub(crate) struct Leases {
    table: Mutex<Table>,
    /// The table's counts, for who does not wait for it.
    keys: AtomicU64,
    key_bytes: AtomicU64,
    leases: AtomicU64,
    /// By the monotonic clock: nothing is ended before.
    not_before_ms: AtomicU64,
    /// Turns that failed one after another, because something could not be read.
    pub(crate) failed_turns: AtomicU64,
    next_keeper: AtomicU64,
    wakers: Mutex<Vec<Weak<UnlockWaker>>>,
}

/// While this lives, the function given to `Store::on_unlock` is called.
pub struct OnUnlock {
    _waker: Arc<UnlockWaker>,
}

impl Leases {
    /// As the dictionary of a store that is being opened has it: leases begin anew.
    pub(crate) fn load(state: &DictState, monotonic_ms: u64) -> Result<Self, StoreError> {
        let leases = Self::default();
        let mut rest = KeyRange::default();
        let limits = PageLimits {
            bytes_max: PAGE_BYTES,
            count_max: usize::MAX,
        };
        loop {
            let at = Revision(u64::MAX);
            let page = state.page_at(NamespaceId::LEASES, &rest, false, at, limits)?;
            let Some(last) = page.last() else {
                return Ok(leases);
            };
            rest.start = objsync_proto::key::successor(&last.key);
            for entry in page {
                // A piece of a block, which the table would keep in memory.
                let (key, value) = (Bytes::copy_from_slice(&entry.key), Some(entry.value));
                leases.apply(&Change { key, value }, monotonic_ms);
            }
        }
    }

    /// How much there is. Costs nothing: each write asks.
    pub(crate) fn leased(&self) -> Leased {
        Leased {
            keys: self.keys.load(Ordering::Relaxed),
            key_bytes: self.key_bytes.load(Ordering::Relaxed),
            leases: self.leases.load(Ordering::Relaxed),
        }
    }

    /// How much there is of one dictionary.
    pub(crate) fn leased_of(&self, namespace: NamespaceId) -> Leased {
        self.table().leased_of(namespace)
    }

    /// Whether there is such an entry, if it is one of a key or a lease that ends.
    pub(crate) fn holds(&self, key: &Bytes, entry: &EntryKey) -> bool {
        self.table().holds(key, entry)
    }

    /// Learns of a change of an entry.
    pub(crate) fn apply(&self, change: &Change, monotonic_ms: u64) -> Applied {
        let mut table = self.table();
        let applied = table.apply(change, monotonic_ms);
        let Leased {
            keys,
            key_bytes,
            leases,
        } = table.leased();
        self.keys.store(keys, Ordering::Relaxed);
        self.key_bytes.store(key_bytes, Ordering::Relaxed);
        self.leases.store(leases, Ordering::Relaxed);
        applied
    }

    /// What has had its time.
    pub(crate) fn due(&self, now_ms: u64, monotonic_ms: u64, count_max: usize) -> Vec<Due> {
        self.table().due(now_ms, monotonic_ms, count_max)
    }

    /// What could not be looked at is due again later.
    pub(crate) fn put_off(&self, due: &Due, now_ms: u64, monotonic_ms: u64) {
        let again_ms = now_ms.saturating_add(PUT_OFF_MS);
        let lease_again_ms = monotonic_ms.saturating_add(PUT_OFF_MS);
        self.table().put_off(due, again_ms, lease_again_ms);
    }

    /// Something was ended, or there was nothing: what follows is not held up.
    pub(crate) fn go_on(&self) {
        self.not_before_ms.store(0, Ordering::Relaxed);
    }

    /// Calls those who wait for a lock.
    pub(crate) fn tell_unlocked(&self, freed: &[FreedLock]) {
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        wakers.retain(|waker| {
            let waker = waker.upgrade();
            if let Some(waker) = &waker {
                waker(freed);
            }
            waker.is_some()
        });
    }

    pub(crate) fn on_unlock(&self, wake: Arc<UnlockWaker>) -> OnUnlock {
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        wakers.push(Arc::downgrade(&wake));
        OnUnlock { _waker: wake }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// Milliseconds until something is to be ended; none when nothing is. Asked by whoever ends it
    /// when the time has come: then nothing is due again for a while, unless something came of it.
    pub(crate) fn expiry_wait_ms(&self) -> Option<u64> {
        let leased = self.leases.leased();
        let may_append = self
            .poison
            .check()
            .and_then(|()| self.authority.may_append());
        if leased == Leased::default() || self.is_closed() || may_append.is_err() {
            return None;
        }
        let monotonic_ms = self.clock.monotonic_ms();
        let not_before_ms = self.leases.not_before_ms.load(Ordering::Relaxed);
        let wait_ms = self
            .leases
            .table()
            .wait_ms(self.time.now_ms(), monotonic_ms)?;
        let wait_ms = wait_ms.max(not_before_ms.saturating_sub(monotonic_ms));
        if wait_ms == 0 {
            let later_ms = monotonic_ms.saturating_add(RETRY_MS);
            self.leases.not_before_ms.store(later_ms, Ordering::Relaxed);
        }
        Some(wait_ms.min(LOOK_MS_MAX))
    }

    /// Who holds a lock, by its fence.
    pub(crate) fn lock_holder(
        &self,
        namespace: NamespaceId,
        name: &[u8],
    ) -> Result<Option<Revision>, StoreError> {
        let entry = EntryKey::Lock(namespace, Bytes::copy_from_slice(name)).encode();
        let stored = self.state.get(NamespaceId::LEASES, &entry)?;
        let held = stored.and_then(|stored| HeldLock::decode(&stored.value));
        let Some(held) = held else {
            return Ok(None);
        };
        // What was left over of a damaged store holds nothing.
        let lease = EntryKey::Lease(namespace, held.lease).encode();
        let lasts = self.state.get(NamespaceId::LEASES, &lease)?.is_some();
        Ok(lasts.then_some(held.fence))
    }

    fn keep_lease(
        &self,
        (namespace, lease): (NamespaceId, LeaseId),
        keeper: u64,
    ) -> Result<LeaseStatus, StoreError> {
        let monotonic_ms = self.clock.monotonic_ms();
        let kept = self
            .leases
            .table()
            .keep((namespace, lease), keeper, monotonic_ms);
        kept.ok_or_else(|| {
            let text = format!(
                "lease {} has ended, or never was in this dictionary",
                lease.0
            );
            Failure::new(ErrorKind::NotFound, text).into()
        })
    }
}
