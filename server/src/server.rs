//! The running server: what is started, asked, and shut down.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use objsync_proto::ids::{Durability, NamespaceId, PeerKey};
use objsync_proto::wire::{Grant, OwnerInfo, OwnerStatus};
use objsync_store::feed::OnCommit;
use objsync_store::{Store, StoreError};
use quinn::{Endpoint, TokioRuntime, VarInt};
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::connection::closed;
use crate::error::ServerError;
use crate::follow::Upstream;
use crate::identity::{self, Identity};
use crate::inherited;
use crate::listen::Configs;
use crate::local::{self, LocalListener};
use crate::network::{Network, Udp, seeded};
use crate::serving::Serving;
use crate::{listen, transport};

/// Version of the message on the Unix socket.
const OWNER_INFO_VERSION: u32 = 1;

/// How to serve a store.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Where to listen. Port 0 takes a free one. Default: 127.0.0.1, a free port.
    pub listen: SocketAddr,
    /// Whether to answer on the Unix socket of the store's directory. Default: yes.
    pub local_socket: bool,
    /// The level of writes that name none. Default: the store's.
    pub durability: Option<Durability>,
    /// Whom a copy follows. Default: nobody, the store is its own.
    pub upstream: Option<Arc<Upstream>>,
    /// Where packets go. Default: the kernel's UDP.
    pub network: Arc<dyn Network>,
    /// Wait for the disk on threads beside the runtime's. Default: yes. Without them it is waited
    /// for on the spot, so that a test decides the order of everything.
    pub disk_threads: bool,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            local_socket: true,
            durability: None,
            upstream: None,
            network: Arc::new(Udp),
            disk_threads: true,
        }
    }
}

/// A store being served. Dropping it ends it at once: peers are told that it closed, nothing
/// else; what the store was given it still does.
pub struct Server {
    serving: Arc<Serving>,
    endpoint: Endpoint,
    accepting: Mutex<Option<JoinHandle<()>>>,
    /// Everything that runs for this server.
    tasks: Vec<AbortHandle>,
    _wakers: [OnCommit; 2],
}

impl Server {
    /// Serves `store`, which this process owns, on the runtime of `handle`, which should be a
    /// single thread's.
    pub fn start(
        store: Store,
        options: ServeOptions,
        handle: &Handle,
    ) -> Result<Self, ServerError> {
        let _entered = handle.enter();
        let identity = identity::load_or_create(store.directory())?;
        let endpoint = bind(&identity, &options)?;
        let address = endpoint
            .local_addr()
            .map_err(|source| ServerError::Listen {
                address: options.listen,
                source,
            })?;
        let local = if options.local_socket {
            Some(local::listen(store.directory())?)
        } else {
            None
        };
        let key = identity.peer();
        let serving = Arc::new(Serving::new(store, key, &options, address));

        let commits = serving.commits.clone();
        let on_commit = serving
            .store
            .feed()
            .on_commit(Box::new(move || commits.tell()));
        let durables = serving.durables.clone();
        let on_durable = serving
            .store
            .feed()
            .on_durable(Box::new(move || durables.tell()));
        let accepting = handle.spawn(listen::accept(
            Arc::clone(&serving),
            endpoint.clone(),
            Configs::new(&identity)?,
        ));
        let mut tasks = vec![accepting.abort_handle()];
        if let Some(listener) = local {
            tasks.push(
                handle
                    .spawn(answer_locally(Arc::clone(&serving), listener))
                    .abort_handle(),
            );
        }
        info!(%address, %key, directory = %serving.store.directory().display(), "serving");
        Ok(Self {
            serving,
            endpoint,
            accepting: Mutex::new(Some(accepting)),
            tasks,
            _wakers: [on_commit, on_durable],
        })
    }

    /// Where the QUIC endpoint listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.serving.address
    }

    /// The store's key, which this server presents.
    #[must_use]
    pub fn key(&self) -> PeerKey {
        self.serving.key
    }

    /// Lets a key in, in place of any grant it had, whose connections are cut. Waits for the
    /// disk.
    pub fn grant(&self, grant: Grant) -> Result<(), StoreError> {
        self.serving.grant(grant)
    }

    /// Takes a grant back and cuts its connections; tells whether there was one. Waits for the
    /// disk.
    pub fn revoke(&self, peer: PeerKey) -> Result<bool, StoreError> {
        self.serving.revoke(peer)
    }

    /// What some keys may do has changed at the source: they come back with what they may do now.
    pub(crate) fn grants_changed(&self, peers: &[PeerKey]) {
        for peer in peers {
            self.serving.cut_changed(*peer);
        }
    }

    /// Stops accepting, answers what was accepted, says goodbye to the peers and closes; what is
    /// not done within `grace` is cut off. Afterwards the port is free.
    ///
    /// # Cancel safety
    /// Dropped half way, it has stopped accepting; call it again, or drop the server.
    pub async fn shutdown(&self, grace: Duration) {
        let deadline = Instant::now() + grace;
        self.serving.stopping.cancel();
        let accepting = self
            .accepting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(accepting) = accepting
            && timeout_at(deadline, accepting).await.is_err()
        {
            warn!(
                ?grace,
                "some peers were cut off: they took too long to hear the end"
            );
        }
        self.stop();
        // What remains is to tell those who were cut off; a peer that is gone is not waited for.
        let _ = timeout_at(deadline, self.endpoint.wait_idle()).await;
    }

    /// How the owner is; `keys` are those of the namespace `default`. May read the disk.
    #[must_use]
    pub fn status(&self) -> OwnerStatus {
        self.serving.status(Some(NamespaceId::DEFAULT))
    }

    /// Descriptors that a forked child must close. For an exact list over a fork, use
    /// [`inherited::hold`].
    #[must_use]
    pub fn inherited_fds(&self) -> Vec<RawFd> {
        inherited::hold().fds().to_vec()
    }

    fn stop(&self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        let why = closed();
        let code = VarInt::from_u32(why.kind.number().into());
        self.endpoint.close(code, why.message.as_bytes());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.serving.address)
            .field("key", &self.serving.key)
            .finish_non_exhaustive()
    }
}

/// Binds the UDP socket and starts QUIC on it.
fn bind(identity: &Identity, options: &ServeOptions) -> Result<Endpoint, ServerError> {
    let (address, network) = (options.listen, &*options.network);
    let refused = |source| ServerError::Listen { address, source };
    let socket = network.bind(address).map_err(refused)?;
    Endpoint::new_with_abstract_socket(
        seeded(transport::server_endpoint_config(identity)?, network),
        Some(transport::server_config(identity, address.ip())?),
        socket,
        Arc::new(TokioRuntime),
    )
    .map_err(refused)
}

/// Answers on the Unix socket until the server stops.
async fn answer_locally(serving: Arc<Serving>, listener: LocalListener) {
    let position = serving.store.position();
    let info = OwnerInfo {
        version: OWNER_INFO_VERSION,
        store: position.store,
        epoch: position.epoch,
        pid: std::process::id(),
        address: from_here(serving.address),
    };
    let directory = serving.store.directory().to_owned();
    tokio::select! { biased;
        () = serving.stopping.cancelled() => {}
        ended = listener.serve(&info, &directory) => {
            if let Err(error) = ended {
                warn!(%error, "the local socket is closed");
            }
        }
    }
}

/// Where a process on this machine reaches an address that may mean "any".
fn from_here(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
