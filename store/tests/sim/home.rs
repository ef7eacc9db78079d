//! An index in memory that outlives its store, and is found again as a crash may have left it: as
//! of an older mark, with entries missing or wrong, empty, or not at all.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use objsync_proto::ids::NamespaceId;
use objsync_proto::wire::KeyRange;
use objsync_store::index::{Index, IndexBatch, IndexHome, Reused, Visit};
use objsync_store::{IndexKind, StoreError, Stored};

use crate::harness::random::Random;

/// Batches that a crash may take back.
const KEPT_COUNT: usize = 12;

/// Where the index is from one life to the next.
#[derive(Default, Clone)]
pub struct SimHome(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// What is there, and before it what was there before the last batches.
    versions: Vec<Content>,
    is_proven: bool,
    refuses: bool,
    /// Calls until one fails.
    calls_left: Option<u64>,
}

#[derive(Default, Clone)]
struct Content {
    entries: BTreeMap<(NamespaceId, Bytes), Stored>,
    counts: BTreeMap<NamespaceId, u64>,
    mark: Option<Bytes>,
}

struct SimIndex(SimHome);

impl SimHome {
    pub fn kind(&self) -> IndexKind {
        IndexKind::Home(Arc::new(self.clone()))
    }

    /// The process ended. An index that was closed is as it was left.
    pub fn crash(&self, random: &mut Random) {
        let state = &mut *self.lock();
        state.refuses = random.chance(12);
        state.calls_left = random.chance(12).then(|| random.below(60));
        if state.is_proven {
            return;
        }
        match random.below(8) {
            0 => state.versions.clear(),
            1 => state.damage(random),
            2..=5 => {
                let left = random.below(state.versions.len() as u64 + 1) as usize;
                state.versions.truncate(left);
            }
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Runs a call on what is there, unless it is its turn to fail.
    fn with<T>(&self, act: impl FnOnce(&Content) -> T) -> Result<T, StoreError> {
        let state = &mut *self.lock();
        if let Some(left) = &mut state.calls_left {
            match left.checked_sub(1) {
                Some(less) => *left = less,
                None => {
                    state.calls_left = None;
                    return Err(failure("as the seed says"));
                }
            }
        }
        let empty = Content::default();
        Ok(act(state.versions.last().unwrap_or(&empty)))
    }
}

impl State {
    /// One entry is gone, or another one.
    fn damage(&mut self, random: &mut Random) {
        let Some(content) = self.versions.last_mut() else {
            return;
        };
        let count = content.entries.len() as u64;
        let Some(place) = count.checked_sub(1).map(|last| random.below(last + 1)) else {
            return;
        };
        let key = content.entries.keys().nth(place as usize).unwrap().clone();
        if random.chance(2) {
            content.entries.remove(&key);
        } else if let Some(stored) = content.entries.get_mut(&key) {
            stored.value = Bytes::from_static(b"\0\0\0\xc0");
        }
    }
}

impl IndexHome for SimHome {
    fn reuse(&self) -> Result<Option<Reused>, StoreError> {
        let state = &mut *self.lock();
        if std::mem::take(&mut state.refuses) {
            return Err(failure("it does not open"));
        }
        let is_proven = std::mem::take(&mut state.is_proven);
        Ok((!state.versions.is_empty()).then(|| Reused {
            index: Arc::new(SimIndex(self.clone())),
            is_proven,
        }))
    }

    fn make(&self) -> Result<Arc<dyn Index>, StoreError> {
        let state = &mut *self.lock();
        state.versions = vec![Content::default()];
        state.is_proven = false;
        Ok(Arc::new(SimIndex(self.clone())))
    }

    fn closed(&self) -> Result<(), StoreError> {
        self.lock().is_proven = true;
        Ok(())
    }

    fn inherited_fds(&self) -> Vec<RawFd> {
        Vec::new()
    }
}

impl Index for SimIndex {
    fn get(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        let key = (namespace, Bytes::copy_from_slice(key));
        self.0.with(|content| content.entries.get(&key).cloned())
    }

    fn scan(
        &self,
        namespace: NamespaceId,
        range: &KeyRange,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        let end = match &range.end {
            Some(end) if *end <= range.start => return Ok(()),
            Some(end) => Bound::Excluded((namespace, end.clone())),
            None => Bound::Excluded((NamespaceId(namespace.0 + 1), Bytes::new())),
        };
        let bounds = (Bound::Included((namespace, range.start.clone())), end);
        let mut found: Vec<(Bytes, Stored)> = self.0.with(|content| {
            let inside = content.entries.range(bounds);
            inside
                .map(|((_, key), stored)| (key.clone(), stored.clone()))
                .collect()
        })?;
        if reverse {
            found.reverse();
        }
        for (key, stored) in found {
            if let ControlFlow::Break(()) = visit(key, stored) {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, batch: &IndexBatch) -> Result<(), StoreError> {
        let mut content = self.0.with(Content::clone)?;
        for change in &batch.changes {
            let key = (change.namespace, change.key.clone());
            match &change.entry {
                Some(stored) => content.entries.insert(key, stored.clone()),
                None => content.entries.remove(&key),
            };
        }
        content.counts.extend(batch.counts.iter().copied());
        content.mark.clone_from(&batch.mark);
        let versions = &mut self.0.lock().versions;
        versions.push(content);
        if versions.len() > KEPT_COUNT {
            versions.remove(0);
        }
        Ok(())
    }

    fn mark(&self) -> Result<Option<Bytes>, StoreError> {
        self.0.with(|content| content.mark.clone())
    }

    fn counts(&self) -> Result<Vec<(NamespaceId, u64)>, StoreError> {
        self.0
            .with(|content| content.counts.iter().map(|(n, c)| (*n, *c)).collect())
    }

    fn bytes(&self) -> u64 {
        0
    }
}

fn failure(what: &str) -> StoreError {
    let what = what.to_owned();
    StoreError::Index { what }
}
