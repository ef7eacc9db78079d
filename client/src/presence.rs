//! Presence: a key that is there for as long as a process is connected.
//!
//! Its lease is kept by the connection, so that it ends with that, however that ends. A task of the
//! I/O thread looks after it: after a reconnect the lease is adopted if it is still there, as after
//! a promotion, or the key is put again under another one.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::LeaseId;
use objsync_proto::limits::IDLE_TIMEOUT_MS;
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::wire::{Reply, Request};
use tokio::sync::Notify;

use crate::core::Core;
use crate::dict::Dict;
use crate::error::{ObjectError, Result};
use crate::fork;
use crate::lease::unless_gone;
use crate::pending::{Pending, Step, unexpected};

/// What the lease lasts where no connection keeps it.
const TTL: Duration = Duration::from_millis(IDLE_TIMEOUT_MS);
/// How often it is looked after.
const INTERVAL: Duration = Duration::from_millis(IDLE_TIMEOUT_MS / 3);
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_millis(50);

/// A key that is there for as long as this is held, and this process connected: see
/// [`Dict::presence`]. Dropping it removes the key.
pub struct Presence {
    shown: Arc<Shown>,
}

struct Shown {
    core: Arc<Core>,
    key: Bytes,
    value: Bytes,
    generation: u32,
    state: Mutex<State>,
    closing: Arc<Notify>,
}

#[derive(Default)]
struct State {
    lease: Option<LeaseId>,
    closed: bool,
}

impl Presence {
    /// Removes the key now. Harmless when repeated, and in a forked child.
    ///
    /// # Errors
    /// As [`Dict::set`]; the key goes with the connection all the same.
    pub fn close(&self) -> Pending<()> {
        self.shown.close()
    }
}

impl Shown {
    fn close(&self) -> Pending<()> {
        if self.generation != fork::generation() {
            return Pending::ready(Ok(()));
        }
        let lease = {
            let mut state = self.state();
            state.closed = true;
            state.lease.take()
        };
        self.closing.notify_waiters();
        let Some(lease) = lease.filter(|_| self.core.check_open().is_ok()) else {
            return Pending::ready(Ok(()));
        };
        let step = |outcome, _ack| match outcome {
            Outcome::Deleted(_) => Ok(Step::Done(())),
            other => Err(unexpected(&other)),
        };
        let operation = Operation::RevokeLease { lease };
        Pending::write(Arc::clone(&self.core), operation, step).recover(unless_gone)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the key under a lease of the present connection.
    async fn show(&self) -> Result<()> {
        loop {
            let grant = self.core.config.grant_lease(TTL, true)?;
            let granted = |outcome, _ack| match outcome {
                Outcome::Lease(id) => Ok(Step::Done(id)),
                other => Err(unexpected(&other)),
            };
            let lease = Pending::write(Arc::clone(&self.core), grant, granted).await?;
            let pair = (&self.key[..], &self.value[..]);
            let put = self.core.config.put_leased(pair, None, Some(lease))?;
            let done = |outcome, _ack| match outcome {
                Outcome::Done => Ok(Step::Done(())),
                other => Err(unexpected(&other)),
            };
            match Pending::write(Arc::clone(&self.core), put, done).await {
                Ok(()) => return self.shown(lease).await,
                // The connection of the grant was gone by then.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Notes the lease; ends it at once where that is no longer wanted.
    async fn shown(&self, lease: LeaseId) -> Result<()> {
        let closed = {
            let mut state = self.state();
            state.lease = Some(lease);
            state.closed
        };
        if closed {
            return self.close().await;
        }
        Ok(())
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        drop(self.shown.close().start());
    }
}

/// Looks after a presence until it is closed.
///
/// Cancel safety: never dropped but with its runtime.
async fn look_after(presence: Weak<Shown>) {
    while let Some(shown) = presence.upgrade() {
        let core = Arc::clone(&shown.core);
        let closing = Arc::clone(&shown.closing);
        let mut closing = std::pin::pin!(closing.notified());
        closing.as_mut().enable();
        let mut changed = std::pin::pin!(core.phase_changed.notified());
        changed.as_mut().enable();
        let (lease, closed) = {
            let state = shown.state();
            (state.lease, state.closed)
        };
        if closed || core.check_open().is_err() {
            return;
        }
        drop(shown);
        if lease.is_some() {
            tokio::select! {
                () = closing => continue,
                () = changed => {}
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
        let kept = match lease {
            Some(lease) => core.request(Request::KeepLease { lease }).await,
            None => Err(ObjectError::new(ErrorKind::NotFound, "no lease yet")),
        };
        let Some(shown) = presence.upgrade() else {
            return;
        };
        let again = match kept {
            Ok(Reply::Lease(_)) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                shown.state().lease = None;
                shown.show().await
            }
            Err(error) => Err(error),
            Ok(other) => Err(crate::pending::unexpected_reply(&other)),
        };
        if let Err(error) = again {
            drop(shown);
            tracing::debug!(what = %core.config.what, %error, "a presence is not shown");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Dict {
    /// Puts a payload under a key that is there for as long as the result is held and this process
    /// connected: it goes when it is closed or dropped, and by itself when the process ends, is cut
    /// off or hangs (within 3 s, or at once where the owner sees the connection end). After a
    /// reconnect it is put again.
    ///
    /// Another write of the key takes it out of that; the last one wins.
    ///
    /// # Errors
    /// As [`Dict::set`].
    ///
    /// # Examples
    /// ```
    /// use objsync::{Dict, Options, key, value};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let dict = Dict::open(folder.path().join("data.obj"), Options::default())?;
    /// let name = key::encode(&"user:ada".into())?;
    /// let here = dict.presence(name.as_bytes(), value::to_payload("online")?).wait()?;
    /// assert!(dict.contains(name.as_bytes())?);
    /// here.close().wait()?;
    /// assert!(!dict.contains(name.as_bytes())?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn presence(&self, key: &[u8], value: impl Into<Bytes>) -> Pending<Presence> {
        let (key, value) = (Bytes::copy_from_slice(key), value.into());
        self.call("a presence", |core| async move {
            core.check_open()?;
            let shown = Arc::new(Shown {
                core: Arc::clone(&core),
                key,
                value,
                generation: fork::generation(),
                state: Mutex::default(),
                closing: Arc::default(),
            });
            let presence = Presence { shown };
            presence.shown.show().await?;
            core.runtime()
                .spawn(look_after(Arc::downgrade(&presence.shown)));
            Ok(presence)
        })
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence")
            .field("key", &objsync_proto::key::describe(&self.shown.key))
            .finish_non_exhaustive()
    }
}
