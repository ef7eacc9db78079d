//! Catching up by difference: digests of what is held go out, the blocks that differ come in.
//!
//! ```text
//! owner                               replica
//! Compare { round, position }  ---->
//!                              <----  digests(): blocks that cover the range, page by page
//! Replace { range, entries }   ---->  staged
//! Complete { position }        ---->  all of it applied in one step
//! ```
//!
//! The replica cuts the blocks, by what it holds, so that the owner needs no memory of it: a block
//! has about as many bytes as the digests of all blocks together, which makes the cost of one
//! changed key the least. Nothing changes before the last frame, so readers keep the old state and
//! digests can be made at leisure.
//!
//! A replica that holds a part answers with no digests at all, and is told to skip.

use bytes::Bytes;

use super::cache::Cache;
use super::error::ReplicaError;
use super::follow::Phase;
use super::ordered::{Ordered, Packed, differences};
use super::{Applied, Exchanged, Holding, Replica, Sink};
use crate::digest::BlockHasher;
use crate::ids::{Position, Revision};
use crate::key::{self, successor};
use crate::limits::{
    BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, DIGEST_STEP_BYTES, DIGESTS_BYTES_MAX, DIGESTS_MAX,
    KEY_BYTES_MAX,
};
use crate::wire::{Digest, Entry, KeyRange};

/// What a digest takes on the wire, about: a key, a hash, a count.
const DIGEST_BYTES: u64 = 40;

/// What a block that is staged takes beside its keys and entries, about.
const BLOCK_OVERHEAD_BYTES: u64 = 96;

/// Which digests were given of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestCursor {
    round: u32,
    /// Where the next block begins; none once all were given.
    from: Option<Bytes>,
    block_bytes: u64,
}

/// What arrives of a difference.
#[derive(Debug)]
pub(super) struct Difference {
    round: u32,
    /// What it leads to.
    position: Position,
    /// Whether that is of the history of what is held.
    same_history: bool,
    replaced: Vec<Replaced>,
    bytes: u64,
    /// More than is held whole: none of it is kept.
    is_too_much: bool,
}

#[derive(Debug)]
struct Replaced {
    range: KeyRange,
    entries: Vec<Packed>,
}

impl DigestCursor {
    /// The number that goes with the digests.
    #[must_use]
    pub fn round(&self) -> u32 {
        self.round
    }
}

impl Replica {
    /// The comparison that the owner waits for digests of, if it does. Ask after each
    /// [`feed`](Self::feed) of a [`Feed::Compare`](crate::wire::Feed::Compare), and send what
    /// [`digests`](Self::digests) gives.
    #[must_use]
    pub fn comparison(&self) -> Option<DigestCursor> {
        let difference = self.difference.as_ref()?;
        let bytes = self.bytes().saturating_mul(DIGEST_BYTES).isqrt();
        Some(DigestCursor {
            round: difference.round,
            from: Some(self.range.start.clone()),
            block_bytes: bytes.clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX),
        })
    }

    /// The next digests for one request: at most `limits::DIGESTS_MAX`, over about
    /// `limits::DIGEST_STEP_BYTES`; none once all were given, or when the comparison is over.
    #[must_use]
    pub fn digests(&self, cursor: &mut DigestCursor) -> Option<Vec<Digest>> {
        let is_current = |difference: &Difference| difference.round == cursor.round;
        if !self.difference.as_ref().is_some_and(is_current) {
            return None;
        }
        let start = cursor.from.take()?;
        let Holding::Whole(ordered) = &self.holding else {
            return Some(Vec::new());
        };
        let end = self.range.end.clone();
        let rest = KeyRange { start, end };
        let (digests, from) = digest_page(ordered, &rest, cursor.block_bytes);
        cursor.from = from;
        Some(digests)
    }

    /// The owner compares: what was staged before is void.
    pub(super) fn compare(
        &mut self,
        round: u32,
        position: Position,
        same_history: bool,
    ) -> Result<(), ReplicaError> {
        self.check_not_back(&position)?;
        self.phase = Phase::Comparing;
        self.staging = None;
        self.difference = Some(Difference {
            round,
            position,
            same_history,
            replaced: Vec::new(),
            bytes: 0,
            is_too_much: false,
        });
        Ok(())
    }

    pub(super) fn stage_block(
        &mut self,
        range: KeyRange,
        entries: &[Entry],
    ) -> Result<(), ReplicaError> {
        self.check_block(&range, entries)?;
        let Some(difference) = &mut self.difference else {
            return Ok(());
        };
        let pack = |entry: &Entry| Packed::new(&entry.key, &entry.value, entry.revision);
        let entries: Vec<Packed> = entries.iter().map(pack).collect();
        difference.bytes += entries.iter().map(Packed::bytes).sum::<u64>();
        difference.bytes += block_bytes(&range);
        difference.is_too_much |= self.mode.is_passed_by(difference.bytes);
        if difference.is_too_much {
            difference.replaced.clear();
        } else {
            difference.replaced.push(Replaced { range, entries });
        }
        Ok(())
    }

    /// A block lies inside the range and behind those before; its entries lie inside it, in order.
    fn check_block(&self, range: &KeyRange, entries: &[Entry]) -> Result<(), ReplicaError> {
        let replaced = self.difference.as_ref().map(|d| &d.replaced[..]);
        let last = replaced.and_then(<[_]>::last);
        let floor = match last {
            Some(Replaced { range, .. }) => range.end.as_ref(),
            None => Some(&self.range.start),
        };
        let is_behind = floor.is_some_and(|floor| range.start >= *floor);
        // One without a key in it could be repeated for ever.
        let is_empty = range.end.as_ref().is_some_and(|end| *end <= range.start);
        let is_inside = match (&range.end, &self.range.end) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(end), Some(limit)) => end <= limit,
        };
        if !is_behind || !is_inside || is_empty {
            return Err(ReplicaError::BlockOutOfPlace(key::describe(&range.start)));
        }
        for (place, entry) in entries.iter().enumerate() {
            self.check_entry(&entry.key, Some(&entry.value))?;
            let is_behind = place == 0 || entries[place - 1].key < entry.key;
            if !is_behind || !range.contains(&entry.key) {
                return Err(ReplicaError::OutOfOrder(key::describe(&entry.key)));
            }
        }
        Ok(())
    }

    /// Everything that differs has come: takes its place in one step.
    pub(super) fn complete_difference(
        &mut self,
        position: Position,
        sink: &mut dyn Sink,
    ) -> Result<(), ReplicaError> {
        let is_announced = |difference: &Difference| difference.position == position;
        if !self.difference.as_ref().is_some_and(is_announced) {
            return Err(ReplicaError::OtherDifference(position.revision));
        }
        let difference = self.difference.take();
        let same_history = difference.as_ref().is_some_and(|d| d.same_history);
        self.phase = Phase::Following;
        self.last = position.revision;
        self.position = Some(position);
        let is_too_much = difference.as_ref().is_none_or(|d| d.is_too_much);
        if is_too_much || self.is_partial() {
            self.hold_part(Cache::default(), position.revision);
            sink.exchanged(Exchanged {
                told: false,
                same_history,
            });
            return Ok(());
        }
        for replaced in difference.into_iter().flat_map(|d| d.replaced) {
            self.replace(&replaced, position.revision, sink);
        }
        sink.exchanged(Exchanged {
            told: true,
            same_history,
        });
        self.shrink();
        Ok(())
    }

    fn replace(&mut self, replaced: &Replaced, revision: Revision, sink: &mut dyn Sink) {
        let Holding::Whole(ordered) = &mut self.holding else {
            return;
        };
        let old: Vec<Packed> = ordered.range(&replaced.range).cloned().collect();
        for (before, after) in differences(old.iter(), replaced.entries.iter()) {
            let key = before.or(after).map(Packed::key).unwrap_or_default();
            self.pins.record(key, before);
            match after {
                Some(after) => ordered.put(after.clone()),
                None => ordered.remove(key),
            };
            sink.applied(Applied::of_difference(before, after, revision));
        }
    }

    /// What is held, of which only a part, is void.
    pub(super) fn skip(
        &mut self,
        position: Position,
        sink: &mut dyn Sink,
    ) -> Result<(), ReplicaError> {
        self.check_not_back(&position)?;
        let same_history = self
            .position
            .is_some_and(|from| from.epoch == position.epoch);
        self.difference = None;
        self.phase = Phase::Following;
        self.last = position.revision;
        self.position = Some(position);
        self.hold_part(Cache::default(), position.revision);
        sink.exchanged(Exchanged {
            told: false,
            same_history,
        });
        Ok(())
    }

    /// Within one epoch nothing goes back; another one may be of another history.
    fn check_not_back(&self, to: &Position) -> Result<(), ReplicaError> {
        match &self.position {
            Some(from) if from.epoch == to.epoch && to.revision < from.revision => {
                Err(ReplicaError::Backwards {
                    from: from.revision,
                    to: to.revision,
                })
            }
            _ => Ok(()),
        }
    }
}

/// What a block takes beside its entries, about.
fn block_bytes(range: &KeyRange) -> u64 {
    let key_bytes = range.start.len() + range.end.as_ref().map_or(0, Bytes::len);
    key_bytes as u64 + BLOCK_OVERHEAD_BYTES
}

/// Digests of blocks from the start of a range, and where the next one begins.
fn digest_page(
    ordered: &Ordered,
    rest: &KeyRange,
    block_bytes: u64,
) -> (Vec<Digest>, Option<Bytes>) {
    let mut digests = Vec::new();
    let (mut hasher, mut bytes, mut total) = (BlockHasher::default(), 0, 0);
    let mut key_bytes = 0;
    let mut entries = ordered.range(rest).peekable();
    while let Some(packed) = entries.next() {
        hasher.add(packed.key(), packed.revision(), packed.value_bytes());
        bytes += packed.bytes();
        if bytes < block_bytes || entries.peek().is_none() {
            continue;
        }
        total += bytes;
        bytes = 0;
        let through = Bytes::copy_from_slice(packed.key());
        let next = successor(&through);
        digests.push(digest(std::mem::take(&mut hasher), Some(through)));
        key_bytes += next.len();
        let is_full = digests.len() + 1 >= DIGESTS_MAX
            || total >= DIGEST_STEP_BYTES
            || key_bytes + KEY_BYTES_MAX > DIGESTS_BYTES_MAX;
        if is_full {
            return (digests, Some(next));
        }
    }
    // The last block reaches to the end of the range, whatever the owner has there.
    digests.push(digest(hasher, None));
    (digests, None)
}

fn digest(hasher: BlockHasher, through: Option<Bytes>) -> Digest {
    let (count, hash) = hasher.finish();
    Digest {
        through,
        count,
        hash,
    }
}
