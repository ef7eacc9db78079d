//! The runtime's virtual time, as a store sees it, and chance from a seed.

use std::sync::Mutex;

use objsync_store::clock::{Clock, Entropy};
use tokio::time::Instant;

use crate::harness::random::Random;

/// Where every world begins, milliseconds since 1970.
const START_MS: u64 = 1_800_000_000_000;

thread_local! {
    /// When the world of this thread began.
    static START: std::cell::Cell<Option<Instant>> = const { std::cell::Cell::new(None) };
}

/// A world begins now.
pub fn begin() {
    START.set(Some(Instant::now()));
}

/// Milliseconds since the world began.
pub fn now_ms() -> u64 {
    let start = START.get().expect("a world has begun on this thread");
    start.elapsed().as_millis() as u64
}

/// The clock of a store in the world of this thread.
pub struct VirtualClock;

impl Clock for VirtualClock {
    fn now_ms(&self) -> u64 {
        START_MS + now_ms()
    }

    fn monotonic_ms(&self) -> u64 {
        now_ms()
    }
}

/// Random bytes that are the same for the same seed.
pub struct SeededEntropy(Mutex<Random>);

impl SeededEntropy {
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(Random::new(seed)))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        let mut random = self.0.lock().unwrap();
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&random.next().to_le_bytes()[..part.len()]);
        }
        Ok(())
    }
}
