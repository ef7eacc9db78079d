//! How old what a handle reads can be.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::Instant;

use super::{Core, Phase};

/// What a handle knows of how current its replica is.
#[derive(Default)]
pub(crate) struct Freshness {
    /// When the newest barrier that was reached had begun.
    barrier: Mutex<Option<Instant>>,
    /// When the connection to the owner was lost; none while there is one.
    cut: Mutex<Option<Instant>>,
}

impl Core {
    /// A barrier that began then was reached: reads see all that was committed before it.
    pub(crate) fn note_barrier(&self, began: Instant) {
        let mut barrier = lock(&self.freshness.barrier);
        *barrier = (*barrier).max(Some(began));
    }

    /// Whether a read from memory sees all that was committed so long ago.
    pub(crate) fn is_fresh(&self, max_stale: Duration) -> bool {
        let barrier = *lock(&self.freshness.barrier);
        self.owner().is_some() || barrier.is_some_and(|began| began.elapsed() < max_stale)
    }

    /// The phase is about to be this one.
    pub(super) fn note_phase(&self, phase: &Phase) {
        let mut cut = lock(&self.freshness.cut);
        match phase {
            Phase::Peer { .. } | Phase::Owner => *cut = None,
            Phase::Seeking { .. } | Phase::Failed(_) | Phase::Closed => {
                cut.get_or_insert_with(Instant::now);
            }
        }
    }

    /// For how long nobody has told this handle of changes: nothing for an owner and while
    /// connected.
    pub(crate) fn staleness(&self) -> Duration {
        let cut = *lock(&self.freshness.cut);
        cut.map_or(Duration::ZERO, |cut| cut.elapsed())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
