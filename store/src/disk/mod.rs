//! The files of a store, as a trait: everything but the lock, the socket and the index.
//!
//! Tests put a disk of their own behind it to refuse, forget and tear what a real one may.
//! There is no memory map: a read that fails is an error value, never a signal.

mod memory;
mod real;
mod tolerant;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub(crate) use memory::MemoryDisk;
pub use real::RealDisk;
pub(crate) use real::refuse_other_than_file;
pub use tolerant::is_unreadable;
pub(crate) use tolerant::{Tolerant, Unreadable};

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file, for reading and writing; an error if there is one.
    Create,
    /// A new file in the place of any that is there.
    Replace,
}

/// Where a store keeps its files.
pub trait Disk: Send + Sync + 'static {
    /// Opens `path`, which must be a regular file. A new file is readable and writable by its user
    /// alone. What is written to is never reached through a link.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives `from` the name `to`, replacing what had it. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Durable after [`Disk::sync_dir`].
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, in no order.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// Makes a directory (0700) and its parents, to survive a power cut; one that is there is left
    /// alone.
    fn create_dir(&self, directory: &Path) -> io::Result<()>;
    /// Makes the names in a directory survive a power cut.
    fn sync_dir(&self, directory: &Path) -> io::Result<()>;

    /// Whether there is a file of that name.
    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.open(path, OpenMode::Read) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// An open file. Reads and writes name their place, so threads can share it.
pub trait DiskFile: Send + Sync {
    /// Reads up to `buffer.len()` bytes; 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes`. After an error any part of them may be there.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts the file to its first `bytes` bytes. Durable after [`DiskFile::sync_data`]; until then a
    /// power cut may bring what was cut off back, or leave zeros in its place.
    fn truncate(&self, bytes: u64) -> io::Result<()>;

    /// Makes the content, and what is needed to find it, survive a power cut.
    fn sync_data(&self) -> io::Result<()>;
    /// Length in bytes.
    fn bytes(&self) -> io::Result<u64>;

    /// Fills `buffer`, or fails with `UnexpectedEof`.
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => {
                    buffer = &mut buffer[count..];
                    offset += count as u64;
                }
            }
        }
        Ok(())
    }

    /// Writes zeros from `start` to `end`, so that later writes there change no metadata.
    fn write_zeros(&self, start: u64, end: u64) -> io::Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let mut offset = start;
        while offset < end {
            let count = (end - offset).min(ZEROS.len() as u64);
            #[expect(clippy::cast_possible_truncation, reason = "at most ZEROS.len()")]
            self.write_all_at(&ZEROS[..count as usize], offset)?;
            offset += count;
        }
        Ok(())
    }
}

/// The whole content of a file, refused above `bytes_max` before memory is taken.
pub fn read_file(disk: &dyn Disk, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let bytes = file.bytes()?;
    if bytes > bytes_max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{bytes} bytes; the limit is {bytes_max} bytes"),
        ));
    }
    let mut content = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
    file.read_exact_at(&mut content, 0)?;
    Ok(content)
}

/// Puts `content` in the place of `path`, whole or not at all, whenever the power goes.
pub fn replace_file(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_added_extension("tmp");
    let file = disk.open(&temporary, OpenMode::Replace)?;
    file.write_all_at(content, 0)?;
    file.sync_data()?;
    disk.rename(&temporary, path)?;
    match path.parent() {
        Some(directory) => disk.sync_dir(directory),
        None => Ok(()),
    }
}
