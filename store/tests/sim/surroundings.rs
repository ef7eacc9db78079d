//! Time and chance of a simulated store: both move only as the seed says.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use objsync_store::clock::{Clock, Entropy};

use crate::harness::random::Random;

/// A clock that a test moves.
pub struct SimClock {
    wall_ms: AtomicU64,
    monotonic_ms: AtomicU64,
}

impl SimClock {
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
}

impl Clock for SimClock {
    fn now_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::Relaxed)
    }

    fn monotonic_ms(&self) -> u64 {
        self.monotonic_ms.load(Ordering::Relaxed)
    }
}

/// Random bytes that are the same for the same seed.
pub struct SimEntropy(Mutex<Random>);

impl SimEntropy {
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(Random::new(seed)))
    }
}

impl Entropy for SimEntropy {
    fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        let mut random = self.0.lock().unwrap();
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&random.next().to_le_bytes()[..part.len()]);
        }
        Ok(())
    }
}
