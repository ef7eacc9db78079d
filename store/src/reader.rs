//! A reader of many keys at one revision.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use objsync_proto::ids::{NamespaceId, Position, Revision};
use objsync_proto::wire::{Entry, KeyRange};

use crate::error::StoreError;
use crate::index::{Index, is_empty_range};
use crate::packs::ChunkHold;
use crate::pins::Pin;
use crate::recent::{Found, RecentPage};
use crate::state::DictState;
use crate::store::Stored;

/// Keys of the recent map looked at per taking of its lock.
const RECENT_STEP_COUNT: usize = 512;
/// Keys of the recent map looked at first; each later look takes twice as many.
const RECENT_STEP_COUNT_FIRST: usize = 16;
/// What an entry takes of a page beside its key and value.
pub const ENTRY_BYTES: usize = 16;

/// Reads everything as of one revision, which the index does not pass meanwhile.
///
/// It expires after a minute, or when writers need the memory: then every call answers
/// [`StoreError::SnapshotExpired`].
pub struct Reader {
    state: Arc<DictState>,
    pin: Pin,
    position: Position,
    /// The chunks of what is read stay, whatever happens to log and index.
    _chunks: Option<ChunkHold>,
}

/// Where a page ends, whichever comes first; it holds at least one entry if there is one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageLimits {
    pub(crate) bytes_max: usize,
    pub(crate) count_max: usize,
}

impl Reader {
    /// Pins the committed revision; `position` tells the position of a revision.
    pub(crate) fn new(
        (state, hold): (Arc<DictState>, Option<ChunkHold>),
        position: impl FnOnce(Revision) -> Position,
    ) -> Self {
        let pin = state.pin();
        Self {
            position: position(pin.revision()),
            state,
            pin,
            _chunks: hold,
        }
    }

    /// What is read.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// The value of a key at that revision.
    pub fn get(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        let found = self.state.get_at(namespace, key, self.pin.revision())?;
        self.unless_expired(found)
    }

    /// Entries of a range in key order (or against it), until they hold `bytes_max` bytes; at
    /// least one if there is one. An empty page is the end. Continue after the last key.
    pub fn page(
        &self,
        namespace: NamespaceId,
        range: &KeyRange,
        reverse: bool,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let limits = PageLimits {
            bytes_max,
            count_max: usize::MAX,
        };
        let at = self.pin.revision();
        let page = self.state.page_at(namespace, range, reverse, at, limits)?;
        self.unless_expired(page)
    }

    /// What was read is good only if the pin held until now.
    fn unless_expired<T>(&self, value: T) -> Result<T, StoreError> {
        if self.pin.is_expired() {
            return Err(StoreError::SnapshotExpired {
                revision: self.pin.revision().0,
            });
        }
        Ok(value)
    }
}

impl DictState {
    /// A page of a range as of a revision that the index has not passed.
    pub(crate) fn page_at(
        &self,
        namespace: NamespaceId,
        range: &KeyRange,
        reverse: bool,
        at: Revision,
        limits: PageLimits,
    ) -> Result<Vec<Entry>, StoreError> {
        let mut rest = range.clone();
        let mut page = Page::new(limits);
        // Who wants the first entry must not pay for a thousand.
        let mut step_count = RECENT_STEP_COUNT_FIRST;
        while !page.is_full() && !is_empty_range(&rest) {
            let recent = self
                .recent()
                .page(namespace, &rest, reverse, at, step_count);
            step_count = (2 * step_count).min(RECENT_STEP_COUNT);
            let (now, later) = split(rest, recent.more_after.as_ref(), reverse);
            let part = self.with_index(|index| {
                let mut part = Page::new(page.left());
                part.merge(index, namespace, (&now, reverse), &recent)?;
                Ok(part)
            })?;
            page.append(part);
            match later {
                Some(later) => rest = later,
                None => break,
            }
        }
        Ok(page.entries)
    }
}

/// Entries on their way to a caller.
struct Page {
    limits: PageLimits,
    entries: Vec<Entry>,
    bytes: usize,
}

impl Page {
    fn new(limits: PageLimits) -> Self {
        Self {
            limits,
            entries: Vec::new(),
            bytes: 0,
        }
    }

    fn is_full(&self) -> bool {
        !self.entries.is_empty()
            && (self.bytes >= self.limits.bytes_max || self.entries.len() >= self.limits.count_max)
    }

    fn left(&self) -> PageLimits {
        PageLimits {
            bytes_max: self.limits.bytes_max.saturating_sub(self.bytes),
            count_max: self.limits.count_max.saturating_sub(self.entries.len()),
        }
    }

    fn append(&mut self, mut other: Self) {
        self.entries.append(&mut other.entries);
        self.bytes += other.bytes;
    }

    fn push(&mut self, key: Bytes, found: Found) {
        if let Some(Stored { value, revision }) = found {
            self.bytes += key.len() + value.len() + ENTRY_BYTES;
            self.entries.push(Entry {
                key,
                value,
                revision,
            });
        }
    }

    /// Merges the index's part of a range with the recent map's, which wins.
    fn merge(
        &mut self,
        index: &dyn Index,
        namespace: NamespaceId,
        (range, reverse): (&KeyRange, bool),
        recent: &RecentPage,
    ) -> Result<(), StoreError> {
        let is_before = |a: &Bytes, b: &Bytes| if reverse { a > b } else { a < b };
        let mut recent = recent.found.iter().peekable();
        index.scan(namespace, range, reverse, &mut |key, entry| {
            while let Some((k, found)) = recent.next_if(|(k, _)| is_before(k, &key)) {
                self.push(k.clone(), found.clone());
                if self.is_full() {
                    return ControlFlow::Break(());
                }
            }
            let found = match recent.next_if(|(k, _)| *k == key) {
                Some((_, found)) => found.clone(),
                None => Some(entry),
            };
            self.push(key, found);
            match self.is_full() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        for (key, found) in recent {
            if self.is_full() {
                break;
            }
            self.push(key.clone(), found.clone());
        }
        Ok(())
    }
}

/// Cuts a range behind the last key that was looked at, in the direction of the walk.
fn split(range: KeyRange, last: Option<&Bytes>, reverse: bool) -> (KeyRange, Option<KeyRange>) {
    let Some(last) = last else {
        return (range, None);
    };
    let cut = if reverse {
        last.clone()
    } else {
        successor(last)
    };
    let low = KeyRange {
        start: range.start,
        end: Some(cut.clone()),
    };
    let high = KeyRange {
        start: cut,
        end: range.end,
    };
    if reverse {
        (high, Some(low))
    } else {
        (low, Some(high))
    }
}

/// The first key behind `key`.
fn successor(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.put_u8(0);
    next.freeze()
}
