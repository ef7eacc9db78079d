//! The changes of a range that wait for one watch.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use objsync_proto::ids::{Position, Revision};
use objsync_proto::replica::Applied;
use objsync_proto::wire::{Gap, KeyRange};
use tokio::sync::Notify;

/// Most changes that wait for a watch.
const WAITING_COUNT_MAX: usize = 1 << 16;
/// Most bytes of them.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// Most bytes that wait for all watches of a handle.
pub(super) const ALL_BYTES_MAX: usize = 64 << 20;

/// Where the changes of a range wait for a watch, which is slower than what tells it at times.
pub(crate) struct Tap {
    pub(super) range: KeyRange,
    waiting: Mutex<Waiting>,
    filled: Notify,
    /// Of all taps of the handle.
    all_bytes: Arc<AtomicUsize>,
}

struct Waiting {
    told: VecDeque<Told>,
    bytes: usize,
    /// The watch has what came up to here.
    after: Option<Revision>,
    /// A state has taken the place of another since the watch joined.
    is_exchanged: bool,
    /// Everything up to here was put in.
    position: Position,
    ended: Option<Ended>,
}

/// What a watch hears next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    Change(Applied),
    /// Which changes nobody can tell; behind it, what they came to.
    Gap(Gap),
}

/// Why nothing more is put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was full, or who told it has ended: what comes next is in the owner's log.
    Cut,
    /// What happened next is not known: the owner has to say.
    Untold,
}

/// What a watch finds in its tap.
pub(crate) struct Tapped {
    /// In order; transactions are whole.
    pub(crate) told: VecDeque<Told>,
    /// Everything up to here has been told.
    pub(crate) position: Position,
    /// Nothing more comes from this tap: go on elsewhere from `position`.
    pub(crate) ended: Option<Ended>,
}

impl Tap {
    pub(super) fn new(
        range: KeyRange,
        position: Position,
        after: Option<Revision>,
        all_bytes: Arc<AtomicUsize>,
    ) -> Self {
        let waiting = Waiting {
            told: VecDeque::new(),
            bytes: 0,
            after,
            is_exchanged: false,
            position,
            ended: None,
        };
        Self {
            range,
            waiting: Mutex::new(waiting),
            filled: Notify::new(),
            all_bytes,
        }
    }

    /// Puts in changes of whole transactions, which reach up to `position`; all before `reached`
    /// was put in. A full tap ends instead, and the watch goes on by other means: nothing is
    /// dropped silently.
    pub(super) fn tell(&self, changes: &[&Applied], reached: Position, position: Position) {
        let waiting = self.waiting();
        if waiting.ended.is_some() {
            return;
        }
        let after = waiting.after;
        let mine: Vec<_> = (changes.iter())
            .filter(|change| after.is_none_or(|after| change.revision > after))
            .filter(|change| self.range.contains(&change.key))
            .map(|change| Told::Change((*change).clone()))
            .collect();
        self.put(waiting, mine, reached, position);
    }

    /// Puts in that a state has taken the place of another, where the watch had everything up to
    /// `reached`, and how they differ. A full tap ends before it, as in [`Tap::tell`].
    pub(super) fn exchange(
        &self,
        changes: &[&Applied],
        (reached, same_history): (Position, bool),
        position: Position,
    ) {
        let mut waiting = self.waiting();
        waiting.is_exchanged = true;
        if waiting.ended.is_some() {
            return;
        }
        // What it has beyond that is of the state before, and says nothing about what comes now.
        let ahead = waiting.after.take().unwrap_or_default();
        let gap = Gap {
            after: reached.revision.max(ahead),
            oldest: position.revision,
            same_history,
        };
        let mine = (changes.iter())
            .filter(|change| self.range.contains(&change.key))
            .map(|change| Told::Change((*change).clone()));
        let told = std::iter::once(Told::Gap(gap)).chain(mine).collect();
        self.put(waiting, told, reached, position);
    }

    fn put(
        &self,
        mut waiting: MutexGuard<'_, Waiting>,
        told: Vec<Told>,
        reached: Position,
        position: Position,
    ) {
        let bytes: usize = told.iter().map(told_bytes).sum();
        let count = told.len();
        let all = self.all_bytes.load(Ordering::Relaxed);
        let is_full = waiting.told.len() + count > WAITING_COUNT_MAX
            || waiting.bytes + bytes > WAITING_BYTES_MAX
            || all + bytes > ALL_BYTES_MAX;
        if is_full && !waiting.told.is_empty() {
            waiting.ended = Some(Ended::Cut);
            waiting.position = reached;
        } else {
            waiting.told.extend(told);
            waiting.bytes += bytes;
            waiting.position = position;
            self.all_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        let wake = count > 0 || waiting.ended.is_some();
        drop(waiting);
        if wake {
            self.filled.notify_waiters();
        }
    }

    /// Nothing more comes; everything up to `position` was put in.
    pub(super) fn end(&self, why: Ended, position: Option<Position>) {
        let mut waiting = self.waiting();
        if waiting.ended.is_none() {
            waiting.ended = Some(why);
            waiting.position = position.unwrap_or(waiting.position);
        }
        drop(waiting);
        self.filled.notify_waiters();
    }

    /// Whether a state has taken the place of another since the watch joined.
    pub(crate) fn is_exchanged(&self) -> bool {
        self.waiting().is_exchanged
    }

    /// What is there; waits for something. Cancel safe.
    pub(crate) async fn take(&self) -> Tapped {
        loop {
            let mut filled = std::pin::pin!(self.filled.notified());
            filled.as_mut().enable();
            if let Some(tapped) = self.try_take() {
                return tapped;
            }
            filled.await;
        }
    }

    /// What is there, if anything is.
    fn try_take(&self) -> Option<Tapped> {
        let mut waiting = self.waiting();
        if waiting.told.is_empty() && waiting.ended.is_none() {
            return None;
        }
        self.all_bytes.fetch_sub(waiting.bytes, Ordering::Relaxed);
        waiting.bytes = 0;
        Some(Tapped {
            told: std::mem::take(&mut waiting.told),
            position: waiting.position,
            ended: waiting.ended,
        })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let bytes = self.waiting().bytes;
        self.all_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn told_bytes(told: &Told) -> usize {
    let Told::Change(change) = told else {
        return 0;
    };
    let length = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
    change.key.len() + length(&change.old) + length(&change.new)
}
