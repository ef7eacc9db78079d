//! What all connections of one server share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{Durability, NamespaceId, PeerKey};
use objsync_proto::limits::{DISK_THREADS_MAX, WRITES_BYTES_MAX};
use objsync_proto::wire::{FollowStatus, Grant, IndexBuild, OwnerStatus};
use objsync_store::{Store, StoreError};
use quinn::Connection;
use tokio::sync::Semaphore;
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::closing;
use crate::commits::Commits;
use crate::follow::Upstream;
use crate::known::KnownByKey;
use crate::leases::Unlocks;
use crate::pasts::Pasts;
use crate::refusals::Refusals;
use crate::rights::{self, Rights};
use crate::server::ServeOptions;

/// This program and its version, for the other side's log.
pub(crate) const PROGRAM: &str = concat!("objsync ", env!("CARGO_PKG_VERSION"));

/// One store as it is served.
pub(crate) struct Serving {
    pub(crate) store: Store,
    /// The store's own key.
    pub(crate) key: PeerKey,
    /// The level of writes that name none.
    pub(crate) durability: Durability,
    pub(crate) address: SocketAddr,
    /// Told of each commit; what a subscription waits for.
    pub(crate) commits: Commits,
    /// Told when more is durable; what a follower waits for.
    pub(crate) durables: Commits,
    /// Whom this copy follows; none where the store is its own.
    pub(crate) upstream: Option<Arc<Upstream>>,
    /// Set when the server shuts down.
    pub(crate) stopping: CancellationToken,
    pub(crate) refusals: Refusals,
    /// Bytes of writes that may still be given to the store, by all peers together.
    pub(crate) writes: Arc<Semaphore>,
    /// Places on threads that may wait for the disk; none where there are no such threads.
    disk_threads: Option<Arc<Semaphore>>,
    started: Instant,
    handshakes: AtomicUsize,
    subscriptions: AtomicU32,
    /// Revisions of the past that are held open.
    pub(crate) pasts: Pasts,
    /// Chunks that peers are known to have.
    pub(crate) known: KnownByKey,
    pub(crate) unlocks: Unlocks,
    peers: Mutex<Peers>,
}

#[derive(Default)]
struct Peers {
    next: u64,
    connected: BTreeMap<u64, Connected>,
}

struct Connected {
    key: PeerKey,
    /// For whom it speaks.
    acting: Option<PeerKey>,
    /// The grants of both when it came to be so.
    grants: Vec<Grant>,
    connection: Connection,
}

impl Serving {
    pub(crate) fn new(
        store: Store,
        key: PeerKey,
        options: &ServeOptions,
        address: SocketAddr,
    ) -> Self {
        let now = Instant::now();
        Self {
            key,
            durability: options.durability.unwrap_or_else(|| store.durability()),
            unlocks: Unlocks::of(&store),
            store,
            address,
            commits: Commits::default(),
            durables: Commits::default(),
            upstream: options.upstream.clone(),
            stopping: CancellationToken::new(),
            refusals: Refusals::new(now),
            writes: Arc::new(Semaphore::new(WRITES_BYTES_MAX)),
            disk_threads: (options.disk_threads)
                .then(|| Arc::new(Semaphore::new(DISK_THREADS_MAX))),
            started: now,
            handshakes: AtomicUsize::new(0),
            subscriptions: AtomicU32::new(0),
            pasts: Pasts::default(),
            known: KnownByKey::default(),
            peers: Mutex::default(),
        }
    }

    /// Runs what may wait for the disk on another thread, after its turn has come.
    ///
    /// # Cancel safety
    /// Dropped half way, the work is not begun, or is done and its result dropped.
    pub(crate) async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let Some(places) = &self.disk_threads else {
            return Ok(work());
        };
        // Refused only by a semaphore that is closed, which nobody does.
        let place = Arc::clone(places).acquire_owned().await;
        tokio::task::spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        })
        .await
    }

    /// The time by which grants expire, milliseconds since 1970: the store's.
    pub(crate) fn now_ms(&self) -> u64 {
        self.store.now_ms()
    }

    /// What `peer` may do in a dictionary now.
    pub(crate) fn rights(&self, peer: PeerKey, namespace: &str) -> Rights {
        rights::rights(
            self.key,
            &self.store.grants(),
            peer,
            namespace,
            self.now_ms(),
        )
    }

    /// Whether `peer` may do anything here now.
    pub(crate) fn admits(&self, peer: PeerKey) -> bool {
        rights::admits(self.key, &self.store.grants(), peer, self.now_ms())
    }

    /// Lets a key in, in place of any grant it had: its connections are cut, so that it comes
    /// back with the new rights. Waits for the disk.
    pub(crate) fn grant(&self, grant: Grant) -> Result<(), StoreError> {
        rights::check(&grant)?;
        let peer = grant.peer;
        self.store.grant(grant)?;
        self.cut(peer, "the grant has changed");
        Ok(())
    }

    /// Takes a grant back and cuts its connections. Waits for the disk.
    pub(crate) fn revoke(&self, peer: PeerKey) -> Result<bool, StoreError> {
        let revoked = self.store.revoke(peer)?;
        self.cut(peer, "the grant was revoked");
        Ok(revoked)
    }

    /// Cuts the connections of a peer whose grant is another one now, and those that speak for it.
    pub(crate) fn cut(&self, peer: PeerKey, reason: &str) {
        if peer == self.key {
            return;
        }
        for connected in self.peers().connected.values() {
            if connected.key == peer || connected.acting == Some(peer) {
                let failure = Failure::new(ErrorKind::Denied, reason);
                closing::close(&connected.connection, &failure);
            }
        }
    }

    /// Cuts the connections of a peer that came in by another grant than it has now. Who came in
    /// after the change stays.
    pub(crate) fn cut_changed(&self, peer: PeerKey) {
        let now = self.grants_of(&[peer]);
        let is_other = |connected: &Connected| {
            let then = connected.grants.iter().find(|grant| grant.peer == peer);
            then != now.first()
        };
        for connected in self.peers().connected.values() {
            let concerns = connected.key == peer || connected.acting == Some(peer);
            if concerns && peer != self.key && is_other(connected) {
                let failure = Failure::new(ErrorKind::Denied, "the grant has changed");
                closing::close(&connected.connection, &failure);
            }
        }
    }

    fn grants_of(&self, peers: &[PeerKey]) -> Vec<Grant> {
        let mut grants = self.store.grants();
        grants.retain(|grant| peers.contains(&grant.peer));
        grants
    }

    /// A connection speaks for another key from here on, and is cut with it.
    pub(crate) fn note_acting(&self, connection: &Connection, acting: PeerKey) {
        let id = connection.stable_id();
        let grants = self.grants_of(&[acting]);
        for connected in self.peers().connected.values_mut() {
            // Once for all: what comes later is refused.
            if connected.connection.stable_id() == id && connected.acting.is_none() {
                connected.acting = Some(acting);
                connected.grants.extend(grants.iter().cloned());
            }
        }
    }

    /// How the owner is, with the number of keys of one dictionary. May read the disk.
    pub(crate) fn status(&self, namespace: Option<NamespaceId>) -> OwnerStatus {
        let store = self.store.status();
        let keys = namespace.map_or(Ok(0), |namespace| self.store.count(namespace));
        OwnerStatus {
            program: PROGRAM.to_owned(),
            pid: std::process::id(),
            address: Some(self.address.to_string()),
            directory: self.store.directory().display().to_string(),
            position: store.position,
            durable: store.marks.durable,
            indexed: store.marks.indexed,
            keys: keys.unwrap_or(0),
            peers: u32::try_from(self.peers().connected.len()).unwrap_or(u32::MAX),
            subscriptions: self.subscriptions.load(Ordering::Relaxed),
            log_bytes: store.log_bytes,
            snapshot_bytes: store.snapshot_bytes,
            index_bytes: store.index_bytes,
            index_build: store.index_build.map(|build| IndexBuild {
                revision: build.revision,
                done_count: build.done_count,
                total_count: build.total_count,
            }),
            uptime_s: self.started.elapsed().as_secs(),
        }
    }

    /// How far this copy is behind its source; none where the store is its own.
    pub(crate) fn following(&self) -> Option<FollowStatus> {
        let upstream = self.upstream.as_ref()?;
        Some(upstream.status(self.store.position().revision))
    }

    /// Counts a handshake until the result is dropped.
    pub(crate) fn begin_handshake(self: &Arc<Self>) -> Counted {
        self.handshakes.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(self), |serving| {
            serving.handshakes.fetch_sub(1, Ordering::Relaxed);
        })
    }

    /// Handshakes under way.
    pub(crate) fn handshakes(&self) -> usize {
        self.handshakes.load(Ordering::Relaxed)
    }

    /// Counts a subscription until the result is dropped.
    pub(crate) fn begin_subscription(self: &Arc<Self>) -> Counted {
        self.subscriptions.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(self), |serving| {
            serving.subscriptions.fetch_sub(1, Ordering::Relaxed);
        })
    }

    /// Keeps a connection where it can be cut, until the result is dropped.
    pub(crate) fn enter(self: &Arc<Self>, key: PeerKey, connection: Connection) -> Entered {
        let grants = self.grants_of(&[key]);
        let mut peers = self.peers();
        let number = peers.next;
        peers.next += 1;
        let connected = Connected {
            key,
            acting: None,
            grants,
            connection,
        };
        peers.connected.insert(number, connected);
        Entered {
            serving: Arc::clone(self),
            number,
        }
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something counted while it lives.
pub(crate) struct Counted(Arc<Serving>, fn(&Serving));

impl Drop for Counted {
    fn drop(&mut self) {
        (self.1)(&self.0);
    }
}

/// A connection that stands among the peers.
pub(crate) struct Entered {
    serving: Arc<Serving>,
    number: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let left = self.serving.peers().connected.remove(&self.number);
        // Dropped without the lock: a connection's end may run code of ours.
        drop(left);
    }
}
