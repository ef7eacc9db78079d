//! The door: who may connect, how many, and what is said to those who may not.
//!
//! What is no QUIC packet of a connection of ours is dropped by QUIC without an answer or a log
//! line. An address that has not shown that it receives what we send is asked to, once many
//! handshakes are under way. Which key a peer holds is known only after the handshake; whether it
//! may come in is decided then, before a single byte of its streams is read.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::PeerKey;
use objsync_proto::limits::{CONNECTIONS_MAX, HANDSHAKE_TIMEOUT_MS, HANDSHAKES_MAX};
use quinn::{Connecting, Connection, Endpoint, ServerConfig};
use rustls::pki_types::CertificateDer;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::certificate::chain_key;
use crate::closing;
use crate::connection::{self, closed};
use crate::error::ServerError;
use crate::identity::Identity;
use crate::serving::Serving;
use crate::transport;

/// QUIC's settings for peers near and far.
pub(crate) struct Configs {
    loopback: Arc<ServerConfig>,
    far: Arc<ServerConfig>,
}

impl Configs {
    pub(crate) fn new(identity: &Identity) -> Result<Self, ServerError> {
        let of = |peer: IpAddr| transport::server_config(identity, peer).map(Arc::new);
        Ok(Self {
            loopback: of(Ipv4Addr::LOCALHOST.into())?,
            far: of(Ipv4Addr::UNSPECIFIED.into())?,
        })
    }

    fn of(&self, peer: SocketAddr) -> Arc<ServerConfig> {
        let near = transport::is_loopback(peer.ip());
        Arc::clone(if near { &self.loopback } else { &self.far })
    }
}

/// Accepts connections until the server stops, then waits for them to end. When aborted, all of
/// them end with it.
pub(crate) async fn accept(serving: Arc<Serving>, endpoint: Endpoint, configs: Configs) {
    let mut connections = JoinSet::new();
    loop {
        let incoming = tokio::select! { biased;
            () = serving.stopping.cancelled() => break,
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { break };
        let address = incoming.remote_address();
        if connections.len() >= CONNECTIONS_MAX {
            let reason = format!("{CONNECTIONS_MAX} connections are open; that is the limit");
            serving.refusals.note(address, None, &reason);
            incoming.refuse();
        } else if serving.handshakes() >= HANDSHAKES_MAX && !incoming.remote_address_validated() {
            if let Err(error) = incoming.retry() {
                debug!(%error, %address, "an address could not be asked to prove itself");
            }
        } else {
            match incoming.accept_with(configs.of(address)) {
                Ok(connecting) => {
                    connections.spawn(greet(Arc::clone(&serving), address, connecting));
                }
                Err(error) => note_handshake(&serving, address, &error),
            }
        }
    }
    endpoint.set_server_config(None);
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
}

/// A task that panicked has lost its peer only; say so, for it is a mistake of ours.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        warn!(%error, "a connection's task panicked");
    }
}

/// Takes a connection through its handshake, and serves it if its key may come in.
async fn greet(serving: Arc<Serving>, address: SocketAddr, connecting: Connecting) {
    let Some(connection) = shake_hands(&serving, address, connecting).await else {
        return;
    };
    let Some(key) = peer_key(&connection) else {
        // Unreachable while TLS demands a certificate; refused rather than trusted.
        return closing::close(
            &connection,
            &Failure::new(ErrorKind::Denied, "no key was shown"),
        );
    };
    if !serving.admits(key) {
        let failure = Failure::new(ErrorKind::Denied, format!("key {key} has no grant here"));
        serving.refusals.note(address, Some(key), &failure.message);
        return closing::close(&connection, &failure);
    }
    let _entered = serving.enter(key, connection.clone());
    let Err(dropped) = connection::attend(Arc::clone(&serving), &connection, key).await else {
        return;
    };
    if dropped.is_fault() {
        let failure = dropped.failure();
        serving.refusals.note(address, Some(key), &failure.message);
        closing::close(&connection, &failure);
    } else {
        debug!(%address, %key, reason = %dropped, "peer is gone");
    }
}

async fn shake_hands(
    serving: &Arc<Serving>,
    address: SocketAddr,
    connecting: Connecting,
) -> Option<Connection> {
    let _counted = serving.begin_handshake();
    let patience = Duration::from_millis(HANDSHAKE_TIMEOUT_MS);
    let shaken = tokio::select! { biased;
        () = serving.stopping.cancelled() => {
            debug!(%address, reason = %closed(), "handshake cut off");
            return None;
        }
        shaken = timeout(patience, connecting) => shaken,
    };
    match shaken {
        Ok(Ok(connection)) => Some(connection),
        Ok(Err(error)) => {
            note_handshake(serving, address, &error);
            None
        }
        Err(_) => {
            serving
                .refusals
                .note(address, None, "the handshake took too long");
            None
        }
    }
}

fn note_handshake(serving: &Serving, address: SocketAddr, error: &quinn::ConnectionError) {
    serving
        .refusals
        .note(address, None, &format!("the handshake failed: {error}"));
}

/// The key that a peer has proved to hold.
fn peer_key(connection: &Connection) -> Option<PeerKey> {
    let identity = connection.peer_identity()?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    chain_key(&chain)
}
