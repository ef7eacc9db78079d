//! What a caller asks of a dictionary, and what came of it.
//!
//! An operation is decided once, by the owner, in the order of arrival; the log keeps the effects
//! and the outcome, never the operation.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::effect::Change;
use crate::evaluate::{CHANGE_OVERHEAD_BYTES, change_bytes};
use crate::ids::{ChunkId, LeaseId, Revision};
use crate::wire::KeyRange;

/// A request to change a dictionary. Keys are encoded keys, values are stored values.
///
/// The variants' order is their wire number: append only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Put one value. Outcome: [`Outcome::Done`].
    Put {
        /// Under this key.
        key: Bytes,
        /// This stored value.
        value: Bytes,
    },
    /// Remove one key. Outcome: [`Outcome::Deleted`] with 0 or 1.
    Delete {
        /// The key to remove.
        key: Bytes,
    },
    /// Remove the first `count_max` keys of a range. Outcome: [`Outcome::Deleted`]; fewer than
    /// `count_max` means that nothing is left there, if that is not above
    /// `limits::RANGE_REMOVAL_COUNT_MAX`.
    DeleteRange {
        /// First key, included.
        start: Bytes,
        /// End of the range, not included; none for "to the last key".
        end: Option<Bytes>,
        /// At most this many, themselves bounded by the size of a transaction.
        count_max: u32,
    },
    /// Put (or, with no `new`, remove) if the present value is `expected`, compared as plain
    /// payload bytes, whatever codec stores it. Outcome: [`Outcome::Swapped`].
    CompareAndSet {
        /// The key to look at and to change.
        key: Bytes,
        /// The plain payload that must be there; none for "no such key".
        expected: Option<Bytes>,
        /// The stored value to put; none to remove the key.
        new: Option<Bytes>,
    },
    /// Add to an integer, counting a missing key as 0. Outcome: [`Outcome::Number`].
    Increment {
        /// The counter.
        key: Bytes,
        /// What to add; may be negative.
        by: i64,
    },
    /// Several unconditional changes at once, the later ones over the earlier. Outcome:
    /// [`Outcome::Done`].
    Batch {
        /// The changes.
        changes: Vec<Change>,
    },
    /// Several changes at once, if nothing that was read for them has changed since. Outcome:
    /// [`Outcome::Done`]; [`Outcome::Conflict`], [`Outcome::Outdated`] or [`Outcome::Fenced`], and
    /// then nothing is changed.
    Transact {
        /// Keys that were read.
        reads: Vec<KeyRead>,
        /// Ranges that were read whole, as of `at`: no key in them may have come, gone or changed.
        ranges: Vec<KeyRange>,
        /// The revision as of which the ranges were read; without meaning when there are none.
        at: Revision,
        /// Locks that must be held.
        fences: Vec<Fence>,
        /// The changes, the later ones over the earlier.
        changes: Vec<Change>,
    },
    /// Change a part of a value, whatever else it holds. The time to live of the key stays.
    /// Outcome: [`Outcome::Number`], see [`Edit`]; or [`Outcome::Conflict`], and then nothing is
    /// changed.
    Patch {
        /// The key.
        key: Bytes,
        /// What to change.
        patch: Patch,
    },
    /// Put one value that is removed by itself: after a time, with a lease, or with whichever
    /// ends first. Outcome: [`Outcome::Done`].
    PutLeased {
        /// Under this key.
        key: Bytes,
        /// This stored value.
        value: Bytes,
        /// Milliseconds from the decision on; none for "as long as the lease".
        ttl_ms: Option<u64>,
        /// The lease; none for "by time alone".
        lease: Option<LeaseId>,
    },
    /// Begin a lease. Outcome: [`Outcome::Lease`].
    GrantLease {
        /// Milliseconds that it lasts after it was last kept.
        ttl_ms: u64,
        /// It is kept by the connection that asked for it, and ends with that.
        presence: bool,
    },
    /// End a lease, and with it every key and lock under it. Outcome: [`Outcome::Deleted`], with how
    /// many keys were removed.
    RevokeLease {
        /// Which.
        lease: LeaseId,
    },
    /// Take a lock that nobody holds, until it is given back or the lease ends. Taking one that is
    /// held under the same lease gives the same fence. Outcome: [`Outcome::Locked`].
    Lock {
        /// The name of the lock, as an encoded key.
        name: Bytes,
        /// The lease.
        lease: LeaseId,
    },
    /// Give a lock back, if it is still the one with this fence. Outcome: [`Outcome::Swapped`].
    Unlock {
        /// The name of the lock, as an encoded key.
        name: Bytes,
        /// What taking it gave.
        fence: Revision,
    },
    /// Nothing: after it, no earlier operation of the session that was not decided is decided any
    /// more. Outcome: [`Outcome::Done`].
    Settle,
    /// Keep a zstd dictionary for the values of this namespace, for good, and make it the present
    /// one. Refused when there are `limits::DICTIONARIES_MAX`. Outcome: [`Outcome::Number`], its
    /// name; the same if it was there.
    AddDictionary {
        /// As zstd reads it.
        bytes: Bytes,
    },
}

impl Operation {
    /// What it counts in the window of operations in flight: about its bytes on the wire.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let changed = |changes: &[Change]| -> usize {
            let bytes = |change: &Change| change_bytes(&change.key, change.value.as_deref());
            changes.iter().map(bytes).sum()
        };
        CHANGE_OVERHEAD_BYTES
            + match self {
                Self::Put { key, value } | Self::PutLeased { key, value, .. } => {
                    key.len() + value.len()
                }
                Self::Delete { key } | Self::Increment { key, .. } => key.len(),
                Self::DeleteRange { start, end, .. } => start.len() + len(end),
                Self::CompareAndSet { key, expected, new } => key.len() + len(expected) + len(new),
                Self::Batch { changes } => changed(changes),
                Self::Transact {
                    reads,
                    ranges,
                    fences,
                    changes,
                    ..
                } => {
                    let read = |read: &KeyRead| read.key.len() + CHANGE_OVERHEAD_BYTES;
                    let range = |range: &KeyRange| range.start.len() + len(&range.end);
                    let fence = |fence: &Fence| fence.name.len() + CHANGE_OVERHEAD_BYTES;
                    reads.iter().map(read).sum::<usize>()
                        + ranges.iter().map(range).sum::<usize>()
                        + fences.iter().map(fence).sum::<usize>()
                        + changed(changes)
                }
                Self::Patch { key, patch } => key.len() + patch.bytes(),
                Self::Lock { name, .. } | Self::Unlock { name, .. } => name.len(),
                Self::AddDictionary { bytes } => bytes.len(),
                Self::GrantLease { .. } | Self::RevokeLease { .. } | Self::Settle => 0,
            }
    }
}

impl Patch {
    /// What it counts in the window of operations in flight: about its bytes on the wire.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let step = |step: &Step| match step {
            Step::Field { key } => CHANGE_OVERHEAD_BYTES + key.len(),
            Step::Index { .. } => CHANGE_OVERHEAD_BYTES,
        };
        self.path.iter().map(step).sum::<usize>() + self.edit.bytes()
    }

    /// Whether it means the same only as long as nobody else has changed the value: it names an
    /// index or an order.
    #[must_use]
    pub fn needs_revision(&self) -> bool {
        let is_index = |step: &Step| matches!(step, Step::Index { .. });
        matches!(self.edit, Edit::Splice { .. } | Edit::Replace { .. })
            || self.path.iter().any(is_index)
    }
}

impl From<Edit> for Patch {
    /// An edit of the whole value of a key, which is made if it is not there.
    fn from(edit: Edit) -> Self {
        Self {
            path: Vec::new(),
            revision: None,
            create: edit.creates(),
            edit,
        }
    }
}

impl Edit {
    /// Whether it can begin with nothing.
    #[must_use]
    pub fn creates(&self) -> bool {
        match self {
            Self::Append { .. } | Self::Add { .. } | Self::Discard { .. } => true,
            Self::Merge { .. } | Self::AddNumber { .. } => true,
            Self::SetField { .. } | Self::DeleteField { .. } | Self::Remove { .. } => false,
            Self::Clear | Self::Splice { .. } | Self::Replace { .. } => false,
        }
    }

    fn bytes(&self) -> usize {
        let item = |item: &Bytes| item.len();
        match self {
            Self::Append { items }
            | Self::Add { items }
            | Self::Discard { items }
            | Self::Splice { items, .. } => items.iter().map(item).sum(),
            Self::SetField { field, value } => field.len() + value.len(),
            Self::DeleteField { field: item } | Self::Remove { item } => item.len(),
            Self::Merge { fields } => {
                let field = |(field, value): &(Bytes, Bytes)| field.len() + value.len();
                fields.iter().map(field).sum()
            }
            Self::Replace { value } => value.len(),
            Self::AddNumber { .. } | Self::Clear => 0,
        }
    }
}

/// A key that a transaction has read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRead {
    /// The encoded key.
    pub key: Bytes,
    /// The revision that wrote what was read; none for "there was no such key".
    pub revision: Option<Revision>,
}

/// A lock that must be held for a transaction to happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The name of the lock, as an encoded key.
    pub name: Bytes,
    /// What taking it gave.
    pub fence: Revision,
}

/// A change of a part of a value: which part, under what condition, and what happens to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    /// The way from the value of the key to the part; empty for the value itself. At most
    /// `limits::PATCH_STEPS_MAX` steps.
    pub path: Vec<Step>,
    /// The revision that wrote what the caller has read; another one there is an
    /// [`Outcome::Conflict`]. Needed where the path or the edit names an index or an order.
    pub revision: Option<Revision>,
    /// Whether a part that is not there counts as an empty one, or as 0; its container must be
    /// there. Only for [`Edit::Append`], [`Edit::Add`], [`Edit::Discard`], [`Edit::Merge`] and
    /// [`Edit::AddNumber`].
    pub create: bool,
    /// What happens to the part.
    pub edit: Edit,
}

/// One step of the way to a part of a value. The variants' order is their wire number: append only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// To a value of a dict.
    Field {
        /// The plain payload of its key.
        key: Bytes,
    },
    /// To an element of a list.
    Index {
        /// Its place, counted from 0.
        index: u32,
    },
}

/// What happens to a part of a value. Items, fields and values are plain payloads. The variants'
/// order is their wire number: append only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Add to the end of a list. The number is the list's new length.
    Append {
        /// What to add, in order.
        items: Vec<Bytes>,
    },
    /// Add to a set. The number is how many were not there.
    Add {
        /// What to add.
        items: Vec<Bytes>,
    },
    /// Remove from a set. The number is how many were there.
    Discard {
        /// What to remove.
        items: Vec<Bytes>,
    },
    /// Put one value into a dict. The number is 1 if the field is new, else 0.
    SetField {
        /// The key in the dict.
        field: Bytes,
        /// What to put there.
        value: Bytes,
    },
    /// Remove one key of a dict. The number is 1 if it was there, else 0.
    DeleteField {
        /// The key in the dict.
        field: Bytes,
    },
    /// Remove the first element of a list that is this one. The number is 1 if there was one, else
    /// 0.
    Remove {
        /// The element.
        item: Bytes,
    },
    /// Add to an integer. The number is what it is then.
    AddNumber {
        /// What to add; may be negative.
        by: i64,
    },
    /// Put several values into a dict, the later ones over the earlier. The number is how many
    /// fields are new.
    Merge {
        /// Key and value of each.
        fields: Vec<(Bytes, Bytes)>,
    },
    /// Empty a dict, a list or a set. The number is how many items it had.
    Clear,
    /// Put elements of a list in the place of others. The number is the list's new length.
    Splice {
        /// The place of the first that goes, counted from 0; at most the length.
        start: u32,
        /// How many go; all that are left if there are fewer.
        delete_count: u32,
        /// What comes there.
        items: Vec<Bytes>,
    },
    /// Put a value in the place of the part. The number is 0.
    Replace {
        /// The new value.
        value: Bytes,
    },
}

/// What came of an operation. The variants' order is their wire number: append only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// So many keys were removed.
    Deleted(u64),
    /// Whether the expected value was there, and so the new one is now.
    Swapped(bool),
    /// The counter's new value, or what [`Edit`] says.
    Number(i64),
    /// The lease that was granted.
    Lease(LeaseId),
    /// The lock's fence, larger than that of every earlier holder; none while another lease holds
    /// it.
    Locked(Option<Revision>),
    /// Not done: what was read has changed.
    Conflict {
        /// The encoded key that has changed.
        key: Bytes,
        /// The revision up to which a reader has to be to see why.
        revision: Revision,
    },
    /// Not done: the ranges were read so long ago that what has changed since is not known.
    Outdated {
        /// A revision since which it is known.
        oldest: Revision,
    },
    /// Not done: the lock is not held with that fence any more.
    Fenced {
        /// The name of the lock, as an encoded key.
        name: Bytes,
    },
    /// Not done: chunks that its values name are not there.
    NeedChunks {
        /// Which, at most `limits::CHUNKS_ASKED_MAX` of them.
        ids: Vec<ChunkId>,
    },
}

crate::numbered::serde_numbered!(Operation {
    0 => Put { key: key, value: value },
    1 => Delete { key: key },
    2 => DeleteRange { start: start, end: end, count_max: count_max },
    3 => CompareAndSet { key: key, expected: expected, new: new },
    4 => Increment { key: key, by: by },
    5 => Batch { changes: changes },
    6 => Transact { reads: reads, ranges: ranges, at: at, fences: fences, changes: changes },
    7 => Patch { key: key, patch: patch },
    8 => PutLeased { key: key, value: value, ttl_ms: ttl_ms, lease: lease },
    9 => GrantLease { ttl_ms: ttl_ms, presence: presence },
    10 => RevokeLease { lease: lease },
    11 => Lock { name: name, lease: lease },
    12 => Unlock { name: name, fence: fence },
    13 => Settle {},
    20 => AddDictionary { bytes: bytes },
});

crate::numbered::serde_numbered!(Step {
    0 => Field { key: key },
    1 => Index { index: index },
});

crate::numbered::serde_numbered!(Edit {
    0 => Append { items: items },
    1 => Add { items: items },
    2 => Discard { items: items },
    3 => SetField { field: field, value: value },
    4 => DeleteField { field: field },
    5 => Remove { item: item },
    6 => AddNumber { by: by },
    7 => Merge { fields: fields },
    8 => Clear {},
    9 => Splice { start: start, delete_count: delete_count, items: items },
    10 => Replace { value: value },
});

crate::numbered::serde_numbered!(Outcome {
    0 => Done {},
    1 => Deleted { 0: count },
    2 => Swapped { 0: swapped },
    3 => Number { 0: number },
    4 => Lease { 0: lease },
    5 => Locked { 0: fence },
    6 => Conflict { key: key, revision: revision },
    7 => Outdated { oldest: oldest },
    8 => Fenced { name: name },
    16 => NeedChunks { ids: ids },
});
