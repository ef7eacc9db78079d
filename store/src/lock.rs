//! The lock on a directory: who holds it owns the store.
//!
//! It is freed by closing its descriptor and in no other way, so a forked child that closes its
//! copy takes nothing from its parent. The descriptor does not survive `exec`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock, fstatfs};

use crate::disk::refuse_other_than_file;
use crate::error::StoreError;

/// How often a lock that names nobody is tried again, and the pause before each.
const NAMELESS_TRIES: u32 = 100;
const NAMELESS_PAUSE: Duration = Duration::from_millis(2);

/// The lock of a store, held while this lives.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of a directory, or says who has it. Does not wait for one that names its holder;
    /// one that names nobody was let go just now, and is waited for, 200 ms at most.
    pub fn take(directory: &Path, force_network_fs: bool) -> Result<Self, StoreError> {
        let path = lock_path(directory);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            // Its text is replaced below: that of another file, to which a link leads, must not be.
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
            .open(&path)
            .and_then(|file| refuse_other_than_file(&file).map(|()| file))
            .map_err(|error| StoreError::io("open", &path, error))?;
        if !force_network_fs && let Some(kind) = network_file_system(&file) {
            let directory = directory.to_owned();
            return Err(StoreError::NetworkFileSystem { directory, kind });
        }
        lock(&file, directory)?;
        // For the text of others' errors only: a full disk must not keep the store closed.
        let _ = file.set_len(0);
        let _ = file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0);
        Ok(Self { file })
    }

    /// Takes the lock of a directory without writing anything there, for who only reads it; none
    /// if there is no such file: then nobody holds it.
    pub fn take_unwritten(directory: &Path) -> Result<Option<Self>, StoreError> {
        let path = lock_path(directory);
        // A pipe of that name must not keep us waiting for somebody to write to it.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(&path);
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| StoreError::io("open", &path, error))?,
        };
        lock(&file, directory)?;
        Ok(Some(Self { file }))
    }

    /// The descriptor that holds the lock.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Refused for who only reads.
        // Nobody holds it, so no process is named in it; a forked child never comes here.
        let _ = self.file.set_len(0);
    }
}

/// The file that is locked.
#[must_use]
pub fn lock_path(directory: &Path) -> PathBuf {
    directory.join("LOCK")
}

fn lock(file: &File, directory: &Path) -> Result<(), StoreError> {
    for tries in 0.. {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => {
                return Err(StoreError::io("lock", &lock_path(directory), error.into()));
            }
        }
        let pid = read_pid(file);
        if pid.is_some() || tries == NAMELESS_TRIES {
            let directory = directory.to_owned();
            return Err(StoreError::Locked { directory, pid });
        }
        // A process that this one starts has the descriptor too, from its fork to its exec.
        std::thread::sleep(NAMELESS_PAUSE);
    }
    Ok(())
}

fn read_pid(file: &File) -> Option<u32> {
    let mut text = [0; 16];
    let count = file.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(&text[..count])
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// The kind of network file system a file lies on; none for a local one.
fn network_file_system(file: &File) -> Option<&'static str> {
    let magic = fstatfs(file).ok()?.f_type;
    network_kind(u32::try_from(magic).ok()?)
}

/// By the magic numbers of linux/magic.h and of the file systems' own headers.
fn network_kind(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x517b => "SMB",
        0xff53_4d42 => "CIFS",
        0xfe53_4d42 => "SMB2",
        0x5346_414f => "AFS",
        0x7375_7245 => "Coda",
        0x0102_1997 => "9P",
        0x00c3_6400 => "Ceph",
        0x0116_1970 => "GFS2",
        0x7461_636f => "OCFS2",
        0x0bd0_0bd0 => "Lustre",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_taker_is_told_the_holders_pid_until_the_first_lets_go() {
        let directory = tempfile::tempdir().unwrap();
        let held = Lock::take(directory.path(), false).unwrap();
        match Lock::take(directory.path(), false) {
            Err(StoreError::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(held);
        Lock::take(directory.path(), false).unwrap();
    }

    #[test]
    fn lock_that_a_starting_process_has_a_moment_longer_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let held = Lock::take(directory.path(), false).unwrap();
        let copy = held.file.try_clone().unwrap();
        drop(held);
        let starting = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            drop(copy);
        });
        let held = Lock::take(directory.path(), false).unwrap();
        starting.join().unwrap();
        let copy = held.file.try_clone().unwrap();
        drop(held);
        let taken = Lock::take(directory.path(), false);
        assert!(matches!(taken, Err(StoreError::Locked { pid: None, .. })));
        drop(copy);
    }

    #[test]
    fn lock_that_was_let_go_names_nobody() {
        let directory = tempfile::tempdir().unwrap();
        drop(Lock::take(directory.path(), false).unwrap());
        assert_eq!(std::fs::read(lock_path(directory.path())).unwrap(), b"");
    }

    #[test]
    fn reader_holds_the_lock_and_writes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Lock::take_unwritten(directory.path()).unwrap().is_none());
        let path = lock_path(directory.path());
        std::fs::write(&path, "1234\n").unwrap();
        let held = Lock::take_unwritten(directory.path()).unwrap();
        assert!(matches!(
            Lock::take(directory.path(), false),
            Err(StoreError::Locked {
                pid: Some(1234),
                ..
            })
        ));
        drop(held);
        assert_eq!(std::fs::read(&path).unwrap(), b"1234\n");
    }

    #[test]
    fn descriptor_does_not_survive_exec() {
        let directory = tempfile::tempdir().unwrap();
        let held = Lock::take(directory.path(), false).unwrap();
        let flags = rustix::io::fcntl_getfd(&held.file).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn network_file_systems_are_known_and_local_ones_pass() {
        assert_eq!(network_kind(0x6969), Some("NFS"));
        assert_eq!(network_kind(0xff53_4d42), Some("CIFS"));
        assert_eq!(network_kind(0xef53), None, "ext4");
        assert_eq!(network_kind(0x0102_1994), None, "tmpfs");
        let directory = tempfile::tempdir().unwrap();
        assert!(Lock::take(directory.path(), false).is_ok());
    }
}
