//! The footer of a closed segment: its keys in order, and where their last values stand in it.
//!
//! It is a table in a file of its own beside the segment, so that the segment is never written
//! again once it is closed, and a footer that is missing can be made at any time. Snapshots are
//! merged from footers; values are then read from their places, each under its own checksum.
//!
//! Of a value of which a part changed it says where the parts stand, and on which entry they lie:
//! the whole value is put together by who reads it, from here and from what came before.
//!
//! The table of bytes is in docs/format.md, "Footers".

mod parts;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::effect::{Change, KeyPatch};
use objsync_proto::ids::{Revision, StoreId};
use objsync_proto::limits::VALUE_BYTES_MAX;
use objsync_proto::patched;

use crate::dict::Logged;
use crate::disk::{Disk, DiskFile, MemoryDisk, OpenMode};
use crate::error::StoreError;
use crate::frame::{
    BytesReader, FRAME_HEADER_BYTES, Frame, FrameKind, LoggedTransaction, Malformed, put_varint,
};
use crate::history::located;
use crate::log::{LogReader, SegmentId, SegmentInfo, log_directory, segment_path};
use crate::surfaces::record_of;
use parts::{EditPlace, Parts};

pub use parts::Content;
pub(crate) use parts::{Gathered, OTHER_BASE, UNFIT};

use crate::table::{Section, Table, TableHead, TableKind, TableWriter, read_exact};

/// Bytes of a segment read at once where edits stand close together.
const EDITS_READ_BYTES: u64 = 64 << 10;

/// The key is removed.
const DELETED: u8 = 0;
/// The key has a value: offset, length and CRC-32C follow.
const IN_SEGMENT: u8 = 1;
/// The key has a value of which parts stand in the segment: see `footer/parts.rs`.
const IN_PARTS: u8 = 2;

/// What an entry says of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Held {
    Removed,
    Whole(ValuePlace),
    Parts(Parts),
}

/// Where the value of an entry stands in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValuePlace {
    offset: u64,
    bytes: u32,
    crc: u32,
}

/// A closed segment with its footer: keys in order, values on demand.
pub struct Footer {
    /// The keys.
    pub table: Arc<Table>,
    segment: Arc<dyn DiskFile>,
    segment_path: PathBuf,
    segment_bytes: u64,
}

/// The file of a segment's footer.
#[must_use]
pub fn footer_path(directory: &Path, id: SegmentId) -> PathBuf {
    log_directory(directory).join(format!("{:016x}.keys", id.0))
}

/// Whether an entry says that its key was removed.
pub(crate) fn is_removal(payload: &[u8]) -> bool {
    payload == [DELETED]
}

/// Whether an entry has parts of a value that is in what came before.
pub(crate) fn lies_on_older(payload: &[u8]) -> bool {
    payload.starts_with(&[IN_PARTS, 0])
}

/// Makes the footer of a closed segment by reading the segment once.
pub fn write(
    disk: &dyn Disk,
    directory: &Path,
    store: StoreId,
    info: SegmentInfo,
) -> Result<(), StoreError> {
    let keys = Keys::read(disk, directory, info, info.last)?;
    let path = footer_path(directory, info.id);
    let writer = TableWriter::create(disk, &path, head(store, info))?;
    keys.write(writer, &segment_path(directory, info.id))
}

fn head(store: StoreId, info: SegmentInfo) -> TableHead {
    TableHead {
        kind: TableKind::Footer,
        store,
        revision: info.last,
        segment: info.id,
    }
}

impl Footer {
    /// Opens the footer of a closed segment.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] also if it is the footer of another segment.
    pub fn open(disk: &dyn Disk, directory: &Path, info: SegmentInfo) -> Result<Self, StoreError> {
        let path = footer_path(directory, info.id);
        let table = Table::open(disk, &path, TableKind::Footer)?;
        let head = table.head();
        if head.segment != info.id || head.revision != info.last {
            return Err(StoreError::corrupt(
                &path,
                32,
                "it belongs to another segment",
            ));
        }
        Self::over(table, disk, directory, info)
    }

    fn over(
        table: Table,
        disk: &dyn Disk,
        directory: &Path,
        info: SegmentInfo,
    ) -> Result<Self, StoreError> {
        let segment_path = segment_path(directory, info.id);
        let segment = disk
            .open(&segment_path, OpenMode::Read)
            .map_err(|error| StoreError::io("open", &segment_path, error))?;
        Ok(Self {
            table: Arc::new(table),
            segment,
            segment_path,
            segment_bytes: info.bytes,
        })
    }

    /// A footer that is nowhere but in memory, about the packed size of its keys: of a segment
    /// that is still written, or of the part of one up to a revision.
    pub fn in_memory(
        disk: &dyn Disk,
        directory: &Path,
        store: StoreId,
        (info, to): (SegmentInfo, Revision),
    ) -> Result<Self, StoreError> {
        let memory = MemoryDisk::default();
        let path = footer_path(directory, info.id);
        let keys = Keys::read(disk, directory, info, to)?;
        let writer = TableWriter::create(&memory, &path, head(store, info))?;
        keys.write(writer, &segment_path(directory, info.id))?;
        let table = Table::open(&memory, &path, TableKind::Footer)?;
        Self::over(table, disk, directory, info)
    }

    /// Opens the footer of a closed segment, and makes it if it is missing or of no use.
    pub fn open_or_write(
        disk: &dyn Disk,
        directory: &Path,
        store: StoreId,
        info: SegmentInfo,
    ) -> Result<Self, StoreError> {
        let is_sound = |footer: &Self| {
            footer.table.head().store == store && footer.table.check_blocks().is_ok()
        };
        match Self::open(disk, directory, info) {
            Ok(footer) if is_sound(&footer) => Ok(footer),
            _ => {
                write(disk, directory, store, info)?;
                Self::open(disk, directory, info)
            }
        }
    }

    /// The file of its segment.
    pub(crate) fn segment_path(&self) -> &Path {
        &self.segment_path
    }

    /// Whether an entry of the footer has a value; if not, the key was removed.
    pub fn has_value(&self, payload: &Bytes) -> Result<bool, StoreError> {
        Ok(self.held(payload)? != Held::Removed)
    }

    fn held(&self, payload: &Bytes) -> Result<Held, StoreError> {
        Held::take(payload)
            .map_err(|malformed| StoreError::corrupt(&self.segment_path, 0, malformed.0))
    }

    /// What an entry of the footer comes to.
    pub fn content(&self, payload: &Bytes) -> Result<Content, StoreError> {
        let parts = match self.held(payload)? {
            Held::Removed => return Ok(Content::Removed),
            Held::Whole(place) => return self.whole_at(place).map(Content::Whole),
            Held::Parts(parts) => parts,
        };
        let (edits, base) = (self.edits(&parts)?, parts.base);
        let Some(place) = parts.whole else {
            return Ok(Content::Parts { base, edits });
        };
        let value = patched::apply(&self.whole_at(place)?, &edits);
        value
            .map(Content::Whole)
            .map_err(|_| self.corrupt(place.offset, UNFIT.0))
    }

    fn corrupt(&self, offset: u64, what: &str) -> StoreError {
        StoreError::corrupt(&self.segment_path, offset, what)
    }

    /// The value at a place of the segment.
    fn whole_at(&self, place: ValuePlace) -> Result<Bytes, StoreError> {
        let value = self.piece(place.offset, place.bytes)?;
        if crc32c::crc32c(&value) != place.crc {
            return Err(self.corrupt(place.offset, "a value's checksum is wrong"));
        }
        Ok(value)
    }

    /// The edits at their places. Those that stand close together are read as one.
    fn edits(&self, parts: &Parts) -> Result<Vec<Bytes>, StoreError> {
        let mut edits = Vec::with_capacity(parts.edits.len());
        let mut crc = 0;
        let mut rest = &parts.edits[..];
        while let Some(first) = rest.first() {
            let bytes_to = |place: &EditPlace| place.end() - first.offset;
            let near = rest
                .iter()
                .take_while(|place| bytes_to(place) <= EDITS_READ_BYTES);
            let (now, later) = rest.split_at(near.count().max(1));
            let bytes = now.last().map_or(0, bytes_to);
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            let piece = self.piece(first.offset, bytes)?;
            for place in now {
                let at = usize::try_from(place.offset - first.offset).unwrap_or(usize::MAX);
                // A copy: what stands between them is not to live as long.
                let edit = Bytes::copy_from_slice(&piece[at..at + place.bytes as usize]);
                crc = crc32c::crc32c_append(crc, &edit);
                edits.push(edit);
            }
            rest = later;
        }
        if crc != parts.crc {
            let at = parts.edits.first().map_or(0, |first| first.offset);
            return Err(self.corrupt(at, "a patch's checksum is wrong"));
        }
        Ok(edits)
    }

    fn piece(&self, offset: u64, bytes: u32) -> Result<Bytes, StoreError> {
        let end = offset.checked_add(u64::from(bytes));
        if end.is_none_or(|end| end > self.segment_bytes) {
            return Err(self.corrupt(offset, "the footer points past the segment's end"));
        }
        if bytes as usize > VALUE_BYTES_MAX {
            return Err(self.corrupt(
                offset,
                "the footer points to more than the limit of a value",
            ));
        }
        let mut piece = vec![0; bytes as usize];
        read_exact(&*self.segment, &self.segment_path, &mut piece, offset)?;
        Ok(piece.into())
    }
}

impl Held {
    fn put(&self, buffer: &mut Vec<u8>) {
        match self {
            Self::Removed => buffer.push(DELETED),
            Self::Whole(place) => {
                buffer.push(IN_SEGMENT);
                place.put(buffer);
            }
            Self::Parts(parts) => {
                buffer.push(IN_PARTS);
                parts.put(buffer);
            }
        }
    }

    fn take(payload: &Bytes) -> Result<Self, Malformed> {
        let mut reader = BytesReader::new(payload);
        let held = match reader.byte()? {
            DELETED => Self::Removed,
            IN_SEGMENT => Self::Whole(ValuePlace::take(&mut reader)?),
            IN_PARTS => Self::Parts(Parts::take(&mut reader)?),
            _ => return Err(Malformed("a footer's entry of an unknown kind")),
        };
        reader.finish()?;
        Ok(held)
    }
}

impl ValuePlace {
    fn put(&self, buffer: &mut Vec<u8>) {
        put_varint(buffer, self.offset);
        put_varint(buffer, u64::from(self.bytes));
        buffer.extend_from_slice(&self.crc.to_le_bytes());
    }

    fn take(reader: &mut BytesReader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            offset: reader.varint()?,
            bytes: reader.number()?,
            crc: u32::from_le_bytes(reader.array()?),
        })
    }
}

/// The keys of a segment while it is read: one piece of memory for all of them.
#[derive(Default)]
struct Keys {
    bytes: Vec<u8>,
    records: Vec<KeyRecord>,
}

struct KeyRecord {
    section: Section,
    key_start: usize,
    key_bytes: usize,
    revision: Revision,
    made: Made,
}

/// What an effect made of its key, and where that stands.
enum Made {
    Removed,
    Whole(ValuePlace),
    Edit { base: Revision, place: ValuePlace },
}

impl Keys {
    /// The keys of the transactions of a segment up to a revision.
    fn read(
        disk: &dyn Disk,
        directory: &Path,
        info: SegmentInfo,
        to: Revision,
    ) -> Result<Self, StoreError> {
        let mut keys = Self::default();
        for read in LogReader::segment(disk, directory, info)? {
            let (place, frame) = read?;
            if frame.header.before() >= to && frame.header.kind == FrameKind::Transactions {
                break;
            }
            let added = keys.add_frame(&frame, place.offset, to);
            located(added, &segment_path(directory, info.id), place.offset)?;
        }
        Ok(keys)
    }

    fn add_frame(&mut self, frame: &Frame, offset: u64, to: Revision) -> Result<(), Malformed> {
        let body_at = offset + FRAME_HEADER_BYTES as u64;
        let transactions = frame.transactions()?.into_iter();
        let is_wanted = |logged: &LoggedTransaction| logged.transaction.revision <= to;
        for logged in transactions.take_while(is_wanted) {
            for effect in &logged.transaction.effects {
                let Some(logged_change) = record_of(effect)? else {
                    continue;
                };
                let place = |bytes: &Bytes| place_in(&frame.body, bytes, body_at);
                let key = logged_change.key().clone();
                let made = match &logged_change {
                    Logged::Whole(Change { value: None, .. }) => Made::Removed,
                    Logged::Whole(Change {
                        value: Some(value), ..
                    }) => Made::Whole(place(value)?),
                    Logged::Patch(KeyPatch { base, edit, .. }) => Made::Edit {
                        base: *base,
                        place: place(edit)?,
                    },
                };
                self.records.push(KeyRecord {
                    section: Section {
                        surface: effect.surface,
                        namespace: effect.namespace,
                    },
                    key_start: self.bytes.len(),
                    key_bytes: key.len(),
                    revision: logged.transaction.revision,
                    made,
                });
                self.bytes.extend_from_slice(&key);
            }
        }
        Ok(())
    }

    fn key(&self, record: &KeyRecord) -> &[u8] {
        &self.bytes[record.key_start..record.key_start + record.key_bytes]
    }

    /// Writes what became of each key, in order.
    fn write(mut self, mut writer: TableWriter<'_>, segment: &Path) -> Result<(), StoreError> {
        let mut records = std::mem::take(&mut self.records);
        // Stable: of equal keys the last one read is the newest.
        records.sort_by(|a, b| (a.section, self.key(a)).cmp(&(b.section, self.key(b))));
        let mut payload = Vec::new();
        let is_same =
            |a: &KeyRecord, b: &KeyRecord| (a.section, self.key(a)) == (b.section, self.key(b));
        for of_key in records.chunk_by(is_same) {
            let Some(last) = of_key.last() else { continue };
            payload.clear();
            let held = held_by(of_key);
            located(held, segment, 0)?.put(&mut payload);
            writer.push(last.section, self.key(last), last.revision, &payload)?;
        }
        writer.finish().map(drop)
    }
}

/// What the records of one key come to, the oldest first.
fn held_by(records: &[KeyRecord]) -> Result<Held, Malformed> {
    let is_whole = |record: &KeyRecord| !matches!(record.made, Made::Edit { .. });
    let whole = records.iter().rposition(is_whole);
    let edits = &records[whole.map_or(0, |at| at + 1)..];
    let whole = whole.map(|at| &records[at]);
    let Some(first) = edits.first() else {
        return Ok(match whole.map(|record| &record.made) {
            Some(Made::Whole(place)) => Held::Whole(*place),
            _ => Held::Removed,
        });
    };
    let Made::Edit { base, .. } = first.made else {
        return Err(OTHER_BASE);
    };
    let mut parts = Parts {
        whole: None,
        base,
        edits: Vec::with_capacity(edits.len()),
        crc: 0,
    };
    // Of what the first of them lies on nothing more is known, where it came before the segment.
    let mut under = base;
    if let Some(record) = whole {
        let Made::Whole(place) = record.made else {
            return Err(OTHER_BASE);
        };
        parts.whole = Some(place);
        under = record.revision;
    }
    for record in edits {
        match record.made {
            Made::Edit { base, place } if base == under => {
                let (offset, bytes) = (place.offset, place.bytes);
                parts.crc = crc32c::crc32c_combine(parts.crc, place.crc, bytes as usize);
                parts.edits.push(EditPlace { offset, bytes });
                under = record.revision;
            }
            _ => return Err(OTHER_BASE),
        }
    }
    Ok(Held::Parts(parts))
}

/// Where `value`, which is a piece of `body`, stands in the file.
fn place_in(body: &Bytes, value: &Bytes, body_at: u64) -> Result<ValuePlace, Malformed> {
    let start = (value.as_ptr() as usize).wrapping_sub(body.as_ptr() as usize);
    let end = start.checked_add(value.len());
    if !value.is_empty() && end.is_none_or(|end| end > body.len()) {
        return Err(Malformed("a value that is not in its frame"));
    }
    let start = if value.is_empty() { 0 } else { start };
    Ok(ValuePlace {
        offset: body_at + start as u64,
        bytes: u32::try_from(value.len()).map_err(|_| Malformed("a value over 4 GiB"))?,
        crc: crc32c::crc32c(value),
    })
}

#[cfg(test)]
mod tests;
