//! The directory of a sled index, and the file beside it that proves how it was left.
//!
//! sled never syncs its files, and a torn or flipped end of its log can look like an older, whole
//! one. So a clean end syncs every file and writes down the length and the CRC-32C of each, in
//! `index.state`. Only files that still are those are proven; others are compared entry by entry
//! before they answer anybody.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Index, IndexHome, Reused, SledIndex};
use crate::disk::{RealDisk, read_file, replace_file};
use crate::error::StoreError;

/// What the file says while the index is open.
const OPEN: &[u8] = b"open\n";
/// The first line of what it says of an index that was closed.
const CLOSED: &str = "closed\n";
const STATE_BYTES_MAX: u64 = 1 << 20;
/// Bytes of files that are worth reading once more at each end and beginning: about a second.
/// Larger ones are compared.
const PROVEN_BYTES_MAX: u64 = 4 << 30;
const READ_BYTES: usize = 1 << 20;
/// From this length on, a file of which not one part in so many is on the disk is no index.
const HOLLOW_BYTES_MIN: u64 = 1 << 30;
const HOLLOW_TIMES: u64 = 64;

/// Keeps the index in a directory, by sled.
#[derive(Debug, Clone)]
pub struct SledHome {
    directory: PathBuf,
    cache_bytes: u64,
    fuse: Option<Arc<AtomicU64>>,
}

impl SledHome {
    /// In `directory`, which need not be there; sled holds up to `cache_bytes` of its pages in
    /// memory.
    #[must_use]
    pub fn new(directory: PathBuf, cache_bytes: u64) -> Self {
        Self {
            directory,
            cache_bytes,
            fuse: None,
        }
    }

    /// The first index that is opened panics once the fuse has been counted down to 0 by its
    /// calls. For tests of what becomes of a store whose index panics.
    #[doc(hidden)]
    #[must_use]
    pub fn with_fuse(self, fuse: Arc<AtomicU64>) -> Self {
        Self {
            fuse: Some(fuse),
            ..self
        }
    }

    fn open(&self) -> Result<Arc<dyn Index>, StoreError> {
        self.write_state(OPEN)?;
        let mut index = SledIndex::open_with(&self.directory, self.cache_bytes)?;
        if let Some(fuse) = &self.fuse
            && fuse.load(Ordering::SeqCst) > 0
        {
            index.set_fuse(Arc::clone(fuse));
        }
        Ok(Arc::new(index))
    }

    fn write_state(&self, state: &[u8]) -> Result<(), StoreError> {
        let path = self.state_path();
        replace_file(&RealDisk, &path, state).map_err(|error| StoreError::io("write", &path, error))
    }

    fn state_path(&self) -> PathBuf {
        self.directory.with_added_extension("state")
    }

    /// Whether the files are those that a clean end left.
    fn is_proven(&self) -> bool {
        let Ok(state) = read_file(&RealDisk, &self.state_path(), STATE_BYTES_MAX) else {
            return false;
        };
        state.starts_with(CLOSED.as_bytes())
            && proof(&self.directory, &|_| Ok(())).is_ok_and(|proof| proof.as_bytes() == state)
    }
}

impl IndexHome for SledHome {
    fn reuse(&self) -> Result<Option<Reused>, StoreError> {
        if fs::symlink_metadata(&self.directory).is_err() {
            return Ok(None);
        }
        refuse_other_than_files(&self.directory)?;
        let is_proven = self.is_proven();
        let index = self.open()?;
        Ok(Some(Reused { index, is_proven }))
    }

    fn make(&self) -> Result<Arc<dyn Index>, StoreError> {
        move_aside(&self.directory)?;
        self.open()
    }

    fn discard(&self) -> Result<(), StoreError> {
        fs::remove_dir_all(&self.directory)
            .map_err(|error| StoreError::io("remove", &self.directory, error))
    }

    fn closed(&self) -> Result<(), StoreError> {
        let sync = |path: &Path| File::open(path)?.sync_all();
        match proof(&self.directory, &sync) {
            Ok(proof) => self.write_state(proof.as_bytes()),
            Err(error) => Err(StoreError::io("sync", &self.directory, error)),
        }
    }

    fn inherited_fds(&self) -> Vec<RawFd> {
        open_below(&self.directory).unwrap_or_default()
    }
}

/// sled opens what it finds: a link would lead its writes to a file outside, and a pipe would keep
/// it waiting; it would also read through all of a file that is hardly there. The directory itself
/// may lie on another disk, behind a link.
fn refuse_other_than_files(directory: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::Index {
        what: format!("look into {}: {error}", directory.display()),
    };
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            refuse_other_than_files(&entry.path())?;
        } else if !kind.is_file() || is_hollow(&entry.metadata().map_err(failed)?) {
            let what = format!("{} is no file of an index", entry.path().display());
            return Err(StoreError::Index { what });
        }
    }
    Ok(())
}

/// Whether a large file is nearly all holes, which sled never makes. A file system that packs what
/// it holds does not come near that.
fn is_hollow(file: &fs::Metadata) -> bool {
    file.len() > HOLLOW_BYTES_MIN && file.blocks() * 512 < file.len() / HOLLOW_TIMES
}

/// Gives the directory another name, in place of what had that name.
fn move_aside(directory: &Path) -> Result<(), StoreError> {
    if fs::symlink_metadata(directory).is_err() {
        return Ok(());
    }
    let aside = directory.with_added_extension("failed");
    let removed = match fs::symlink_metadata(&aside) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(&aside),
        Ok(_) => fs::remove_file(&aside),
        Err(_) => Ok(()),
    };
    removed.map_err(|error| StoreError::io("remove", &aside, error))?;
    fs::rename(directory, &aside).map_err(|error| StoreError::io("rename", directory, error))
}

/// What `index.state` says of the files as they are: one line each with path, length and CRC-32C.
/// Calls `each` with every file and directory before it is read.
fn proof(directory: &Path, each: &dyn Fn(&Path) -> io::Result<()>) -> io::Result<String> {
    let mut files = Vec::new();
    find_files(directory, each, &mut files)?;
    let bytes: u64 = files.iter().map(|(_, bytes)| bytes).sum();
    if bytes > PROVEN_BYTES_MAX {
        return Ok("closed, and too large to be proven\n".to_owned());
    }
    files.sort();
    let mut proof = CLOSED.to_owned();
    for (path, bytes) in files {
        let name = path.strip_prefix(directory).unwrap_or(&path);
        let crc = checksum(&path)?;
        // Writing to a String cannot fail.
        let _ = writeln!(proof, "{bytes} {crc:08x} {}", name.display());
    }
    Ok(proof)
}

fn find_files(
    directory: &Path,
    each: &dyn Fn(&Path) -> io::Result<()>,
    files: &mut Vec<(PathBuf, u64)>,
) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            find_files(&path, each, files)?;
        } else {
            each(&path)?;
            let bytes = entry.metadata()?.len();
            files.push((path, bytes));
        }
    }
    each(directory)
}

fn checksum(path: &Path) -> io::Result<u32> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; READ_BYTES];
    let mut crc = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(crc),
            count => crc = crc32c::crc32c_append(crc, &buffer[..count]),
        }
    }
}

/// This process's descriptors of files below `directory`.
fn open_below(directory: &Path) -> io::Result<Vec<RawFd>> {
    let directory = directory.canonicalize()?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let is_ours = fs::read_link(entry.path()).is_ok_and(|to| to.starts_with(&directory));
        if let (true, Ok(number)) = (is_ours, entry.file_name().to_string_lossy().parse()) {
            found.push(number);
        }
    }
    Ok(found)
}
