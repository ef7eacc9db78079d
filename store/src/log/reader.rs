//! Reading frames in order.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::ids::FrameIndex;
use objsync_proto::limits::SEGMENT_BYTES_MAX;

use super::{Place, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentId, SegmentInfo, segment_path};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::StoreError;
use crate::frame::{FRAME_ALIGN_BYTES, FRAME_HEADER_BYTES, Frame, FrameHeader};

/// Bytes read at once.
const WINDOW_BYTES: usize = 256 << 10;
/// What most of a file is past the end of its log.
static ZEROS: [u8; 4096] = [0; 4096];

/// Reads the frames of one file up to a given end, whatever comes.
pub(crate) struct SegmentReader {
    pub(crate) header: SegmentHeader,
    pub(crate) path: PathBuf,
    file: Arc<dyn DiskFile>,
    offset: u64,
    end: u64,
    /// Bytes of the file from `window_start` on.
    window: Vec<u8>,
    window_start: u64,
}

/// What stands at the offset of a [`SegmentReader`].
pub(crate) enum Step {
    Frame(u64, Frame),
    /// The end that was given.
    End,
    /// No valid frame; the offset stays here.
    Bad(&'static str),
}

impl SegmentReader {
    pub(crate) fn open(
        disk: &dyn Disk,
        directory: &Path,
        id: SegmentId,
        end: Option<u64>,
    ) -> Result<Self, StoreError> {
        let path = segment_path(directory, id);
        let (header, file) = SegmentHeader::open(disk, directory, id, OpenMode::Read)?;
        let file_bytes = file
            .bytes()
            .map_err(|error| StoreError::io("read", &path, error))?;
        if end.is_none() && file_bytes > SEGMENT_BYTES_MAX {
            let what = format!("{file_bytes} bytes; the limit is {SEGMENT_BYTES_MAX} bytes");
            return Err(StoreError::corrupt(&path, 0, what));
        }
        Ok(Self {
            header,
            path,
            file,
            offset: SEGMENT_HEADER_BYTES,
            end: end.unwrap_or(file_bytes),
            window: Vec::new(),
            window_start: 0,
        })
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The end that was given, else that of the file.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn seek(&mut self, offset: u64) {
        self.offset = offset;
    }

    pub(crate) fn step(&mut self) -> Result<Step, StoreError> {
        let offset = self.offset;
        if offset >= self.end {
            return Ok(Step::End);
        }
        let Some(header) = self.header_at(offset)? else {
            return Ok(Step::Bad("no valid frame header"));
        };
        if offset + header.frame_bytes() > self.end {
            return Ok(Step::Bad("the frame ends past the end"));
        }
        let body_at = offset + FRAME_HEADER_BYTES as u64;
        let body_bytes = header.body_bytes as usize;
        let padded_bytes = body_bytes.next_multiple_of(FRAME_ALIGN_BYTES);
        let Some(padded) = self.bytes_at(body_at, padded_bytes)? else {
            return Ok(Step::Bad("the file is cut short"));
        };
        let (body, padding) = padded.split_at(body_bytes);
        if crc32c::crc32c(body) != header.body_crc {
            return Ok(Step::Bad("the frame's checksum is wrong"));
        }
        // Under no checksum, so it must be what is always written there.
        if padding.iter().any(|byte| *byte != 0) {
            return Ok(Step::Bad("the frame's padding is not zero"));
        }
        let body = Bytes::copy_from_slice(body);
        self.offset += header.frame_bytes();
        Ok(Step::Frame(offset, Frame { header, body }))
    }

    /// The valid frame header at an offset, whatever its body.
    pub(crate) fn header_at(&mut self, offset: u64) -> Result<Option<FrameHeader>, StoreError> {
        let seed = self.header.seed();
        let bytes = self.bytes_at(offset, FRAME_HEADER_BYTES)?;
        Ok(bytes.and_then(|bytes| seed.decode(bytes.first_chunk()?)))
    }

    /// The first valid frame header that is `wanted` from an offset on, which is a multiple of
    /// [`FRAME_ALIGN_BYTES`], and where it begins.
    pub(crate) fn find_header(
        &mut self,
        from: u64,
        wanted: impl Fn(&FrameHeader) -> bool,
    ) -> Result<Option<(u64, FrameHeader)>, StoreError> {
        let seed = self.header.seed();
        let mut start = from;
        while start < self.end {
            self.fill(start, WINDOW_BYTES)?;
            // Most of what is looked at is zeros, where no header begins.
            let blocks = self.window.chunks(ZEROS.len()).zip(0..);
            for (_, block) in blocks.filter(|(block, _)| !is_zeros(block)) {
                let first = block * ZEROS.len();
                let last = self.window.len().min(first + ZEROS.len());
                for at in (first..last).step_by(FRAME_ALIGN_BYTES) {
                    if start + at as u64 >= self.end {
                        return Ok(None);
                    }
                    if self.window[at] != 0
                        && let Some(bytes) = self.window[at..].first_chunk()
                        && let Some(header) = seed.decode(bytes)
                        && wanted(&header)
                    {
                        return Ok(Some((start + at as u64, header)));
                    }
                }
            }
            // The file may end long before the end that was given.
            if self.window.len() < WINDOW_BYTES {
                return Ok(None);
            }
            // The next window begins before this one ends: a header may lie across.
            start += (WINDOW_BYTES - FRAME_HEADER_BYTES) as u64;
        }
        Ok(None)
    }

    /// Whether anything but zeros lies between an offset and the end.
    pub(crate) fn has_bytes_after(&mut self, from: u64) -> Result<bool, StoreError> {
        let mut start = from;
        while start < self.end {
            self.fill(start, WINDOW_BYTES)?;
            let count = (self.end - start).min(self.window.len() as u64);
            let count = usize::try_from(count).expect("at most a window");
            if !is_zeros(&self.window[..count]) {
                return Ok(true);
            }
            if self.window.len() < WINDOW_BYTES {
                return Ok(false);
            }
            start += WINDOW_BYTES as u64;
        }
        Ok(false)
    }

    /// `count` bytes at an offset; none if the file ends before.
    fn bytes_at(&mut self, offset: u64, count: usize) -> Result<Option<&[u8]>, StoreError> {
        let held = self.window_start..self.window_start + self.window.len() as u64;
        if !(held.contains(&offset) && offset + count as u64 <= held.end) {
            self.fill(offset, count.max(WINDOW_BYTES))?;
        }
        let at = usize::try_from(offset - self.window_start).expect("inside the window");
        Ok(self.window.get(at..at + count))
    }

    fn fill(&mut self, offset: u64, count: usize) -> Result<(), StoreError> {
        self.window.resize(count, 0);
        self.window_start = offset;
        let mut filled = 0;
        while filled < count {
            let read = self
                .file
                .read_at(&mut self.window[filled..], offset + filled as u64)
                .map_err(|error| StoreError::io("read", &self.path, error))?;
            if read == 0 {
                break;
            }
            filled += read;
        }
        self.window.truncate(filled);
        Ok(())
    }
}

/// Whether bytes are zeros, compared by the block: a killed owner leaves megabytes of them, and the
/// next one looks at all of them before it serves.
fn is_zeros(bytes: &[u8]) -> bool {
    let mut blocks = bytes.chunks(ZEROS.len());
    blocks.all(|block| *block == ZEROS[..block.len()])
}

/// Reads frames in order, through any number of segments. Anything but a valid frame before the
/// end of a segment is damage.
pub struct LogReader<'a> {
    disk: &'a dyn Disk,
    directory: PathBuf,
    rest: std::vec::IntoIter<SegmentInfo>,
    start: Option<u64>,
    current: Option<SegmentReader>,
    next_index: Option<FrameIndex>,
}

impl<'a> LogReader<'a> {
    /// Reads the frames of one closed segment, or of the part of an open one that `info` covers.
    pub fn segment(
        disk: &'a dyn Disk,
        directory: &Path,
        info: SegmentInfo,
    ) -> Result<Self, StoreError> {
        Ok(Self::new(disk, directory, vec![info], None))
    }

    /// Reads the frames of `segments`, which follow each other; in the first of them from the
    /// frame that begins at `start`.
    #[must_use]
    pub fn new(
        disk: &'a dyn Disk,
        directory: &Path,
        segments: Vec<SegmentInfo>,
        start: Option<u64>,
    ) -> Self {
        Self {
            disk,
            directory: directory.to_owned(),
            rest: segments.into_iter(),
            start,
            current: None,
            next_index: None,
        }
    }

    fn step(&mut self) -> Result<Option<(Place, Frame)>, StoreError> {
        loop {
            let Some(reader) = &mut self.current else {
                let Some(info) = self.rest.next() else {
                    return Ok(None);
                };
                let end = Some(info.bytes);
                let mut reader = SegmentReader::open(self.disk, &self.directory, info.id, end)?;
                match self.start.take() {
                    Some(start) => reader.seek(start),
                    None => self.next_index = Some(reader.header.first_index),
                }
                self.current = Some(reader);
                continue;
            };
            match reader.step()? {
                Step::End => self.current = None,
                Step::Bad(what) => {
                    return Err(StoreError::corrupt(&reader.path, reader.offset(), what));
                }
                Step::Frame(offset, frame) => {
                    let index = frame.header.index;
                    if self.next_index.is_some_and(|expected| expected != index) {
                        let what = format!("frame {} stands out of order", index.0);
                        return Err(StoreError::corrupt(&reader.path, offset, what));
                    }
                    self.next_index = Some(FrameIndex(index.0 + 1));
                    let segment = reader.header.id;
                    return Ok(Some((Place { segment, offset }, frame)));
                }
            }
        }
    }
}

impl Iterator for LogReader<'_> {
    type Item = Result<(Place, Frame), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.current = None;
            self.rest = Vec::new().into_iter();
        }
        step.transpose()
    }
}
