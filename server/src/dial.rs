//! The other end: how a client connects to an owner.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::PeerKey;
use quinn::{Connection, ConnectionError, Endpoint, TokioRuntime};

use crate::certificate::SERVER_NAME;
use crate::closing;
use crate::error::ServerError;
use crate::identity::Identity;
use crate::network::{Network, seeded};
use crate::tls::SeenServer;
use crate::transport;

/// Connects over `network` as `identity` to the owner at `address`, which must hold the key
/// `server`. To be called on a tokio runtime, which then drives the connection; its end closes the
/// socket.
///
/// # Errors
/// [`ServerError::ForeignServer`] when another key answers, [`ServerError::Refused`] with what
/// the owner said, or that nobody answers.
///
/// # Cancel safety
/// Dropped half way, the attempt ends.
pub async fn dial(
    network: &dyn Network,
    address: SocketAddr,
    identity: &Identity,
    server: PeerKey,
) -> Result<Connection, ServerError> {
    let (config, seen) = transport::client_config(identity, server, address.ip())?;
    let endpoint = endpoint(network, address)?;
    let connecting = endpoint
        .connect_with(config, address, SERVER_NAME)
        .map_err(|error| unreachable(address, error.to_string()))?;
    connecting
        .await
        .map_err(|error| refused(address, &error, &seen, server))
}

/// A socket of its own for one connection, so that its end frees everything.
fn endpoint(network: &dyn Network, to: SocketAddr) -> Result<Endpoint, ServerError> {
    let any = match to {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let config = seeded(transport::client_endpoint_config(), network);
    let runtime = Arc::new(TokioRuntime);
    network
        .bind(any)
        .and_then(|socket| Endpoint::new_with_abstract_socket(config, None, socket, runtime))
        .map_err(|source| ServerError::Listen {
            address: any,
            source,
        })
}

fn refused(
    address: SocketAddr,
    error: &ConnectionError,
    seen: &SeenServer,
    expected: PeerKey,
) -> ServerError {
    if let Some(found) = seen.refused() {
        return ServerError::ForeignServer { found, expected };
    }
    match closing::failure(error) {
        Some(failure) => ServerError::Refused(failure),
        None => unreachable(address, error.to_string()),
    }
}

fn unreachable(address: SocketAddr, reason: String) -> ServerError {
    let message = format!("no owner at {address}: {reason}");
    ServerError::Refused(Failure::new(ErrorKind::Unavailable, message))
}
