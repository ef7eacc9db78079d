//! Whether what a transaction has read still stands.
//!
//! The owner checks it in the moment of the decision, so transactions are strictly serializable:
//! each happens as if it had read and written at its place in the one order.

use bytes::Bytes;

use super::{Changed, Place};
use crate::ids::Revision;
use crate::lease::{EntryKey, HeldLock};
use crate::operation::{Fence, KeyRead, Outcome};
use crate::wire::KeyRange;

/// What a transaction rests on.
pub(super) struct Reads<'a> {
    pub(super) keys: &'a [KeyRead],
    pub(super) ranges: &'a [KeyRange],
    pub(super) at: Revision,
    pub(super) fences: &'a [Fence],
}

/// Why it does not happen; none if it does.
pub(super) fn refuse<E>(reads: &Reads<'_>, place: &Place<'_, E>) -> Result<Option<Outcome>, E> {
    for fence in reads.fences {
        if held(&fence.name, place)?.map(|lock| lock.fence) != Some(fence.fence) {
            let name = fence.name.clone();
            return Ok(Some(Outcome::Fenced { name }));
        }
    }
    for read in reads.keys {
        let present = place.view.get(place.namespace, &read.key)?;
        let present = present.map(|present| present.revision);
        if present != read.revision {
            let key = read.key.clone();
            // A key that is gone went by the last revision at the latest.
            let revision = present.unwrap_or_else(|| place.view.last());
            return Ok(Some(Outcome::Conflict { key, revision }));
        }
    }
    if reads.ranges.is_empty() {
        return Ok(None);
    }
    let ranges = Ranges::new(reads.ranges);
    let changed = place.view.changed(place.namespace, reads.at, &ranges)?;
    Ok(match changed {
        Changed::Nothing => None,
        Changed::Key(key, revision) => Some(Outcome::Conflict { key, revision }),
        Changed::Unknown { oldest } => Some(Outcome::Outdated { oldest }),
    })
}

/// Who holds a lock.
pub(super) fn held<E>(name: &Bytes, place: &Place<'_, E>) -> Result<Option<HeldLock>, E> {
    let entry = EntryKey::Lock(place.namespace, name.clone());
    let value = place.entry(&entry)?;
    Ok(value.and_then(|value| HeldLock::decode(&value)))
}

/// Ranges in order, none of which touches another: a key is looked up, however many there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges(Vec<KeyRange>);

impl Ranges {
    /// What these contain together.
    #[must_use]
    pub fn new(ranges: &[KeyRange]) -> Self {
        let is_empty =
            |range: &&KeyRange| range.end.as_ref().is_some_and(|end| *end <= range.start);
        let mut sorted: Vec<_> = ranges.iter().filter(|range| !is_empty(range)).collect();
        sorted.sort_unstable_by(|one, other| one.start.cmp(&other.start));
        let mut merged: Vec<KeyRange> = Vec::with_capacity(sorted.len());
        for range in sorted {
            match merged.last_mut() {
                Some(last) if last.end.as_ref().is_none_or(|end| range.start <= *end) => {
                    let ends = (last.end.take(), range.end.clone());
                    last.end = match ends {
                        (Some(one), Some(other)) => Some(one.max(other)),
                        _ => None,
                    };
                }
                _ => merged.push(range.clone()),
            }
        }
        Self(merged)
    }

    /// Whether a key lies in one of them.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        let after = self.0.partition_point(|range| &range.start[..] <= key);
        after > 0 && self.0[after - 1].contains(key)
    }

    /// Each of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &KeyRange> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_range() -> impl Strategy<Value = KeyRange> {
        (0..12_u8, proptest::option::of(0..12_u8)).prop_map(|(start, end)| KeyRange {
            start: Bytes::from(vec![start]),
            end: end.map(|end| Bytes::from(vec![end])),
        })
    }

    proptest! {
        #[test]
        fn merged_ranges_contain_what_any_of_them_does(
            ranges in proptest::collection::vec(any_range(), 0..6),
        ) {
            let merged = Ranges::new(&ranges);
            for key in 0..14_u8 {
                let expected = ranges.iter().any(|range| range.contains(&[key]));
                prop_assert_eq!(merged.contains(&[key]), expected);
            }
        }
    }
}
