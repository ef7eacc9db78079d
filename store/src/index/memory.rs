//! An index in memory: for read-only media, and as a model in tests.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Bound, ControlFlow};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use objsync_proto::ids::NamespaceId;
use objsync_proto::wire::KeyRange;

use super::{Index, IndexBatch, Visit, is_empty_range};
use crate::error::StoreError;
use crate::store::Stored;

/// Entries handed to a scan per taking of the lock.
const SCAN_STEP_COUNT: usize = 256;

/// Keeps everything in memory and forgets it when dropped.
#[derive(Debug, Default)]
pub struct MemoryIndex(RwLock<Content>);

#[derive(Debug, Default)]
struct Content {
    entries: HashMap<NamespaceId, BTreeMap<Bytes, Stored>>,
    counts: HashMap<NamespaceId, u64>,
    mark: Option<Bytes>,
    bytes: u64,
}

impl MemoryIndex {
    fn read(&self) -> RwLockReadGuard<'_, Content> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Content> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next few entries of what is left of a scan. Nothing is called under the lock.
    fn step(
        &self,
        namespace: NamespaceId,
        bounds: (Bound<Bytes>, Bound<Bytes>),
        reverse: bool,
    ) -> Vec<(Bytes, Stored)> {
        let content = self.read();
        let Some(entries) = content.entries.get(&namespace) else {
            return Vec::new();
        };
        let range = entries.range(bounds).map(|(k, v)| (k.clone(), v.clone()));
        if reverse {
            range.rev().take(SCAN_STEP_COUNT).collect()
        } else {
            range.take(SCAN_STEP_COUNT).collect()
        }
    }
}

impl Index for MemoryIndex {
    fn get(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        let content = self.read();
        let entries = content.entries.get(&namespace);
        Ok(entries.and_then(|entries| entries.get(key)).cloned())
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
        let mut start = Bound::Included(range.start.clone());
        let mut end = match &range.end {
            Some(end) => Bound::Excluded(end.clone()),
            None => Bound::Unbounded,
        };
        loop {
            let step = self.step(namespace, (start.clone(), end.clone()), reverse);
            let Some((last, _)) = step.last() else {
                return Ok(());
            };
            let last = last.clone();
            for (key, entry) in step {
                if let ControlFlow::Break(()) = visit(key, entry) {
                    return Ok(());
                }
            }
            if reverse {
                // An excluded start and end that meet are no range of a BTreeMap.
                if last == range.start {
                    return Ok(());
                }
                end = Bound::Excluded(last);
            } else {
                start = Bound::Excluded(last.clone());
                if range.end.as_ref().is_some_and(|end| *end <= last) {
                    return Ok(());
                }
            }
        }
    }

    fn apply(&self, batch: &IndexBatch) -> Result<(), StoreError> {
        let mut content = self.write();
        for change in &batch.changes {
            let entries = content.entries.entry(change.namespace).or_default();
            let bytes = |entry: &Stored| (change.key.len() + entry.value.len()) as u64;
            let (old, new) = match &change.entry {
                // A copy of its own: the bytes given are a piece of a whole batch of the log.
                Some(entry) => {
                    let key = Bytes::copy_from_slice(&change.key);
                    let value = Bytes::copy_from_slice(&entry.value);
                    let revision = entry.revision;
                    let old = entries.insert(key, Stored { value, revision });
                    (old.as_ref().map_or(0, bytes), bytes(entry))
                }
                None => (entries.remove(&change.key).as_ref().map_or(0, bytes), 0),
            };
            content.bytes = content.bytes + new - old;
        }
        content.counts.extend(batch.counts.iter().copied());
        content.mark.clone_from(&batch.mark);
        Ok(())
    }

    fn mark(&self) -> Result<Option<Bytes>, StoreError> {
        Ok(self.read().mark.clone())
    }

    fn counts(&self) -> Result<Vec<(NamespaceId, u64)>, StoreError> {
        let content = self.read();
        Ok(content.counts.iter().map(|(n, c)| (*n, *c)).collect())
    }

    fn bytes(&self) -> u64 {
        self.read().bytes
    }
}
