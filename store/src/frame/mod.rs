//! How a batch stands in the log: a header of 64 bytes, then a body, padded to 8 bytes.
//!
//! The header's checksum is seeded by its segment's random salt, so neither old content of the
//! disk nor bytes a user wrote are taken for a frame. The table of bytes is in docs/format.md,
//! "Frames".

mod body;
mod bytes_reader;
mod header;

use bytes::Bytes;
use objsync_proto::effect::Transaction;
use objsync_proto::ids::{FrameIndex, Origin, Revision, Sequence};

pub use body::{BatchBuilder, TransactionHead};
pub(crate) use body::{put_result, take_result};
pub use bytes_reader::{BytesReader, put_varint, varint_bytes};
pub use header::HeaderSeed;

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
    /// Anything else, by its number; 5 to 7 are set aside for pack, vote and membership.
    Other(u8),
}

impl FrameKind {
    /// The number in the format.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Transactions => 1,
            Self::Epoch => 2,
            Self::Session => 3,
            Self::Grant => 4,
            Self::End => 8,
            Self::Other(number) => number,
        }
    }

    /// The kind with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Transactions,
            2 => Self::Epoch,
            3 => Self::Session,
            4 => Self::Grant,
            8 => Self::End,
            other => Self::Other(other),
        }
    }
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
    /// CRC-32C of the body.
    pub body_crc: u32,
}

impl FrameHeader {
    /// Revision of the last transaction; for other kinds the last revision before the frame.
    #[must_use]
    pub fn last(&self) -> Revision {
        match self.kind {
            FrameKind::Transactions => Revision(
                self.first
                    .0
                    .saturating_add(u64::from(self.count))
                    .saturating_sub(1),
            ),
            _ => self.first,
        }
    }

    /// The last revision before the frame.
    #[must_use]
    pub fn before(&self) -> Revision {
        match self.kind {
            FrameKind::Transactions => Revision(self.first.0.saturating_sub(1)),
            _ => self.first,
        }
    }

    /// Bytes of the whole frame, padding included.
    #[must_use]
    pub fn frame_bytes(&self) -> u64 {
        frame_bytes(self.body_bytes as usize)
    }
}

/// Bytes of a frame with a body of this many, padding included.
#[must_use]
pub const fn frame_bytes(body_bytes: usize) -> u64 {
    (FRAME_HEADER_BYTES + body_bytes).next_multiple_of(FRAME_ALIGN_BYTES) as u64
}

/// A transaction of the log, and what the session said beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedTransaction {
    /// The transaction.
    pub transaction: Transaction,
    /// The lowest sequence the session still lacked an answer to; 0 without an origin.
    pub floor: Sequence,
}

impl LoggedTransaction {
    /// Who asked for it.
    #[must_use]
    pub fn origin(&self) -> Option<Origin> {
        self.transaction.origin
    }
}

impl Frame {
    /// The transactions of a [`FrameKind::Transactions`] frame, in order; none for other kinds.
    /// Effect bodies share the memory of the frame's body.
    pub fn transactions(&self) -> Result<Vec<LoggedTransaction>, Malformed> {
        match self.header.kind {
            FrameKind::Transactions => body::decode_transactions(&self.header, &self.body),
            _ => Ok(Vec::new()),
        }
    }

    /// Revision of the last transaction; for other kinds the last revision before the frame.
    #[must_use]
    pub fn last(&self) -> Revision {
        self.header.last()
    }
}

/// Bytes with a right checksum that make no sense: a bug, or a program of another version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

impl From<Malformed> for StoreError {
    fn from(malformed: Malformed) -> Self {
        Self::corrupt(std::path::Path::new("log"), 0, malformed.0)
    }
}

#[cfg(test)]
mod tests;
