//! The file of a queue: what was asked for, under which number it was sent, and what is done.
//!
//! `$OBJSYNC_HOME/queues/<store id>/<namespace>/<number>/` belongs to one handle at a time, by a
//! lock on `LOCK`. Its file `queue` is a run of records, each with its length and checksum; the
//! first record that is not whole, which no caller was told of, ends it. docs/format.md has the
//! bytes.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{Sequence, SessionId, StoreId};
use objsync_proto::limits::{FRAME_BYTES_MAX, QUEUES_MAX};
use objsync_proto::operation::Operation;
use serde::{Deserialize, Serialize};

use super::conflict::Kept;
use crate::error::{ObjectError, Result};
use crate::home;

/// The version of the file.
pub(super) const VERSION: u32 = 1;
/// Length and checksum before each record.
const HEADER_BYTES: usize = 8;
/// A file above this is written anew when most of it is done.
pub(super) const REWRITE_BYTES: u64 = 1 << 20;

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Record {
    /// The first one: version of the file, and whose it is.
    #[serde(rename = "S")]
    Start(u32, StoreId, String),
    /// A write was asked for, at this time in milliseconds since 1970.
    #[serde(rename = "Q")]
    Queued(u64, u64, Operation),
    /// Writes have the numbers of a session from this one on; 0 stands for one that is not queued.
    #[serde(rename = "N")]
    Numbered(SessionId, Sequence, Vec<u64>),
    /// A write has its answer.
    #[serde(rename = "D")]
    Done(u64),
    /// A write came to something else than its caller was told.
    #[serde(rename = "C")]
    Conflict(Kept),
    /// The conflicts so far were seen.
    #[serde(rename = "K")]
    Cleared,
}

/// The open file of a queue.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    lock: File,
    bytes: u64,
    /// A write failed half way and could not be taken back.
    broken: bool,
}

impl Journal {
    /// Opens a queue of a dictionary that nobody has: one with something in it if there is one.
    pub(super) fn open(store: StoreId, namespace: &str) -> Result<(Self, Vec<Record>)> {
        let folder = home::home()?
            .join("queues")
            .join(store.to_string())
            .join(folder_name(namespace));
        Self::open_in(&folder, store, namespace)
    }

    pub(super) fn open_in(
        folder: &Path,
        store: StoreId,
        namespace: &str,
    ) -> Result<(Self, Vec<Record>)> {
        home::make_private(folder)?;
        let mut empty = None;
        for number in 0..QUEUES_MAX {
            let place = folder.join(number.to_string());
            let is_new = !place.exists();
            if is_new && empty.is_some() {
                break;
            }
            home::make_private(&place)?;
            let Some(lock) = lock(&place.join("LOCK"))? else {
                continue;
            };
            let opened = Self::read(place.join("queue"), lock, store, namespace)?;
            if opened.1.len() > 1 {
                return Ok(opened);
            }
            empty.get_or_insert(opened);
        }
        empty.ok_or_else(|| {
            let text = format!(
                "{} has {QUEUES_MAX} queues in use; the limit is {QUEUES_MAX}",
                folder.display()
            );
            ObjectError::new(ErrorKind::Full, text)
        })
    }

    fn read(
        path: PathBuf,
        lock: File,
        store: StoreId,
        namespace: &str,
    ) -> Result<(Self, Vec<Record>)> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(ObjectError::io("open", &path))?;
        let mut all = Vec::new();
        file.read_to_end(&mut all)
            .map_err(ObjectError::io("read", &path))?;
        let (mut records, whole) = records(&all);
        let start = Record::Start(VERSION, store, namespace.to_owned());
        let mut start_bytes = Vec::new();
        put(&start, &mut start_bytes)?;
        let mut journal = Self {
            path,
            file,
            lock,
            bytes: whole as u64,
            broken: false,
        };
        match records.first() {
            Some(Record::Start(VERSION, found, name)) if *found == store && name == namespace => {
                if whole < all.len() {
                    journal.set_aside(&all[whole..])?;
                    journal.cut()?;
                }
            }
            // Nothing can follow a first record that is not whole.
            None if all.len() <= start_bytes.len() => {
                journal.cut()?;
                journal.append(std::slice::from_ref(&start), true)?;
                journal.sync_folder()?;
                records.push(start);
            }
            _ => {
                let text = format!(
                    "{} is no queue of store {store} and dictionary {namespace:?} that this \
                     version can read",
                    journal.path.display()
                );
                return Err(ObjectError::new(ErrorKind::Unsupported, text));
            }
        }
        Ok((journal, records))
    }

    /// Appends records: all of them, or none. When `durable`, they survive a power cut.
    pub(super) fn append(&mut self, records: &[Record], durable: bool) -> Result<()> {
        self.check()?;
        let mut bytes = Vec::new();
        for record in records {
            put(record, &mut bytes)?;
        }
        let written = self.write(&bytes, durable);
        if let Err(error) = written {
            // What is half there is no record; what is whole must not be found later either.
            self.broken = self.cut().is_err();
            return Err(ObjectError::io("write", &self.path)(error));
        }
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Puts these records in the place of all.
    pub(super) fn rewrite(&mut self, records: &[Record]) -> Result<()> {
        self.check()?;
        let mut bytes = Vec::new();
        for record in records {
            put(record, &mut bytes)?;
        }
        let draft = self.path.with_extension("new");
        let rewritten = || -> io::Result<File> {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&draft)?;
            file.write_all(&bytes)?;
            file.sync_data()?;
            fs::rename(&draft, &self.path)?;
            Ok(file)
        };
        self.file = rewritten().map_err(ObjectError::io("write", &draft))?;
        self.bytes = bytes.len() as u64;
        self.sync_folder()
    }

    /// Takes nothing any more, as after a failed write that could not be taken back.
    #[cfg(test)]
    pub(super) fn break_down(&mut self) {
        self.broken = true;
    }

    /// How long the file is.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What a forked child must close.
    pub(super) fn fds(&self) -> RawFd {
        self.lock.as_raw_fd()
    }

    fn write(&mut self, bytes: &[u8], durable: bool) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.bytes))?;
        self.file.write_all(bytes)?;
        if durable {
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Keeps what is about to be cut off: most often a record that was being written as its process
    /// was killed, which nobody was told of; but a damaged disk looks the same.
    fn set_aside(&self, rest: &[u8]) -> Result<()> {
        let aside = self.path.with_extension("cut");
        tracing::warn!(file = %aside.display(), bytes = rest.len(), "the end of a queue was not whole");
        let mut file = OpenOptions::new();
        file.write(true).create(true).truncate(true).mode(0o600);
        (file.open(&aside))
            .and_then(|mut file| file.write_all(rest))
            .map_err(ObjectError::io("write", &aside))
    }

    /// Takes away what is beyond the last whole record.
    fn cut(&self) -> Result<()> {
        let cut = self.file.set_len(self.bytes);
        cut.and_then(|()| self.file.sync_data())
            .map_err(ObjectError::io("cut", &self.path))
    }

    fn sync_folder(&self) -> Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(ObjectError::io("sync", folder))
    }

    fn check(&self) -> Result<()> {
        if self.broken {
            let text = format!(
                "{} takes no more writes after a failed one; open the object anew",
                self.path.display()
            );
            return Err(ObjectError::new(ErrorKind::Closed, text));
        }
        Ok(())
    }
}

/// A namespace as the name of a folder.
fn folder_name(namespace: &str) -> String {
    use std::fmt::Write as _;
    // A name may have 255 bytes, and so may a folder: a long one is told apart by its checksum.
    let mut name = String::from("n-");
    for byte in namespace.bytes().take(100) {
        let _ = write!(name, "{byte:02x}");
    }
    let _ = write!(name, "-{:08x}", crc32c::crc32c(namespace.as_bytes()));
    name
}

/// Takes a lock, unless somebody has it.
fn lock(path: &Path) -> Result<Option<File>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(ObjectError::io("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(ObjectError::io("lock", path)(error)),
    }
}

fn put(record: &Record, bytes: &mut Vec<u8>) -> Result<()> {
    let body = rmp_serde::to_vec(record).map_err(|error| {
        let text = format!("a write cannot be queued: {error}");
        ObjectError::new(ErrorKind::Invalid, text)
    })?;
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&checksum(length, &body).to_le_bytes());
    bytes.extend_from_slice(&body);
    Ok(())
}

fn checksum(length: u32, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length.to_le_bytes()), body)
}

/// The whole records at the beginning, and how many bytes they take.
fn records(bytes: &[u8]) -> (Vec<Record>, usize) {
    let (mut records, mut at) = (Vec::new(), 0);
    while let Some((record, length)) = record(&bytes[at..]) {
        records.push(record);
        at += length;
    }
    (records, at)
}

fn record(bytes: &[u8]) -> Option<(Record, usize)> {
    let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    let length = u32::from_le_bytes(header[..4].try_into().ok()?);
    let crc = u32::from_le_bytes(header[4..].try_into().ok()?);
    let bytes = usize::try_from(length).ok()?;
    if bytes > FRAME_BYTES_MAX * 2 {
        return None;
    }
    let body = rest.get(..bytes)?;
    if checksum(length, body) != crc {
        return None;
    }
    let record = rmp_serde::from_slice(body).ok()?;
    Some((record, HEADER_BYTES + bytes))
}

#[cfg(test)]
mod tests;
