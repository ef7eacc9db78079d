//! How a batch stands in the log: a header of 64 bytes, then a body, padded to 8 bytes.
//!
//! The table of bytes is in docs/format.md, "Frames".

use bytes::Bytes;
use objsync_proto::effect::Transaction;
use objsync_proto::ids::{FrameIndex, Revision, Sequence};

use crate::error::StoreError;

/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 64;
/// Frames begin at multiples of this.
pub const FRAME_ALIGN_BYTES: usize = 8;
/// Longest body of a frame: the largest transaction, and a batch of small ones beside it.
pub const FRAME_BODY_BYTES_MAX: usize = 32 << 20;

/// What a frame holds. The numbers are part of the format and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// Transactions, with revisions from `first` on.
    Transactions,
    /// A new owner.
    Epoch,
    /// A session that opens or ends.
    Session,
    /// A grant given or taken back.
    Grant,
    /// The store was closed here.
    End,
    /// Anything else, by its number.
    Other(u8),
}

/// One frame as it was read; the checksums were right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What stands before the body.
    pub header: FrameHeader,
    /// The body, by kind.
    pub body: Bytes,
}

/// What stands before the body of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the body holds.
    pub kind: FrameKind,
    /// An unknown kind may be passed over.
    pub skippable: bool,
    /// Frames before this one in the whole log.
    pub index: FrameIndex,
    /// Number of the epoch it was written in.
    pub epoch: u64,
    /// Revision of the first transaction; for other kinds the last revision before the frame.
    pub first: Revision,
    /// Transactions in the body.
    pub count: u32,
    /// The owner's clock, milliseconds since 1970.
    pub time_ms: u64,
    /// Up to here (an offset in the same segment) everything was synced when this was written.
    pub synced_to: u64,
    /// Bytes of the body, without padding.
    pub body_bytes: u32,
}

/// A transaction of the log, and what the session said beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedTransaction {
    /// The transaction.
    pub transaction: Transaction,
    /// The lowest sequence the session still lacked an answer to; 0 without an origin.
    pub floor: Sequence,
}

impl Frame {
    /// The transactions of a [`FrameKind::Transactions`] frame, in order; none for other kinds.
    /// Effect bodies share the memory of the frame's body.
    pub fn transactions(&self) -> Result<Vec<LoggedTransaction>, StoreError> {
        todo!()
    }

    /// Revision of the last transaction; for other kinds the last revision before the frame.
    #[must_use]
    pub fn last(&self) -> Revision {
        todo!()
    }
}
