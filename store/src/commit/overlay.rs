//! What the operations of a batch see: the state, and what the batch decided before them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::evaluate::View;
use objsync_proto::ids::{NamespaceId, Revision};
use objsync_proto::key;
use objsync_proto::wire::KeyRange;

use crate::error::StoreError;
use crate::reader::PageLimits;
use crate::state::DictState;

/// Bytes of entries looked at in one step.
const PAGE_BYTES: usize = 1 << 20;

/// Changes that are decided and not yet committed.
#[derive(Default)]
pub(crate) struct Overlay(HashMap<NamespaceId, BTreeMap<Bytes, Option<Bytes>>>);

impl Overlay {
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn put(&mut self, namespace: NamespaceId, change: &Change) {
        let changes = self.0.entry(namespace).or_default();
        changes.insert(change.key.clone(), change.value.clone());
    }
}

/// One dictionary as the next operation of a batch sees it.
pub(crate) struct BatchView<'a> {
    pub(crate) state: &'a DictState,
    pub(crate) overlay: &'a Overlay,
    pub(crate) namespace: NamespaceId,
}

impl View for BatchView<'_> {
    type Error = StoreError;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let changes = self.overlay.0.get(&self.namespace);
        if let Some(value) = changes.and_then(|changes| changes.get(key)) {
            return Ok(value.clone());
        }
        let stored = self.state.get_latest(self.namespace, key)?;
        Ok(stored.map(|stored| stored.value))
    }

    fn keys(&self, range: &KeyRange, count_max: u32) -> Result<Vec<Bytes>, StoreError> {
        let count_max = count_max as usize;
        let changed: Vec<(&Bytes, bool)> = match self.overlay.0.get(&self.namespace) {
            Some(changes) => in_range(changes, range),
            None => Vec::new(),
        };
        // Enough of the state, whatever the batch removed of it.
        let wanted = count_max + changed.iter().filter(|(_, exists)| !exists).count();
        let mut keys: BTreeSet<Bytes> = self.state_keys(range, wanted)?.into_iter().collect();
        for (key, exists) in changed {
            if exists {
                keys.insert(key.clone());
            } else {
                keys.remove(key);
            }
        }
        Ok(keys.into_iter().take(count_max).collect())
    }
}

impl BatchView<'_> {
    fn state_keys(&self, range: &KeyRange, count_max: usize) -> Result<Vec<Bytes>, StoreError> {
        let mut keys = Vec::new();
        let mut rest = range.clone();
        while keys.len() < count_max {
            let limits = PageLimits {
                bytes_max: PAGE_BYTES,
                count_max: count_max - keys.len(),
            };
            let at = Revision(u64::MAX);
            let page = self
                .state
                .page_at(self.namespace, &rest, false, at, limits)?;
            let Some(last) = page.last() else {
                break;
            };
            rest.start = key::successor(&last.key);
            keys.extend(page.into_iter().map(|entry| entry.key));
        }
        Ok(keys)
    }
}

fn in_range<'a>(
    changes: &'a BTreeMap<Bytes, Option<Bytes>>,
    range: &KeyRange,
) -> Vec<(&'a Bytes, bool)> {
    let end = match &range.end {
        Some(end) if *end <= range.start => return Vec::new(),
        Some(end) => Bound::Excluded(&end[..]),
        None => Bound::Unbounded,
    };
    changes
        .range::<[u8], _>((Bound::Included(&range.start[..]), end))
        .map(|(key, value)| (key, value.is_some()))
        .collect()
}
