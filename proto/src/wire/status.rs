//! What an owner says of itself, and of a lease.

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, Position, Revision, StoreId};

/// How an owner is, for `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerStatus {
    /// Version of the program.
    pub program: String,
    /// Process id.
    pub pid: u32,
    /// Address of the QUIC endpoint, if it listens.
    pub address: Option<String>,
    /// Directory of the store.
    pub directory: String,
    /// Store, epoch and committed revision.
    pub position: Position,
    /// Revision that survives a power cut.
    pub durable: Revision,
    /// Revision that the index has applied.
    pub indexed: Revision,
    /// Keys in the namespace of the connection.
    pub keys: u64,
    /// Connected peers.
    pub peers: u32,
    /// Open subscriptions.
    pub subscriptions: u32,
    /// Bytes of log segments.
    pub log_bytes: u64,
    /// Bytes of snapshots.
    pub snapshot_bytes: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// How far the building of the index is; none when it is in place.
    pub index_build: Option<IndexBuild>,
    /// Seconds since this owner opened the store.
    pub uptime_s: u64,
}

/// How long a lease lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// Milliseconds that it lasts after it was last kept.
    pub ttl_ms: u64,
    /// Milliseconds that are left.
    pub left_ms: u64,
    /// Whether a connection keeps it.
    pub presence: bool,
}

/// How far an index is that is opened or made again, while snapshot and footers answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexBuild {
    /// Revision up to which it holds everything.
    pub revision: Revision,
    /// Entries of the snapshot that it holds.
    pub done_count: u64,
    /// Entries of the snapshot; 0 while the index that was there is opened.
    pub total_count: u64,
}

/// What an owner says on the Unix socket of its directory, once, to whoever connects: then the
/// connection stays open, and its end of file tells that the owner is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerInfo {
    /// Version of this message.
    pub version: u32,
    /// Which store.
    pub store: StoreId,
    /// Under which epoch.
    pub epoch: Epoch,
    /// Process id of the owner.
    pub pid: u32,
    /// Where its QUIC endpoint can be reached from this machine.
    pub address: std::net::SocketAddr,
}
