//! Barriers on their way from the operations stream to a subscription.
//!
//! A channel would do the same and keep room for 32 of them, for every subscription that is idle.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use objsync_proto::ids::Position;
use objsync_proto::limits::REQUESTS_IN_FLIGHT_MAX;
use tokio::sync::Notify;

/// A barrier on its way to the stream of a subscription.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Barrier {
    /// The request's id.
    pub(crate) id: u64,
    /// What was committed when it was asked for.
    pub(crate) position: Position,
}

/// The barriers that a subscription has not looked at yet, in order. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Barriers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    asked: Mutex<VecDeque<Barrier>>,
    filled: Notify,
}

impl Barriers {
    /// Adds one. A client may ask for more than it reads, and while a state or a difference is on its
    /// way none is read: then it takes the place of the one before, of which it says as much.
    pub(crate) fn put(&self, barrier: Barrier) {
        let mut asked = self.asked();
        if asked.len() >= REQUESTS_IN_FLIGHT_MAX {
            asked.pop_back();
        }
        asked.push_back(barrier);
        drop(asked);
        self.0.filled.notify_one();
    }

    /// Takes all of them.
    pub(crate) fn take(&self) -> VecDeque<Barrier> {
        std::mem::take(&mut self.asked())
    }

    /// Waits until there may be some. Cancel safe.
    pub(crate) async fn filled(&self) {
        self.0.filled.notified().await;
    }

    fn asked(&self) -> MutexGuard<'_, VecDeque<Barrier>> {
        self.0.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use objsync_proto::ids::{Epoch, EpochName, Revision, StoreId};

    use super::*;

    #[test]
    fn barriers_that_nobody_looks_at_take_bounded_room_and_the_newest_is_kept() {
        let barriers = Barriers::default();
        let epoch = Epoch {
            number: 1,
            name: EpochName([1; 16]),
        };
        let count = 3 * REQUESTS_IN_FLIGHT_MAX as u64;
        for id in 1..=count {
            let position = Position {
                store: StoreId([1; 16]),
                epoch,
                revision: Revision(id),
            };
            barriers.put(Barrier { id, position });
        }
        let asked = barriers.take();
        assert_eq!(asked.len(), REQUESTS_IN_FLIGHT_MAX);
        assert!(asked.iter().is_sorted_by_key(|barrier| barrier.id));
        assert_eq!(asked.back().map(|barrier| barrier.id), Some(count));
    }
}
