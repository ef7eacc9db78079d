//! The first 128 bytes of a segment, and how a segment comes to be: whole, or not at all.

use std::path::Path;
use std::sync::Arc;

use objsync_proto::ids::{FrameIndex, Revision, StoreId};

use super::{SegmentId, log_directory, segment_path};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::StoreError;
use crate::frame::HeaderSeed;

/// Where the first frame of a segment begins.
pub const SEGMENT_HEADER_BYTES: u64 = HEADER_BYTES as u64;
const HEADER_BYTES: usize = 128;
const MAGIC: &[u8; 8] = b"objsylog";
const VERSION: u32 = 0;

/// What a segment says of itself and of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose log it is.
    pub store: StoreId,
    /// Its number.
    pub id: SegmentId,
    /// Random bytes that seed the checksums of its frames' headers.
    pub salt: [u8; 16],
    /// Where the segment before it ends; 0 for the first.
    pub previous_bytes: u64,
    /// Bytes that were put into packs for what the segment before it names.
    pub previous_chunk_bytes: u64,
    /// Index of its first frame.
    pub first_index: FrameIndex,
    /// The last revision before its first frame.
    pub before: Revision,
    /// The owner's clock when it was begun, milliseconds since 1970.
    pub time_ms: u64,
}

impl SegmentHeader {
    /// What the checksums of its frames' headers begin with.
    #[must_use]
    pub fn seed(&self) -> HeaderSeed {
        HeaderSeed::new(self.salt)
    }

    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.store.0);
        bytes[32..40].copy_from_slice(&self.id.0.to_le_bytes());
        bytes[40..56].copy_from_slice(&self.salt);
        bytes[56..64].copy_from_slice(&self.previous_bytes.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.first_index.0.to_le_bytes());
        bytes[72..80].copy_from_slice(&self.before.0.to_le_bytes());
        bytes[80..88].copy_from_slice(&self.time_ms.to_le_bytes());
        bytes[88..96].copy_from_slice(&self.previous_chunk_bytes.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
        bytes[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let crc = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
        if &bytes[0..8] != MAGIC || bytes[HEADER_BYTES - 4..] != crc.to_le_bytes() {
            return None;
        }
        Some(Self {
            store: StoreId(array_at(bytes, 16)),
            id: SegmentId(u64::from_le_bytes(array_at(bytes, 32))),
            salt: array_at(bytes, 40),
            previous_bytes: u64::from_le_bytes(array_at(bytes, 56)),
            first_index: FrameIndex(u64::from_le_bytes(array_at(bytes, 64))),
            before: Revision(u64::from_le_bytes(array_at(bytes, 72))),
            time_ms: u64::from_le_bytes(array_at(bytes, 80)),
            previous_chunk_bytes: u64::from_le_bytes(array_at(bytes, 88)),
        })
    }

    /// Opens the file of a segment and reads its header.
    pub fn open(
        disk: &dyn Disk,
        directory: &Path,
        id: SegmentId,
        mode: OpenMode,
    ) -> Result<(Self, Arc<dyn DiskFile>), StoreError> {
        let path = segment_path(directory, id);
        let file = disk
            .open(&path, mode)
            .map_err(|error| StoreError::io("open", &path, error))?;
        let mut bytes = [0; HEADER_BYTES];
        match file.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(StoreError::corrupt(&path, 0, "no room for a header"));
            }
            other => other.map_err(|error| StoreError::io("read", &path, error))?,
        }
        let header = Self::decode(&bytes)
            .ok_or_else(|| StoreError::corrupt(&path, 0, "the header's checksum is wrong"))?;
        if u32::from_le_bytes(array_at(&bytes, 8)) != VERSION {
            let what = "a segment of a later version".to_owned();
            return Err(StoreError::Unsupported { path, what });
        }
        if header.id != id {
            let what = format!("the header names segment {:016x}", header.id.0);
            return Err(StoreError::corrupt(&path, 32, what));
        }
        Ok((header, file))
    }

    /// Makes the segment's file, with `frames` in it; it is there, whole and synced, when this
    /// returns.
    ///
    /// # Errors
    /// [`NotCreated::Absent`] if the segment is surely not there. [`NotCreated::Unknown`] if it
    /// may be: the one before it then may have ended, and must not grow.
    pub fn create(
        &self,
        disk: &dyn Disk,
        directory: &Path,
        frames: &[u8],
    ) -> Result<Arc<dyn DiskFile>, NotCreated> {
        let path = segment_path(directory, self.id);
        let temporary = path.with_added_extension("tmp");
        let file = self.write_to(disk, &temporary, frames).map_err(|error| {
            // What is left of it is removed by the next open, if not now.
            let _ = disk.remove(&temporary);
            NotCreated::Absent(StoreError::io("create", &path, error))
        })?;
        disk.rename(&temporary, &path)
            .and_then(|()| disk.sync_dir(&log_directory(directory)))
            .map_err(|error| NotCreated::Unknown(StoreError::io("create", &path, error)))?;
        Ok(file)
    }
}

impl SegmentHeader {
    /// Writes the segment with `frames` in it to a file of another name, synced.
    pub(crate) fn write_to(
        &self,
        disk: &dyn Disk,
        path: &Path,
        frames: &[u8],
    ) -> std::io::Result<Arc<dyn DiskFile>> {
        let file = disk.open(path, OpenMode::Replace)?;
        file.write_all_at(&self.encode(), 0)?;
        file.write_all_at(frames, SEGMENT_HEADER_BYTES)?;
        file.sync_data()?;
        Ok(file)
    }
}

/// Why there is no new segment.
#[derive(Debug)]
pub enum NotCreated {
    /// It is surely not there.
    Absent(StoreError),
    /// It may be there.
    Unknown(StoreError),
}

impl From<NotCreated> for StoreError {
    fn from(failure: NotCreated) -> Self {
        let (NotCreated::Absent(error) | NotCreated::Unknown(error)) = failure;
        error
    }
}

fn array_at<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    fn header() -> SegmentHeader {
        SegmentHeader {
            store: StoreId([1; 16]),
            id: SegmentId(7),
            salt: [2; 16],
            previous_bytes: 1000,
            previous_chunk_bytes: 2000,
            first_index: FrameIndex(33),
            before: Revision(44),
            time_ms: 55,
        }
    }

    #[test]
    fn header_comes_back_from_its_file() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("log")).unwrap();
        header().create(&RealDisk, directory.path(), b"").unwrap();
        let (read, _) =
            SegmentHeader::open(&RealDisk, directory.path(), SegmentId(7), OpenMode::Read).unwrap();
        assert_eq!(read, header());
    }

    #[test]
    fn any_flipped_bit_of_the_header_is_found() {
        let bytes = header().encode();
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn segment_under_another_name_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("log")).unwrap();
        header().create(&RealDisk, directory.path(), b"").unwrap();
        let (from, to) = (SegmentId(7), SegmentId(8));
        std::fs::rename(
            segment_path(directory.path(), from),
            segment_path(directory.path(), to),
        )
        .unwrap();
        let opened = SegmentHeader::open(&RealDisk, directory.path(), to, OpenMode::Read);
        assert!(matches!(
            opened.map(|_| ()),
            Err(StoreError::Corrupt { offset: 32, .. })
        ));
    }
}
