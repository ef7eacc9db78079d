//! What a follower holds against what the store has, block by block: finds what differs.
//!
//! Blocking, and in steps that are short: each reads at most [`STEP_PAGES`] pages and gives about
//! one frame.
//!
//! Invariants
//! * What is in memory does not depend on how large a block is: one page of it, and the digests of
//!   one request.
//! * The blocks cover the range without a hole, whatever digests say: each begins where the one
//!   before ended.

use std::collections::VecDeque;

use objsync_proto::digest::BlockHasher;
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{NamespaceId, Position};
use objsync_proto::key::{describe, successor};
use objsync_proto::limits::FEED_FRAME_BYTES;
use objsync_proto::wire::{Digest, Entry, Feed, KeyRange};
use objsync_store::{PAGE_ENTRY_BYTES, Reader, StoreError};

/// Most pages that one step reads.
const STEP_PAGES: usize = 16;

/// The comparison of a range with what a follower holds of it.
pub(crate) struct Comparison {
    reader: Reader,
    namespace: NamespaceId,
    /// What no digest was taken of yet; none after the last one.
    rest: Option<KeyRange>,
    blocks: VecDeque<Block>,
    work: Work,
}

struct Block {
    range: KeyRange,
    digest: Digest,
}

/// What is done with the first block.
enum Work {
    /// Nothing yet.
    Idle,
    /// It has more than a page: what is left to be hashed.
    Hashing(Box<Hashing>),
    /// It differs: what is left to be sent.
    Sending(KeyRange),
}

/// A block of which the first pages were hashed.
struct Hashing {
    block: Block,
    hasher: BlockHasher,
    rest: KeyRange,
}

/// A page of a block.
struct Page {
    entries: Vec<Entry>,
    /// What may follow in the block; none at its end.
    rest: Option<KeyRange>,
}

impl Comparison {
    /// Compares a range as `reader` sees it.
    pub(crate) fn new(reader: Reader, namespace: NamespaceId, range: KeyRange) -> Self {
        Self {
            reader,
            namespace,
            rest: Some(range),
            blocks: VecDeque::new(),
            work: Work::Idle,
        }
    }

    /// As of when.
    pub(crate) fn position(&self) -> Position {
        self.reader.position()
    }

    /// Takes the next digests.
    ///
    /// # Errors
    /// They do not follow on those before, inside the range.
    pub(crate) fn take(&mut self, digests: &[Digest]) -> Result<(), Failure> {
        for digest in digests {
            let range = self.next_range(digest)?;
            let digest = digest.clone();
            self.blocks.push_back(Block { range, digest });
        }
        Ok(())
    }

    fn next_range(&mut self, digest: &Digest) -> Result<KeyRange, Failure> {
        let Some(rest) = self.rest.take() else {
            let text = "digest after the one that reaches to the end of the range";
            return Err(Failure::new(ErrorKind::Invalid, text));
        };
        let Some(through) = &digest.through else {
            return Ok(rest);
        };
        if !rest.contains(through) {
            let key = describe(through);
            let text = format!("digest through key {key}, which is not behind the one before");
            return Err(Failure::new(ErrorKind::Invalid, text));
        }
        let cut = successor(through);
        self.rest = Some(KeyRange {
            start: cut.clone(),
            end: rest.end,
        });
        Ok(KeyRange {
            start: rest.start,
            end: Some(cut),
        })
    }

    /// Whether everything that was taken is compared and sent.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.work, Work::Idle) && self.blocks.is_empty()
    }

    /// Whether the whole range is.
    pub(crate) fn is_over(&self) -> bool {
        self.rest.is_none() && self.is_idle()
    }

    /// Goes on for a while; gives what is to be sent.
    ///
    /// # Errors
    /// Of the store. Nothing of this comparison may be used then.
    pub(crate) fn step(&mut self) -> Result<Vec<Feed>, StoreError> {
        let mut found = Vec::new();
        let mut bytes = 0;
        for _ in 0..STEP_PAGES {
            if self.is_idle() || bytes >= FEED_FRAME_BYTES {
                break;
            }
            if let Some((range, entries)) = self.advance()? {
                bytes += entries
                    .iter()
                    .map(|e| e.key.len() + e.value.len())
                    .sum::<usize>();
                found.push(Feed::Replace { range, entries });
            }
        }
        Ok(found)
    }

    /// Reads one page, and does with it what is to be done.
    fn advance(&mut self) -> Result<Option<(KeyRange, Vec<Entry>)>, StoreError> {
        match std::mem::replace(&mut self.work, Work::Idle) {
            Work::Idle => {
                let Some(block) = self.blocks.pop_front() else {
                    return Ok(None);
                };
                let rest = block.range.clone();
                let hasher = BlockHasher::default();
                self.compare(Hashing {
                    block,
                    hasher,
                    rest,
                })
            }
            Work::Hashing(hashing) => self.compare(*hashing),
            Work::Sending(rest) => {
                let page = self.page(&rest)?;
                Ok(Some(self.send(rest, page)))
            }
        }
    }

    fn compare(&mut self, hashing: Hashing) -> Result<Option<(KeyRange, Vec<Entry>)>, StoreError> {
        let Hashing {
            block,
            mut hasher,
            rest,
        } = hashing;
        let page = self.page(&rest)?;
        for entry in &page.entries {
            hasher.add(&entry.key, entry.revision, &entry.value);
        }
        let is_first = rest == block.range;
        if hasher.count() <= block.digest.count
            && let Some(rest) = page.rest
        {
            self.work = Work::Hashing(Box::new(Hashing {
                block,
                hasher,
                rest,
            }));
            return Ok(None);
        }
        if page.rest.is_none() && hasher.finish() == (block.digest.count, block.digest.hash) {
            return Ok(None);
        }
        if is_first {
            return Ok(Some(self.send(block.range, page)));
        }
        self.work = Work::Sending(block.range);
        Ok(None)
    }

    /// What a page says of the first part of a range, to go on with the rest.
    fn send(&mut self, range: KeyRange, page: Page) -> (KeyRange, Vec<Entry>) {
        let Page { entries, rest } = page;
        let Some(rest) = rest else {
            return (range, entries);
        };
        let part = KeyRange {
            start: range.start,
            end: Some(rest.start.clone()),
        };
        self.work = Work::Sending(rest);
        (part, entries)
    }

    fn page(&self, range: &KeyRange) -> Result<Page, StoreError> {
        let entries = self
            .reader
            .page(self.namespace, range, false, FEED_FRAME_BYTES)?;
        let bytes: usize = entries.iter().map(|e| e.key.len() + e.value.len()).sum();
        // A page with room left is the last one. One without may be: an empty one follows then.
        let may_follow = bytes + entries.len() * PAGE_ENTRY_BYTES >= FEED_FRAME_BYTES;
        let rest = entries.last().filter(|_| may_follow).map(|last| KeyRange {
            start: successor(&last.key),
            end: range.end.clone(),
        });
        Ok(Page { entries, rest })
    }
}
