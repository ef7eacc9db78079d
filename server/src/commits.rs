//! Word that something was committed, to every subscription: a count, and who waits for it to move.
//!
//! Who waits is woken in the order in which it began to wait, so that equal runs stay equal; tokio's
//! own `watch` wakes in an order drawn by chance.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Counts commits; clones count the same ones.
#[derive(Default, Clone)]
pub(crate) struct Commits(Arc<Counted>);

#[derive(Default)]
struct Counted {
    count: AtomicU64,
    moved: Notify,
}

/// What one subscription has seen of them.
pub(crate) struct CommitsSeen {
    commits: Commits,
    count: u64,
}

impl Commits {
    /// Something was committed. Never blocks, may be called from any thread.
    pub(crate) fn tell(&self) {
        self.0.count.fetch_add(1, Ordering::AcqRel);
        self.0.moved.notify_waiters();
    }

    /// For one that has seen everything up to now.
    pub(crate) fn seen(&self) -> CommitsSeen {
        CommitsSeen {
            commits: self.clone(),
            count: self.count(),
        }
    }

    fn count(&self) -> u64 {
        self.0.count.load(Ordering::Acquire)
    }
}

impl CommitsSeen {
    /// Everything up to now is seen.
    pub(crate) fn see(&mut self) {
        self.count = self.commits.count();
    }

    /// Waits for a commit after the last [`CommitsSeen::see`]. Cancel safe.
    pub(crate) async fn changed(&self) {
        loop {
            let mut moved = pin!(self.commits.0.moved.notified());
            // From here on no word is missed, so the count may be looked at.
            moved.as_mut().enable();
            if self.commits.count() != self.count {
                return;
            }
            moved.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn commit_between_the_look_and_the_wait_is_not_missed() {
        let commits = Commits::default();
        let mut seen = commits.seen();
        let poll =
            |seen: &CommitsSeen| pin!(seen.changed()).poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(poll(&seen), Poll::Pending);
        seen.see();
        commits.tell();
        assert_eq!(poll(&seen), Poll::Ready(()));
        seen.see();
        assert_eq!(poll(&seen), Poll::Pending);
    }
}
