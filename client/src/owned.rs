//! A store that this process owns, and serves to everybody else.
//!
//! All handles of one store within a process share one [`Owned`]; when the last of them closes,
//! the peers are told, the store gets its end mark, and the kernel frees lock and port.

use std::net::SocketAddr;
use std::ops::Deref;
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use objsync_proto::ids::PeerKey;
use objsync_proto::wire::Grant;
use objsync_server::{ServeOptions, Server, ServerError};
use objsync_store::Store;

use crate::error::{ObjectError, Result};
use crate::home;
use crate::process;

/// How long peers get to read their last answers when the owner closes.
const GOODBYE: Duration = Duration::from_millis(500);

/// Which directory, whatever path leads to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct DirectoryId {
    device: u64,
    inode: u64,
}

impl DirectoryId {
    /// The identity of an existing directory.
    pub(crate) fn of(directory: &Path) -> std::io::Result<Self> {
        let metadata = std::fs::metadata(directory)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

/// A store that this process owns.
pub(crate) struct Owned {
    /// The store itself.
    pub(crate) store: Store,
    directory: PathBuf,
    id: DirectoryId,
    /// The one with the Unix socket first.
    servers: Mutex<Vec<Server>>,
    /// Handles that use it; at 0 it closes and cannot be used again.
    users: AtomicU32,
}

impl Owned {
    /// Starts to serve a store that was just opened, for one user.
    ///
    /// # Errors
    /// When it cannot listen there. The store stays open: who opened it may try again.
    pub(crate) fn start(store: Store, listen: SocketAddr) -> Result<OwnedUse> {
        let owned = Self::only_read(store)?;
        match owned.listen(listen) {
            Ok(_) => Ok(owned),
            Err(error) => {
                owned.disown();
                Err(error)
            }
        }
    }

    /// A store that is served to nobody, for one user.
    pub(crate) fn only_read(store: Store) -> Result<OwnedUse> {
        let directory = std::path::absolute(store.directory())
            .map_err(ObjectError::io("look at", store.directory()))?;
        let id = DirectoryId::of(&directory).map_err(ObjectError::io("look at", &directory))?;
        Ok(OwnedUse::new(Arc::new(Self {
            store,
            directory,
            id,
            servers: Mutex::new(Vec::new()),
            users: AtomicU32::new(1),
        })))
    }

    /// Whether it is served to nobody.
    pub(crate) fn is_private(&self) -> bool {
        self.servers().is_empty()
    }

    /// Serves at one more address; a fixed port is remembered as leading to this directory.
    pub(crate) fn listen(&self, listen: SocketAddr) -> Result<SocketAddr> {
        let process = process::current()?;
        let mut servers = self.servers();
        if let Some(server) = servers
            .iter()
            .find(|server| covers(server.address(), listen))
        {
            return Ok(server.address());
        }
        let options = ServeOptions {
            listen,
            local_socket: servers.is_empty(),
            ..ServeOptions::default()
        };
        let server = Server::start(self.store.clone(), options, &process.runtime)?;
        let address = server.address();
        servers.push(server);
        drop(servers);
        if listen.port() != 0 {
            self.remember(address)?;
        }
        Ok(address)
    }

    /// From now on the port leads to this directory. A port that nobody asked for is not worth it.
    pub(crate) fn remember(&self, address: SocketAddr) -> Result<()> {
        home::remember(address.port(), &self.directory)
    }

    /// Which directory it is.
    pub(crate) fn id(&self) -> DirectoryId {
        self.id
    }

    /// Where it lies.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where it was served last asked to.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.servers().last().map(Server::address)
    }

    /// The store's key.
    pub(crate) fn key(&self) -> Option<PeerKey> {
        self.servers().first().map(Server::key)
    }

    /// How the owner is, as its server tells it.
    pub(crate) fn status(&self) -> Option<objsync_proto::wire::OwnerStatus> {
        self.servers().first().map(Server::status)
    }

    /// Connected peers.
    pub(crate) fn peers(&self) -> u32 {
        self.servers()
            .iter()
            .map(|server| server.status().peers)
            .sum()
    }

    /// Lets a key in. Waits for the disk.
    pub(crate) fn grant(&self, grant: Grant) -> Result<()> {
        match self.servers().first() {
            Some(server) => Ok(server.grant(grant)?),
            None => Ok(self.store.grant(grant)?),
        }
    }

    /// Takes a grant back and cuts its connections; tells whether there was one.
    pub(crate) fn revoke(&self, peer: PeerKey) -> Result<bool> {
        let mut revoked = false;
        for server in &*self.servers() {
            revoked |= server.revoke(peer)?;
        }
        Ok(revoked)
    }

    /// One more user; false when the last one is gone already.
    pub(crate) fn share(&self) -> bool {
        let more = |users: u32| (users > 0).then_some(users + 1);
        self.users
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .is_ok()
    }

    /// One user less. The last one tells the peers and closes the store.
    ///
    /// # Errors
    /// When the store could not be closed cleanly; its lock is free all the same.
    async fn release(&self) -> Result<()> {
        if self.users.fetch_sub(1, Ordering::AcqRel) != 1 {
            return Ok(());
        }
        let servers = std::mem::take(&mut *self.servers());
        for server in &servers {
            server.shutdown(GOODBYE).await;
        }
        let store = self.store.clone();
        let closed = tokio::task::spawn_blocking(move || {
            // The name of the Unix socket goes while the lock is still ours.
            drop(servers);
            store.close()
        });
        match closed.await {
            Ok(closed) => closed.map_err(ObjectError::from),
            Err(stopped) => Err(ObjectError::stopped(&stopped)),
        }
    }

    /// Descriptors that a forked child must close, beside the sockets.
    pub(crate) fn inherited_fds(&self) -> Vec<RawFd> {
        self.store.inherited_fds()
    }

    fn servers(&self) -> MutexGuard<'_, Vec<Server>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One handle's use of a store that this process owns. Dropped without [`OwnedUse::release`], it is
/// released in the background.
pub(crate) struct OwnedUse {
    owned: Arc<Owned>,
    released: AtomicBool,
}

impl OwnedUse {
    /// The one use that [`Owned::start`] and [`Owned::share`] count.
    pub(crate) fn new(owned: Arc<Owned>) -> Self {
        Self {
            owned,
            released: AtomicBool::new(false),
        }
    }

    /// Forgets the use, without an end for the store.
    fn disown(&self) {
        self.released.store(true, Ordering::Release);
    }

    /// Ends the use, once. On the I/O thread.
    ///
    /// # Errors
    /// As [`Owned::release`].
    pub(crate) async fn release(&self) -> Result<()> {
        if self.released.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.owned.release().await
    }
}

impl Deref for OwnedUse {
    type Target = Arc<Owned>;

    fn deref(&self) -> &Arc<Owned> {
        &self.owned
    }
}

impl Drop for OwnedUse {
    fn drop(&mut self) {
        if self.released.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Ok(process) = process::current() {
            let owned = Arc::clone(&self.owned);
            process.runtime.spawn(async move {
                if let Err(error) = owned.release().await {
                    tracing::warn!(%error, "a store was not closed cleanly");
                }
            });
        }
    }
}

/// Whether who asks for `wanted` is content with `served`.
fn covers(served: SocketAddr, wanted: SocketAddr) -> bool {
    let any_port = wanted.port() == 0 && served.ip() == wanted.ip();
    let same_port = served.port() == wanted.port();
    any_port || (same_port && (served.ip() == wanted.ip() || served.ip().is_unspecified()))
}

impl From<ServerError> for ObjectError {
    fn from(error: ServerError) -> Self {
        Self::Server(Arc::new(error))
    }
}
