//! What the operations of a batch see: the state, and what the batch decided before them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::dictionary::{Dictionary, DictionaryId, EntryKey, Trained};
use objsync_proto::effect::Change;
use objsync_proto::evaluate::{Changed, Leased, Present, Ranges, View};
use objsync_proto::ids::{NamespaceId, Revision};
use objsync_proto::key;
use objsync_proto::lease;
use objsync_proto::limits::TRANSACTION_SCAN_COUNT_MAX;
use objsync_proto::wire::KeyRange;

use super::batch::Decision;
use crate::core::{Began, Core};
use crate::error::StoreError;
use crate::leases::{Counts, Leases};
use crate::reader::PageLimits;

/// Bytes of entries looked at in one step.
const PAGE_BYTES: usize = 1 << 20;

/// Changes that are decided and not yet committed, each with its revision.
#[derive(Default)]
pub(crate) struct Overlay {
    changes: HashMap<NamespaceId, BTreeMap<Bytes, Made>>,
    /// How much more, or less, there is of leases by these.
    leased: Counts,
    leased_of: HashMap<NamespaceId, Counts>,
}

struct Made {
    value: Option<Bytes>,
    revision: Revision,
}

impl Overlay {
    pub(crate) fn clear(&mut self) {
        self.changes.clear();
        self.leased = Counts::default();
        self.leased_of.clear();
    }

    /// Adds what was decided; `leases` are as before the batch.
    pub(crate) fn put_all(&mut self, decision: &Decision, leases: &Leases) {
        let revision = decision.revision;
        for (namespace, change) in &decision.changes {
            if *namespace == NamespaceId::LEASES {
                self.count(change, leases);
            }
            let changes = self.changes.entry(*namespace).or_default();
            let value = change.value.clone();
            changes.insert(change.key.clone(), Made { value, revision });
        }
    }

    /// Counts a change of an entry about leases.
    fn count(&mut self, change: &Change, leases: &Leases) {
        let Some(entry) = lease::EntryKey::decode(&change.key) else {
            return;
        };
        let made = self.changes.get(&NamespaceId::LEASES);
        let made = made.and_then(|made| made.get(&change.key));
        let was_there = match made {
            Some(made) => made.value.is_some(),
            None => leases.holds(&change.key, &entry),
        };
        let more = i64::from(change.value.is_some()) - i64::from(was_there);
        self.leased.add(&entry, more);
        if let lease::EntryKey::Hold(namespace, _) | lease::EntryKey::Lease(namespace, _) = &entry {
            let of = self.leased_of.entry(*namespace).or_default();
            of.add(&entry, more);
        }
    }

    /// The first key of some ranges that is changed here.
    fn changed(&self, namespace: NamespaceId, ranges: &Ranges) -> Option<(Bytes, Revision)> {
        let changes = self.changes.get(&namespace)?;
        ranges.iter().find_map(|range| {
            let (key, made) = in_range(changes, range)?.next()?;
            Some((key.clone(), made.revision))
        })
    }
}

/// The dictionaries as the next operation of a batch sees them.
pub(crate) struct BatchView<'a> {
    pub(crate) core: &'a Core,
    pub(crate) overlay: &'a Overlay,
    pub(crate) next: Revision,
    pub(crate) last: Revision,
    pub(crate) time_ms: u64,
}

impl View for BatchView<'_> {
    type Error = StoreError;

    fn get(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<Present>, StoreError> {
        let changes = self.overlay.changes.get(&namespace);
        if let Some(made) = changes.and_then(|changes| changes.get(key)) {
            let revision = made.revision;
            let present = |value| Present { value, revision };
            return Ok(made.value.clone().map(present));
        }
        let stored = self.core.state.get_latest(namespace, key)?;
        Ok(stored.map(|stored| Present {
            value: stored.value,
            revision: stored.revision,
        }))
    }

    fn dictionary(
        &self,
        namespace: NamespaceId,
        id: DictionaryId,
    ) -> Result<Option<Arc<Dictionary>>, StoreError> {
        let core = self.core;
        let committed = core.dictionaries.find(namespace, id, |key| {
            core.state.get(NamespaceId::DICTIONARIES, key)
        })?;
        if committed.is_some() {
            return Ok(committed);
        }
        // One that was added a moment ago, perhaps in this batch.
        let entry = EntryKey::Dictionary(namespace, id).encode();
        let entry = self.get(NamespaceId::DICTIONARIES, &entry)?;
        let trained = entry.and_then(|entry| Trained::decode(&entry.value));
        let opened = trained.and_then(|trained| trained.open(id).ok());
        Ok(opened.map(Arc::new))
    }

    fn keys(
        &self,
        namespace: NamespaceId,
        range: &KeyRange,
        count_max: u32,
    ) -> Result<Vec<Bytes>, StoreError> {
        let count_max = count_max as usize;
        let changes = self.overlay.changes.get(&namespace);
        let changed: Vec<(&Bytes, bool)> = changes
            .and_then(|changes| in_range(changes, range))
            .into_iter()
            .flatten()
            .map(|(key, made)| (key, made.value.is_some()))
            .collect();
        // Enough of the state, whatever the batch removed of it.
        let wanted = count_max + changed.iter().filter(|(_, exists)| !exists).count();
        let state = self.state_keys(namespace, range, wanted)?;
        let mut keys: BTreeSet<Bytes> = state.into_iter().collect();
        for (key, exists) in changed {
            if exists {
                keys.insert(key.clone());
            } else {
                keys.remove(key);
            }
        }
        Ok(keys.into_iter().take(count_max).collect())
    }

    fn changed(
        &self,
        namespace: NamespaceId,
        after: Revision,
        ranges: &Ranges,
    ) -> Result<Changed, StoreError> {
        let oldest = self.last;
        // Between what was kept of the last owner and what this one gives lie revisions that an
        // unclean end took: whoever read one has seen what never was.
        let Began { kept, given } = self.core.began;
        if after > self.last || (after > kept && after <= given) {
            return Ok(Changed::Unknown { oldest });
        }
        if let Some((key, revision)) = self.overlay.changed(namespace, ranges) {
            return Ok(Changed::Key(key, revision));
        }
        let mut found = None;
        let is_known =
            self.core
                .feed
                .each_after(after, TRANSACTION_SCAN_COUNT_MAX, &mut |published| {
                    let mut changes = published.changes.iter();
                    let inside = changes
                        .find(|(of, change)| *of == namespace && ranges.contains(&change.key));
                    found = inside.map(|(_, change)| (change.key.clone(), published.revision));
                    found.is_none()
                });
        Ok(match found {
            Some((key, revision)) => Changed::Key(key, revision),
            None if is_known => Changed::Nothing,
            None => Changed::Unknown { oldest },
        })
    }

    fn leased(&self) -> Leased {
        self.overlay.leased.beside(self.core.leases.leased())
    }

    fn leased_of(&self, namespace: NamespaceId) -> Leased {
        let before = self.core.leases.leased_of(namespace);
        let more = self.overlay.leased_of.get(&namespace);
        more.map_or(before, |more| more.beside(before))
    }

    fn revision(&self) -> Revision {
        self.next
    }

    fn last(&self) -> Revision {
        self.last
    }

    fn now_ms(&self) -> u64 {
        self.time_ms
    }
}

impl BatchView<'_> {
    fn state_keys(
        &self,
        namespace: NamespaceId,
        range: &KeyRange,
        count_max: usize,
    ) -> Result<Vec<Bytes>, StoreError> {
        let mut keys = Vec::new();
        let mut rest = range.clone();
        while keys.len() < count_max {
            let limits = PageLimits {
                bytes_max: PAGE_BYTES,
                count_max: count_max - keys.len(),
            };
            let at = Revision(u64::MAX);
            let state = &self.core.state;
            let page = state.page_at(namespace, &rest, false, at, limits)?;
            let Some(last) = page.last() else {
                break;
            };
            rest.start = key::successor(&last.key);
            keys.extend(page.into_iter().map(|entry| entry.key));
        }
        Ok(keys)
    }
}

/// None for a range that holds nothing.
fn in_range<'a>(
    changes: &'a BTreeMap<Bytes, Made>,
    range: &KeyRange,
) -> Option<impl Iterator<Item = (&'a Bytes, &'a Made)> + use<'a>> {
    let end = match &range.end {
        Some(end) if *end <= range.start => return None,
        Some(end) => Bound::Excluded(&end[..]),
        None => Bound::Unbounded,
    };
    Some(changes.range::<[u8], _>((Bound::Included(&range.start[..]), end)))
}
