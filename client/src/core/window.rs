//! How many writes of a handle may be unanswered.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use objsync_proto::limits::SESSION_BYTES_MAX;

/// Most unanswered writes of one handle.
const WINDOW_COUNT: u32 = 16_384;
/// Most bytes of unanswered writes of one handle: half of what a session may have in flight.
const WINDOW_BYTES: u64 = SESSION_BYTES_MAX as u64 / 2;

/// How many writes wait for an answer.
#[derive(Default)]
pub(super) struct Window {
    count: AtomicU32,
    bytes: AtomicU64,
    waiting: Mutex<Vec<Waker>>,
    has_waiting: AtomicBool,
}

impl Window {
    /// Whether one more write may begin.
    pub(super) fn has_room(&self) -> bool {
        self.count.load(Ordering::Acquire) < WINDOW_COUNT
            && self.bytes.load(Ordering::Acquire) < WINDOW_BYTES
    }

    /// A write of so many bytes begins.
    pub(super) fn add(&self, bytes: u64) {
        self.count.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// A write of so many bytes has its answer.
    pub(super) fn remove(&self, bytes: u64) {
        let less = |now: u64| Some(now.saturating_sub(bytes));
        let _ = self
            .bytes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        let one_less = |now: u32| Some(now.saturating_sub(1));
        let _ = self
            .count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less);
        self.wake();
    }

    /// Nothing waits any more.
    pub(super) fn clear(&self) {
        self.count.store(0, Ordering::Release);
        self.bytes.store(0, Ordering::Release);
        self.wake();
    }

    /// Writes without an answer.
    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    fn wake(&self) {
        if self.has_waiting.swap(false, Ordering::AcqRel) {
            let waiting = std::mem::take(&mut *self.waiting());
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    /// Ready when one more write may begin.
    pub(super) fn poll_room(&self, context: &Context<'_>) -> Poll<()> {
        if self.has_room() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting();
        waiting.retain(|waker| !waker.will_wake(context.waker()));
        waiting.push(context.waker().clone());
        self.has_waiting.store(true, Ordering::Release);
        drop(waiting);
        // An answer may have come before the waker was there.
        if self.has_room() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
