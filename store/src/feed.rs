//! What was committed, in order, for everybody who follows: one ring, a cursor per follower.
//!
//! A follower that falls out of the ring reads the log, so no follower slows the writer or takes
//! memory of its own.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use objsync_proto::effect::{Cause, Change, KeyPatch};
use objsync_proto::ids::{NamespaceId, Origin, Revision};
use objsync_proto::wire::{Event, event};

/// Bytes that a transaction counts beside its keys and values.
const PUBLISHED_BYTES: usize = 160;
/// Bytes that a change counts beside its key and value.
const CHANGE_BYTES: usize = 80;
/// Most bytes of a change, about, up to which its event is kept encoded for all who follow. What is
/// larger costs each of them little more than the copy that it sends, and would lie in the ring
/// twice, which counts it once.
const KEPT_CHANGE_BYTES: usize = 8 << 10;

/// A committed transaction as followers see it: its changes of the dictionary.
#[derive(Debug)]
pub struct Published {
    /// Its place in the one order.
    pub revision: Revision,
    /// The owner's clock when it was decided, milliseconds since 1970.
    pub time_ms: u64,
    /// Who asked for it.
    pub origin: Option<Origin>,
    /// Why it happened.
    pub cause: Cause,
    /// What changed, in order. Empty when the operation found nothing to do.
    pub changes: Vec<(NamespaceId, Change)>,
    /// As `changes`, or empty: by which part a change can be told, where that is shorter.
    pub patches: Vec<Option<KeyPatch>>,
    /// What each changed key held before; empty when nobody had asked ([`Feed::keep_old`]).
    pub old: Vec<Option<Bytes>>,
    encoded: OnceLock<Vec<(NamespaceId, Bytes)>>,
    encoded_by_part: OnceLock<Vec<(NamespaceId, Bytes)>>,
}

impl Published {
    /// A transaction to be published.
    #[must_use]
    pub fn new(
        revision: Revision,
        time_ms: u64,
        (origin, cause): (Option<Origin>, Cause),
        changes: Vec<(NamespaceId, Change)>,
    ) -> Self {
        Self {
            revision,
            time_ms,
            origin,
            cause,
            changes,
            patches: Vec::new(),
            old: Vec::new(),
            encoded: OnceLock::new(),
            encoded_by_part: OnceLock::new(),
        }
    }

    /// The same, with the parts by which changes can be told.
    #[must_use]
    pub(crate) fn with_patches(self, patches: Vec<Option<KeyPatch>>) -> Self {
        Self { patches, ..self }
    }

    /// The same, knowing what each changed key held before.
    #[must_use]
    pub(crate) fn with_old(self, old: Vec<Option<Bytes>>) -> Self {
        Self { old, ..self }
    }

    /// The MessagePack of the `wire::Event` of one namespace, encoded once for all followers
    /// unless it is large; none when nothing changed there. With `by_part`, changes of parts are
    /// told by the part.
    pub fn encoded(&self, namespace: NamespaceId, by_part: bool) -> Option<Bytes> {
        // Where no change is of a part, both are the same, and one is enough.
        let by_part = by_part && !self.patches.is_empty();
        if !self.is_kept_encoded(by_part) {
            let event = self.event(namespace, by_part, &|_| true)?;
            return Some(event::encode(&event));
        }
        let encoded = match by_part {
            true => &self.encoded_by_part,
            false => &self.encoded,
        };
        let all = encoded.get_or_init(|| self.encode(by_part));
        let found = all.iter().find(|(of, _)| *of == namespace);
        found.map(|(_, bytes)| bytes.clone())
    }

    /// What happened to the keys of a namespace that `is_wanted` says; none if nothing did.
    pub fn event(
        &self,
        namespace: NamespaceId,
        by_part: bool,
        is_wanted: &dyn Fn(&[u8]) -> bool,
    ) -> Option<Event> {
        let mut event = Event {
            revision: self.revision,
            time_ms: self.time_ms,
            origin: self.origin,
            cause: self.cause,
            changes: Vec::new(),
            patches: Vec::new(),
        };
        for (place, (of, change)) in self.changes.iter().enumerate() {
            if *of != namespace || !is_wanted(&change.key) {
                continue;
            }
            let patch = self.patches.get(place).and_then(Option::as_ref);
            match patch.filter(|_| by_part) {
                Some(patch) => event.patches.push(patch.clone()),
                None => event.changes.push(change.clone()),
            }
        }
        (!event.changes.is_empty() || !event.patches.is_empty()).then_some(event)
    }

    /// Bytes it counts towards the bounds of ring and reads.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let changes = self.changes.iter().map(|(_, change)| {
            CHANGE_BYTES + change.key.len() + change.value.as_ref().map_or(0, Bytes::len)
        });
        let patches = self.patches.iter().flatten();
        let patches = patches.map(|patch| CHANGE_BYTES + patch.edit.len());
        let old: usize = self.old.iter().flatten().map(Bytes::len).sum();
        PUBLISHED_BYTES + old + patches.sum::<usize>() + changes.sum::<usize>()
    }

    /// Whether what is told of the changes is small, taken together.
    fn is_kept_encoded(&self, by_part: bool) -> bool {
        let told = self.changes.iter().enumerate().map(|(place, (_, change))| {
            let patch = self.patches.get(place).and_then(Option::as_ref);
            match patch.filter(|_| by_part) {
                Some(patch) => patch.edit.len(),
                None => change.value.as_ref().map_or(0, Bytes::len),
            }
        });
        told.sum::<usize>() <= KEPT_CHANGE_BYTES * self.changes.len()
    }

    fn encode(&self, by_part: bool) -> Vec<(NamespaceId, Bytes)> {
        let mut namespaces: Vec<NamespaceId> = self.changes.iter().map(|(of, _)| *of).collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        let encode = |namespace: NamespaceId| {
            let event = self.event(namespace, by_part, &|_| true)?;
            Some((namespace, event::encode(&event)))
        };
        namespaces.into_iter().filter_map(encode).collect()
    }
}

/// What a follower gets from the ring.
#[derive(Debug)]
pub enum FeedRead {
    /// The next transactions.
    Published(Vec<Arc<Published>>),
    /// There is nothing after the follower's revision up to this one. It may be behind what readers
    /// see by what is just being published.
    UpToDate(Revision),
    /// The ring no longer holds what comes next: read the log.
    Behind,
}

/// The ring.
pub struct Feed {
    ring: Mutex<Ring>,
    wakers: Arc<RwLock<Wakers>>,
    /// Of those who look at what is durable.
    durable_wakers: Arc<RwLock<Wakers>>,
    bytes_max: usize,
    /// How many want to know what keys held before.
    keep_old: Arc<AtomicU32>,
}

struct Ring {
    /// Everything committed after this revision is in the ring.
    after: Revision,
    entries: VecDeque<Arc<Published>>,
    bytes: usize,
}

#[derive(Default)]
struct Wakers {
    next: u64,
    list: Vec<(u64, Waker)>,
}

type Waker = Box<dyn Fn() + Send + Sync>;

/// While this lives, the function given to [`Feed::on_commit`] is called.
pub struct OnCommit {
    wakers: Arc<RwLock<Wakers>>,
    number: u64,
}

impl Feed {
    /// An empty ring behind a revision.
    #[must_use]
    pub(crate) fn new(after: Revision, bytes_max: usize) -> Self {
        Self {
            ring: Mutex::new(Ring {
                after,
                entries: VecDeque::new(),
                bytes: 0,
            }),
            wakers: Arc::default(),
            durable_wakers: Arc::default(),
            bytes_max,
            keep_old: Arc::default(),
        }
    }

    /// The transactions after a revision, until they hold `bytes_max` bytes; at least one.
    #[must_use]
    pub fn read(&self, after: Revision, bytes_max: usize) -> FeedRead {
        let ring = self.ring();
        if after < ring.after {
            return FeedRead::Behind;
        }
        let start = ring
            .entries
            .partition_point(|entry| entry.revision <= after);
        if start == ring.entries.len() {
            let last = ring.entries.back();
            return FeedRead::UpToDate(last.map_or(ring.after, |last| last.revision));
        }
        let mut bytes = 0;
        let mut read = Vec::new();
        for entry in ring.entries.range(start..) {
            if !read.is_empty() && bytes + entry.bytes() > bytes_max {
                break;
            }
            bytes += entry.bytes();
            read.push(entry.clone());
        }
        FeedRead::Published(read)
    }

    /// Shows `visit` the transactions after a revision, until it says false. Tells whether these
    /// were all there are: not if the ring no longer reaches back, or they are more than
    /// `count_max`.
    pub(crate) fn each_after(
        &self,
        after: Revision,
        count_max: usize,
        visit: &mut dyn FnMut(&Published) -> bool,
    ) -> bool {
        let ring = self.ring();
        let is_after = |entry: &Arc<Published>| entry.revision <= after;
        let start = ring.entries.partition_point(is_after);
        let entries = ring.entries.range(start..).take(count_max);
        after >= ring.after
            && entries.into_iter().all(|entry| visit(entry))
            && ring.entries.len() - start <= count_max
    }

    /// Calls `wake` after each publish, from the writing thread: it must not block.
    #[must_use]
    pub fn on_commit(&self, wake: Waker) -> OnCommit {
        OnCommit::new(&self.wakers, wake)
    }

    /// Calls `wake` after each sync of the log, from the thread that asked for it: it must not
    /// block.
    #[must_use]
    pub fn on_durable(&self, wake: Waker) -> OnCommit {
        OnCommit::new(&self.durable_wakers, wake)
    }

    /// While what this returns lives, each transaction tells what its keys held before. Costs the
    /// writer a read of each key that it changes.
    #[must_use]
    pub fn keep_old(&self) -> KeepOld {
        self.keep_old.fetch_add(1, Ordering::AcqRel);
        KeepOld(Arc::clone(&self.keep_old))
    }

    /// Whether somebody wants to know what keys held before.
    pub(crate) fn keeps_old(&self) -> bool {
        self.keep_old.load(Ordering::Acquire) > 0
    }

    /// Adds what was committed, in order, and wakes the followers.
    pub(crate) fn publish(&self, batch: impl Iterator<Item = Published>) {
        {
            let mut ring = self.ring();
            for published in batch {
                ring.push(published, self.bytes_max);
            }
        }
        self.wake();
    }

    /// Wakes the followers: something they look at has changed.
    pub(crate) fn wake(&self) {
        wake_all(&self.wakers);
    }

    /// Wakes those who look at what is durable: more of it is.
    pub(crate) fn wake_durable(&self) {
        wake_all(&self.durable_wakers);
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake_all(wakers: &RwLock<Wakers>) {
    let wakers = wakers.read().unwrap_or_else(PoisonError::into_inner);
    for (_, wake) in &wakers.list {
        wake();
    }
}

impl OnCommit {
    fn new(wakers: &Arc<RwLock<Wakers>>, wake: Waker) -> Self {
        let mut list = wakers.write().unwrap_or_else(PoisonError::into_inner);
        let number = list.next;
        list.next += 1;
        list.list.push((number, wake));
        Self {
            wakers: Arc::clone(wakers),
            number,
        }
    }
}

impl Ring {
    fn push(&mut self, published: Published, bytes_max: usize) {
        debug_assert!(
            self.entries
                .back()
                .is_none_or(|last| last.revision < published.revision)
        );
        self.bytes += published.bytes();
        self.entries.push_back(Arc::new(published));
        while self.bytes > bytes_max {
            let Some(oldest) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= oldest.bytes();
            self.after = oldest.revision;
        }
    }
}

/// While this lives, [`Published::old`] is filled.
#[derive(Debug)]
pub struct KeepOld(Arc<AtomicU32>);

impl Drop for KeepOld {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for OnCommit {
    fn drop(&mut self) {
        let mut wakers = self.wakers.write().unwrap_or_else(PoisonError::into_inner);
        wakers.list.retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(revision: u64) -> Published {
        let change = Change {
            key: Bytes::from_static(b"key"),
            value: Some(Bytes::from(vec![0; 100])),
        };
        let changes = vec![
            (NamespaceId::CATALOG, change.clone()),
            (NamespaceId(16), change),
        ];
        Published::new(Revision(revision), 5, (None, Cause::Write), changes)
    }

    fn revisions(read: FeedRead) -> Vec<u64> {
        match read {
            FeedRead::Published(read) => read.iter().map(|entry| entry.revision.0).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn follower_reads_what_came_after_it_in_order() {
        let feed = Feed::new(Revision(10), usize::MAX);
        assert!(matches!(
            feed.read(Revision(10), 1),
            FeedRead::UpToDate(Revision(10))
        ));
        feed.publish([11, 12, 15].map(published).into_iter());
        assert_eq!(revisions(feed.read(Revision(10), usize::MAX)), [11, 12, 15]);
        assert_eq!(revisions(feed.read(Revision(12), usize::MAX)), [15]);
        assert_eq!(revisions(feed.read(Revision(10), 1)), [11], "at least one");
        assert!(matches!(
            feed.read(Revision(15), 1),
            FeedRead::UpToDate(Revision(15))
        ));
        assert!(matches!(feed.read(Revision(9), 1), FeedRead::Behind));
    }

    #[test]
    fn full_ring_lets_go_of_the_oldest() {
        let feed = Feed::new(Revision(0), 3 * published(1).bytes());
        feed.publish((1..=5).map(published));
        assert!(matches!(feed.read(Revision(1), 1), FeedRead::Behind));
        assert_eq!(revisions(feed.read(Revision(2), usize::MAX)), [3, 4, 5]);
    }

    #[test]
    fn waker_is_called_while_its_guard_lives() {
        let feed = Feed::new(Revision(0), usize::MAX);
        let calls = Arc::new(AtomicU32::new(0));
        let counted = calls.clone();
        let guard = feed.on_commit(Box::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        }));
        feed.publish([published(1)].into_iter());
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        drop(guard);
        feed.publish([published(2)].into_iter());
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    /// The ring counts a large value once, and has it once: also where somebody follows.
    #[test]
    fn event_of_a_large_value_is_not_kept_encoded_beside_it() {
        let [small, large] = [100, 1 << 20].map(|bytes| {
            let key = Bytes::from_static(b"key");
            let value = Some(Bytes::from(vec![7; bytes]));
            let changes = vec![(NamespaceId(16), Change { key, value })];
            Published::new(Revision(1), 5, (None, Cause::Patch), changes)
        });
        let [first, second] = [&small; 2].map(|one| one.encoded(NamespaceId(16), false).unwrap());
        assert_eq!(first.as_ptr(), second.as_ptr(), "one for all");
        let told = large.encoded(NamespaceId(16), true).unwrap();
        assert!(large.encoded.get().is_none());
        let event: Event = rmp_serde::from_slice(&told).unwrap();
        assert_eq!(event.changes, [large.changes[0].1.clone()]);
        assert_eq!(large.encoded(NamespaceId(17), false), None);
        let patch = KeyPatch {
            key: Bytes::from_static(b"key"),
            base: Revision(0),
            edit: Bytes::from_static(b"edit"),
        };
        let large = large.with_patches(vec![Some(patch)]);
        let [first, second] = [&large; 2].map(|one| one.encoded(NamespaceId(16), true).unwrap());
        assert_eq!(first.as_ptr(), second.as_ptr(), "its part is small");
    }

    #[test]
    fn event_is_encoded_with_the_changes_of_its_namespace_alone() {
        let published = published(3);
        let bytes = published.encoded(NamespaceId(16), true).unwrap();
        let event: Event = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!(event.revision, Revision(3));
        assert_eq!(event.changes, [published.changes[1].1.clone()]);
        assert_eq!(published.encoded(NamespaceId(17), false), None);
    }
}
