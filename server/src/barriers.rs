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
    /// Adds one; tells whether there was room: a client may ask for more than it reads.
    pub(crate) fn put(&self, barrier: Barrier) -> bool {
        let mut asked = self.asked();
        if asked.len() >= REQUESTS_IN_FLIGHT_MAX {
            return false;
        }
        asked.push_back(barrier);
        drop(asked);
        self.0.filled.notify_one();
        true
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
