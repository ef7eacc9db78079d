//! The index in sled: the one file that names it.
//!
//! sled is fast to look into and careless with the disk: its `flush` is no fsync, and some
//! damage makes it panic. That is fine for a cache: a panic becomes an error here, and whoever
//! gets the error moves the directory aside and makes the index again.
//!
//! One tree holds everything, because a batch of sled is atomic within one tree. The first byte
//! of a key tells the kind: see docs/format.md, "Index".

use std::ops::{Bound, ControlFlow};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use objsync_proto::ids::{NamespaceId, Revision};
use objsync_proto::wire::KeyRange;

use super::{Index, IndexBatch, Visit, is_empty_range};
use crate::error::StoreError;
use crate::store::Stored;

/// What sled may hold of its pages in memory.
const CACHE_BYTES: u64 = 64 << 20;

/// How often an open is tried: sled's lock of an owner that is just ending goes with its last
/// descriptor, which can be a moment after the store's own lock.
const OPEN_TRY_COUNT: u32 = 6;
/// Between two tries.
const OPEN_PAUSE: Duration = Duration::from_millis(50);

/// Bytes that must be free on the disk for a batch. An error while sled writes would leave it of
/// no use, and what it has could then not be read until there is room to make it again.
const FREE_BYTES_MIN: u64 = 16 << 20;

/// Key of the mark.
const MARK_KEY: &[u8] = &[0];
/// First byte of the key of a count; the namespace follows.
const COUNT_KIND: u8 = 1;
/// First byte of the key of an entry; namespace and key follow.
const ENTRY_KIND: u8 = 2;
/// First byte of an entry that holds its value. Others are for entries that hold its place.
const VALUE_INLINE: u8 = 0;
/// Bytes before the value of an entry: how it is held, and its revision.
const ENTRY_HEADER_BYTES: usize = 9;

/// Keeps the entries in a directory, by sled.
pub struct SledIndex {
    directory: PathBuf,
    db: sled::Db,
    free_bytes_min: u64,
    fuse: Option<Arc<AtomicU64>>,
}

impl SledIndex {
    /// As [`SledIndex::open_with`], with a cache of 64 MiB.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        Self::open_with(directory, CACHE_BYTES)
    }

    /// Opens the index in `directory`, or makes an empty one; it may hold so many bytes of its
    /// pages in memory. Takes about a third of a second per million keys.
    pub fn open_with(directory: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let config = sled::Config::new()
            .path(directory)
            .mode(sled::Mode::HighThroughput)
            .cache_capacity(cache_bytes)
            .flush_every_ms(None);
        let mut tries = OPEN_TRY_COUNT;
        let db = guard("open", || {
            loop {
                tries -= 1;
                match config.open() {
                    Err(sled::Error::Io(_)) if tries > 0 => std::thread::sleep(OPEN_PAUSE),
                    result => return result,
                }
            }
        })?;
        Ok(Self {
            directory: directory.to_owned(),
            db,
            free_bytes_min: FREE_BYTES_MIN,
            fuse: None,
        })
    }

    /// Panics inside the call that counts the fuse down to 0, and in every one after it. For
    /// tests of what becomes of a store whose index panics.
    pub(super) fn set_fuse(&mut self, fuse: Arc<AtomicU64>) {
        self.fuse = Some(fuse);
    }

    /// Runs one call of sled; its errors and its panics become errors of the index.
    fn guard<T>(
        &self,
        what: &str,
        call: impl FnOnce() -> sled::Result<T>,
    ) -> Result<T, StoreError> {
        guard(what, || {
            if let Some(fuse) = &self.fuse {
                let left = fuse.load(Ordering::SeqCst).saturating_sub(1);
                fuse.store(left, Ordering::SeqCst);
                assert!(left > 0, "the fuse of a test");
            }
            call()
        })
    }
    /// Lets sled free what a batch of so many changes replaced. It does so by itself only every
    /// hundredth call, a few pieces at a time, and a batch is one call: an index of 10 million keys
    /// that was made again by batches alone held 18 GB of replaced pages.
    fn collect_garbage(&self, change_count: usize) -> sled::Result<()> {
        for _ in 0..change_count {
            self.db.contains_key(MARK_KEY)?;
        }
        Ok(())
    }

    fn refuse_if_full(&self) -> Result<(), StoreError> {
        let path = &self.directory;
        let disk = rustix::fs::statvfs(path)
            .map_err(|error| StoreError::io("ask for the free bytes of", path, error.into()))?;
        match disk.f_bavail.saturating_mul(disk.f_frsize) < self.free_bytes_min {
            true => Err(StoreError::Full { path: path.clone() }),
            false => Ok(()),
        }
    }
}

impl Index for SledIndex {
    fn get(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        let entry = self.guard("get", || self.db.get(entry_key(namespace, key)))?;
        entry.map(|entry| decode_entry(&entry)).transpose()
    }

    fn contains(&self, namespace: NamespaceId, key: &[u8]) -> Result<bool, StoreError> {
        self.guard("contains", || {
            self.db.contains_key(entry_key(namespace, key))
        })
    }

    fn scan(
        &self,
        namespace: NamespaceId,
        range: &KeyRange,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        if is_empty_range(range) {
            return Ok(());
        }
        let start = Bound::Included(entry_key(namespace, &range.start));
        let end = match &range.end {
            Some(end) => Bound::Excluded(entry_key(namespace, end)),
            None => after_namespace(namespace),
        };
        let mut entries = self.db.range((start, end));
        let mut copies = Copies::default();
        loop {
            let next = self.guard("scan", || {
                let next = if reverse {
                    entries.next_back()
                } else {
                    entries.next()
                };
                next.transpose()
            })?;
            let Some((key, entry)) = next else {
                return Ok(());
            };
            let key = copies.copy(&key[entry_key_bytes(0)..]);
            let (value, revision) = split_entry(&entry)?;
            let value = copies.copy(value);
            if let ControlFlow::Break(()) = visit(key, Stored { value, revision }) {
                return Ok(());
            }
        }
    }

    fn apply(&self, batch: &IndexBatch) -> Result<(), StoreError> {
        self.refuse_if_full()?;
        let mut writes = sled::Batch::default();
        for change in &batch.changes {
            let key = entry_key(change.namespace, &change.key);
            match &change.entry {
                Some(entry) => writes.insert(key, encode_entry(entry)),
                None => writes.remove(key),
            }
        }
        for (namespace, count) in &batch.counts {
            writes.insert(count_key(*namespace), &count.to_be_bytes());
        }
        match &batch.mark {
            Some(mark) => writes.insert(MARK_KEY, &mark[..]),
            None => writes.remove(MARK_KEY),
        }
        self.guard("apply", || {
            self.db.apply_batch(writes)?;
            self.collect_garbage(batch.changes.len())
        })
    }

    fn mark(&self) -> Result<Option<Bytes>, StoreError> {
        let mark = self.guard("mark", || self.db.get(MARK_KEY))?;
        Ok(mark.map(|mark| Bytes::copy_from_slice(&mark)))
    }

    fn counts(&self) -> Result<Vec<(NamespaceId, u64)>, StoreError> {
        let counts = self.guard("counts", || {
            let counts = self.db.scan_prefix([COUNT_KIND]);
            counts.collect::<Result<Vec<_>, _>>()
        })?;
        let decode = |key: &[u8], count: &[u8]| {
            let namespace = u32::from_be_bytes(key.get(1..)?.try_into().ok()?);
            let count = u64::from_be_bytes(count.try_into().ok()?);
            Some((NamespaceId(namespace), count))
        };
        counts
            .iter()
            .map(|(key, count)| decode(key, count).ok_or_else(|| failed("a count is malformed")))
            .collect()
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.guard("flush", || self.db.flush()).map(drop)
    }

    fn bytes(&self) -> u64 {
        self.guard("size", || self.db.size_on_disk()).unwrap_or(0)
    }
}

impl Drop for SledIndex {
    fn drop(&mut self) {
        // What is lost here is in the log; the next open applies it again.
        if let Err(error) = self.flush() {
            tracing::warn!(%error, "the index was closed without its last changes");
        }
    }
}

fn guard<T>(what: &str, call: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(failed(&format!("{what}: {error}"))),
        Err(_) => Err(failed(&format!("{what}: sled panicked"))),
    }
}

fn failed(what: &str) -> StoreError {
    StoreError::Index {
        what: what.to_owned(),
    }
}

const fn entry_key_bytes(key_bytes: usize) -> usize {
    1 + size_of::<u32>() + key_bytes
}

fn entry_key(namespace: NamespaceId, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entry_key_bytes(key.len()));
    bytes.push(ENTRY_KIND);
    bytes.extend_from_slice(&namespace.0.to_be_bytes());
    bytes.extend_from_slice(key);
    bytes
}

/// The bound behind the last key of a namespace.
fn after_namespace(namespace: NamespaceId) -> Bound<Vec<u8>> {
    match namespace.0.checked_add(1) {
        Some(next) => Bound::Excluded(entry_key(NamespaceId(next), &[])),
        None => Bound::Excluded(vec![ENTRY_KIND + 1]),
    }
}

fn count_key(namespace: NamespaceId) -> Vec<u8> {
    let mut bytes = vec![COUNT_KIND];
    bytes.extend_from_slice(&namespace.0.to_be_bytes());
    bytes
}

fn encode_entry(entry: &Stored) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ENTRY_HEADER_BYTES + entry.value.len());
    bytes.push(VALUE_INLINE);
    bytes.extend_from_slice(&entry.revision.0.to_be_bytes());
    bytes.extend_from_slice(&entry.value);
    bytes
}

fn decode_entry(bytes: &[u8]) -> Result<Stored, StoreError> {
    let (value, revision) = split_entry(bytes)?;
    Ok(Stored {
        value: Bytes::copy_from_slice(value),
        revision,
    })
}

fn split_entry(bytes: &[u8]) -> Result<(&[u8], Revision), StoreError> {
    let Some((header, value)) = bytes.split_first_chunk::<ENTRY_HEADER_BYTES>() else {
        return Err(failed("an entry is shorter than its header"));
    };
    let [held, revision @ ..] = *header;
    if held != VALUE_INLINE {
        return Err(failed("an entry is held in a way not known here"));
    }
    Ok((value, Revision(u64::from_be_bytes(revision))))
}

/// Bytes of one allocation that copies of a scan share, at most: who keeps one keeps so many.
const COPIES_BYTES_MAX: usize = 16 << 10;
/// Bytes of the first one: who wants one entry must not pay for a thousand.
const COPIES_BYTES_MIN: usize = 256;

/// Copies of what a scan finds, many in one allocation: allocations of two for each entry took a
/// third of the time, and were freed on another thread.
#[derive(Default)]
struct Copies {
    room: BytesMut,
    last_bytes: usize,
}

impl Copies {
    fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.len() > COPIES_BYTES_MAX / 16 {
            return Bytes::copy_from_slice(bytes);
        }
        if self.room.capacity() < bytes.len() {
            self.last_bytes = (2 * self.last_bytes).clamp(COPIES_BYTES_MIN, COPIES_BYTES_MAX);
            self.room = BytesMut::with_capacity(self.last_bytes.max(bytes.len()));
        }
        self.room.extend_from_slice(bytes);
        self.room.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance;
    use super::*;

    #[test]
    fn sled_index_does_what_every_index_must() {
        conformance::run(&mut || {
            let directory = tempfile::tempdir().unwrap();
            let index = SledIndex::open(&directory.path().join("index")).unwrap();
            (Box::new(index), Some(directory))
        });
    }

    #[test]
    fn entries_counts_and_mark_are_there_after_reopening() {
        let directory = tempfile::tempdir().unwrap();
        let batch = conformance::batch(&[(1, b"a", Some((b"x", 3)))], &[(1, 1)], b"mark");
        SledIndex::open(directory.path())
            .unwrap()
            .apply(&batch)
            .unwrap();
        let index = SledIndex::open(directory.path()).unwrap();
        assert_eq!(index.mark().unwrap().as_deref(), Some(&b"mark"[..]));
        assert_eq!(index.counts().unwrap(), [(NamespaceId(1), 1)]);
        let entry = index.get(NamespaceId(1), b"a").unwrap().unwrap();
        assert_eq!((&entry.value[..], entry.revision), (&b"x"[..], Revision(3)));
    }

    #[test]
    fn full_disk_is_no_failure_of_the_index() {
        let directory = tempfile::tempdir().unwrap();
        let mut index = SledIndex::open(directory.path()).unwrap();
        let put = |value| conformance::batch(&[(1, b"a", Some((value, 3)))], &[], b"mark");
        index.apply(&put(b"first")).unwrap();
        index.free_bytes_min = u64::MAX;
        let refused = index.apply(&put(b"second")).unwrap_err();
        assert!(matches!(refused, StoreError::Full { .. }));
        let entry = index.get(NamespaceId(1), b"a").unwrap().unwrap();
        assert_eq!(entry.value, &b"first"[..]);
    }

    #[test]
    fn panic_inside_sled_is_an_error_of_the_index() {
        let error = guard::<()>("get", || panic!("as sled does on some damage")).unwrap_err();
        assert!(matches!(error, StoreError::Index { .. }));
    }

    #[test]
    fn entry_that_is_cut_or_held_elsewhere_is_refused() {
        let whole = encode_entry(&super::super::stored(b"value", 7));
        assert_eq!(decode_entry(&whole).unwrap().revision, Revision(7));
        assert!(decode_entry(&whole[..ENTRY_HEADER_BYTES - 1]).is_err());
        let mut elsewhere = whole;
        elsewhere[0] = 1;
        assert!(decode_entry(&elsewhere).is_err());
    }
}
