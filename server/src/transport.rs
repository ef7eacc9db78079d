//! QUIC settings of both sides: how long silence may last, how much may be in flight, how many
//! streams there are.
//!
//! Invariants
//! * Memory that a peer can make us hold is bounded by the windows here and by
//!   `limits::FRAME_BYTES_MAX`, whatever it sends.
//! * The next owner of a store answers packets of the last one's connections with a stateless
//!   reset that their clients believe, because its key derives from the store's.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{hkdf, hmac, rand};
use objsync_proto::ids::PeerKey;
use objsync_proto::limits;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    AsyncUdpSocket, ClientConfig, ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout,
    Runtime, ServerConfig, TransportConfig, VarInt,
};
use rustix::net::sockopt;
use rustls::{Error, PeerIncompatible};

use crate::error::ServerError;
use crate::identity::Identity;
use crate::inherited::{self, Listed};
use crate::tls::{self, SeenServer};

/// UDP payload over loopback, whose own limit is 64 KiB. Longer packets cost less each byte; but
/// QUIC hands up to ten of them to the kernel in one call, which takes 65,507 bytes at most. It
/// is fixed rather than discovered: losses in a burst of long packets, as a full socket buffer
/// makes them, look to the discovery like a path that swallows long packets.
const LOOPBACK_PAYLOAD_BYTES: u16 = 6_400;
const _: () = assert!(LOOPBACK_PAYLOAD_BYTES as usize * 10 <= 65_507);

/// Bytes of datagrams that the kernel may hold for us: a burst of many peers, or a bulk stream
/// while this thread does something else.
const SOCKET_BUFFER_BYTES: usize = 2 << 20;

/// Peers of a dead owner hear of it one after the other, at most one in this time; more would
/// make resets worth provoking.
const RESET_INTERVAL: Duration = Duration::from_millis(2);

/// Bytes of a connection id: long enough that two owners do not draw the same one.
const CONNECTION_ID_BYTES: usize = 8;

/// Settings of the QUIC server of the store whose key is `identity`, for peers at `peer`.
pub fn server_config(identity: &Identity, peer: IpAddr) -> Result<ServerConfig, ServerError> {
    let crypto = QuicServerConfig::try_from(tls::server_tls(identity)?).map_err(no_suite)?;
    let mut transport = shared_transport(is_loopback(peer));
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(limits::STREAM_WINDOW_BYTES))
        // Widened when the peer is welcomed.
        .receive_window(VarInt::from_u32(limits::HELLO_WINDOW_BYTES));
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    config.max_incoming(limits::CONNECTIONS_MAX);
    // A peer that roams would keep its connection, but so would one who replays from elsewhere.
    config.migration(false);
    Ok(config)
}

/// Settings of one connection as `identity` to the store at `peer` whose key is `server`; the
/// second part tells which key was found when it is another.
pub fn client_config(
    identity: &Identity,
    server: PeerKey,
    peer: IpAddr,
) -> Result<(ClientConfig, SeenServer), ServerError> {
    let (crypto, seen) = tls::client_tls(identity, server)?;
    let crypto = QuicClientConfig::try_from(crypto).map_err(no_suite)?;
    let mut transport = shared_transport(is_loopback(peer));
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(bounded(limits::SUBSCRIPTIONS_MAX))
        .stream_receive_window(VarInt::from_u32(limits::FEED_WINDOW_BYTES))
        // Room for every stream: if they shared less, those that nobody reads would take it all
        // and stop the others, the one with the answers too.
        .receive_window(feed_windows());
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok((config, seen))
}

/// Whether packets to and from `peer` stay on this machine.
pub(crate) fn is_loopback(peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
}

/// Opens a UDP socket for QUIC, with room for bursts as far as the kernel gives it.
pub(crate) fn socket(
    address: SocketAddr,
    runtime: &dyn Runtime,
) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    let socket = Listed::open(|| UdpSocket::bind(address))?;
    // Less room costs speed, not correctness.
    let _ = sockopt::set_socket_recv_buffer_size(&*socket, SOCKET_BUFFER_BYTES);
    let _ = sockopt::set_socket_send_buffer_size(&*socket, SOCKET_BUFFER_BYTES);
    inherited::quic_socket(socket, runtime)
}

/// Settings of a server's endpoint, which any owner of this store derives alike.
pub(crate) fn server_endpoint_config(identity: &Identity) -> Result<EndpointConfig, ServerError> {
    let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, b"objsync").extract(identity.secret());
    let reset: hkdf::Okm<'_, hmac::Algorithm> = secret
        .expand(&[b"quic stateless reset"], hmac::HMAC_SHA256)
        .map_err(refused)?;
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::from(reset)));
    // The ids that quinn makes by default are marked with a key drawn at each start, and packets
    // with another mark are dropped before a reset is thought of.
    config.cid_generator(|| Box::new(RandomIds));
    config.min_reset_interval(RESET_INTERVAL);
    widen_payload(&mut config);
    Ok(config)
}

/// Settings of a client's endpoint.
#[must_use]
pub(crate) fn client_endpoint_config() -> EndpointConfig {
    let mut config = EndpointConfig::default();
    widen_payload(&mut config);
    config
}

fn shared_transport(near: bool) -> TransportConfig {
    let mut transport = TransportConfig::default();
    if near {
        transport
            .initial_mtu(LOOPBACK_PAYLOAD_BYTES)
            .min_mtu(LOOPBACK_PAYLOAD_BYTES)
            .mtu_discovery_config(None);
    }
    transport
        .keep_alive_interval(Some(Duration::from_millis(limits::KEEP_ALIVE_MS)))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle_timeout_ms()))))
        .send_window(limits::SEND_WINDOW_BYTES)
        // On a path where nothing is known, 100 ms is more than most take and less than a stall.
        .initial_rtt(Duration::from_millis(100))
        .datagram_receive_buffer_size(None)
        .allow_spin(false);
    transport
}

/// Connection ids that any owner of a store takes for possible ones.
struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut bytes = [0; CONNECTION_ID_BYTES];
        rand::fill(&mut bytes).expect("the operating system has random bytes after its start");
        ConnectionId::new(&bytes)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn idle_timeout_ms() -> u32 {
    u32::try_from(limits::IDLE_TIMEOUT_MS).unwrap_or(u32::MAX)
}

fn feed_windows() -> VarInt {
    let streams = u64::try_from(limits::SUBSCRIPTIONS_MAX + 1).unwrap_or(u64::MAX);
    let bytes = streams.saturating_mul(limits::FEED_WINDOW_BYTES.into());
    VarInt::from_u64(bytes).unwrap_or(VarInt::MAX)
}

fn bounded(count: usize) -> VarInt {
    VarInt::from_u32(u32::try_from(count).unwrap_or(u32::MAX))
}

fn widen_payload(config: &mut EndpointConfig) {
    let accepted = config.max_udp_payload_size(LOOPBACK_PAYLOAD_BYTES);
    debug_assert!(accepted.is_ok(), "the payload lies between QUIC's bounds");
}

fn no_suite(_: quinn::crypto::rustls::NoInitialCipherSuite) -> ServerError {
    ServerError::Tls(Error::from(PeerIncompatible::NoCipherSuitesInCommon))
}

fn refused(_: aws_lc_rs::error::Unspecified) -> ServerError {
    ServerError::Crypto {
        what: "derive the reset key",
    }
}
