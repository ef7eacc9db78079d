//! The log: segments of frames, appended to at one end.
//!
//! A segment's header says where the one before it ends, so a closed segment needs no mark of its
//! own and is never written again: what lies past that end counts for nothing, and is cut off.
//!
//! Trail: `commit` -> [`LogWriter::append`] -> `disk`; `commit::sync` -> `sync_data`.
//! Not here: what the frames mean (`frame`, `recovery`).

mod open_segment;
mod reader;
mod segment;
mod segments;
mod tail;
mod writer;

use std::path::{Path, PathBuf};

use objsync_proto::ids::{FrameIndex, Revision};

pub use open_segment::{FlushWork, OpenSegment};
pub(crate) use open_segment::{Opened, cut};
pub use reader::LogReader;
pub(crate) use reader::{SegmentReader, Step};
pub use segment::{NotCreated, SEGMENT_HEADER_BYTES, SegmentHeader};
pub use segments::Segments;
pub use tail::{TailScan, scan_tail};
pub use writer::{FrameStart, LogWriter};

/// The number of a segment; also its file name, in hex. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId(pub u64);

impl SegmentId {
    /// The number of the first segment of a store.
    pub const FIRST: Self = Self(1);

    /// The segment after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Where a frame begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// In which segment.
    pub segment: SegmentId,
    /// At which byte of it.
    pub offset: u64,
}

/// A segment as far as it can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number.
    pub id: SegmentId,
    /// Index of its first frame.
    pub first_index: FrameIndex,
    /// The last revision before its first frame.
    pub before: Revision,
    /// The last revision in it.
    pub last: Revision,
    /// Bytes up to the end of its last frame.
    pub bytes: u64,
    /// The owner's clock when it was closed, milliseconds since 1970.
    pub last_time_ms: u64,
    /// Bytes that were put into packs for what its frames name; after an unclean end only those that
    /// are surely known.
    pub chunk_bytes: u64,
}

impl SegmentInfo {
    /// Bytes that it keeps on the disk at most: its own, and what was put into packs with it, which
    /// cannot go before it does if it was replaced since.
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        self.bytes.saturating_add(self.chunk_bytes)
    }

    /// Whether any transaction is in it; an owner that was killed at once leaves one without.
    #[must_use]
    pub fn has_transactions(&self) -> bool {
        self.before < self.last
    }
}

/// The directory of the segments in a store's directory.
#[must_use]
pub fn log_directory(directory: &Path) -> PathBuf {
    directory.join("log")
}

/// The file of a segment in a store's directory.
#[must_use]
pub fn segment_path(directory: &Path, id: SegmentId) -> PathBuf {
    log_directory(directory).join(format!("{:016x}.seg", id.0))
}

/// The segment whose file has this name; none for any other file.
#[must_use]
pub fn segment_of_name(name: &str) -> Option<SegmentId> {
    let digits = name.strip_suffix(".seg")?;
    let id = u64::from_str_radix(digits, 16).ok()?;
    (digits.len() == 16 && id > 0).then_some(SegmentId(id))
}
