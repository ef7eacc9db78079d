//! The log: segments of frames, appended to at one end.

use std::path::{Path, PathBuf};

use objsync_proto::ids::Revision;

use crate::disk::Disk;
use crate::error::StoreError;
use crate::frame::Frame;

/// The number of a segment; also its file name, in hex. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId(pub u64);

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
    /// The last revision before its first frame.
    pub before: Revision,
    /// The last revision in it.
    pub last: Revision,
    /// Bytes up to the end of its last frame.
    pub bytes: u64,
    /// The owner's clock at its last frame, milliseconds since 1970.
    pub last_time_ms: u64,
}

/// Reads frames in order, through any number of segments.
pub struct LogReader<'a> {
    disk: &'a dyn Disk,
}

impl<'a> LogReader<'a> {
    /// Reads the frames of one closed segment, or of the part of an open one that `info` covers.
    pub fn segment(
        disk: &'a dyn Disk,
        directory: &Path,
        info: SegmentInfo,
    ) -> Result<Self, StoreError> {
        let _ = (disk, directory, info);
        todo!()
    }
}

impl Iterator for LogReader<'_> {
    type Item = Result<(Place, Frame), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let _ = self.disk;
        todo!()
    }
}

/// The file of a segment in a store's directory.
#[must_use]
pub fn segment_path(directory: &Path, id: SegmentId) -> PathBuf {
    directory.join("log").join(format!("{:016x}.seg", id.0))
}
