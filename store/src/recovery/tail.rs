//! The end of the log as the new owner goes on from it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use objsync_proto::ids::{FrameIndex, Revision, StoreId};
use objsync_proto::limits::SEGMENT_BYTES_MAX;

use super::layout::Layout;
use crate::disk::DiskFile;
use crate::epoch::EpochStart;
use crate::error::StoreError;
use crate::frame::{
    BatchBuilder, FRAME_ALIGN_BYTES, FRAME_HEADER_BYTES, Frame, FrameHeader, FrameKind, HeaderSeed,
};
use crate::history::LogHistory;
use crate::log::{
    FrameStart, LogReader, LogWriter, Opened, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentInfo,
    segment_path,
};
use crate::options::StoreOptions;
use crate::poison::Poison;

/// Bytes read at once.
const WINDOW_BYTES: usize = 256 << 10;

/// The segment that is written on.
pub(super) struct Tail {
    pub(super) info: SegmentInfo,
    /// The segment before it, if that was closed just now.
    pub(super) closed: Option<SegmentInfo>,
    /// The revision given last: above the last one in the log after an unclean end.
    pub(super) last: Revision,
    file: Arc<dyn DiskFile>,
    seed: HeaderSeed,
    next_index: FrameIndex,
    /// The owner's clock when the segment was begun, milliseconds since 1970.
    begun_ms: u64,
}

impl Tail {
    pub(super) fn opened(&self, directory: &Path) -> Opened {
        Opened {
            info: self.info,
            path: segment_path(directory, self.info.id),
            file: self.file.clone(),
            synced: self.info.bytes,
            allocated: self.info.bytes,
        }
    }

    pub(super) fn writer(
        &self,
        options: &StoreOptions,
        history: &LogHistory,
        poison: &Arc<Poison>,
        put_bytes: &Arc<AtomicU64>,
    ) -> LogWriter {
        LogWriter {
            disk: options.disk.clone(),
            clock: options.clock.clone(),
            entropy: options.entropy.clone(),
            directory: history.directory.clone(),
            store: history.store,
            // A last frame may still go over it.
            segment_bytes: options.limits.segment_bytes.min(SEGMENT_BYTES_MAX / 2),
            segments: history.segments.clone(),
            open: history.open.clone(),
            poison: poison.clone(),
            file: self.file.clone(),
            seed: self.seed,
            info: self.info,
            next_index: self.next_index,
            closed: Vec::new(),
            begun_ms: self.begun_ms,
            put_bytes: put_bytes.clone(),
        }
    }
}

/// The log as it is, for who only reads.
pub(super) fn only_read(
    directory: &Path,
    options: &StoreOptions,
    layout: &Layout,
) -> Result<Tail, StoreError> {
    let id = layout.tail.info.id;
    let (header, file) =
        SegmentHeader::open(&*options.disk, directory, id, crate::disk::OpenMode::Read)?;
    Ok(Tail {
        info: layout.tail.info,
        closed: None,
        last: layout.tail.info.last,
        file,
        seed: header.seed(),
        next_index: layout.tail.next_index,
        begun_ms: header.time_ms,
    })
}

/// Gives the zeros at the end of the last segment back to the disk, and nothing else: they count
/// for nothing, and a torn frame before them stays for who looks into it.
pub(super) fn give_back(
    directory: &Path,
    options: &StoreOptions,
    layout: &Layout,
) -> Result<(), StoreError> {
    let info = layout.tail.info;
    let path = segment_path(directory, info.id);
    let (_, file) = super::open_for_writing(directory, options, info.id)?;
    let end = end_of_content(&*file, info.bytes);
    end.and_then(|end| file.truncate(end))
        .map_err(|error| StoreError::io("cut", &path, error))
}

/// Where the zeros at the end of a file begin, but not before `from`.
fn end_of_content(file: &dyn DiskFile, from: u64) -> std::io::Result<u64> {
    let mut window = vec![0; WINDOW_BYTES];
    let (mut offset, mut end) = (from, from);
    loop {
        let count = file.read_at(&mut window, offset)?;
        if count == 0 {
            return Ok(end);
        }
        if let Some(last) = window[..count].iter().rposition(|byte| *byte != 0) {
            end = offset + last as u64 + 1;
        }
        offset += count as u64;
    }
}

/// Goes on behind the end mark of a store that was closed.
pub(super) fn go_on(
    directory: &Path,
    options: &StoreOptions,
    layout: &Layout,
    (start, now_ms): (EpochStart, u64),
) -> Result<Tail, StoreError> {
    let mut info = layout.tail.info;
    let path = segment_path(directory, info.id);
    let (header, file) = super::open_for_writing(directory, options, info.id)?;
    let header_of = FrameHeader {
        index: layout.tail.next_index,
        synced_to: info.bytes,
        ..epoch_header(start, now_ms)
    };
    let frame = epoch_frame(start, header_of, header.seed());
    file.write_all_at(&frame, info.bytes)
        .and_then(|()| file.sync_data())
        .map_err(|error| StoreError::io("write", &path, error))?;
    info.bytes += frame.len() as u64;
    info.last_time_ms = header_of.time_ms;
    Ok(Tail {
        info,
        closed: None,
        last: info.last,
        file,
        seed: header.seed(),
        next_index: FrameIndex(header_of.index.0 + 1),
        begun_ms: header.time_ms,
    })
}

/// Goes on behind the end of a copy that was closed, with nothing new.
pub(super) fn write_on(
    directory: &Path,
    options: &StoreOptions,
    layout: &Layout,
) -> Result<Tail, StoreError> {
    let info = layout.tail.info;
    let (header, file) = super::open_for_writing(directory, options, info.id)?;
    Ok(Tail {
        info,
        closed: None,
        last: info.last,
        file,
        seed: header.seed(),
        next_index: layout.tail.next_index,
        begun_ms: header.time_ms,
    })
}

/// Begins a new segment with what the last one may not have on disk, and the new epoch, if one
/// begins.
pub(super) fn begin_anew(
    directory: &Path,
    options: &StoreOptions,
    (store, layout): (StoreId, &Layout),
    (start, now_ms): (Option<EpochStart>, u64),
) -> Result<Tail, StoreError> {
    let Split { closed, frames } = split(directory, options, layout)?;
    let header = SegmentHeader {
        store,
        id: closed.id.next(),
        salt: super::draw(directory, options)?,
        previous_bytes: closed.bytes,
        previous_chunk_bytes: closed.chunk_bytes,
        first_index: frames
            .first()
            .map_or(layout.tail.next_index, |frame| frame.header.index),
        before: closed.last,
        time_ms: now_ms,
    };
    let mut content = Vec::new();
    for frame in &frames {
        copy(frame, header.seed(), &mut content);
    }
    let mut next_index = layout.tail.next_index;
    if let Some(start) = start {
        let epoch_header = FrameHeader {
            index: next_index,
            synced_to: SEGMENT_HEADER_BYTES,
            ..epoch_header(start, header.time_ms)
        };
        content.extend(epoch_frame(start, epoch_header, header.seed()));
        next_index.0 += 1;
    }
    let file = header.create(&*options.disk, directory, &content)?;
    Ok(Tail {
        info: SegmentInfo {
            id: header.id,
            first_index: header.first_index,
            before: header.before,
            last: layout.tail.info.last,
            bytes: SEGMENT_HEADER_BYTES + content.len() as u64,
            last_time_ms: header.time_ms,
            chunk_bytes: 0,
        },
        closed: Some(closed),
        last: layout.tail.info.last,
        file,
        seed: header.seed(),
        next_index,
        begun_ms: header.time_ms,
    })
}

/// The last segment, cut where it was surely synced, and the frames behind.
struct Split {
    closed: SegmentInfo,
    frames: Vec<Frame>,
}

fn split(directory: &Path, options: &StoreOptions, layout: &Layout) -> Result<Split, StoreError> {
    let tail = &layout.tail;
    let mut closed = SegmentInfo {
        last: tail.info.before,
        bytes: tail.synced_to,
        ..tail.info
    };
    let mut frames = Vec::new();
    for read in LogReader::segment(&*options.disk, directory, tail.info)? {
        let (place, frame) = read?;
        if place.offset >= tail.synced_to {
            frames.push(frame);
        } else {
            closed.last = closed.last.max(frame.last());
            closed.last_time_ms = frame.header.time_ms;
        }
    }
    Ok(Split { closed, frames })
}

/// Appends a frame as it was, under the checksum of its new segment.
fn copy(frame: &Frame, seed: HeaderSeed, content: &mut Vec<u8>) {
    let header = FrameHeader {
        synced_to: SEGMENT_HEADER_BYTES,
        ..frame.header
    };
    let mut bytes = [0; FRAME_HEADER_BYTES];
    seed.encode(&header, &mut bytes);
    content.extend_from_slice(&bytes);
    content.extend_from_slice(&frame.body);
    content.resize(content.len().next_multiple_of(FRAME_ALIGN_BYTES), 0);
}

fn epoch_header(start: EpochStart, time_ms: u64) -> FrameHeader {
    let log_start = FrameStart {
        kind: FrameKind::Epoch,
        skippable: false,
        epoch: start.epoch.number,
        first: start.after,
        time_ms,
    };
    log_start.header(FrameIndex(0), 0)
}

fn epoch_frame(start: EpochStart, header: FrameHeader, seed: HeaderSeed) -> Vec<u8> {
    let mut body = Vec::new();
    start.encode(&mut body);
    let mut builder = BatchBuilder::default();
    builder.raw(&body);
    builder.seal(header, seed).to_vec()
}
