//! What stands on the wire of keys: ranges, entries, versions, and the changes of a transaction.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::effect::{Cause, Change};
use crate::ids::{Origin, Revision};

/// A half-open range of encoded keys.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KeyRange {
    /// First key, included. Empty for "from the first".
    pub start: Bytes,
    /// End, not included; none for "to the last".
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// Whether a key lies in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && self.end.as_ref().is_none_or(|end| key < &end[..])
    }
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The encoded key.
    pub key: Bytes,
    /// The stored value.
    pub value: Bytes,
    /// When it was written.
    pub revision: Revision,
}

/// What a key was from one revision on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The revision that wrote it.
    pub revision: Revision,
    /// The owner's clock when it was decided, milliseconds since 1970; none where only a snapshot
    /// tells of it.
    pub time_ms: Option<u64>,
    /// The stored value; none when the key was removed.
    pub value: Option<Bytes>,
    /// What came before is no longer kept: this is how the key was at the oldest revision kept.
    pub is_oldest_known: bool,
}

/// One transaction as a subscriber sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place in the one order.
    pub revision: Revision,
    /// The owner's clock when it was decided, milliseconds since 1970.
    pub time_ms: u64,
    /// Who asked for it.
    pub origin: Option<Origin>,
    /// Why it happened.
    pub cause: Cause,
    /// Its changes inside the range, in the order they were made.
    pub changes: Vec<Change>,
}
