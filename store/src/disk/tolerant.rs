//! A disk that gives zeros for what cannot be read, and remembers where that was.
//!
//! For who reads a damaged store: a sector that is gone costs what lies in it and no more. Zeros
//! fit no checksum of what was there, so what is missing is found as any other damage is.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

use super::{Disk, DiskFile, OpenMode};

/// Bytes that are given up at once.
const SECTOR_BYTES: u64 = 4096;

/// Reads of another disk, with zeros where it fails.
pub(crate) struct Tolerant {
    disk: Arc<dyn Disk>,
    unreadable: Unreadable,
}

/// What could not be read, by file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unreadable(Arc<Mutex<Places>>);

type Places = BTreeMap<PathBuf, Vec<Range<u64>>>;

impl Tolerant {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            unreadable: Unreadable::default(),
        }
    }

    /// What could not be read, now and later.
    pub(crate) fn unreadable(&self) -> Unreadable {
        self.unreadable.clone()
    }
}

impl Unreadable {
    fn add(&self, path: &Path, bytes: Range<u64>) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ranges = places.entry(path.to_owned()).or_default();
        let touches = |one: &&mut Range<u64>| one.start <= bytes.end && bytes.start <= one.end;
        match ranges.iter_mut().find(touches) {
            Some(one) => *one = one.start.min(bytes.start)..one.end.max(bytes.end),
            None => ranges.push(bytes),
        }
    }

    /// All places so far.
    pub(crate) fn list(&self) -> Vec<(PathBuf, Range<u64>)> {
        let places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let each = |(path, ranges): (&PathBuf, &Vec<Range<u64>>)| -> Vec<_> {
            let ranges = ranges.iter();
            ranges.map(|one| (path.clone(), one.clone())).collect()
        };
        places.iter().flat_map(each).collect()
    }

    /// Whether any of these bytes of a file could not be read.
    pub(crate) fn touches(&self, path: &Path, bytes: &Range<u64>) -> bool {
        let places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_in = |one: &Range<u64>| one.start < bytes.end && bytes.start < one.end;
        places.get(path).is_some_and(|all| all.iter().any(is_in))
    }
}

impl Disk for Tolerant {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, mode)?;
        Ok(Arc::new(TolerantFile {
            file,
            path: path.to_owned(),
            unreadable: self.unreadable.clone(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.disk.list(directory)
    }

    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        self.disk.create_dir(directory)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        self.disk.sync_dir(directory)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }
}

struct TolerantFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    unreadable: Unreadable,
}

impl DiskFile for TolerantFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.file.read_at(buffer, offset) {
            Err(error) if is_unreadable(&error) => {}
            read => return read,
        }
        // Sector by sector: the first may be sound.
        let sector_end = (offset / SECTOR_BYTES + 1).saturating_mul(SECTOR_BYTES);
        let end = sector_end.min(self.file.bytes()?);
        let count = end.saturating_sub(offset).min(buffer.len() as u64);
        let count = usize::try_from(count).map_err(io::Error::other)?;
        let sector = &mut buffer[..count];
        match self.file.read_at(sector, offset) {
            Err(error) if is_unreadable(&error) => {
                sector.fill(0);
                let bytes = offset..offset + count as u64;
                self.unreadable.add(&self.path, bytes);
                Ok(count)
            }
            read => read,
        }
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.truncate(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }
}

/// Whether a disk or a file system says that it has lost what was asked for.
pub fn is_unreadable(error: &io::Error) -> bool {
    let lost = [Errno::IO, Errno::BADMSG, Errno::UCLEAN].map(Errno::raw_os_error);
    error
        .raw_os_error()
        .is_some_and(|code| lost.contains(&code))
}

#[cfg(test)]
mod tests;
