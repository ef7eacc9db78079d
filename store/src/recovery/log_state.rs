//! `log.state`: what the log up to the end of a closed segment comes to beside the dictionary, so
//! that opening need not read it again.
//!
//! It is written when a store is closed, and is a cache: what is in it stands in the log too. It
//! counts only if it names a segment that is there, byte for byte as long and with the same salt;
//! anything else about it that is not right makes it count for nothing.
//!
//! The table of bytes is in docs/format.md, "log.state".

use std::path::{Path, PathBuf};

use bytes::Bytes;
use objsync_proto::ids::{Revision, StoreId};

use super::take_section;
use crate::core::System;
use crate::disk::{Disk, OpenMode, read_file, replace_file};
use crate::epoch::Epochs;
use crate::error::StoreError;
use crate::frame::{BytesReader, Malformed, put_varint};
use crate::history::located;
use crate::log::{SegmentHeader, SegmentId, SegmentInfo};

const MAGIC: [u8; 8] = *b"objsylst";
const VERSION: u8 = 0;
/// Sessions keep 16 MiB of results at most.
const BYTES_MAX: u64 = 32 << 20;

/// What [`write()`] left.
pub(crate) struct LogState {
    /// It is as of the end of this segment.
    pub(crate) segment: SegmentId,
    /// Sessions, grants and epochs, as in a snapshot.
    pub(crate) section: Bytes,
}

/// Where it lies in a store's directory.
pub(crate) fn path_of(directory: &Path) -> PathBuf {
    directory.join("log.state")
}

/// Writes down what the log comes to at the end of a closed segment.
pub(crate) fn write(
    (disk, directory): (&dyn Disk, &Path),
    info: SegmentInfo,
    section: &[u8],
) -> Result<(), StoreError> {
    let (header, _) = SegmentHeader::open(disk, directory, info.id, OpenMode::Read)?;
    let mut bytes = MAGIC.to_vec();
    bytes.push(VERSION);
    bytes.extend_from_slice(&header.store.0);
    bytes.extend_from_slice(&header.salt);
    for number in [info.id.0, info.bytes, info.last.0] {
        put_varint(&mut bytes, number);
    }
    put_varint(&mut bytes, section.len() as u64);
    bytes.extend_from_slice(section);
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    let path = path_of(directory);
    replace_file(disk, &path, &bytes).map_err(|error| StoreError::io("write", &path, error))
}

/// What was written down, if it is of one of these segments.
pub(crate) fn read(
    (disk, directory): (&dyn Disk, &Path),
    store: StoreId,
    segments: &[SegmentInfo],
) -> Option<LogState> {
    let bytes = read_file(disk, &path_of(directory), BYTES_MAX).ok()?;
    let (head, state) = take(bytes).ok()?;
    let info = segments.iter().find(|info| info.id == state.segment)?;
    let (header, _) = SegmentHeader::open(disk, directory, info.id, OpenMode::Read).ok()?;
    let is_of = Head {
        store,
        salt: header.salt,
        bytes: info.bytes,
        last: info.last,
    };
    // A later build may have written what this one cannot read: it is no reason not to open.
    let (mut system, mut epochs) = (System::default(), Epochs::new(store));
    take_section(state.section.clone(), &mut system, &mut epochs).ok()?;
    (head == is_of).then_some(state)
}

/// That what was written down can be read, if it is there.
///
/// # Errors
/// [`StoreError::Corrupt`]; [`StoreError::Io`].
pub(crate) fn check(disk: &dyn Disk, directory: &Path) -> Result<(), StoreError> {
    let path = path_of(directory);
    match read_file(disk, &path, BYTES_MAX) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(StoreError::io("read", &path, error)),
        Ok(bytes) => located(take(bytes).map(drop), &path, 0),
    }
}

/// Which segment it is of, beside its number.
#[derive(PartialEq, Eq)]
struct Head {
    store: StoreId,
    salt: [u8; 16],
    bytes: u64,
    last: Revision,
}

fn take(mut bytes: Vec<u8>) -> Result<(Head, LogState), Malformed> {
    let Some(end) = bytes.len().checked_sub(4) else {
        return Err(Malformed("a state of the log that is cut short"));
    };
    let crc = bytes.split_off(end);
    if crc32c::crc32c(&bytes).to_le_bytes()[..] != crc[..] {
        return Err(Malformed("a state of the log with a wrong checksum"));
    }
    let bytes = Bytes::from(bytes);
    let mut reader = BytesReader::new(&bytes);
    if reader.array()? != MAGIC || reader.byte()? != VERSION {
        return Err(Malformed("a state of the log of another version"));
    }
    let store = StoreId(reader.array()?);
    let salt = reader.array()?;
    let segment = SegmentId(reader.varint()?);
    let head = Head {
        store,
        salt,
        bytes: reader.varint()?,
        last: Revision(reader.varint()?),
    };
    let section = reader.sized()?;
    reader.finish()?;
    Ok((head, LogState { segment, section }))
}
