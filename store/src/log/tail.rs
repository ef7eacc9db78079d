//! Where the last segment ends, and whether it was torn there or damaged.
//!
//! A power cut can leave any of what was not synced: the first bad frame ends the log, unless a
//! later frame tells that it had been synced. That frame would have been lost by damage, not by
//! the power, and nothing may be written over it.

use std::path::Path;

use objsync_proto::ids::{FrameIndex, Revision};

use super::reader::{SegmentReader, Step};
use super::{SEGMENT_HEADER_BYTES, SegmentHeader, SegmentId, SegmentInfo};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::frame::{Frame, FrameHeader, FrameKind};

/// The last segment, as a scan found it.
#[derive(Debug, Clone)]
pub struct TailScan {
    /// Its header.
    pub header: SegmentHeader,
    /// How far it can be read.
    pub info: SegmentInfo,
    /// Index of the frame that would come next.
    pub next_index: FrameIndex,
    /// Up to here it was surely synced.
    pub synced_to: u64,
    /// The last frame is an end mark.
    pub ends_with_mark: bool,
    /// Something stands behind the end that is no frame of this log, or not the next one.
    pub is_torn: bool,
}

/// Finds the end of the last segment. A store that was closed at `mark` ends there, and what may
/// lie behind is not looked at.
///
/// # Errors
/// [`StoreError::Corrupt`] if it is damaged rather than torn.
pub fn scan_tail(
    disk: &dyn Disk,
    directory: &Path,
    id: SegmentId,
    mark: Option<u64>,
) -> Result<TailScan, StoreError> {
    let mut reader = SegmentReader::open(disk, directory, id, mark)?;
    let header = reader.header;
    let mut scan = TailScan {
        header,
        info: SegmentInfo {
            id,
            first_index: header.first_index,
            before: header.before,
            last: header.before,
            bytes: SEGMENT_HEADER_BYTES,
            last_time_ms: header.time_ms,
            chunk_bytes: 0,
        },
        next_index: header.first_index,
        synced_to: SEGMENT_HEADER_BYTES,
        ends_with_mark: false,
        is_torn: false,
    };
    loop {
        match reader.step()? {
            Step::Frame(offset, frame) if frame.header.index == scan.next_index => {
                scan.take(offset, &frame);
            }
            Step::Frame(..) => break refuse_damage(&mut reader, &scan, "a frame is missing")?,
            Step::Bad(what) => break refuse_damage(&mut reader, &scan, what)?,
            Step::End => break,
        }
    }
    scan.is_torn = reader.has_bytes_after(scan.info.bytes)?;
    Ok(scan)
}

impl TailScan {
    fn take(&mut self, offset: u64, frame: &Frame) {
        let header = &frame.header;
        self.info.bytes = offset + header.frame_bytes();
        self.info.last = Revision(self.info.last.0.max(header.last().0));
        self.info.last_time_ms = header.time_ms;
        self.next_index = FrameIndex(header.index.0 + 1);
        self.synced_to = self.synced_to.max(header.synced_to);
        self.ends_with_mark = header.kind == FrameKind::End;
    }
}

/// That no frame past the end of the scan knew that end to be synced.
fn refuse_damage(
    reader: &mut SegmentReader,
    scan: &TailScan,
    what: &'static str,
) -> Result<(), StoreError> {
    let end = scan.info.bytes;
    let proves_damage =
        |header: &FrameHeader| header.index >= scan.next_index && header.synced_to > end;
    if scan.synced_to > end || reader.find_header(end, proves_damage)?.is_some() {
        return Err(StoreError::corrupt(&reader.path, end, what));
    }
    Ok(())
}
