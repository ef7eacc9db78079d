//! Locks that are held by one at a time, over processes and owners.
//!
//! Trail: [`Lock::acquire`] -> a lease -> `Operation::Lock` -> held by another: `Request::AwaitLock`,
//! and again -> the fence. [`Lock::release`] -> `Operation::Unlock`, and the lease ends.
//!
//! The lease under a lock is kept for as long as it is held; a holder that dies, hangs or is cut
//! off loses both. It may not know: what must not happen then is to demand the fence where it
//! happens, by [`crate::Transaction::require`].

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

use bytes::Bytes;
use objsync_proto::error::ErrorKind;
use objsync_proto::evaluate;
use objsync_proto::ids::Revision;
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::wire::{Reply, Request};

use crate::core::Core;
use crate::dict::Dict;
use crate::error::{ObjectError, Result};
use crate::lease::Lease;
use crate::pending::{Pending, Step, unexpected, unexpected_reply};

/// How often it is looked whether a lock is free, where the owner does not tell.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A lock by name: see [`Dict::lock`]. Clones are the same holder.
///
/// One object holds it once: for several threads or tasks make one each. When the last clone is
/// dropped it is given back.
#[derive(Clone)]
pub struct Lock {
    place: Arc<Place>,
}

struct Place {
    dict: Dict,
    name: Bytes,
    ttl: Duration,
    state: Mutex<State>,
}

enum State {
    Free,
    /// A call waits for it.
    Acquiring,
    Held(Held),
}

/// A lock that was taken.
struct Held {
    lease: Lease,
    fence: Revision,
}

impl Lock {
    /// Takes the lock; waits for at most `timeout` while somebody else holds it, for ever with none,
    /// and not at all with zero. Whether it was taken.
    ///
    /// Who waits is told by the owner when it becomes free. There is no order among those who wait.
    ///
    /// # Cancel safety
    /// Dropped half way, it is given back if it was taken.
    ///
    /// # Errors
    /// `Invalid` when this object holds it already; as [`Dict::set`].
    pub fn acquire(&self, timeout: Option<Duration>) -> Pending<bool> {
        let (lock, deadline) = (self.clone(), Deadline::after(timeout));
        let what = "a lock";
        self.place.dict.call(what, move |core| async move {
            let mut acquiring = Acquiring::begin(&lock)?;
            if deadline.left() == Some(Duration::ZERO) && lock.is_taken(&core).await? {
                return Ok(false);
            }
            loop {
                let lease = match &acquiring.lease {
                    Some(lease) if !lease.has_ended() => lease.clone(),
                    _ => {
                        let lease = lock.place.dict.lease(lock.place.ttl).await?;
                        acquiring.lease.insert(lease).clone()
                    }
                };
                match lock.try_once(&core, &lease).await {
                    // The answer can be older than the end of the lease, when it was repeated.
                    Ok(Some(fence)) if lease.is_there().await? => {
                        acquiring.taken(fence);
                        return Ok(true);
                    }
                    Ok(Some(_)) => {}
                    Ok(None) if deadline.left() == Some(Duration::ZERO) => {
                        return acquiring.given_up().await.map(|()| false);
                    }
                    Ok(None) => lock.until_free(&core, &deadline).await?,
                    // It ended while this process stood still: with another one.
                    Err(ObjectError::LeaseEnded { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        })
    }

    /// As [`Lock::acquire`], but not to get it in time is an error.
    ///
    /// # Errors
    /// [`ObjectError::LockTimeout`]; as [`Lock::acquire`].
    pub fn enter(&self, timeout: Option<Duration>) -> Pending<Revision> {
        let (lock, begun) = (self.clone(), Instant::now());
        self.place.dict.call("a lock", move |core| async move {
            let taken = lock.acquire(timeout).await?;
            match lock.fence() {
                Some(fence) if taken => Ok(fence),
                _ => Err(ObjectError::LockTimeout {
                    what: core.config.what.clone(),
                    name: lock.place.name.clone(),
                    waited: begun.elapsed(),
                }),
            }
        })
    }

    /// Gives the lock back. In a forked child it does nothing: the parent holds it.
    ///
    /// # Cancel safety
    /// Dropped, at whatever time, the lock is given back in the background; so it is when this
    /// fails.
    ///
    /// # Errors
    /// `Invalid` when this object does not hold it; [`ObjectError::Fenced`] when it was lost
    /// meanwhile, so that somebody else may have held it at the same time; as [`Dict::set`].
    pub fn release(&self) -> Pending<()> {
        let held = match self.take_held() {
            Ok(held) => held,
            Err(error) => return Pending::ready(Err(error)),
        };
        if !held.lease.is_ours() {
            return Pending::ready(Ok(()));
        }
        if held.lease.has_ended() {
            return Pending::ready(Err(self.fenced()));
        }
        let Held { lease, fence } = held;
        let name = self.place.name.clone();
        let (lock, leaving) = (self.clone(), Leaving(lease));
        let step = move |outcome, _ack| {
            let _ends_after = &leaving;
            match outcome {
                Outcome::Swapped(true) => Ok(Step::Done(())),
                Outcome::Swapped(false) => Err(lock.fenced()),
                other => Err(unexpected(&other)),
            }
        };
        let dict = &self.place.dict;
        dict.write(move |_| Ok(Operation::Unlock { name, fence }), step)
    }

    /// The name, encoded.
    #[must_use]
    pub fn encoded_name(&self) -> &Bytes {
        &self.place.name
    }

    /// How long it outlives a holder that does not keep it.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.place.ttl
    }

    /// A number that grows with each holder; none while this object does not hold the lock.
    #[must_use]
    pub fn fence(&self) -> Option<Revision> {
        match &*self.state() {
            State::Held(held) => Some(held.fence),
            State::Free | State::Acquiring => None,
        }
    }

    /// Whether this object holds it, as far as this process knows: see [`Lease::is_alive`].
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(&*self.state(), State::Held(held) if held.lease.is_alive())
    }

    /// The fence that a transaction of a dictionary demands.
    pub(crate) fn demanded(&self, core: &Core) -> Result<Revision> {
        core.check_same_dict(self.place.dict.core()?, || {
            format!("lock {}", self.described())
        })?;
        match &*self.state() {
            State::Held(held) if !held.lease.has_ended() => Ok(held.fence),
            State::Held(_) => Err(self.fenced()),
            State::Free | State::Acquiring => Err(self.not_held()),
        }
    }

    async fn try_once(&self, core: &Arc<Core>, lease: &Lease) -> Result<Option<Revision>> {
        let operation = Operation::Lock {
            name: self.place.name.clone(),
            lease: lease.id(),
        };
        let step = |outcome, _ack| match outcome {
            Outcome::Locked(fence) => Ok(Step::Done(fence)),
            other => Err(unexpected(&other)),
        };
        let lease = lease.clone();
        Pending::write(Arc::clone(core), operation, step)
            .map_err(move |error| match error.kind() {
                ErrorKind::NotFound => lease.lost(),
                _ => error,
            })
            .await
    }

    /// Waits until nobody holds it, or for as long as a request may last.
    async fn until_free(&self, core: &Core, deadline: &Deadline) -> Result<()> {
        // Half of it, so that the owner answers before the call gives up.
        let longest = core.config.options.timeout / 2;
        let wait = deadline.left().map_or(longest, |left| left.min(longest));
        match self.ask(core, wait).await {
            Ok(_) => Ok(()),
            // Too many wait on this connection: then look from time to time.
            Err(error) if is_crowded(&error) => {
                core.within(wait.min(LOOK_INTERVAL), std::future::pending::<()>())
                    .await;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Whether somebody holds it now. Nothing is written for the question.
    async fn is_taken(&self, core: &Core) -> Result<bool> {
        match self.ask(core, Duration::ZERO).await {
            Ok(holder) => Ok(holder.is_some()),
            Err(error) if is_crowded(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The fence of who holds it after so long, or none as soon as nobody does.
    async fn ask(&self, core: &Core, wait: Duration) -> Result<Option<Revision>> {
        let request = Request::AwaitLock {
            name: self.place.name.clone(),
            timeout_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        };
        match core.request(request).await? {
            Reply::Lock { fence } => Ok(fence),
            other => Err(unexpected_reply(&other)),
        }
    }

    fn take_held(&self) -> Result<Held> {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Free) {
            State::Held(held) => Ok(held),
            other => {
                *state = other;
                Err(self.not_held())
            }
        }
    }

    fn not_held(&self) -> ObjectError {
        let text = format!("lock {} is not held by this object", self.described());
        ObjectError::new(ErrorKind::Invalid, text)
    }

    fn fenced(&self) -> ObjectError {
        ObjectError::Fenced {
            what: self.place.dict.what().to_owned(),
            name: self.place.name.clone(),
        }
    }

    fn described(&self) -> String {
        objsync_proto::key::describe(&self.place.name)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.place.state()
    }
}

impl Place {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that waits for a lock. Whatever ends it, nothing is left behind.
struct Acquiring {
    place: Arc<Place>,
    lease: Option<Lease>,
}

impl Acquiring {
    fn begin(lock: &Lock) -> Result<Self> {
        let mut state = lock.state();
        if !matches!(*state, State::Free) {
            let text = format!(
                "this object holds lock {} already, or waits for it: make one for each thread",
                lock.described()
            );
            return Err(ObjectError::new(ErrorKind::Invalid, text));
        }
        *state = State::Acquiring;
        Ok(Self {
            place: Arc::clone(&lock.place),
            lease: None,
        })
    }

    fn taken(mut self, fence: Revision) {
        if let Some(lease) = self.lease.take() {
            *self.place.state() = State::Held(Held { lease, fence });
        }
    }

    async fn given_up(mut self) -> Result<()> {
        match self.lease.take() {
            Some(lease) => lease.close().await,
            None => Ok(()),
        }
    }
}

impl Drop for Acquiring {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            // Takes the lock back too, if the answer was on its way.
            lease.abandon();
        }
        let mut state = self.place.state();
        if matches!(*state, State::Acquiring) {
            *state = State::Free;
        }
    }
}

/// The lease of a lock that is being given back. Whatever becomes of that, it ends.
struct Leaving(Lease);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let State::Held(held) = state {
            held.lease.abandon();
        }
    }
}

/// Whether too many wait for locks on this connection.
fn is_crowded(error: &ObjectError) -> bool {
    error.is_refused() && error.kind() == ErrorKind::Unavailable
}

/// When a call stops waiting; never, without one.
struct Deadline(Option<Instant>);

impl Deadline {
    fn after(timeout: Option<Duration>) -> Self {
        Self(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    fn left(&self) -> Option<Duration> {
        self.0
            .map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

impl Dict {
    /// A lock by name (an encoded key; it is no key of the dictionary), which one holds at a time,
    /// in whatever process. `ttl` is how long it outlives a holder that dies or hangs: 1 ms to 10
    /// years; some seconds are good for most. Nothing is taken yet: see [`Lock::acquire`].
    ///
    /// # Errors
    /// `Invalid` for a name that is no encoded key; `Denied` through a read-only handle.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use objsync::{Dict, ObjectError, Options, key, value};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let dict = Dict::open(folder.path().join("data.obj"), Options::default())?;
    /// let name = key::encode(&"report".into())?;
    /// let lock = dict.lock(name.as_bytes(), Duration::from_secs(10))?;
    /// lock.enter(None).wait()?;
    /// dict.transact(|t| {
    ///     t.require(&lock)?;
    ///     t.set(name.as_bytes(), value::to_payload("written by the holder alone")?)?;
    ///     Ok::<_, ObjectError>(())
    /// })?;
    /// lock.release().wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lock(&self, name: &[u8], ttl: Duration) -> Result<Lock> {
        let core = self.core()?;
        core.check_open()?;
        core.config.grant_lease(ttl, false)?;
        let name = Bytes::copy_from_slice(name);
        let operation = Operation::Unlock {
            name: name.clone(),
            fence: Revision(0),
        };
        evaluate::check(&operation)?;
        Ok(Lock {
            place: Arc::new(Place {
                dict: self.clone(),
                name,
                ttl,
                state: Mutex::new(State::Free),
            }),
        })
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("name", &self.described())
            .field("fence", &self.fence())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    #[test]
    fn release_tells_that_the_lock_was_lost_when_only_the_owner_knows() {
        let folder = tempfile::tempdir().unwrap();
        let dict = Dict::open(folder.path().join("data"), Options::default()).unwrap();
        let name = objsync_proto::key::encode(&"l".into()).unwrap();
        let lock = dict.lock(name.as_bytes(), Duration::from_secs(60)).unwrap();
        lock.enter(None).wait().unwrap();
        let lease = match &*lock.state() {
            State::Held(held) => held.lease.id(),
            State::Free | State::Acquiring => panic!("it was taken"),
        };
        let revoked = |outcome, _ack| Ok(Step::Done(outcome));
        dict.write(|_| Ok(Operation::RevokeLease { lease }), revoked)
            .wait()
            .unwrap();
        assert!(lock.is_held(), "as far as this side knows");
        match lock.release().wait() {
            Err(ObjectError::Fenced { name: lost, .. }) => assert_eq!(lost, name.as_bytes()),
            other => panic!("{other:?}"),
        }
    }
}
