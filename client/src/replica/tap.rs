//! The changes of a range, as the replica applies them, for one watch.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use objsync_proto::ids::Position;
use objsync_proto::replica::Applied;
use objsync_proto::wire::KeyRange;
use tokio::sync::Notify;

/// Most changes that wait for a watch.
const WAITING_COUNT_MAX: usize = 1 << 16;
/// Most bytes of them.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// Where the changes of a range wait for a watch, which is slower than the replica at times.
pub(crate) struct Tap {
    range: KeyRange,
    waiting: Mutex<Waiting>,
    filled: Notify,
}

struct Waiting {
    changes: VecDeque<Applied>,
    bytes: usize,
    /// Everything up to here was put in.
    position: Position,
    /// Nothing more is put in: it was full, or the replica has ended.
    ended: bool,
}

/// What a watch finds in its tap.
pub(crate) struct Tapped {
    /// Changes in order; transactions are whole.
    pub(crate) changes: VecDeque<Applied>,
    /// Everything up to here has been told.
    pub(crate) position: Position,
    /// Nothing more comes from this tap: go on elsewhere from `position`.
    pub(crate) ended: bool,
}

impl Tap {
    pub(crate) fn new(range: KeyRange, position: Position) -> Self {
        let waiting = Waiting {
            changes: VecDeque::new(),
            bytes: 0,
            position,
            ended: false,
        };
        Self {
            range,
            waiting: Mutex::new(waiting),
            filled: Notify::new(),
        }
    }

    /// Puts in whole transactions, which reach up to `position`. A full tap ends instead, and the
    /// watch goes on from its position by other means: nothing is dropped silently.
    pub(crate) fn tell(&self, changes: &[Applied], position: Position) {
        let mut waiting = self.waiting();
        if waiting.ended {
            return;
        }
        let mine = changes
            .iter()
            .filter(|change| self.range.contains(&change.key));
        let bytes: usize = mine.clone().map(change_bytes).sum();
        let count = mine.clone().count();
        let is_full = waiting.changes.len() + count > WAITING_COUNT_MAX
            || waiting.bytes + bytes > WAITING_BYTES_MAX;
        if is_full && !waiting.changes.is_empty() {
            waiting.ended = true;
        } else {
            waiting.changes.extend(mine.cloned());
            waiting.bytes += bytes;
            waiting.position = position;
        }
        let wake = count > 0 || waiting.ended;
        drop(waiting);
        if wake {
            self.filled.notify_waiters();
        }
    }

    /// How far it was told.
    pub(crate) fn position(&self) -> Position {
        self.waiting().position
    }

    /// Nothing more comes.
    pub(crate) fn end(&self) {
        self.waiting().ended = true;
        self.filled.notify_waiters();
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
    pub(crate) fn try_take(&self) -> Option<Tapped> {
        let mut waiting = self.waiting();
        if waiting.changes.is_empty() && !waiting.ended {
            return None;
        }
        waiting.bytes = 0;
        Some(Tapped {
            changes: std::mem::take(&mut waiting.changes),
            position: waiting.position,
            ended: waiting.ended,
        })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn change_bytes(change: &Applied) -> usize {
    let length = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
    change.key.len() + length(&change.old) + length(&change.new)
}
