//! What stands on the wire when a follower's log does not reach back: digests, and gaps.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::Revision;

/// Bytes of a [`Digest`]'s hash: half of a SHA-256, which nobody finds a second text for.
pub const DIGEST_HASH_BYTES: usize = 16;

/// What a follower has as of the position it gives: that decides what it is sent where the log
/// does not lead on from there. Written as its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Held {
    /// Nothing: it wants every change, and hears which ones it cannot have (`Feed::Gap`).
    Nothing = 0,
    /// Some of the entries: it drops them, and follows from the present on (`Feed::Skip`).
    Part = 1,
    /// Every entry of the range: it gets those that differ (`Feed::Compare`).
    Whole = 2,
}

impl Held {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The one with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Nothing),
            1 => Some(Self::Part),
            2 => Some(Self::Whole),
            _ => None,
        }
    }
}

/// What a follower holds of a block: the keys behind the block before it (at first: from the start
/// of the range) up to its last key. `crate::digest::BlockHasher` makes count and hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// The last key of the block, included; none for "to the end of the range", which ends the
    /// digests.
    pub through: Option<Bytes>,
    /// Keys in the block.
    pub count: u64,
    /// Over key, revision and value of each entry.
    pub hash: [u8; DIGEST_HASH_BYTES],
}

/// Changes that a follower of every change cannot have any more.
///
/// On the same history those are the revisions above `after`, up to and including `oldest`. On
/// another one the follower has seen changes that are not part of it: what it knows of the
/// revisions above `oldest` may have been taken back, and how it was is told anew from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The revision that the follower stands at.
    pub after: Revision,
    /// The oldest revision that it can go on from: every later change is still kept.
    pub oldest: Revision,
    /// Whether the follower's position lies on the owner's history.
    pub same_history: bool,
}
