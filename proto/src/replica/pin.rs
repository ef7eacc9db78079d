//! Pages of one moment while changes go on.
//!
//! A pin keeps, for each key that changes after it, what the key had. Together with the present
//! entries that is the moment of the pin.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::Bytes;

use super::ordered::{Ordered, Packed, bounds};
use crate::limits::{PIN_BYTES_MAX, PINS_MAX};
use crate::wire::{Entry, KeyRange};

/// Holds a moment of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PinId(u64);

/// Some entries of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In the order asked for.
    pub entries: Vec<Entry>,
    /// What is left of the range; none when nothing is.
    pub rest: Option<KeyRange>,
}

/// Why a replica gives no page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// It does not hold everything: fetch from the owner.
    #[error("replica does not hold all entries")]
    NotHeld,
    /// More has changed since the pin than is kept for it, or there were too many pins, or the
    /// replica ceased to hold everything: start over.
    #[error("iteration took too long: its moment is no longer held")]
    Expired,
}

/// What each key had at the moment of a pin, of those that have changed since.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    before: BTreeMap<Bytes, Option<Packed>>,
    bytes: u64,
}

impl Overlay {
    /// How many keys there were, given those of the present.
    pub(super) fn count(&self, present: &Ordered) -> u64 {
        let had = self.before.values().flatten().count() as u64;
        let have = self
            .before
            .keys()
            .filter(|key| present.get(key).is_some())
            .count() as u64;
        present.count() - have + had
    }
}

/// All pins of a replica.
#[derive(Debug, Default)]
pub(super) struct Pins {
    overlays: BTreeMap<PinId, Overlay>,
    next: u64,
}

impl Pins {
    /// The oldest one expires where there are too many.
    pub(super) fn pin(&mut self) -> PinId {
        if self.overlays.len() >= PINS_MAX {
            self.overlays.pop_first();
        }
        let id = PinId(self.next);
        self.next += 1;
        self.overlays.insert(id, Overlay::default());
        id
    }

    pub(super) fn unpin(&mut self, pin: PinId) {
        self.overlays.remove(&pin);
    }

    pub(super) fn overlay(&self, pin: PinId) -> Result<&Overlay, PageError> {
        self.overlays.get(&pin).ok_or(PageError::Expired)
    }

    pub(super) fn expire_all(&mut self) {
        self.overlays.clear();
    }

    /// A key has changed; `old` is what it had.
    pub(super) fn record(&mut self, key: &[u8], old: Option<&Packed>) {
        if self.overlays.is_empty() {
            return;
        }
        self.overlays.retain(|_, overlay| {
            if !overlay.before.contains_key(key) {
                overlay.bytes += key.len() as u64 + old.map_or(0, Packed::bytes);
                overlay
                    .before
                    .insert(Bytes::copy_from_slice(key), old.cloned());
            }
            overlay.bytes <= PIN_BYTES_MAX
        });
    }
}

/// Entries of a range, as of the present or, with an overlay, of its moment.
pub(super) fn page(
    present: &Ordered,
    overlay: Option<&Overlay>,
    range: &KeyRange,
    reverse: bool,
    bytes_max: usize,
) -> Page {
    let empty = BTreeMap::new();
    let before = overlay.map_or(&empty, |overlay| &overlay.before);
    let present = present.range(range);
    let before = before.range::<[u8], _>(bounds(range));
    if reverse {
        fill(
            merge(present.rev(), before.rev(), true),
            range,
            reverse,
            bytes_max,
        )
    } else {
        fill(merge(present, before, false), range, reverse, bytes_max)
    }
}

/// Both in one order; where both have a key, what it had before.
fn merge<'a>(
    present: impl Iterator<Item = &'a Packed>,
    before: impl Iterator<Item = (&'a Bytes, &'a Option<Packed>)>,
    reverse: bool,
) -> impl Iterator<Item = &'a Packed> {
    let mut present = present.peekable();
    let mut before = before.peekable();
    let both = std::iter::from_fn(move || {
        let order = match (present.peek(), before.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(present), Some((key, _))) => {
                let order = present.key().cmp(key);
                if reverse { order.reverse() } else { order }
            }
        };
        let present = present.next_if(|_| order.is_le());
        let before = before.next_if(|_| order.is_ge());
        Some(before.map_or(present, |(_, had)| had.as_ref()))
    });
    both.flatten()
}

fn fill<'a>(
    entries: impl Iterator<Item = &'a Packed>,
    range: &KeyRange,
    reverse: bool,
    bytes_max: usize,
) -> Page {
    let mut page = Page {
        entries: Vec::new(),
        rest: None,
    };
    let mut bytes = 0;
    for packed in entries {
        bytes += packed.len();
        if bytes > bytes_max && !page.entries.is_empty() {
            page.rest = page
                .entries
                .last()
                .map(|last| rest_after(&last.key, range, reverse));
            break;
        }
        page.entries.push(Entry {
            key: Bytes::copy_from_slice(packed.key()),
            value: packed.value(),
            revision: packed.revision(),
        });
    }
    page
}

fn rest_after(last: &Bytes, range: &KeyRange, reverse: bool) -> KeyRange {
    if reverse {
        KeyRange {
            start: range.start.clone(),
            end: Some(last.clone()),
        }
    } else {
        KeyRange {
            start: crate::key::successor(last),
            end: range.end.clone(),
        }
    }
}
