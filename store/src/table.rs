//! Tables: immutable files of entries in order, in checksummed blocks with an index of them.
//!
//! Snapshots and the footers of segments are tables. A table is written to a temporary name,
//! synced and renamed, so under its own name it is whole. Every byte of it is under a checksum.
//! The tables of bytes are in docs/format.md, "Tables".
//!
//! Invariants
//! * Entries are ordered by section, then by key; a key stands once. The writer asserts it, the
//!   reader refuses anything else.
//! * A block holds entries of one section. Memory for it is taken after its lengths were checked.

mod block;
mod cursor;
mod range;
mod read;
mod salvage;
mod write;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use objsync_proto::ids::{NamespaceId, Revision, StoreId, SurfaceId};
use objsync_proto::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

use crate::log::SegmentId;

pub use cursor::TableCursor;
pub use range::TableRange;
pub use read::Table;
pub(crate) use read::read_exact;
pub(crate) use salvage::{Hole, SoundEntries};
pub use write::TableWriter;

/// A block is closed once its entries take this many bytes: what a look for one key reads.
const BLOCK_BYTES: usize = 16 << 10;
/// Most plain bytes of a block: closed at once by the largest entry.
const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + KEY_BYTES_MAX + VALUE_BYTES_MAX + 64;
/// Bytes of the header of a table, and of its trailer.
const EDGE_BYTES: usize = 64;

/// The part of a table that belongs to one namespace of one surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Section {
    /// Whose it is.
    pub surface: SurfaceId,
    /// Within which namespace.
    pub namespace: NamespaceId,
}

impl Section {
    /// What the store itself keeps in a snapshot: sessions, grants and epochs.
    pub const SYSTEM: Self = Self {
        surface: SurfaceId(0),
        namespace: NamespaceId(0),
    };

    /// A namespace of the dictionary.
    #[must_use]
    pub const fn dict(namespace: NamespaceId) -> Self {
        Self {
            surface: SurfaceId::DICT,
            namespace,
        }
    }
}

/// What a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// The state as of a revision; the payload of an entry is its value.
    Snapshot,
    /// The keys of a segment; the payload of an entry tells where its value stands.
    Footer,
}

impl TableKind {
    const fn number(self) -> u8 {
        match self {
            Self::Snapshot => 1,
            Self::Footer => 2,
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Snapshot),
            2 => Some(Self::Footer),
            _ => None,
        }
    }
}

/// What a table says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableHead {
    /// What it is.
    pub kind: TableKind,
    /// Whose.
    pub store: StoreId,
    /// The last revision whose effects it holds.
    pub revision: Revision,
    /// The last segment of the log that went into it.
    pub segment: SegmentId,
}

/// One entry of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableEntry {
    /// Where it belongs.
    pub section: Section,
    /// Its key; unique in its section.
    pub key: Bytes,
    /// When it was written.
    pub revision: Revision,
    /// By the kind of the table.
    pub payload: Bytes,
}

/// What the end of a table says of the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Trailer {
    /// Where the index begins: behind the last block of entries.
    index_offset: u64,
    /// Blocks of entries.
    block_count: u32,
    /// Entries.
    entry_count: u64,
}
