//! What a source and a follower say to each other about the log itself.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{FrameIndex, Position, Revision};

/// Where a copy of a store stands in its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyPlace {
    /// Store, the epoch of the last frame, and the last revision.
    pub position: Position,
    /// Index of the frame that comes next; at least 1.
    pub next: FrameIndex,
}

/// What a follower holds of a snapshot whose transfer broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialSnapshot {
    /// Which.
    pub revision: Revision,
    /// Bytes of the whole file.
    pub total_bytes: u64,
    /// CRC-32C of the first 4096 bytes of the file, which tells it from another one of this
    /// revision.
    pub head_crc: u32,
    /// Bytes that are there, from the start.
    pub held_bytes: u64,
}

/// The snapshot that replaces what a follower holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallStart {
    /// Store, epoch and revision of the snapshot; revision 0 when none is sent, and the log begins
    /// with its first frame.
    pub position: Position,
    /// Number of the last segment that it covers; 0 without a snapshot.
    pub segment: u64,
    /// Index of the first frame after it.
    pub next: FrameIndex,
    /// Bytes of its file; 0 without a snapshot.
    pub total_bytes: u64,
    /// As [`PartialSnapshot::head_crc`].
    pub head_crc: u32,
    /// Where the first piece begins: what the follower holds already.
    pub start: u64,
}

/// A frame of the log, as it stands there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFrame {
    /// The number of its kind.
    pub kind: u8,
    /// Who does not know the kind may pass over it.
    pub skippable: bool,
    /// Frames before it in the whole log.
    pub index: FrameIndex,
    /// Number of its epoch.
    pub epoch: u64,
    /// Revision of its first transaction; for other kinds the last one before it.
    pub first: Revision,
    /// Transactions in it.
    pub count: u32,
    /// The owner's clock, milliseconds since 1970.
    pub time_ms: u64,
    /// Bytes of the whole body.
    pub body_bytes: u32,
    /// CRC-32C of the whole body.
    pub body_crc: u32,
    /// The body, or its first part.
    pub body: Bytes,
}

/// How a follower is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowStatus {
    /// Address of the source that it follows, or tries to reach.
    pub source: String,
    /// Whether it is connected to it.
    pub is_connected: bool,
    /// The last revision that the source is known to have.
    pub source_revision: Revision,
    /// The last revision that the copy has, durable.
    pub revision: Revision,
    /// Milliseconds since the copy was last known to hold all that its source had; none if it never
    /// was since the follower began. 0 while it is connected and has all that it was told of.
    pub behind_ms: Option<u64>,
    /// What went wrong last, while it is not connected; empty otherwise.
    pub trouble: String,
}

impl FollowStatus {
    /// Revisions that the source has and the copy has not yet.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.source_revision.0.saturating_sub(self.revision.0)
    }
}
