//! All watches of a handle, told from one place: the replica, one stream of the owner, or the store
//! of this process. Who watches a key or a prefix costs nothing while others change.
//!
//! A watch joins with the position it has reached. What came between there and the hub's own place
//! it reads by itself (see [`crate::watch`]).

mod pump;
pub(crate) mod tap;

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use objsync_proto::ids::{Position, Revision};
use objsync_proto::replica::Applied;
use objsync_proto::wire::KeyRange;
use tokio::sync::{Notify, Semaphore};

pub(crate) use self::pump::join;
use self::tap::{Ended, Tap};
use crate::options::prefix_range;

/// Most watches of a handle that read what they missed at once, each on a stream of its own.
pub(crate) const CATCH_UPS_MAX: usize = 128;

/// The watches of one handle.
pub(crate) struct Hub {
    inner: Mutex<Inner>,
    count: AtomicUsize,
    all_bytes: Arc<AtomicUsize>,
    /// The last tap has gone.
    idle: Notify,
    /// For those who read what they missed.
    pub(crate) catch_ups: Arc<Semaphore>,
}

#[derive(Default)]
struct Inner {
    /// Everything up to here was told; none while nobody tells.
    position: Option<Position>,
    /// A task tells, see [`pump`].
    is_pumped: bool,
    /// Counts ends, so that a task from before one tells nothing after it.
    ends: u64,
    /// Taps whose keys all begin with the first key of their range, by that.
    by_start: HashMap<Bytes, Vec<Arc<Tap>>>,
    /// How many of them there are for each length of that.
    lengths: BTreeMap<usize, usize>,
    others: Vec<Arc<Tap>>,
}

type ForTaps<'a> = HashMap<*const Tap, (&'a Arc<Tap>, Vec<&'a Applied>)>;

/// A tap that is told for as long as this lives.
pub(crate) struct Tapping {
    hub: Arc<Hub>,
    tap: Arc<Tap>,
}

impl Hub {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::default(),
            count: AtomicUsize::new(0),
            all_bytes: Arc::default(),
            idle: Notify::new(),
            catch_ups: Arc::new(Semaphore::new(CATCH_UPS_MAX)),
        })
    }

    /// Whether anybody watches.
    pub(crate) fn is_wanted(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Tells changes of whole transactions, in order; they reach up to `position`.
    pub(crate) fn tell(&self, changes: &[Applied], position: Position) {
        self.tell_locked(&mut self.inner(), changes, position);
    }

    /// As [`Hub::tell`], by a task that began after so many ends. False when it has no say any more.
    fn tell_since(&self, ends: u64, changes: &[Applied], position: Position) -> bool {
        let mut inner = self.inner();
        let is_mine = inner.ends == ends;
        if is_mine {
            self.tell_locked(&mut inner, changes, position);
        }
        is_mine
    }

    fn tell_locked(&self, inner: &mut Inner, changes: &[Applied], position: Position) {
        let reached = inner.position.replace(position).unwrap_or(position);
        for (tap, mine) in inner.sorted_out(changes).values() {
            tap.tell(mine, reached, position);
        }
    }

    /// A state at `position` has taken the place of another: tells every tap so, and then of each
    /// change that it differs by, in this order.
    pub(crate) fn exchange(&self, changes: &[Applied], same_history: bool, position: Position) {
        let mut inner = self.inner();
        let reached = inner.position.replace(position).unwrap_or(position);
        let for_taps = inner.sorted_out(changes);
        for tap in inner.by_start.values().flatten().chain(&inner.others) {
            let mine = for_taps.get(&Arc::as_ptr(tap)).map(|(_, mine)| &mine[..]);
            tap.exchange(mine.unwrap_or_default(), (reached, same_history), position);
        }
    }

    /// Nobody tells any more. `Untold` when what happened since is not known.
    pub(crate) fn end_all(&self, why: Ended) {
        self.end_locked(self.inner(), why);
    }

    fn end_locked(&self, mut inner: MutexGuard<'_, Inner>, why: Ended) {
        let position = inner.position.take();
        inner.is_pumped = false;
        inner.ends += 1;
        inner.lengths.clear();
        let by_start = std::mem::take(&mut inner.by_start);
        let others = std::mem::take(&mut inner.others);
        self.count.store(0, Ordering::Release);
        drop(inner);
        for tap in by_start.into_values().flatten().chain(others) {
            tap.end(why, position);
        }
    }

    /// A tap for a watch that has reached `at`, told of what comes after `position`, where the hub is.
    fn add(self: &Arc<Self>, inner: &mut Inner, range: KeyRange, at: Position) -> Tapping {
        let position = *inner.position.get_or_insert(at);
        let after = (at.revision > position.revision).then_some(at.revision);
        let tap = Arc::new(Tap::new(
            range,
            position,
            after,
            Arc::clone(&self.all_bytes),
        ));
        match start_of(&tap.range) {
            Some(start) => {
                *inner.lengths.entry(start.len()).or_default() += 1;
                (inner.by_start.entry(start).or_default()).push(Arc::clone(&tap));
            }
            None => inner.others.push(Arc::clone(&tap)),
        }
        self.count.fetch_add(1, Ordering::AcqRel);
        let hub = Arc::clone(self);
        Tapping { hub, tap }
    }

    /// A tap of the replica's hub, which is at `position`. Nothing is told meanwhile.
    pub(crate) fn add_at(self: &Arc<Self>, range: KeyRange, position: Position) -> Tapping {
        let mut inner = self.inner();
        inner.position = Some(position);
        self.add(&mut inner, range, position)
    }

    fn remove(&self, tap: &Arc<Tap>) {
        let mut inner = self.inner();
        let is_other = |other: &Arc<Tap>| !Arc::ptr_eq(other, tap);
        let mut removed = false;
        if let Some(start) = start_of(&tap.range) {
            if let Some(taps) = inner.by_start.get_mut(&start) {
                let before = taps.len();
                taps.retain(is_other);
                removed = taps.len() < before;
                if taps.is_empty() {
                    inner.by_start.remove(&start);
                }
            }
            if removed && let Some(count) = inner.lengths.get_mut(&start.len()) {
                *count -= 1;
                if *count == 0 {
                    inner.lengths.remove(&start.len());
                }
            }
        } else {
            let before = inner.others.len();
            inner.others.retain(is_other);
            removed = inner.others.len() < before;
        }
        if removed && self.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.idle.notify_one();
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Which taps may want which changes.
    fn sorted_out<'a>(&'a self, changes: &'a [Applied]) -> ForTaps<'a> {
        let mut for_taps = ForTaps::new();
        for change in changes {
            for tap in self.taps_of(&change.key) {
                let (_, mine) = (for_taps.entry(Arc::as_ptr(tap))).or_insert((tap, Vec::new()));
                mine.push(change);
            }
        }
        for_taps
    }

    /// The taps that may want the changes of a key.
    fn taps_of(&self, key: &Bytes) -> impl Iterator<Item = &Arc<Tap>> {
        let lengths = self.lengths.range(..=key.len());
        let by_start = lengths.filter_map(|(length, _)| self.by_start.get(&key[..*length]));
        by_start.flatten().chain(&self.others)
    }
}

/// What all keys of a range begin with, if that is the range's start.
fn start_of(range: &KeyRange) -> Option<Bytes> {
    let all = prefix_range(&range.start);
    let is_within = match (&range.end, &all.end) {
        (_, None) => true,
        (Some(end), Some(all)) => end <= all,
        (None, Some(_)) => false,
    };
    is_within.then(|| range.start.clone())
}

impl Deref for Tapping {
    type Target = Tap;

    fn deref(&self) -> &Tap {
        &self.tap
    }
}

impl Drop for Tapping {
    fn drop(&mut self) {
        self.hub.remove(&self.tap);
    }
}

/// Where a watch that joins finds itself.
pub(crate) struct Joined {
    /// What is told from `position` on.
    pub(crate) tap: Tapping,
    /// Where the hub is.
    pub(crate) position: Position,
}

impl Joined {
    /// Up to which revision the watch, which has reached `at`, reads by itself; none for nothing.
    pub(crate) fn missing(&self, at: &Position) -> Option<Revision> {
        let is_there = at.epoch == self.position.epoch && at.revision >= self.position.revision;
        (!is_there).then_some(self.position.revision.max(at.revision))
    }
}

#[cfg(test)]
mod tests;
