//! Entries in key order, each in one allocation.
//!
//! A tree of `(key, value)` pairs would take three allocations and some 100 bytes beside each; an
//! entry here takes its bytes, ten more, and about 60 in the tree (`proto/tests/memory.rs`).

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;

use bytes::{Buf, BufMut, Bytes};

use crate::ids::Revision;
use crate::wire::KeyRange;

/// What an entry takes beside key and value, about: its header, its place in the tree, the
/// allocator's share.
const ENTRY_OVERHEAD_BYTES: u64 = 80;

/// Values from here up are given to readers as slices of the entry; copying a shorter one costs
/// less than sharing it.
const SHARED_BYTES_MIN: usize = 1 << 10;

/// Revision (u64) and length of the key (u16), before key and value.
const HEADER_BYTES: usize = 10;

/// Revision, key and value of an entry, in one allocation. Compares as its key.
#[derive(Debug, Clone)]
pub(super) struct Packed(Bytes);

impl Packed {
    /// The caller has checked the key, so its length fits.
    pub(super) fn new(key: &[u8], value: &[u8], revision: Revision) -> Self {
        let mut packed = Vec::with_capacity(HEADER_BYTES + key.len() + value.len());
        packed.put_u64(revision.0);
        packed.put_u16(u16::try_from(key.len()).expect("keys are shorter than 64 KiB"));
        packed.put_slice(key);
        packed.put_slice(value);
        Self(packed.into_boxed_slice().into())
    }

    pub(super) fn revision(&self) -> Revision {
        Revision((&self.0[..]).get_u64())
    }

    fn value_start(&self) -> usize {
        HEADER_BYTES + usize::from((&self.0[8..]).get_u16())
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.0[HEADER_BYTES..self.value_start()]
    }

    /// The value, for a reader.
    pub(super) fn value(&self) -> Bytes {
        let start = self.value_start();
        if self.0.len() - start < SHARED_BYTES_MIN {
            return Bytes::copy_from_slice(&self.0[start..]);
        }
        self.0.slice(start..)
    }

    pub(super) fn into_value(mut self) -> Bytes {
        self.0.advance(self.value_start());
        self.0
    }

    pub(super) fn value_bytes(&self) -> &[u8] {
        &self.0[self.value_start()..]
    }

    /// Bytes of key and value.
    pub(super) fn len(&self) -> usize {
        self.0.len() - HEADER_BYTES
    }

    /// What it counts for.
    pub(super) fn bytes(&self) -> u64 {
        self.len() as u64 + ENTRY_OVERHEAD_BYTES
    }
}

impl Ord for Packed {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(other.key())
    }
}

impl PartialOrd for Packed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Packed {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Packed {}

impl Borrow<[u8]> for Packed {
    fn borrow(&self) -> &[u8] {
        self.key()
    }
}

/// Entries in key order.
#[derive(Debug, Default)]
pub(super) struct Ordered {
    entries: BTreeSet<Packed>,
    bytes: u64,
}

impl Ordered {
    pub(super) fn get(&self, key: &[u8]) -> Option<&Packed> {
        self.entries.get(key)
    }

    /// Puts an entry; gives the one that its key had.
    pub(super) fn put(&mut self, entry: Packed) -> Option<Packed> {
        self.bytes += entry.bytes();
        let old = self.entries.replace(entry);
        self.bytes -= old.as_ref().map_or(0, Packed::bytes);
        old
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Packed> {
        let old = self.entries.take(key);
        self.bytes -= old.as_ref().map_or(0, Packed::bytes);
        old
    }

    pub(super) fn last(&self) -> Option<&Packed> {
        self.entries.last()
    }

    pub(super) fn count(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn range(&self, range: &KeyRange) -> impl DoubleEndedIterator<Item = &Packed> {
        self.entries.range::<[u8], _>(bounds(range))
    }

    pub(super) fn into_entries(self) -> impl Iterator<Item = Packed> {
        self.entries.into_iter()
    }

    /// What `new` holds in another way than this: before and after, in key order.
    pub(super) fn differences<'a>(
        &'a self,
        new: &'a Self,
    ) -> impl Iterator<Item = (Option<&'a Packed>, Option<&'a Packed>)> {
        differences(self.entries.iter(), new.entries.iter())
    }
}

/// What `after` holds in another way than `before`, both in key order: before and after.
pub(super) fn differences<'a>(
    before: impl Iterator<Item = &'a Packed>,
    after: impl Iterator<Item = &'a Packed>,
) -> impl Iterator<Item = (Option<&'a Packed>, Option<&'a Packed>)> {
    let mut before = before.peekable();
    let mut after = after.peekable();
    let pairs = std::iter::from_fn(move || {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(before), Some(after)) => before.cmp(after),
        };
        Some((
            before.next_if(|_| order.is_le()),
            after.next_if(|_| order.is_ge()),
        ))
    });
    pairs.filter(|pair| match pair {
        // Another history may have given the revision to another value.
        (Some(before), Some(after)) => {
            before.revision() != after.revision() || before.value_bytes() != after.value_bytes()
        }
        _ => true,
    })
}

/// The bounds of a range, in a form that a tree takes even where nothing can be inside.
pub(super) fn bounds(range: &KeyRange) -> (Bound<&[u8]>, Bound<&[u8]>) {
    let start = &range.start[..];
    let end = range.end.as_ref().map(|end| (&end[..]).max(start));
    (
        Bound::Included(start),
        end.map_or(Bound::Unbounded, Bound::Excluded),
    )
}
