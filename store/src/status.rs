//! How a store is.

use objsync_proto::ids::{Position, Revision};

use crate::state::BuildProgress;

/// How far each step of the write path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks {
    /// With the operating system: survives the end of the process.
    pub appended: Revision,
    /// On disk: survives a power cut.
    pub durable: Revision,
    /// Seen by readers and the feed.
    pub committed: Revision,
    /// Applied by the index.
    pub indexed: Revision,
}

/// How a store is, for `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStatus {
    /// Store, epoch and committed revision.
    pub position: Position,
    /// How far each step is.
    pub marks: Marks,
    /// Bytes of log segments.
    pub log_bytes: u64,
    /// Bytes of snapshots.
    pub snapshot_bytes: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// How far the building of the index is, while snapshot and footers stand in for it.
    pub index_build: Option<BuildProgress>,
    /// Bytes of changes ahead of the index, in memory.
    pub recent_bytes: u64,
    /// Open sessions.
    pub sessions: u32,
    /// Milliseconds since this owner opened the store.
    pub uptime_ms: u64,
    /// Why writes are refused, when they are.
    pub poisoned: Option<String>,
}
