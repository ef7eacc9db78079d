//! A history, a clock and an index as the tests need them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use objsync_proto::effect::Change;
use objsync_proto::wire::{Entry, KeyRange};

use super::super::*;
use crate::index::{IndexBatch, IndexChange, MemoryIndex, Visit, stored};

pub(super) type Model = BTreeMap<(u32, Vec<u8>), Vec<(u64, Option<Vec<u8>>)>>;

/// A log and a snapshot in memory.
#[derive(Default)]
pub(super) struct Past {
    pub(super) model: Mutex<Model>,
    pub(super) snapshot: AtomicU64,
    pub(super) name: AtomicU64,
    pub(super) loads: AtomicU64,
    pub(super) comparisons: AtomicU64,
    /// Nothing can be made again.
    pub(super) is_gone: AtomicBool,
}

/// Only moves when told.
#[derive(Default)]
pub(super) struct StillClock(pub(super) AtomicU64);

impl Clock for StillClock {
    fn now_ms(&self) -> u64 {
        0
    }
    fn monotonic_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Past {
    pub(super) fn at(&self, namespace: u32, revision: u64) -> BTreeMap<Vec<u8>, Stored> {
        let model = lock(&self.model);
        let in_namespace = model.iter().filter(|((n, _), _)| *n == namespace);
        in_namespace
            .filter_map(|((_, key), versions)| {
                let (at, value) = versions.iter().rfind(|(at, _)| *at <= revision)?;
                Some((key.clone(), stored(value.as_ref()?, *at)))
            })
            .collect()
    }
}

impl History for Past {
    fn mark_at(&self, revision: Revision) -> Bytes {
        let name = self.name.load(Ordering::SeqCst);
        [name.to_be_bytes(), revision.0.to_be_bytes()]
            .concat()
            .into()
    }

    fn revision_of(&self, mark: &[u8]) -> Option<Revision> {
        let (name, revision) = mark.split_first_chunk()?;
        let is_ours = u64::from_be_bytes(*name) == self.name.load(Ordering::SeqCst);
        is_ours.then_some(Revision(u64::from_be_bytes(revision.try_into().ok()?)))
    }

    fn load(
        &self,
        each: &mut dyn FnMut(NamespaceId, Entry) -> Result<(), StoreError>,
    ) -> Result<Revision, StoreError> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        if self.is_gone.load(Ordering::SeqCst) {
            return Err(StoreError::NotFound {
                directory: std::path::PathBuf::new(),
            });
        }
        let snapshot = self.snapshot.load(Ordering::SeqCst);
        for namespace in 1..3 {
            for (key, Stored { value, revision }) in self.at(namespace, snapshot) {
                let key = key.into();
                each(
                    NamespaceId(namespace),
                    Entry {
                        key,
                        value,
                        revision,
                    },
                )?;
            }
        }
        Ok(Revision(snapshot))
    }

    fn replay(
        &self,
        after: Revision,
        to: Revision,
        each: &mut dyn FnMut(Revision, LoggedChanges) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut log: BTreeMap<u64, LoggedChanges> = BTreeMap::new();
        for ((namespace, key), versions) in lock(&self.model).iter() {
            for (revision, value) in versions {
                if after.0 < *revision && *revision <= to.0 {
                    let change = Change {
                        key: Bytes::copy_from_slice(key),
                        value: value.as_ref().map(|v| Bytes::copy_from_slice(v)),
                    };
                    let changes = log.entry(*revision).or_default();
                    changes.push((NamespaceId(*namespace), Logged::Whole(change)));
                }
            }
        }
        log.into_iter()
            .try_for_each(|(revision, changes)| each(Revision(revision), changes))
    }

    fn entry_count(&self) -> u64 {
        let snapshot = self.snapshot.load(Ordering::SeqCst);
        (1..3).map(|n| self.at(n, snapshot).len() as u64).sum()
    }

    fn reachable(&self, revision: Revision) -> Revision {
        revision
    }

    fn stand_in(&self, revision: Revision) -> Result<Arc<dyn Index>, StoreError> {
        if self.is_gone.load(Ordering::SeqCst) {
            return Err(StoreError::NotFound {
                directory: std::path::PathBuf::new(),
            });
        }
        let index = MemoryIndex::default();
        let mut batch = IndexBatch::default();
        for namespace in [1, 2].map(NamespaceId) {
            let entries = self.at(namespace.0, revision.0);
            batch.counts.push((namespace, entries.len() as u64));
            batch
                .changes
                .extend(entries.into_iter().map(|(key, entry)| IndexChange {
                    namespace,
                    key: key.into(),
                    entry: Some(entry),
                }));
        }
        index.apply(&batch)?;
        Ok(Arc::new(index))
    }

    fn difference(
        &self,
        index: &dyn Index,
        revision: Revision,
        _: &dyn Fn() -> bool,
    ) -> Result<Option<String>, StoreError> {
        self.comparisons.fetch_add(1, Ordering::SeqCst);
        for namespace in [1, 2] {
            let mut found = BTreeMap::new();
            let whole = KeyRange::default();
            index.scan(NamespaceId(namespace), &whole, false, &mut |key, entry| {
                if entry.revision <= revision {
                    found.insert(key.to_vec(), entry);
                }
                ControlFlow::Continue(())
            })?;
            if found != self.at(namespace, revision.0) {
                return Ok(Some("the test's index differs".to_owned()));
            }
        }
        Ok(None)
    }
}

/// Answers everything with an error, as an index does that panicked.
pub(super) struct BrokenIndex;

impl BrokenIndex {
    fn fail<T>() -> Result<T, StoreError> {
        Err(StoreError::Index {
            what: "broken by the test".to_owned(),
        })
    }
}

impl Index for BrokenIndex {
    fn get(&self, _: NamespaceId, _: &[u8]) -> Result<Option<Stored>, StoreError> {
        Self::fail()
    }
    fn scan(
        &self,
        _: NamespaceId,
        _: &KeyRange,
        _: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        // Fails half way: what was seen by then must not come twice.
        let _: ControlFlow<()> = visit(Bytes::new(), stored(b"from a broken index", 0));
        Self::fail()
    }
    fn apply(&self, _: &IndexBatch) -> Result<(), StoreError> {
        Self::fail()
    }
    fn mark(&self) -> Result<Option<Bytes>, StoreError> {
        Self::fail()
    }
    fn counts(&self) -> Result<Vec<(NamespaceId, u64)>, StoreError> {
        Self::fail()
    }
    fn bytes(&self) -> u64 {
        0
    }
}

/// Applies so many batches, then answers that it is closed.
pub(super) struct StoppingIndex {
    inner: Arc<dyn Index>,
    applies_left: AtomicU64,
}

impl StoppingIndex {
    pub(super) fn new(inner: Arc<dyn Index>, applies: u64) -> Self {
        Self {
            inner,
            applies_left: applies.into(),
        }
    }
}

impl Index for StoppingIndex {
    fn get(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        self.inner.get(namespace, key)
    }
    fn scan(
        &self,
        namespace: NamespaceId,
        range: &KeyRange,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        self.inner.scan(namespace, range, reverse, visit)
    }
    fn apply(&self, batch: &IndexBatch) -> Result<(), StoreError> {
        if self.applies_left.load(Ordering::SeqCst) == 0 {
            return Err(StoreError::Closed);
        }
        self.applies_left.fetch_sub(1, Ordering::SeqCst);
        self.inner.apply(batch)
    }
    fn mark(&self) -> Result<Option<Bytes>, StoreError> {
        self.inner.mark()
    }
    fn counts(&self) -> Result<Vec<(NamespaceId, u64)>, StoreError> {
        self.inner.counts()
    }
    fn bytes(&self) -> u64 {
        self.inner.bytes()
    }
}
