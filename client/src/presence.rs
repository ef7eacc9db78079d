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
use objsync_proto::operation::Outcome;
use objsync_proto::wire::{Reply, Request};
use tokio::sync::Notify;

use crate::core::Core;
use crate::dict::Dict;
use crate::error::{ObjectError, Result};
use crate::fork;
use crate::lease::revoke;
use crate::pending::{Pending, Step, unexpected};

/// What the lease lasts where no connection keeps it.
const TTL: Duration = Duration::from_millis(IDLE_TIMEOUT_MS);
/// How often it is looked after.
const INTERVAL: Duration = Duration::from_millis(IDLE_TIMEOUT_MS / 3);
/// How long to wait after a failure; twice as long after each that follows, up to the interval.
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
        match lease.filter(|_| self.core.check_open().is_ok()) {
            Some(lease) => revoke(&self.core, lease),
            None => Pending::ready(Ok(())),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the key under a lease of the present connection, unless it is closed. What fails leaves
    /// no lease behind.
    ///
    /// Cancel safety: to be driven to its end, or a lease stays that only the connection's end ends.
    async fn show(&self) -> Result<()> {
        while !self.state().closed {
            let grant = self.core.config.grant_lease(TTL, true)?;
            let granted = |outcome, _ack| match outcome {
                Outcome::Lease(id) => Ok(Step::Done(id)),
                other => Err(unexpected(&other)),
            };
            let lease = Pending::write(Arc::clone(&self.core), grant, granted).await?;
            let is_closed = {
                let mut state = self.state();
                state.lease = Some(lease);
                state.closed
            };
            if is_closed {
                return self.close().await;
            }
            match self.put(lease).await {
                Ok(()) => return Ok(()),
                // The connection of the grant was gone by then.
                Err(error) if error.kind() == ErrorKind::NotFound => self.state().lease = None,
                Err(error) => {
                    if let Some(lease) = self.state().lease.take() {
                        // Ends the put too, if that was done and its answer lost.
                        revoke(&self.core, lease).in_background(self.core.runtime());
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    async fn put(&self, lease: LeaseId) -> Result<()> {
        let config = &self.core.config;
        let pair = (&self.key[..], config.seal(&self.value)?);
        let put = config.put_leased(pair, None, Some(lease))?;
        let done = |outcome, _ack| match outcome {
            Outcome::Done => Ok(Step::Done(())),
            other => Err(unexpected(&other)),
        };
        Pending::write(Arc::clone(&self.core), put, done).await
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let runtime = self.shown.core.runtime();
        self.shown.close().in_background(runtime);
    }
}

/// Looks after a presence until it is closed.
///
/// Cancel safety: never dropped but with its runtime.
async fn look_after(presence: Weak<Shown>) {
    let mut pause = PAUSE;
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
                () = closing.as_mut() => continue,
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
        drop(shown);
        let Err(error) = again else {
            pause = PAUSE;
            continue;
        };
        tracing::debug!(what = %core.config.what, %error, "a presence is not shown");
        tokio::select! {
            () = closing => {}
            () = tokio::time::sleep(pause) => pause = INTERVAL.min(pause * 2),
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
    /// # Cancel safety
    /// Dropped half way, the key is removed in the background.
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
            let showing = Arc::clone(&presence.shown);
            // In a task of its own, so that what was granted is known also when this is dropped.
            let shown = core.runtime().spawn(async move { showing.show().await });
            shown
                .await
                .unwrap_or_else(|stopped| Err(ObjectError::stopped(&stopped)))?;
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

#[cfg(test)]
mod tests {
    use objsync_proto::ids::NamespaceId;

    use super::*;
    use crate::link::GrantRequest;
    use crate::options::{Options, Target};
    use crate::wait::block_on;

    /// Runs a test through the owner of a store, and through a peer.
    fn in_both_roles(test: impl Fn(&Dict, &Dict)) {
        let folder = tempfile::tempdir().unwrap();
        let owner = Dict::open(folder.path().join("data"), Options::default()).unwrap();
        let link = owner.grant(GrantRequest::default()).wait().unwrap();
        let peer = Dict::connect(&Target::Link(link), Options::default()).unwrap();
        test(&owner, &owner);
        test(&owner, &peer);
    }

    fn nothing_is_left(owner: &Dict) {
        let core = owner.core().unwrap();
        let (store, pause) = (core.owner().unwrap().store(), Duration::from_millis(5));
        for _ in 0..4000 {
            let leased = store.count(NamespaceId::LEASES).unwrap();
            if leased == 0 && owner.is_empty().unwrap() {
                return;
            }
            block_on("test", core.within(pause, std::future::pending::<()>())).unwrap();
        }
        let leased = store.count(NamespaceId::LEASES).unwrap();
        panic!("{leased} leases and {} keys are left", owner.len().unwrap());
    }

    #[test]
    fn presence_that_is_refused_leaves_no_lease() {
        in_both_roles(|owner, dict| {
            let shown = dict.presence(&[0xff, 0xff], "no key").wait();
            assert_eq!(shown.unwrap_err().kind(), ErrorKind::Invalid);
            nothing_is_left(owner);
        });
    }

    #[test]
    fn presence_that_is_dropped_before_it_is_there_leaves_nothing() {
        let payload = objsync_proto::value::to_payload("here").unwrap();
        in_both_roles(|owner, dict| {
            for polls in 0..40 {
                let key = objsync_proto::key::encode(&polls.into()).unwrap();
                let mut shown = dict.presence(key.as_bytes(), payload.clone());
                // Dropped a little later each time: before, between and after its two writes.
                for _ in 0..polls {
                    if shown.try_take().is_some() {
                        break;
                    }
                    std::thread::park_timeout(Duration::from_micros(100));
                }
            }
            nothing_is_left(owner);
        });
    }
}
