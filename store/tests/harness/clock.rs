//! A clock that a test moves.

use std::sync::atomic::{AtomicU64, Ordering};

use objsync_store::clock::Clock;

/// Wall clock and monotonic clock, which stand still until they are moved.
pub struct MovedClock {
    wall_ms: AtomicU64,
    monotonic_ms: AtomicU64,
}

impl MovedClock {
    /// At some moment of this century.
    pub fn new() -> Self {
        Self {
            wall_ms: AtomicU64::new(1_800_000_000_000),
            monotonic_ms: AtomicU64::new(1_000),
        }
    }

    /// Time passes.
    pub fn pass(&self, ms: u64) {
        self.wall_ms.fetch_add(ms, Ordering::Relaxed);
        self.monotonic_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Somebody sets the wall clock back.
    pub fn set_back(&self, ms: u64) {
        self.wall_ms.fetch_sub(ms, Ordering::Relaxed);
    }

    /// Somebody sets the wall clock forward.
    pub fn set_forward(&self, ms: u64) {
        self.wall_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for MovedClock {
    fn now_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::Relaxed)
    }

    fn monotonic_ms(&self) -> u64 {
        self.monotonic_ms.load(Ordering::Relaxed)
    }
}
