//! Requests about leases and locks, and about what came of a write.
//!
//! A wait for a lock is a task of its own, so the connection is read on meanwhile; it ends with its
//! time, with the connection, or when the lock is free, whichever comes first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{LeaseId, NamespaceId, Origin, Revision};
use objsync_proto::limits::{LEASED_KEY_BYTES_MAX, LOCK_WAIT_MS_MAX, LOCK_WAITS_MAX};
use objsync_proto::wire::{Reply, ToPeer};
use objsync_store::{FreedLock, OnUnlock, Store, StoreError};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::peer::Peer;

/// Told whenever a lock of a store is freed: whoever waits for that one looks again, nobody else.
pub struct Unlocks {
    waits: Arc<Waits>,
    _told: OnUnlock,
}

/// Who waits, by lock, and how many these are.
#[derive(Default)]
struct Waits(Mutex<HashMap<FreedLock, (Arc<Notify>, usize)>>);

impl Waits {
    fn tell(&self, freed: &[FreedLock]) {
        let waits = self.lock();
        for (freed, _) in freed.iter().filter_map(|lock| waits.get(lock)) {
            freed.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FreedLock, (Arc<Notify>, usize)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that waits, until it is dropped.
struct Waiting<'a> {
    waits: &'a Waits,
    lock: FreedLock,
    freed: Arc<Notify>,
}

impl<'a> Waiting<'a> {
    fn new(waits: &'a Waits, lock: FreedLock) -> Self {
        let freed = {
            let mut all = waits.lock();
            let (freed, count) = all.entry(lock.clone()).or_default();
            *count += 1;
            Arc::clone(freed)
        };
        Self { waits, lock, freed }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut all = self.waits.lock();
        if let Some((_, count)) = all.get_mut(&self.lock) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.lock);
            }
        }
    }
}

impl Unlocks {
    /// Listens to a store from here on.
    #[must_use]
    pub fn of(store: &Store) -> Self {
        let waits = Arc::new(Waits::default());
        let told = Arc::clone(&waits);
        let on_unlock = store.on_unlock(Arc::new(move |freed| told.tell(freed)));
        Self {
            waits,
            _told: on_unlock,
        }
    }

    /// Waits until nobody holds a lock, for a time of at most `limits::LOCK_WAIT_MS_MAX`. Gives
    /// the fence of who holds it at the end; none when it is free. Who takes it then may be
    /// somebody else. Dropping the wait ends it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn wait(
        &self,
        store: &Store,
        (namespace, name): (NamespaceId, &Bytes),
        timeout_ms: u64,
    ) -> Result<Option<Revision>, StoreError> {
        let end = Instant::now() + Duration::from_millis(timeout_ms.min(LOCK_WAIT_MS_MAX));
        let waiting = Waiting::new(&self.waits, (namespace, name.clone()));
        loop {
            // Made before the look: what is freed after it is heard.
            let mut freed = std::pin::pin!(waiting.freed.notified());
            freed.as_mut().enable();
            let fence = store.lock_holder(namespace, name)?;
            if fence.is_none() || Instant::now() >= end {
                return Ok(fence);
            }
            let _ = tokio::time::timeout_at(end, freed).await;
        }
    }
}

/// Answers once a lock is free, or its time is over.
pub(crate) fn await_lock(peer: &Arc<Peer>, id: u64, name: Bytes, timeout_ms: u64) {
    let reply = move |peer: &Peer, reply| peer.answers.push(&ToPeer::Reply(id, reply));
    if name.len() > LEASED_KEY_BYTES_MAX {
        let bytes = name.len();
        let text = format!("lock is {bytes} bytes; the limit is {LEASED_KEY_BYTES_MAX} bytes");
        return reply(peer, Err(Failure::new(ErrorKind::Invalid, text)));
    }
    // It is a piece of a frame, which the wait would keep in memory.
    let name = Bytes::copy_from_slice(&name);
    let namespace = match peer.may_read().and_then(|()| peer.namespace()) {
        Ok(namespace) => namespace,
        Err(failure) => return reply(peer, Err(failure)),
    };
    let Ok(place) = Arc::clone(&peer.lock_waits).try_acquire_owned() else {
        let text = format!(
            "connection has {LOCK_WAITS_MAX} waits for locks; the limit is {LOCK_WAITS_MAX} waits"
        );
        return reply(peer, Err(Failure::new(ErrorKind::Unavailable, text)));
    };
    let peer = Arc::clone(peer);
    tokio::spawn(async move {
        let serving = &peer.serving;
        let wait = serving
            .unlocks
            .wait(&serving.store, (namespace, &name), timeout_ms);
        let waited = tokio::select! { biased;
            () = peer.gone.cancelled() => return,
            waited = wait => waited,
        };
        let waited = waited.map(|fence| Reply::Lock { fence });
        reply(&peer, waited.map_err(|error| error.to_failure()));
        drop(place);
    });
}

/// Keeps a lease; one of presence with this connection from here on.
pub(crate) fn keep(peer: &Peer, lease: LeaseId) -> Result<Reply, Failure> {
    peer.may_write()?;
    let kept = peer.keeper.keep(peer.namespace()?, lease);
    kept.map(Reply::Lease).map_err(|error| error.to_failure())
}

/// What came of a write of the peer's own.
pub(crate) fn outcome(peer: &Peer, asked: Origin) -> Result<Reply, Failure> {
    let outcome = peer.serving.store.outcome(asked, peer.session_key());
    let answer = outcome.map_err(|error| error.to_failure())?;
    Ok(Reply::Outcome(answer.map(|answer| {
        answer.outcome.map(|outcome| (outcome, answer.ack))
    })))
}
