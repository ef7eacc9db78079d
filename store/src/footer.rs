//! The footer of a closed segment: its keys in order, and where their last values stand in it.
//!
//! It is a table in a file of its own beside the segment, so that the segment is never written
//! again once it is closed, and a footer that is missing can be made at any time. Snapshots are
//! merged from footers; values are then read from their places, each under its own checksum.
//!
//! The table of bytes is in docs/format.md, "Footers".

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::ids::{Revision, StoreId};
use objsync_proto::limits::VALUE_BYTES_MAX;

use crate::disk::{Disk, DiskFile, MemoryDisk, OpenMode};
use crate::error::StoreError;
use crate::frame::{
    BytesReader, FRAME_HEADER_BYTES, Frame, FrameKind, LoggedTransaction, Malformed, put_varint,
};
use crate::history::located;
use crate::log::{LogReader, SegmentId, SegmentInfo, log_directory, segment_path};
use crate::surfaces::record_of;
use crate::table::{Section, Table, TableHead, TableKind, TableWriter, read_exact};

/// The key is removed.
const DELETED: u8 = 0;
/// The key has a value: offset, length and CRC-32C follow.
const IN_SEGMENT: u8 = 1;

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

/// Makes the footer of a closed segment by reading the segment once.
pub fn write(
    disk: &dyn Disk,
    directory: &Path,
    store: StoreId,
    info: SegmentInfo,
) -> Result<(), StoreError> {
    let keys = Keys::read(disk, directory, info, info.last)?;
    let path = footer_path(directory, info.id);
    keys.write(TableWriter::create(disk, &path, head(store, info))?)
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
        keys.write(TableWriter::create(&memory, &path, head(store, info))?)?;
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

    /// Whether an entry of the footer has a value; if not, the key was removed.
    pub fn has_value(&self, payload: &Bytes) -> Result<bool, StoreError> {
        Ok(self.place(payload)?.is_some())
    }

    fn place(&self, payload: &Bytes) -> Result<Option<ValuePlace>, StoreError> {
        ValuePlace::take(payload)
            .map_err(|malformed| StoreError::corrupt(&self.segment_path, 0, malformed.0))
    }

    /// The value of an entry of the footer; none if the key was removed.
    pub fn value(&self, payload: &Bytes) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(place) = self.place(payload)? else {
            return Ok(None);
        };
        let corrupt = |what| StoreError::corrupt(&self.segment_path, place.offset, what);
        let end = place.offset.checked_add(u64::from(place.bytes));
        if end.is_none_or(|end| end > self.segment_bytes) {
            return Err(corrupt("the footer points past the segment's end"));
        }
        let bytes = place.bytes as usize;
        if bytes > VALUE_BYTES_MAX {
            return Err(corrupt("the footer points to a value over the limit"));
        }
        let mut value = vec![0; bytes];
        read_exact(&*self.segment, &self.segment_path, &mut value, place.offset)?;
        if crc32c::crc32c(&value) != place.crc {
            return Err(corrupt("a value's checksum is wrong"));
        }
        Ok(Some(value))
    }
}

impl ValuePlace {
    fn put(place: Option<Self>, buffer: &mut Vec<u8>) {
        match place {
            None => buffer.push(DELETED),
            Some(place) => {
                buffer.push(IN_SEGMENT);
                put_varint(buffer, place.offset);
                put_varint(buffer, u64::from(place.bytes));
                buffer.extend_from_slice(&place.crc.to_le_bytes());
            }
        }
    }

    fn take(payload: &Bytes) -> Result<Option<Self>, Malformed> {
        let mut reader = BytesReader::new(payload);
        let place = match reader.byte()? {
            DELETED => None,
            IN_SEGMENT => Some(Self {
                offset: reader.varint()?,
                bytes: reader.number()?,
                crc: u32::from_le_bytes(reader.array()?),
            }),
            _ => return Err(Malformed("a footer's entry of an unknown kind")),
        };
        reader.finish()?;
        Ok(place)
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
    place: Option<ValuePlace>,
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
                let Some(Change { key, value }) = record_of(effect)? else {
                    continue;
                };
                let place = value.map(|value| place_in(&frame.body, &value, body_at));
                self.records.push(KeyRecord {
                    section: Section {
                        surface: effect.surface,
                        namespace: effect.namespace,
                    },
                    key_start: self.bytes.len(),
                    key_bytes: key.len(),
                    revision: logged.transaction.revision,
                    place: place.transpose()?,
                });
                self.bytes.extend_from_slice(&key);
            }
        }
        Ok(())
    }

    fn key(&self, record: &KeyRecord) -> &[u8] {
        &self.bytes[record.key_start..record.key_start + record.key_bytes]
    }

    /// Writes the last record of each key, in order.
    fn write(mut self, mut writer: TableWriter<'_>) -> Result<(), StoreError> {
        let mut records = std::mem::take(&mut self.records);
        // Stable: of equal keys the last one read is the newest.
        records.sort_by(|a, b| (a.section, self.key(a)).cmp(&(b.section, self.key(b))));
        let mut payload = Vec::new();
        for (place, record) in records.iter().enumerate() {
            let is_same = |next: &&KeyRecord| {
                (next.section, self.key(next)) == (record.section, self.key(record))
            };
            if records.get(place + 1).filter(is_same).is_some() {
                continue;
            }
            payload.clear();
            ValuePlace::put(record.place, &mut payload);
            writer.push(record.section, self.key(record), record.revision, &payload)?;
        }
        writer.finish().map(drop)
    }
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
