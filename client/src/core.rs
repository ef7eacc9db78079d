//! What is behind a handle, for as long as its process lives: the role, and the calls on their way.
//!
//! ```text
//! Seeking --found an owner--> Peer --its end--> Seeking
//!    \--won the lock--> Owner            any --close--> Closed
//! ```
//!
//! Trail of a write: [`Core::execute`] -> `store::Store::execute` (owner), or
//! [`Core::submit`] -> [`crate::connection`] -> the owner's `server::connection` (peer).
//!
//! Invariants
//! * A core that became the owner stays it until closed; so `owner` is read without a lock.
//! * Calls leave in the order in which they were queued: the owner's place is taken with the queue
//!   locked and emptied into the store, so no later call overtakes one from before.
//! * Each queued call is answered once: by the owner, by its deadline, or by the end of the handle.

#[cfg(test)]
pub(crate) mod alone;
mod command;
pub(crate) mod fresh;
mod late;
mod queue;
mod reading;
mod window;

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{Ack, Origin, Position, SessionId, StoreId};
use objsync_proto::session::Late;
use objsync_server::Network;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use self::command::Queue;
pub(crate) use self::command::{
    Asker, ChunksWanted, Command, FeedKind, FeedSink, FeedWanted, Upload,
};
use self::fresh::Freshness;
use self::window::Window;
use crate::config::Config;
use crate::error::{ObjectError, Result};
use crate::hub::Hub;
use crate::large::Shared;
use crate::offline::Offline;
use crate::options::OfflineMode;
use crate::owner::OwnerSide;
use crate::replica::Replica;
use crate::seek;
use crate::surroundings::Surroundings;

/// What is behind a handle.
pub(crate) struct Core {
    /// What was asked for.
    pub(crate) config: Arc<Config>,
    /// Where it runs.
    surroundings: Surroundings,
    /// What this handle holds in memory while it is a peer.
    pub(crate) replica: Replica,
    /// Who watches.
    pub(crate) hub: Arc<Hub>,
    /// Woken when the phase changes.
    pub(crate) phase_changed: Notify,
    /// Set once, when this process owns the store.
    owner: OnceLock<OwnerSide>,
    phase: Mutex<Phase>,
    queue: Mutex<Queue>,
    queued: Notify,
    closing: AtomicBool,
    closed: AtomicBool,
    /// Counts changes of role: part of every stamp.
    role_count: AtomicU32,
    /// Highest acknowledged revision.
    acked: AtomicU64,
    acked_quietly: AtomicU64,
    last_ack: Mutex<Option<Ack>>,
    /// The store it has seen.
    store: Mutex<Option<StoreId>>,
    /// Where the newest owner that it found began.
    found: Mutex<Option<Position>>,
    /// Its present session, by which it knows its own changes.
    session: Mutex<Option<SessionId>>,
    window: Window,
    /// What owners said after callers had given up.
    late: Mutex<VecDeque<Late>>,
    freshness: Freshness,
    /// What it does with values that lie in chunks.
    pub(crate) large: Shared,
    /// Writes that wait on disk, where the handle was asked to.
    pub(crate) offline: Option<Arc<Offline>>,
}

/// What the handle is at this moment.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    /// Looking for an owner, or racing to become it.
    Seeking {
        /// Why there is none yet.
        reason: Option<String>,
        /// The lock is ours and the store is being opened, which can take its time.
        opening: bool,
    },
    /// Connected to an owner.
    Peer {
        /// Where it listens.
        address: SocketAddr,
        /// Its process, if it is on this machine.
        pid: Option<u32>,
    },
    /// This process is the owner.
    Owner,
    /// It cannot go on.
    Failed(ObjectError),
    /// The handle was closed.
    Closed,
}

impl Core {
    /// Begins to look for the store.
    pub(crate) fn start(config: Arc<Config>) -> Result<Arc<Self>> {
        let mut refused = None;
        let core = Self::new(config, |core, config| match config.options.offline {
            OfflineMode::Wait => None,
            OfflineMode::Queue => Offline::start(Weak::clone(core))
                .map_err(|error| refused = Some(error))
                .ok(),
        })?;
        if let Some(error) = refused {
            return Err(error);
        }
        if let Some(offline) = &core.offline {
            crate::process::current()?.add_queue(offline);
        }
        core.runtime().spawn(seek::run(Arc::clone(&core)));
        Ok(core)
    }

    /// A handle that nobody drives yet, with this queue on disk.
    fn new(
        config: Arc<Config>,
        offline: impl FnOnce(&Weak<Self>, &Config) -> Option<Arc<Offline>>,
    ) -> Result<Arc<Self>> {
        let surroundings = match &config.options.surroundings {
            Some(given) => given.clone(),
            None => Surroundings::of_process()?,
        };
        let hub = Hub::new();
        let large = Shared::new(config.options.memory_bytes);
        Ok(Arc::new_cyclic(|core: &Weak<Self>| Self {
            offline: offline(core, &config),
            replica: {
                config.packer.attach(core);
                Replica::new(
                    &config.options,
                    Arc::clone(&hub),
                    Arc::clone(&config.packer),
                )
            },
            hub: Arc::clone(&hub),
            config,
            surroundings,
            phase_changed: Notify::new(),
            owner: OnceLock::new(),
            phase: Mutex::new(Phase::Seeking {
                reason: None,
                opening: false,
            }),
            queue: Mutex::default(),
            queued: Notify::new(),
            closing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            role_count: AtomicU32::new(0),
            acked: AtomicU64::new(0),
            acked_quietly: AtomicU64::new(0),
            last_ack: Mutex::new(None),
            store: Mutex::new(None),
            found: Mutex::new(None),
            session: Mutex::new(None),
            window: Window::default(),
            late: Mutex::default(),
            freshness: Freshness::default(),
            large,
        }))
    }

    /// The I/O thread of this process.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.surroundings.runtime
    }

    /// Where its packets go.
    pub(crate) fn network(&self) -> &dyn Network {
        &*self.surroundings.network
    }

    /// Waits until the handle can be used, or cannot.
    pub(crate) async fn opened(&self) -> Result<()> {
        let timeout = self.config.options.timeout;
        loop {
            let usable = self.until(|phase| match phase {
                Phase::Seeking { .. } => None,
                Phase::Peer { .. } | Phase::Owner => Some(Ok(())),
                Phase::Failed(error) => Some(Err(error.clone())),
                Phase::Closed => Some(Err(self.closed_error())),
            });
            match self.within(timeout, usable).await {
                Some(Ok(())) => {
                    // If that cannot be told now, values are packed without until the next training.
                    let _ = self.config.packer.refresh(self).await;
                    return Ok(());
                }
                Some(Err(error)) => return Err(error),
                None if matches!(self.phase(), Phase::Seeking { opening: true, .. }) => {}
                None => return Err(self.unreachable(timeout)),
            }
        }
    }

    /// Waits until the phase is one that `check` accepts.
    pub(crate) async fn until<T>(&self, mut check: impl FnMut(&Phase) -> Option<T>) -> T {
        loop {
            let mut changed = std::pin::pin!(self.phase_changed.notified());
            changed.as_mut().enable();
            if let Some(found) = check(&self.phase()) {
                return found;
            }
            changed.await;
        }
    }

    /// Runs a future for at most `timeout`, on whatever executor polls it.
    pub(crate) async fn within<T>(
        &self,
        timeout: Duration,
        future: impl Future<Output = T>,
    ) -> Option<T> {
        let limited = {
            let _timer = self.runtime().enter();
            tokio::time::timeout(timeout, future)
        };
        limited.await.ok()
    }

    /// What the handle is at this moment.
    pub(crate) fn phase(&self) -> Phase {
        self.lock_phase().clone()
    }

    /// Enters a phase, unless the handle was closed. Caches of decoded values start anew.
    pub(crate) fn enter(&self, phase: Phase) {
        let mut now = self.lock_phase();
        if matches!(*now, Phase::Closed) {
            return;
        }
        self.note_phase(&phase);
        let is_online = matches!(phase, Phase::Peer { .. });
        let was_online = matches!(*now, Phase::Peer { .. });
        *now = phase;
        // With the phase locked, so that the queue hears of changes in their order.
        if let Some(offline) = self.offline.as_ref().filter(|_| is_online != was_online) {
            offline.online(is_online);
        }
        drop(now);
        if is_online && !was_online {
            self.config.packer.forget_present();
        }
        self.phase_changed.notify_waiters();
    }

    /// The owner's side, when this process is the owner.
    #[inline]
    pub(crate) fn owner(&self) -> Option<&OwnerSide> {
        self.owner.get()
    }

    /// Refuses calls on a handle that was closed, or cannot go on.
    #[inline]
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(self.end_error());
        }
        Ok(())
    }

    /// Part of every stamp: changes when the role does.
    #[inline]
    pub(crate) fn role_count(&self) -> u32 {
        self.role_count.load(Ordering::Acquire)
    }

    /// Checks that a store is the one this handle has always seen.
    pub(crate) fn check_store_seen(&self, found: StoreId) -> Result<()> {
        let mut seen = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_store(*seen, found)?;
        *seen = Some(found);
        Ok(())
    }

    fn check_store(&self, seen: Option<StoreId>, found: StoreId) -> Result<()> {
        if self.config.options.recover || seen.is_none_or(|seen| seen == found) {
            return Ok(());
        }
        let seen = seen.unwrap_or(found);
        Err(ObjectError::new(
            ErrorKind::Conflict,
            format!(
                "{} now has store {found}; this handle saw store {seen}: open it anew, or with \
                 recover, to accept the other one",
                self.config.what
            ),
        ))
    }

    /// The store it has seen; none before it first reached an owner.
    pub(crate) fn store_seen(&self) -> Option<StoreId> {
        *self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses `what`, which belongs to the dictionary behind `other`, unless that is the one behind
    /// this handle.
    pub(crate) fn check_same_dict(&self, other: &Self, what: impl Fn() -> String) -> Result<()> {
        let of = |core: &Self| (core.store_seen(), core.config.options.namespace.clone());
        if of(self) == of(other) {
            return Ok(());
        }
        let text = format!(
            "{} is one of {}, and not of {}",
            what(),
            other.config.what,
            self.config.what
        );
        Err(ObjectError::new(ErrorKind::Invalid, text))
    }

    /// Remembers the session that writes of this handle go through.
    pub(crate) fn note_session(&self, session: Option<SessionId>) {
        if session.is_some() {
            *self.session.lock().unwrap_or_else(PoisonError::into_inner) = session;
        }
    }

    /// Whether this handle asked for a change.
    pub(crate) fn is_own(&self, origin: Option<Origin>) -> bool {
        match origin {
            None => self.owner().is_some(),
            Some(origin) => {
                let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
                *session == Some(origin.session)
            }
        }
    }

    /// Waits for the beginning of the end of the handle. Cancel safe.
    pub(crate) async fn closing(&self) {
        loop {
            let mut changed = std::pin::pin!(self.phase_changed.notified());
            changed.as_mut().enable();
            if self.is_closing() {
                return;
            }
            changed.await;
        }
    }

    /// Asks the I/O task to finish what was started and to end.
    pub(crate) fn begin_close(&self) {
        self.closed.store(true, Ordering::Release);
        self.role_count.fetch_add(1, Ordering::AcqRel);
        self.closing.store(true, Ordering::Release);
        self.queued.notify_one();
        self.phase_changed.notify_waiters();
    }

    /// Whether the handle is being closed.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Ends the queue: what waits there, and what comes, fails.
    pub(crate) fn end(&self, phase: Phase) {
        self.enter(phase);
        self.closed.store(true, Ordering::Release);
        self.role_count.fetch_add(1, Ordering::AcqRel);
        let commands = {
            let mut queue = self.queue();
            queue.ended = true;
            std::mem::take(&mut queue.commands)
        };
        let error = self.end_error();
        for command in commands {
            command.fail(&error);
        }
        self.window.clear();
        self.replica.wake();
        self.phase_changed.notify_waiters();
    }

    /// Why no call can succeed any more.
    pub(crate) fn end_error(&self) -> ObjectError {
        match self.phase() {
            Phase::Failed(error) => error,
            _ => self.closed_error(),
        }
    }

    pub(crate) fn closed_error(&self) -> ObjectError {
        ObjectError::Closed {
            what: self.config.what.clone(),
        }
    }

    /// The error of a call that nobody answered.
    pub(crate) fn unreachable(&self, waited: Duration) -> ObjectError {
        let reason = match self.phase() {
            Phase::Failed(error) => return error,
            Phase::Closed => return self.closed_error(),
            Phase::Seeking {
                reason: Some(reason),
                ..
            } => format!(": {reason}"),
            Phase::Seeking { .. } | Phase::Peer { .. } | Phase::Owner => String::new(),
        };
        ObjectError::Unreachable {
            what: self.config.what.clone(),
            waited,
            reason,
        }
    }

    fn lock_phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("what", &self.config.what)
            .finish_non_exhaustive()
    }
}
