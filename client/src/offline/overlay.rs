//! What this handle's queued writes make of the dictionary, before any owner has them.

use std::collections::BTreeMap;

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::wire::KeyRange;

/// The changes of queued writes, by key and then by write: the last one counts.
#[derive(Debug, Default)]
pub(super) struct Overlay(BTreeMap<Bytes, BTreeMap<u64, Option<Bytes>>>);

impl Overlay {
    /// A queued write makes these changes.
    pub(super) fn add(&mut self, entry: u64, changes: &[Change]) {
        for change in changes {
            let of_key = self.0.entry(change.key.clone()).or_default();
            of_key.insert(entry, change.value.clone());
        }
    }

    /// A write is queued no longer.
    pub(super) fn remove(&mut self, entry: u64, changes: &[Change]) {
        for change in changes {
            if let Some(of_key) = self.0.get_mut(&change.key) {
                of_key.remove(&entry);
                if of_key.is_empty() {
                    self.0.remove(&change.key);
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The stored value of a key, if queued writes have a say in it.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<Bytes>> {
        let of_key = self.0.get(key)?;
        of_key.last_key_value().map(|(_, value)| value.clone())
    }

    /// The keys of a range that queued writes have a say in, with their stored values.
    pub(super) fn range(&self, range: &KeyRange) -> Vec<(Bytes, Option<Bytes>)> {
        let from = self.0.range(range.start.clone()..);
        from.take_while(|(key, _)| range.contains(key))
            .filter_map(|(key, of_key)| {
                let (_, value) = of_key.last_key_value()?;
                Some((key.clone(), value.clone()))
            })
            .collect()
    }
}

/// Puts queued changes into a page of a scan. `queued` is in the order of the scan, and holds what
/// is still to come; `page` is empty at the end of the scan.
pub(crate) fn merge<V: From<Bytes>>(
    page: Vec<(Bytes, V)>,
    queued: &mut std::collections::VecDeque<(Bytes, Option<Bytes>)>,
    reverse: bool,
) -> Vec<(Bytes, V)> {
    let last = page.last().map(|(key, _)| key.clone());
    let within = |key: &Bytes| match (&last, reverse) {
        (None, _) => true,
        (Some(last), false) => key <= last,
        (Some(last), true) => key >= last,
    };
    let mut changed = BTreeMap::new();
    while queued.front().is_some_and(|(key, _)| within(key)) {
        changed.extend(queued.pop_front());
    }
    if changed.is_empty() {
        return page;
    }
    let mut merged: BTreeMap<Bytes, V> = page.into_iter().collect();
    for (key, value) in changed {
        match value {
            Some(value) => drop(merged.insert(key, value.into())),
            None => drop(merged.remove(&key)),
        }
    }
    let mut merged: Vec<_> = merged.into_iter().collect();
    if reverse {
        merged.reverse();
    }
    merged
}
