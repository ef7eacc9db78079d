//! The running server: what is started, asked, and shut down.

use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::time::Duration;

use objsync_proto::ids::{Durability, PeerKey};
use objsync_proto::wire::OwnerStatus;
use objsync_store::Store;
use tokio::runtime::Handle;

use crate::error::ServerError;
use crate::spin::Spin;

/// How to serve a store.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Where to listen. Port 0 takes a free one. Default: 127.0.0.1, a free port.
    pub listen: SocketAddr,
    /// Whether to answer on the Unix socket of the store's directory. Default: yes.
    pub local_socket: bool,
    /// The level of writes that name none. Default: the store's.
    pub durability: Option<Durability>,
    /// How long the I/O thread polls instead of sleeping after traffic; costs a busy core for
    /// that long. Default: [`Spin::default_duration`].
    pub spin: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            local_socket: true,
            durability: None,
            spin: Spin::default_duration(),
        }
    }
}

/// A store being served. Dropping it ends it at once, without a word to its peers.
#[derive(Debug)]
pub struct Server {}

impl Server {
    /// Serves `store`, which this process owns, on the runtime of `handle`.
    pub fn start(
        store: Store,
        options: ServeOptions,
        handle: &Handle,
    ) -> Result<Self, ServerError> {
        let _ = (store, options, handle);
        todo!()
    }

    /// Where the QUIC endpoint listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        todo!()
    }

    /// The store's key, which this server presents.
    #[must_use]
    pub fn key(&self) -> PeerKey {
        todo!()
    }

    /// Stops accepting, answers what was accepted, says goodbye to the peers and closes, within
    /// `grace`.
    ///
    /// # Cancel safety
    /// Dropped half way, it has stopped accepting; call it again, or drop the server.
    pub async fn shutdown(&self, grace: Duration) {
        let _ = grace;
        todo!()
    }

    /// How the owner is; `keys` are those of the namespace `default`. May read the disk.
    #[must_use]
    pub fn status(&self) -> OwnerStatus {
        todo!()
    }

    /// Descriptors that a forked child must close. For an exact list over a fork, hold
    /// [`crate::inherited::hold`].
    #[must_use]
    pub fn inherited_fds(&self) -> Vec<RawFd> {
        crate::inherited::hold().fds().to_vec()
    }
}
