//! The bytes-level dictionary: encoded keys, plain payloads.
//!
//! Trail of `set`: [`Dict::set`] -> [`Pending::wait`] -> [`crate::core::Core::execute`].
//! Trail of `get`: [`Dict::get`] -> the store of this process, or [`crate::replica::Replica::find`].

mod large_values;
mod offline;
mod past;
mod patches;
mod reads;
mod writes;

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{Ack, PeerKey, Position, Revision};
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::wire::{FollowStatus, Grant, KeyRange, OwnerStatus, Reply, Request};

use crate::config::Config;
use crate::core::{Core, Phase};
use crate::error::{ObjectError, Result};
use crate::generation::PerGeneration;
use crate::large::{self, Packed};
use crate::link::{self, GrantRequest, Link};
use crate::options::{Options, Target};
use crate::pending::{Pending, Step, unexpected_reply};
use crate::status::Status;
use crate::wait::block_on;
use crate::watch::Watch;

/// A handle on a shared dictionary. Clones are the same handle; it can be used from any thread.
///
/// Keys are encoded keys, values are plain payloads (decompressed, without header). Calls that
/// change something return a [`Pending`]: `.wait()` blocks, `.await` does not.
///
/// Dropping the last clone closes it. In a forked child the handle connects anew, as a client of
/// its own, at the first call.
#[derive(Clone)]
pub struct Dict {
    handle: Arc<Handle>,
}

struct Handle {
    config: Arc<Config>,
    cores: PerGeneration<Arc<Core>>,
    opened: AtomicBool,
    closed: AtomicBool,
}

/// What a cache of decoded values remembers beside a value: see [`Dict::stamp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    role: u32,
    inner: objsync_store::Stamp,
}

impl Dict {
    /// Opens the store in a directory, making it if need be: as its owner, or through the process
    /// that owns it already.
    ///
    /// # Errors
    /// `Invalid` when the path is a file, `Unavailable` when the owner does not answer in time,
    /// `Corrupt`, `Unsupported`, `Denied` as the store says.
    ///
    /// # Examples
    /// ```
    /// use objsync::{Dict, Options, key, value};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let dict = Dict::open(folder.path().join("data.obj"), Options::default())?;
    /// let name = key::encode(&"answer".into())?;
    /// dict.set(name.as_bytes(), value::to_payload(&42)?).wait()?;
    /// let payload = dict.get(name.as_bytes())?.expect("it was set just now");
    /// assert_eq!(value::from_payload::<i32>(&payload)?, 42);
    /// dict.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        Self::open_async(path, options).wait()
    }

    /// Connects to the store served at an address or named by a link. On a loopback address where
    /// nobody serves, becomes its owner, unless `promote` is off.
    ///
    /// # Errors
    /// `Unavailable` when nobody answers in time, `Denied` when the server is not the one expected
    /// or refuses us.
    pub fn connect(target: &Target, options: Options) -> Result<Self> {
        Self::connect_async(target, options).wait()
    }

    /// Owns the store in a directory, making it if need be, and serves it at `listen` (port 0 for
    /// any), on loopback or not.
    ///
    /// # Errors
    /// `Unavailable` when another process owns the store and keeps it for the whole timeout;
    /// `Denied` when the port is taken.
    pub fn serve_at(path: impl AsRef<Path>, listen: SocketAddr, options: Options) -> Result<Self> {
        Self::begin(Config::directory(path.as_ref(), Some(listen), options)).wait()
    }

    /// As [`Dict::open`], awaitable.
    pub fn open_async(path: impl AsRef<Path>, options: Options) -> Pending<Self> {
        Self::begin(Config::directory(path.as_ref(), None, options))
    }

    /// As [`Dict::connect`], awaitable.
    pub fn connect_async(target: &Target, options: Options) -> Pending<Self> {
        Self::begin(Config::target(target, options))
    }

    fn begin(config: Result<Config>) -> Pending<Self> {
        let config = match config {
            Ok(config) => Arc::new(config),
            Err(error) => return Pending::ready(Err(error)),
        };
        Pending::call("the store to open", async move {
            let core = Core::start(Arc::clone(&config))?;
            let handle = Handle {
                config,
                cores: PerGeneration::new(Arc::clone(&core)),
                opened: AtomicBool::new(false),
                closed: AtomicBool::new(false),
            };
            core.opened().await?;
            handle.opened.store(true, Ordering::Release);
            Ok(Self {
                handle: Arc::new(handle),
            })
        })
    }

    /// Follows the changes of a range: those after this moment, or after revision `since`.
    ///
    /// # Errors
    /// As [`Dict::get`].
    pub fn watch(&self, range: KeyRange, since: Option<Revision>) -> Result<Watch> {
        self.watch_async(range, since).wait()
    }

    /// As [`Dict::watch`], awaitable.
    pub fn watch_async(&self, range: KeyRange, since: Option<Revision>) -> Pending<Watch> {
        self.call("a watch", move |core| Watch::begin(core, range, since))
    }

    /// Waits until this handle has everything that was committed when it was called.
    pub fn sync(&self) -> Pending<Position> {
        self.call("the owner", |core| async move { core.sync().await })
    }

    /// Makes everything this handle wrote, or all up to `revision`, survive a power cut.
    pub fn flush(&self, revision: Option<Revision>) -> Pending<Position> {
        self.call("a flush", move |core| async move {
            let revision = revision.unwrap_or(Revision(core.acked()));
            match core.request(Request::Flush { revision }).await? {
                Reply::Position(position) => Ok(position),
                other => Err(unexpected_reply(&other)),
            }
        })
    }

    /// The acknowledgement of this handle's newest answered write.
    #[must_use]
    pub fn last_ack(&self) -> Option<Ack> {
        self.handle.cores.get().and_then(|core| core.last_ack())
    }

    /// How the handle is, from what it knows itself.
    #[must_use]
    pub fn status(&self) -> Status {
        match self.core() {
            Ok(core) => Status::of(core),
            Err(error) => Status::closed(&self.handle.config, &error),
        }
    }

    /// How the owner is: a round trip, unless this handle is the owner.
    pub fn owner_status(&self) -> Pending<OwnerStatus> {
        self.call("the owner's status", |core| async move {
            match core.request(Request::Status).await? {
                Reply::Status(status) => Ok(status),
                other => Err(unexpected_reply(&other)),
            }
        })
    }

    /// How far the follower that serves this handle is behind its source; none where the owner does.
    /// A round trip, unless this handle is the owner.
    pub fn following(&self) -> Pending<Option<FollowStatus>> {
        self.call("how far the follower is", |core| async move {
            match core.request(Request::Following).await {
                Ok(Reply::Following(status)) => Ok(status),
                Ok(other) => Err(unexpected_reply(&other)),
                // An older owner, which follows nobody.
                Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    /// Makes the store reachable at another address too. Only the owner can.
    ///
    /// # Errors
    /// `Denied` when another process owns the store, or the port is taken.
    pub fn serve(&self, listen: SocketAddr) -> Result<SocketAddr> {
        let core = self.core()?;
        core.check_open()?;
        match core.owner() {
            Some(owner) => {
                let address = owner.owned().listen(listen)?;
                owner.owned().remember(address)?;
                Ok(address)
            }
            None => Err(ObjectError::new(
                ErrorKind::Denied,
                format!(
                    "{} is owned by another process, which alone can serve it",
                    core.config.what
                ),
            )),
        }
    }

    /// Lets somebody else in, and returns the link to give to them.
    pub fn grant(&self, request: GrantRequest) -> Pending<Link> {
        self.call("a grant", move |core| link::grant(core, request))
    }

    /// Everybody who was let in.
    pub fn grants(&self) -> Pending<Vec<Grant>> {
        self.call("the grants", |core| async move {
            match core.request(Request::Grants).await? {
                Reply::Grants(grants) => Ok(grants),
                other => Err(unexpected_reply(&other)),
            }
        })
    }

    /// Takes a grant back and cuts its connections.
    pub fn revoke(&self, peer: PeerKey) -> Pending<()> {
        self.call("a grant to end", move |core| async move {
            core.request(Request::Revoke { peer }).await.map(drop)
        })
    }

    /// Closes this handle and all its clones: started writes are finished, watches end. When the
    /// last handle of an owner closes, the store does, and another process takes over. Harmless
    /// when repeated.
    ///
    /// # Errors
    /// When the store could not be closed cleanly; it is closed all the same.
    pub fn close(&self) -> Result<()> {
        self.close_async().wait()
    }

    /// As [`Dict::close`], awaitable. The handle is closed for new calls once this was polled.
    pub fn close_async(&self) -> Pending<()> {
        let handle = Arc::clone(&self.handle);
        Pending::call("the store to close", async move { handle.close().await })
    }

    /// Which store or address, for errors.
    pub(crate) fn what(&self) -> &str {
        &self.handle.config.what
    }

    /// What is behind the handle in this process; in a forked child it is made at the first call.
    #[inline]
    pub(crate) fn core(&self) -> Result<&Arc<Core>> {
        match self.handle.cores.get() {
            Some(core) => Ok(core),
            None => self.handle.reconnect(),
        }
    }

    pub(crate) fn write<T>(
        &self,
        operation: impl FnOnce(&Config) -> Result<Operation>,
        step: impl FnMut(Outcome, Ack) -> Result<Step<T>> + Send + 'static,
    ) -> Pending<T> {
        let core = match self.core() {
            Ok(core) => core,
            Err(error) => return Pending::ready(Err(error)),
        };
        match core.check_open().and_then(|()| operation(&core.config)) {
            Ok(operation) => Pending::write(Arc::clone(core), operation, step),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    /// As [`Dict::write`], of values some of which may have to go into chunks first. `packed` gives the
    /// key that they are for and the values, `build` makes the operation of them as they are stored.
    pub(crate) fn write_packed<T: Send + 'static>(
        &self,
        packed: impl FnOnce(&Config) -> Result<(Bytes, Vec<Packed>)>,
        build: impl Fn(&Config, Vec<Bytes>) -> Result<Operation> + Send + 'static,
        step: impl FnMut(Outcome, Ack) -> Result<Step<T>> + Send + 'static,
    ) -> Pending<T> {
        let core = match self.core() {
            Ok(core) => core,
            Err(error) => return Pending::ready(Err(error)),
        };
        match core.check_open().and_then(|()| packed(&core.config)) {
            Ok(packed) => large::write(core, packed, build, step),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    pub(crate) fn call<T, F>(
        &self,
        what: &'static str,
        call: impl FnOnce(Arc<Core>) -> F,
    ) -> Pending<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        match self.core() {
            Ok(core) => Pending::call(what, call(Arc::clone(core))),
            Err(error) => Pending::ready(Err(error)),
        }
    }
}

impl Handle {
    /// The handle of a forked child finds the store anew.
    fn reconnect(&self) -> Result<&Arc<Core>> {
        if self.closed.load(Ordering::Acquire) {
            return Err(ObjectError::Closed {
                what: self.config.what.clone(),
            });
        }
        let core = self
            .cores
            .get_or_try_make(|| Core::start(self.config.in_child()))?;
        block_on(&self.config.what, core.opened())??;
        Ok(core)
    }

    async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        let Some(core) = self.cores.get() else {
            return Ok(());
        };
        core.begin_close();
        let ended = |phase: &Phase| match phase {
            Phase::Owner | Phase::Closed | Phase::Failed(_) => Some(()),
            Phase::Seeking { .. } | Phase::Peer { .. } => None,
        };
        core.until(ended).await;
        if core.owner().is_none() {
            return Ok(());
        }
        let closing = Arc::clone(core);
        let released = core.runtime().spawn(async move {
            let released = match closing.owner() {
                Some(owner) => {
                    owner.end_presence();
                    owner.owned().release().await
                }
                None => Ok(()),
            };
            closing.end(Phase::Closed);
            released
        });
        released
            .await
            .unwrap_or_else(|stopped| Err(ObjectError::stopped(&stopped)))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let Some(core) = self.cores.get() else { return };
        if self.opened.load(Ordering::Acquire) {
            let what = self.config.what.clone();
            if let Err(error) = block_on(&what, self.close()).and_then(|closed| closed) {
                tracing::warn!(%error, what, "the object was not closed cleanly");
            }
        } else {
            core.begin_close();
        }
    }
}

impl fmt::Debug for Dict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dict")
            .field("what", &self.handle.config.what)
            .finish_non_exhaustive()
    }
}
