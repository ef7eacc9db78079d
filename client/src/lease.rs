//! Leases: what lies under one is there for as long as somebody keeps it.
//!
//! Trail: [`crate::Dict::lease`] -> `Operation::GrantLease` -> a task of the I/O thread asks
//! `Request::KeepLease` three times within its time, and at once after each reconnect, until the
//! lease ends.
//!
//! The owner alone decides that a lease has ended. What this side knows of it is late: act on
//! [`Lease::is_alive`] only where being late does no harm, and let the owner check the rest, by a
//! lock and [`crate::Transaction::require`].

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::time::Instant;

use bytes::Bytes;
use objsync_proto::error::ErrorKind;
use objsync_proto::evaluate;
use objsync_proto::ids::{Ack, LeaseId};
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::wire::{Reply, Request};
use tokio::sync::Notify;

use crate::config::Config;
use crate::core::Core;
use crate::dict::Dict;
use crate::error::{ObjectError, Result};
use crate::fork;
use crate::pending::{Pending, Step, unexpected, unexpected_reply};

/// How often a lease is kept within its time.
const KEEPS: u32 = 3;
/// How long to wait after a failed attempt to keep one, at most.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// A lease that this process keeps: see [`Dict::lease`]. Clones are the same.
///
/// When the last clone is dropped it is not kept any more, and ends when its time is over;
/// [`Lease::close`] ends it at once. In a forked child it is nobody's: the parent keeps it.
#[derive(Clone)]
pub struct Lease {
    kept: Arc<Kept>,
}

struct Kept {
    core: Arc<Core>,
    id: LeaseId,
    ttl: Duration,
    generation: u32,
    state: Mutex<State>,
    /// Wakes the task that keeps it.
    ended: Arc<Notify>,
}

struct State {
    /// It is there at least until then, by this process's clock, unless somebody revokes it.
    alive_until: Instant,
    ended: bool,
}

impl Lease {
    /// Keeps a lease that was granted to a request made at `asked`.
    pub(crate) fn keep(core: &Arc<Core>, id: LeaseId, ttl: Duration, asked: Instant) -> Self {
        let kept = Arc::new(Kept {
            core: Arc::clone(core),
            id,
            ttl,
            generation: fork::generation(),
            state: Mutex::new(State {
                alive_until: asked + ttl,
                ended: false,
            }),
            ended: Arc::default(),
        });
        core.runtime().spawn(keep(Arc::downgrade(&kept)));
        Self { kept }
    }

    /// Its number in the store.
    #[must_use]
    pub fn id(&self) -> LeaseId {
        self.kept.id
    }

    /// How long it lasts after it was last kept.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.kept.ttl
    }

    /// Whether it is there as far as this process knows: it was not ended, and was kept within its
    /// time. Asks nobody. After an owner was away for long it can be true again, when the next one
    /// has kept it meanwhile.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        if !self.is_ours() {
            return false;
        }
        let state = self.kept.state();
        !state.ended && Instant::now() < state.alive_until
    }

    /// Ends it, and with it every key and lock under it. Harmless when repeated, when it has ended
    /// by itself, and in a forked child.
    ///
    /// # Errors
    /// As [`Dict::set`].
    pub fn close(&self) -> Pending<()> {
        if !self.is_ours() || self.kept.end() || self.kept.core.check_open().is_err() {
            return Pending::ready(Ok(()));
        }
        revoke(&self.kept.core, self.kept.id)
    }

    /// Ends it without anybody waiting for that: asks again while nobody answers, for as long as it
    /// can be there.
    pub(crate) fn abandon(&self) {
        if !self.is_ours() || self.kept.end() || self.kept.core.check_open().is_err() {
            return;
        }
        let (core, id) = (Arc::clone(&self.kept.core), self.kept.id);
        let gone = Instant::now() + self.kept.ttl;
        let mut revoked = revoke(&core, id).start();
        self.kept.core.runtime().spawn(async move {
            while let Err(error) = revoked.await {
                tracing::debug!(what = %core.config.what, lease = id.0, %error, "not ended");
                let is_worth_it = core.check_open().is_ok() && Instant::now() < gone;
                if !is_worth_it || !is_unanswered(&error) {
                    return;
                }
                tokio::time::sleep(PAUSE_MAX).await;
                revoked = revoke(&core, id);
            }
        });
    }

    /// Whether it is there: as far as this process knows, or else by the owner's word.
    pub(crate) async fn is_there(&self) -> Result<bool> {
        if self.is_alive() || self.has_ended() {
            return Ok(!self.has_ended());
        }
        let asked = Instant::now();
        let request = Request::KeepLease { lease: self.id() };
        let answered = self.kept.core.request(request).await;
        self.kept.kept(asked, answered)
    }

    /// Whether it is known to have ended.
    pub(crate) fn has_ended(&self) -> bool {
        !self.is_ours() || self.kept.state().ended
    }

    /// Notes that the owner does not know it any more; gives the error that says so.
    pub(crate) fn lost(&self) -> ObjectError {
        self.kept.end();
        self.error()
    }

    /// The error of whoever uses it after its end.
    pub(crate) fn error(&self) -> ObjectError {
        ObjectError::LeaseEnded {
            what: self.kept.core.config.what.clone(),
            lease: self.kept.id,
        }
    }

    /// Whether this process took it, and not one that it was forked from.
    pub(crate) fn is_ours(&self) -> bool {
        self.kept.generation == fork::generation()
    }

    /// Refuses what has ended, or belongs to another store.
    fn usable(&self, core: &Core) -> Result<LeaseId> {
        if self.has_ended() {
            return Err(self.error());
        }
        core.check_same_dict(&self.kept.core, || format!("lease {}", self.kept.id.0))?;
        Ok(self.kept.id)
    }
}

impl Kept {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what the owner said to a request, made at `asked`, to keep it: whether it is there.
    fn kept(&self, asked: Instant, answered: Result<Reply>) -> Result<bool> {
        match answered {
            Ok(Reply::Lease(_)) => {
                self.state().alive_until = asked + self.ttl;
                Ok(true)
            }
            Ok(other) => Err(unexpected_reply(&other)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.end();
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Ends it on this side; whether it had ended before.
    fn end(&self) -> bool {
        let had_ended = std::mem::replace(&mut self.state().ended, true);
        self.ended.notify_waiters();
        had_ended
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.ended.notify_waiters();
    }
}

/// Keeps a lease until it has ended, its last handle is dropped, or its object closed.
///
/// Cancel safety: never dropped but with its runtime.
async fn keep(lease: Weak<Kept>) {
    while let Some(kept) = lease.upgrade() {
        let (core, id, ttl) = (Arc::clone(&kept.core), kept.id, kept.ttl);
        let ended = Arc::clone(&kept.ended);
        let mut ended = std::pin::pin!(ended.notified());
        ended.as_mut().enable();
        let mut changed = std::pin::pin!(core.phase_changed.notified());
        changed.as_mut().enable();
        if kept.state().ended || core.check_open().is_err() {
            return;
        }
        // Or it would be kept for ever by who keeps it.
        drop(kept);
        tokio::select! {
            () = ended => continue,
            // Another owner, or none yet: the request waits for it.
            () = changed => {}
            () = tokio::time::sleep(ttl / KEEPS) => {}
        }
        let asked = Instant::now();
        let answered = core.request(Request::KeepLease { lease: id }).await;
        let Some(kept) = lease.upgrade() else { return };
        match kept.kept(asked, answered) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                drop(kept);
                tracing::debug!(what = %core.config.what, lease = id.0, %error, "not kept");
                tokio::time::sleep(PAUSE_MAX.min(ttl / KEEPS)).await;
            }
        }
    }
}

impl Config {
    /// The operation of a grant.
    pub(crate) fn grant_lease(&self, ttl: Duration, presence: bool) -> Result<Operation> {
        self.check_writable()?;
        let ttl_ms = milliseconds(ttl);
        let operation = Operation::GrantLease { ttl_ms, presence };
        evaluate::check(&operation)?;
        Ok(operation)
    }

    /// The operation of a put that ends by itself, of a value as it is stored.
    pub(crate) fn put_leased(
        &self,
        (key, stored): (&[u8], Bytes),
        ttl: Option<Duration>,
        lease: Option<LeaseId>,
    ) -> Result<Operation> {
        let operation = Operation::PutLeased {
            key: self.key(key)?,
            value: stored,
            ttl_ms: ttl.map(milliseconds),
            lease,
        };
        evaluate::check(&operation)?;
        Ok(operation)
    }
}

/// Whole milliseconds; less than one counts as one, unless it is nothing.
fn milliseconds(ttl: Duration) -> u64 {
    let up = ttl.as_nanos().div_ceil(1_000_000);
    u64::try_from(up).unwrap_or(u64::MAX)
}

impl Dict {
    /// Begins a lease of `ttl`, which this process keeps until it is closed, dropped, or the
    /// process ends: then it ends once `ttl` has passed, and what lies under it is removed. 1 ms to
    /// 10 years; a few seconds are good for most.
    ///
    /// # Cancel safety
    /// Dropped after it was handed over, a lease may begin that nobody keeps: it ends when `ttl` is
    /// over, with nothing under it.
    ///
    /// # Errors
    /// As [`Dict::set`]; `Invalid` for a time out of bounds.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use objsync::{Dict, Options, key, value};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let dict = Dict::open(folder.path().join("data.obj"), Options::default())?;
    /// let name = key::encode(&"worker".into())?;
    /// let lease = dict.lease(Duration::from_secs(10)).wait()?;
    /// dict.set_leased(name.as_bytes(), value::to_payload(&7)?, None, Some(&lease)).wait()?;
    /// assert!(lease.is_alive());
    /// lease.close().wait()?;
    /// assert_eq!(dict.get(name.as_bytes())?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lease(&self, ttl: Duration) -> Pending<Lease> {
        let core = match self.core() {
            Ok(core) => Arc::clone(core),
            Err(error) => return Pending::ready(Err(error)),
        };
        let asked = Instant::now();
        let step = move |outcome, _ack| match outcome {
            Outcome::Lease(id) => Ok(Step::Done(Lease::keep(&core, id, ttl, asked))),
            other => Err(unexpected(&other)),
        };
        self.write(|config| config.grant_lease(ttl, false), step)
    }

    /// Puts a payload under a key that is removed by itself: after `ttl`, at the end of a lease,
    /// or with whichever comes first; as [`Dict::set`] with neither. Any later put, delete or batch
    /// of the key takes that away from it; `incr` and patches keep it.
    ///
    /// The owner's clock counts, and goes on across owners. A reader can see a key for a moment
    /// longer, never for shorter.
    ///
    /// # Errors
    /// As [`Dict::set`]; [`ObjectError::LeaseEnded`]; `Invalid` for a time out of bounds.
    pub fn set_leased(
        &self,
        key: &[u8],
        value: impl Into<Bytes>,
        ttl: Option<Duration>,
        lease: Option<&Lease>,
    ) -> Pending<Ack> {
        if ttl.is_none() && lease.is_none() {
            return self.set(key, value);
        }
        let value = value.into();
        let id = match (lease, self.core()) {
            (_, Err(error)) => return Pending::ready(Err(error)),
            (None, _) => Ok(None),
            (Some(lease), Ok(core)) => lease.usable(core).map(Some),
        };
        let step = |outcome, ack| match outcome {
            Outcome::Done => Ok(Step::Done(ack)),
            other => Err(unexpected(&other)),
        };
        let packed = |config: &Config| {
            id.as_ref().map_err(Clone::clone)?;
            Ok((config.key(key)?, vec![config.pack(&value)?]))
        };
        let (name, id) = (Bytes::copy_from_slice(key), id.clone().unwrap_or_default());
        let build = move |config: &Config, stored: Vec<Bytes>| {
            let stored = stored.into_iter().next().unwrap_or_default();
            config.put_leased((&name, stored), ttl, id)
        };
        let put = self.write_packed(packed, build, step);
        let lease = lease.cloned();
        put.map_err(move |error| match &lease {
            Some(lease) if error.kind() == ErrorKind::NotFound => lease.lost(),
            _ => error,
        })
    }
}

/// Ends a lease; it may have ended before.
pub(crate) fn revoke(core: &Arc<Core>, lease: LeaseId) -> Pending<()> {
    let operation = Operation::RevokeLease { lease };
    let step = |outcome, _ack| match outcome {
        Outcome::Deleted(_) => Ok(Step::Done(())),
        other => Err(unexpected(&other)),
    };
    Pending::write(Arc::clone(core), operation, step).recover(unless_gone)
}

/// Whether asking again may help.
fn is_unanswered(error: &ObjectError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unavailable | ErrorKind::OutcomeUnknown
    )
}

/// A lease that was to be ended and is not there is as good as ended.
fn unless_gone(error: ObjectError) -> Result<()> {
    match error.kind() {
        ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("id", &self.kept.id)
            .field("ttl", &self.kept.ttl)
            .finish_non_exhaustive()
    }
}
