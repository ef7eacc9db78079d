//! Appending frames, and going on in a new segment when one is full.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use objsync_proto::ids::{FrameIndex, Revision, StoreId};

use super::open_segment::Opened;
use super::{
    NotCreated, OpenSegment, Place, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentInfo, Segments,
    segment_path,
};
use crate::clock::{Clock, Entropy};
use crate::disk::{Disk, DiskFile};
use crate::error::StoreError;
use crate::frame::{
    BatchBuilder, FRAME_HEADER_BYTES, FrameHeader, FrameKind, HeaderSeed, frame_bytes,
};
use crate::poison::Poison;

/// What a new segment has room for from the start: an end mark, so that a store on a disk that is full
/// by then is closed in order.
const END_ROOM: [u8; FRAME_HEADER_BYTES] = [0; FRAME_HEADER_BYTES];

/// Appends to the log. Whoever holds it is the writer.
pub struct LogWriter {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) directory: PathBuf,
    pub(crate) store: StoreId,
    pub(crate) segment_bytes: u64,
    pub(crate) segments: Arc<Segments>,
    pub(crate) open: Arc<OpenSegment>,
    pub(crate) poison: Arc<Poison>,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) seed: HeaderSeed,
    pub(crate) info: SegmentInfo,
    pub(crate) next_index: FrameIndex,
    /// Segments closed since somebody last asked.
    pub(crate) closed: Vec<SegmentInfo>,
    /// The owner's clock when the segment was begun, milliseconds since 1970.
    pub(crate) begun_ms: u64,
    /// Bytes put into packs that no frame has counted yet.
    pub(crate) put_bytes: Arc<AtomicU64>,
}

/// What a new frame's header says beyond what the log knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameStart {
    /// What the body holds.
    pub kind: FrameKind,
    /// Who does not know the kind may pass it over.
    pub skippable: bool,
    /// Number of the epoch.
    pub epoch: u64,
    /// Revision of the first transaction; for other kinds the last revision before the frame.
    pub first: Revision,
    /// The owner's clock, milliseconds since 1970.
    pub time_ms: u64,
}

impl FrameStart {
    /// The header of a frame at this place in the log. What depends on the body is still open.
    #[must_use]
    pub fn header(&self, index: FrameIndex, synced_to: u64) -> FrameHeader {
        FrameHeader {
            kind: self.kind,
            skippable: self.skippable,
            index,
            epoch: self.epoch,
            first: self.first,
            count: 0,
            time_ms: self.time_ms,
            synced_to,
            body_bytes: 0,
            body_crc: 0,
        }
    }
}

impl LogWriter {
    /// Index of the frame that is appended next.
    #[must_use]
    pub fn next_index(&self) -> FrameIndex {
        self.next_index
    }

    /// The last revision in the log.
    #[must_use]
    pub fn last(&self) -> Revision {
        self.info.last
    }

    /// Bytes of the segment that is written.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.info.bytes
    }

    /// Whether the segment that is written has any transaction.
    pub(crate) fn has_transactions(&self) -> bool {
        self.info.has_transactions()
    }

    /// Appends what was built, as one frame. With the operating system when it returns; whoever
    /// passes `sync_follows` calls [`OpenSegment::sync`].
    ///
    /// # Errors
    /// Nothing was appended, except after [`StoreError::OutcomeUnknown`].
    pub fn append(
        &mut self,
        builder: &mut BatchBuilder,
        start: FrameStart,
        sync_follows: bool,
    ) -> Result<Place, StoreError> {
        self.poison.check()?;
        let bytes = frame_bytes(builder.body_bytes());
        let full = self.info.bytes + bytes > self.segment_bytes
            || self.info.chunk_bytes >= self.segment_bytes;
        if full && self.info.bytes > SEGMENT_HEADER_BYTES {
            self.roll(start.time_ms)?;
        }
        let offset = self.info.bytes;
        let synced_to = self.open.reserve(offset + bytes)?;
        let header = start.header(self.next_index, synced_to);
        let count = u64::from(builder.count());
        let frame = builder.seal(header, self.seed);
        debug_assert_eq!(frame.len() as u64, bytes);
        if let Err(error) = self.file.write_all_at(frame, offset) {
            return Err(self.take_back(offset, error));
        }
        let before = self.info.last;
        let place = Place {
            segment: self.info.id,
            offset,
        };
        self.segments.remember(place.segment, before, offset);
        self.next_index = FrameIndex(self.next_index.0 + 1);
        self.info.bytes = offset + bytes;
        self.info.last_time_ms = start.time_ms;
        if start.kind == FrameKind::Transactions {
            // What was put since the last frame is what this one names, or soon is.
            let put_bytes = self.put_bytes.swap(0, Ordering::Relaxed);
            self.info.chunk_bytes = self.info.chunk_bytes.saturating_add(put_bytes);
            self.info.last = Revision(start.first.0 + count - 1);
        }
        let now_ms = self.clock.monotonic_ms();
        self.open.appended(self.info, now_ms, sync_follows);
        Ok(place)
    }

    /// The segments closed since the last call.
    pub fn take_closed(&mut self) -> Vec<SegmentInfo> {
        std::mem::take(&mut self.closed)
    }

    /// A frame whose write failed may be there whole: its header goes, or nobody could say that
    /// nothing was written. Synced, or a power cut could bring it back.
    fn take_back(&self, offset: u64, error: std::io::Error) -> StoreError {
        let path = segment_path(&self.directory, self.info.id);
        let error = StoreError::io("write", &path, error);
        match self.file.write_all_at(&[0; FRAME_HEADER_BYTES], offset) {
            Ok(()) => self.open.sync_whatever().err().unwrap_or(error),
            Err(_) => self.poison.set(&error),
        }
    }

    /// Closes the segment, synced, and begins the next.
    ///
    /// # Errors
    /// [`StoreError::Full`] and the like, with nothing changed; others poison the store.
    pub(crate) fn roll(&mut self, time_ms: u64) -> Result<(), StoreError> {
        self.open.sync()?;
        let mut salt = [0; 16];
        let filled = self.entropy.fill(&mut salt);
        let header = SegmentHeader {
            store: self.store,
            id: self.info.id.next(),
            salt,
            previous_bytes: self.info.bytes,
            previous_chunk_bytes: self.info.chunk_bytes,
            first_index: self.next_index,
            before: self.info.last,
            time_ms,
        };
        let path = segment_path(&self.directory, header.id);
        filled.map_err(|error| StoreError::io("draw a salt for", &path, error))?;
        self.file = match header.create(&*self.disk, &self.directory, &END_ROOM) {
            Ok(file) => file,
            Err(NotCreated::Absent(error)) => return Err(error),
            Err(NotCreated::Unknown(error)) => return Err(self.poison.set(&error)),
        };
        self.segments.close(self.info);
        self.closed.push(self.info);
        self.seed = header.seed();
        self.info = SegmentInfo {
            id: header.id,
            first_index: header.first_index,
            before: header.before,
            last: header.before,
            bytes: SEGMENT_HEADER_BYTES,
            last_time_ms: time_ms,
            chunk_bytes: 0,
        };
        self.begun_ms = time_ms;
        self.open.replace(Opened {
            info: self.info,
            path,
            file: self.file.clone(),
            synced: SEGMENT_HEADER_BYTES,
            allocated: SEGMENT_HEADER_BYTES + END_ROOM.len() as u64,
        });
        Ok(())
    }
}
