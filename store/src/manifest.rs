//! The file `MANIFEST`: what a store must know before it reads its log. Replaced whole.
//!
//! The table of bytes is in docs/format.md, "MANIFEST".

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use objsync_proto::ids::{Revision, StoreId};

use crate::authority::AuthorityKind;
use crate::disk::{Disk, read_file, replace_file};
use crate::error::StoreError;
use crate::frame::{BytesReader, Malformed, put_varint};
use crate::log::{Place, SegmentId};

const MAGIC: &[u8; 8] = b"objsyman";
const VERSION: u8 = 0;
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Whose copy this is.
    pub store: StoreId,
    /// Where the right to write comes from.
    pub authority: AuthorityKind,
    /// The highest epoch number that may have been used.
    pub epoch_max: u64,
    /// The highest revision that may have been used.
    pub revision_max: Revision,
    /// The oldest segment that must be there; none while the store is being made.
    pub first_segment: Option<SegmentId>,
    /// The newest segment that must be there. There may be one more.
    pub last_segment: Option<SegmentId>,
    /// Revisions of the snapshots that must be there, ascending.
    pub snapshots: Vec<Revision>,
    /// Where the log ended when the store was closed; none while it is open.
    pub clean_end: Option<Place>,
    /// How much of the packs may be dead.
    pub chunks: ChunkCounts,
}

/// What is counted of packs from one opening to the next: by it a collection comes due, and log goes.
/// After an unclean end they can be wrong by what was put since they were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChunkCounts {
    /// Bytes put since the last collection.
    pub put_bytes: u64,
    /// Bytes that removed segments of the log kept, since the last collection.
    pub trimmed_bytes: u64,
    /// Bytes put for what the last segment names, as far as was known when this was written.
    pub open_bytes: u64,
}

impl Manifest {
    /// Of a store that is being made.
    #[must_use]
    pub fn new(store: StoreId, authority: AuthorityKind) -> Self {
        Self {
            store,
            authority,
            epoch_max: 0,
            revision_max: Revision(0),
            first_segment: None,
            last_segment: None,
            snapshots: Vec::new(),
            clean_end: None,
            chunks: ChunkCounts::default(),
        }
    }

    /// Whether a segment that is there is part of the log. One before the oldest was about to be
    /// removed; one behind the end of a log that is ended was left by a backup that was not
    /// finished.
    #[must_use]
    pub fn names(&self, id: SegmentId) -> bool {
        // What a snapshot does not cover is never removed.
        let is_old = Some(id) < self.first_segment && !self.snapshots.is_empty();
        let is_behind = self.clean_end.is_some_and(|end| id > end.segment);
        !is_old && !is_behind
    }

    /// The content of the file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.store.0);
        bytes.push(self.authority.number());
        put_varint(&mut bytes, self.epoch_max);
        put_varint(&mut bytes, self.revision_max.0);
        put_varint(&mut bytes, self.first_segment.map_or(0, |id| id.0));
        put_varint(&mut bytes, self.last_segment.map_or(0, |id| id.0));
        put_varint(&mut bytes, self.clean_end.map_or(0, |end| end.segment.0));
        put_varint(&mut bytes, self.clean_end.map_or(0, |end| end.offset));
        put_varint(&mut bytes, self.snapshots.len() as u64);
        for revision in &self.snapshots {
            put_varint(&mut bytes, revision.0);
        }
        self.chunks.put(&mut bytes);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(content: Vec<u8>) -> Result<Self, ManifestFault> {
        let damaged = ManifestFault::Damaged(Malformed("its checksum is wrong"));
        let Some((body, crc)) = content.split_last_chunk::<4>() else {
            return Err(damaged);
        };
        if !body.starts_with(MAGIC) || crc32c::crc32c(body).to_le_bytes() != *crc {
            return Err(damaged);
        }
        if body.get(MAGIC.len()) != Some(&VERSION) {
            return Err(ManifestFault::Later("a manifest of a later version"));
        }
        let body = Bytes::from(content).slice(MAGIC.len() + 1..);
        let body = body.slice(..body.len() - 4);
        let mut reader = BytesReader::new(&body);
        let manifest = Self::take(&mut reader)?;
        reader.finish()?;
        Ok(manifest)
    }

    fn take(reader: &mut BytesReader<'_>) -> Result<Self, ManifestFault> {
        let segment = |number: u64| (number > 0).then_some(SegmentId(number));
        let store = StoreId(reader.array()?);
        let authority = AuthorityKind::from_number(reader.byte()?)
            .ok_or(ManifestFault::Later("an unknown kind of authority"))?;
        let epoch_max = reader.varint()?;
        let revision_max = Revision(reader.varint()?);
        let first_segment = segment(reader.varint()?);
        let last_segment = segment(reader.varint()?);
        let end_segment = segment(reader.varint()?);
        let end_offset = reader.varint()?;
        let count = reader.number::<usize>()?;
        let mut snapshots = Vec::with_capacity(count.min(reader.remaining()));
        for _ in 0..count {
            snapshots.push(Revision(reader.varint()?));
        }
        if !snapshots.is_sorted_by(|a, b| a < b) {
            return Err(Malformed("its snapshots are out of order").into());
        }
        let chunks = ChunkCounts::take(reader)?;
        Ok(Self {
            store,
            authority,
            epoch_max,
            revision_max,
            first_segment,
            last_segment,
            snapshots,
            clean_end: end_segment.map(|segment| Place {
                segment,
                offset: end_offset,
            }),
            chunks,
        })
    }
}

impl ChunkCounts {
    /// Nothing where nothing was counted, as in a store without packs.
    fn put(&self, bytes: &mut Vec<u8>) {
        if *self != Self::default() {
            for count in [self.put_bytes, self.trimmed_bytes, self.open_bytes] {
                put_varint(bytes, count);
            }
        }
    }

    fn take(reader: &mut BytesReader<'_>) -> Result<Self, Malformed> {
        if reader.remaining() == 0 {
            return Ok(Self::default());
        }
        Ok(Self {
            put_bytes: reader.varint()?,
            trimmed_bytes: reader.varint()?,
            open_bytes: reader.varint()?,
        })
    }
}

enum ManifestFault {
    Damaged(Malformed),
    Later(&'static str),
}

impl From<Malformed> for ManifestFault {
    fn from(malformed: Malformed) -> Self {
        Self::Damaged(malformed)
    }
}

/// What the file in a store's directory says; none if there is no file.
pub fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<Manifest>, StoreError> {
    read_at(disk, manifest_path(directory))
}

/// What a file of this kind says; none if there is no file.
pub(crate) fn read_at(disk: &dyn Disk, path: PathBuf) -> Result<Option<Manifest>, StoreError> {
    let content = match read_file(disk, &path, MANIFEST_BYTES_MAX) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(StoreError::corrupt(&path, 0, error.to_string()));
        }
        Err(error) => return Err(StoreError::io("read", &path, error)),
    };
    match Manifest::decode(content) {
        Ok(manifest) => Ok(Some(manifest)),
        Err(ManifestFault::Damaged(malformed)) => Err(StoreError::corrupt(&path, 0, malformed.0)),
        Err(ManifestFault::Later(what)) => {
            let what = what.to_owned();
            Err(StoreError::Unsupported { path, what })
        }
    }
}

/// The file and what it says. Changes are on disk when they return.
pub struct ManifestFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    current: Mutex<Manifest>,
}

impl ManifestFile {
    /// The file in a store's directory; none if there is none yet.
    pub fn read(disk: &Arc<dyn Disk>, directory: &Path) -> Result<Option<Self>, StoreError> {
        let manifest = read(&**disk, directory)?;
        Ok(manifest.map(|manifest| Self::new(disk, manifest_path(directory), manifest)))
    }

    /// Makes the file.
    pub fn create(
        disk: &Arc<dyn Disk>,
        directory: &Path,
        manifest: Manifest,
    ) -> Result<Self, StoreError> {
        let file = Self::new(disk, manifest_path(directory), manifest);
        file.update(|_| ())?;
        Ok(file)
    }

    fn new(disk: &Arc<dyn Disk>, path: PathBuf, manifest: Manifest) -> Self {
        Self {
            disk: disk.clone(),
            path,
            current: Mutex::new(manifest),
        }
    }

    /// What it says.
    #[must_use]
    pub fn get(&self) -> Manifest {
        self.lock().clone()
    }

    /// Changes it.
    ///
    /// # Errors
    /// It says what it said before, here; on disk either.
    pub fn update(&self, change: impl FnOnce(&mut Manifest)) -> Result<(), StoreError> {
        let mut current = self.lock();
        let mut next = current.clone();
        change(&mut next);
        replace_file(&*self.disk, &self.path, &next.encode())
            .map_err(|error| StoreError::io("write", &self.path, error))?;
        *current = next;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Manifest> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file in a store's directory.
#[must_use]
pub fn manifest_path(directory: &Path) -> PathBuf {
    directory.join("MANIFEST")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    fn manifest() -> Manifest {
        Manifest {
            epoch_max: 300,
            revision_max: Revision(1_000_000),
            first_segment: Some(SegmentId(2)),
            last_segment: Some(SegmentId(9)),
            snapshots: vec![Revision(5), Revision(700)],
            clean_end: Some(Place {
                segment: SegmentId(9),
                offset: 4096,
            }),
            chunks: ChunkCounts {
                put_bytes: 5 << 20,
                trimmed_bytes: 7,
                open_bytes: 1000,
            },
            ..Manifest::new(StoreId([3; 16]), AuthorityKind::Alone)
        }
    }

    #[test]
    fn manifest_without_counts_of_packs_is_as_earlier_programs_wrote_it() {
        let manifest = Manifest {
            chunks: ChunkCounts::default(),
            ..manifest()
        };
        let bytes = manifest.encode();
        // Its last snapshot, 700, is the last thing in it before the checksum.
        assert_eq!(bytes[bytes.len() - 6..bytes.len() - 4], [0xbc, 0x05]);
        assert!(Manifest::decode(bytes).is_ok_and(|read| read == manifest));
    }

    #[test]
    fn manifest_comes_back_from_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        assert!(
            ManifestFile::read(&disk, directory.path())
                .unwrap()
                .is_none()
        );
        let file = ManifestFile::create(&disk, directory.path(), manifest()).unwrap();
        file.update(|manifest| manifest.clean_end = None).unwrap();
        let read = ManifestFile::read(&disk, directory.path())
            .unwrap()
            .unwrap();
        let expected = Manifest {
            clean_end: None,
            ..manifest()
        };
        assert_eq!(read.get(), expected);
        assert_eq!(file.get(), expected);
    }

    #[test]
    fn any_flipped_bit_is_found() {
        let bytes = manifest().encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(flipped).is_err(), "bit {bit}");
        }
    }
}
