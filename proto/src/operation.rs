//! What a caller asks of a dictionary, and what came of it.
//!
//! An operation is decided once, by the owner, in the order of arrival; the log keeps the effects
//! and the outcome, never the operation.

use bytes::Bytes;

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
    /// `count_max` means that nothing is left there.
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
        changes: Vec<crate::effect::Change>,
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
    /// The counter's new value.
    Number(i64),
}

crate::numbered::serde_numbered!(Operation {
    0 => Put { key: key, value: value },
    1 => Delete { key: key },
    2 => DeleteRange { start: start, end: end, count_max: count_max },
    3 => CompareAndSet { key: key, expected: expected, new: new },
    4 => Increment { key: key, by: by },
    5 => Batch { changes: changes },
});

crate::numbered::serde_numbered!(Outcome {
    0 => Done {},
    1 => Deleted { 0: count },
    2 => Swapped { 0: swapped },
    3 => Number { 0: number },
});
