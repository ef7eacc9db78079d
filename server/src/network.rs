//! Where QUIC's packets go: the kernel's UDP, or a network of a test's own.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use quinn::{AsyncUdpSocket, EndpointConfig, TokioRuntime};

use crate::transport;

/// Opens the sockets of servers and clients. One that is not the kernel's lets a test decide what
/// becomes of each packet.
pub trait Network: fmt::Debug + Send + Sync + 'static {
    /// Opens a UDP socket for QUIC; port 0 takes a free one. Called on a tokio runtime.
    ///
    /// # Errors
    /// `AddrInUse` when somebody has the port.
    fn bind(&self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>>;

    /// What the next endpoint's chance follows from, as far as it shapes packets; keys are drawn
    /// from the operating system all the same. Default: none, all of it is drawn.
    fn seed(&self) -> Option<[u8; 32]> {
        None
    }
}

/// The kernel's UDP.
#[derive(Debug, Clone, Copy, Default)]
pub struct Udp;

impl Network for Udp {
    fn bind(&self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        transport::socket(address, &TokioRuntime)
    }
}

/// `config` for an endpoint on `network`.
pub(crate) fn seeded(mut config: EndpointConfig, network: &dyn Network) -> EndpointConfig {
    config.rng_seed(network.seed());
    config
}
