//! A disk in memory, for files that nobody needs once the process ends.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::{Disk, DiskFile, OpenMode};

/// Keeps files in memory. A directory is whatever stands before a name.
#[derive(Default)]
pub(crate) struct MemoryDisk(Mutex<HashMap<PathBuf, Arc<MemoryFile>>>);

impl MemoryDisk {
    fn files(&self) -> MutexGuard<'_, HashMap<PathBuf, Arc<MemoryFile>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = self.files();
        let there = files.get(path).cloned();
        match (mode, there) {
            (OpenMode::Create, Some(_)) => Err(io::ErrorKind::AlreadyExists.into()),
            (OpenMode::Read | OpenMode::Write, None) => Err(io::ErrorKind::NotFound.into()),
            (OpenMode::Read | OpenMode::Write, Some(file)) => Ok(file),
            (OpenMode::Create | OpenMode::Replace, _) => {
                let file = Arc::new(MemoryFile::default());
                files.insert(path.to_owned(), Arc::clone(&file));
                Ok(file)
            }
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.files().remove(path);
        removed.map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let files = self.files();
        let inside = files.keys().filter(|path| path.parent() == Some(directory));
        let names = inside.filter_map(|path| Some(path.file_name()?.to_string_lossy().into()));
        Ok(names.collect())
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Default)]
struct MemoryFile(RwLock<Vec<u8>>);

impl DiskFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let start = place(offset)?.min(content.len());
        let count = buffer.len().min(content.len() - start);
        buffer[..count].copy_from_slice(&content[start..start + count]);
        Ok(count)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut content = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let start = place(offset)?;
        let end = start + bytes.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut content = self.0.write().unwrap_or_else(PoisonError::into_inner);
        content.resize(place(bytes)?, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        let content = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Ok(content.len() as u64)
    }
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_back_as_written_under_the_name_they_got_last() {
        let disk = MemoryDisk::default();
        let (a, b) = (Path::new("d/a"), Path::new("d/b"));
        let file = disk.open(a, OpenMode::Create).unwrap();
        file.write_all_at(b"cd", 2).unwrap();
        file.write_all_at(b"ab", 0).unwrap();
        disk.rename(a, b).unwrap();
        assert_eq!(super::super::read_file(&disk, b, 10).unwrap(), b"abcd");
        assert_eq!(disk.list(Path::new("d")).unwrap(), ["b"]);
        file.truncate(3).unwrap();
        assert_eq!(file.bytes().unwrap(), 3);
        assert!(disk.open(a, OpenMode::Read).is_err());
        assert!(disk.open(b, OpenMode::Create).is_err());
        disk.remove(b).unwrap();
        assert!(disk.open(b, OpenMode::Read).is_err());
    }
}
