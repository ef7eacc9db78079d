//! Where the index lies, and whether what lies there can be trusted.
//!
//! sled never syncs its files. As long as the machine runs, the system has all that was written,
//! whatever becomes of the process. After a power cut, any part of it may be gone, and not all of
//! that is found out by sled. So a file beside the index says in which run of the machine it was
//! last open, or that it was closed and synced; after anything else it is made again.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{RealDisk, read_file, replace_file};
use crate::error::StoreError;

/// What the file says of an index that was closed.
const CLOSED: &[u8] = b"closed\n";
/// The system's name for this run of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const STATE_BYTES_MAX: u64 = 100;

/// Whether the index in `directory` has all that was written to it.
pub(crate) fn is_trusted(directory: &Path) -> bool {
    match read_file(&RealDisk, &state_path(directory), STATE_BYTES_MAX) {
        Ok(state) => state == CLOSED || state == boot_id(),
        Err(_) => false,
    }
}

/// Notes, before anything is written to the index, that it is open.
pub(crate) fn begin(directory: &Path) -> Result<(), StoreError> {
    let path = state_path(directory);
    replace_file(&RealDisk, &path, &boot_id())
        .map_err(|error| StoreError::io("write", &path, error))
}

/// Notes that the index is closed, once all of it is on disk.
pub(crate) fn end(directory: &Path) -> Result<(), StoreError> {
    sync_all(directory).map_err(|error| StoreError::io("sync", directory, error))?;
    let path = state_path(directory);
    replace_file(&RealDisk, &path, CLOSED).map_err(|error| StoreError::io("write", &path, error))
}

/// Has the index made again at the next open.
pub(crate) fn distrust(directory: &Path) -> Result<(), StoreError> {
    let path = state_path(directory);
    std::fs::remove_file(&path).map_err(|error| StoreError::io("remove", &path, error))
}

/// Gives the directory another name, in place of what had that name.
pub(crate) fn move_aside(directory: &Path) -> Result<(), StoreError> {
    if !directory.exists() {
        return Ok(());
    }
    let aside = directory.with_added_extension("failed");
    if aside.exists() {
        std::fs::remove_dir_all(&aside).map_err(|error| StoreError::io("remove", &aside, error))?;
    }
    std::fs::rename(directory, &aside).map_err(|error| StoreError::io("rename", directory, error))
}

fn state_path(directory: &Path) -> PathBuf {
    directory.with_added_extension("state")
}

/// Empty where the system does not tell: then every run is the same one.
fn boot_id() -> Vec<u8> {
    std::fs::read(BOOT_ID).unwrap_or_default()
}

/// Syncs every file below a directory, and the directories.
fn sync_all(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => sync_all(&entry.path())?,
            false => File::open(entry.path())?.sync_data()?,
        }
    }
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_is_trusted_in_the_run_it_was_opened_in_or_once_it_was_closed() {
        let directory = tempfile::tempdir().unwrap();
        let index = directory.path().join("index");
        std::fs::create_dir(&index).unwrap();
        assert!(!is_trusted(&index), "nothing is known of it");
        begin(&index).unwrap();
        assert!(is_trusted(&index));
        std::fs::write(state_path(&index), "another run").unwrap();
        assert!(!is_trusted(&index));
        end(&index).unwrap();
        assert!(is_trusted(&index));
        distrust(&index).unwrap();
        assert!(!is_trusted(&index));
    }

    #[test]
    fn one_failed_index_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let index = directory.path().join("index");
        for content in ["first", "second"] {
            std::fs::create_dir(&index).unwrap();
            std::fs::write(index.join("db"), content).unwrap();
            move_aside(&index).unwrap();
            move_aside(&index).unwrap();
        }
        let kept = directory.path().join("index.failed/db");
        assert_eq!(std::fs::read_to_string(kept).unwrap(), "second");
    }
}
