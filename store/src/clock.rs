//! Time and chance, as arguments: a test moves the one and repeats the other.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// The owner's wall clock, milliseconds since 1970. May jump; no safety rests on it.
    fn now_ms(&self) -> u64;
    /// Milliseconds since some moment; never goes back.
    fn monotonic_ms(&self) -> u64;
}

/// Draws random bytes.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `bytes` so that nobody can guess them.
    fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()>;
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy)]
pub struct RealClock {
    start: Instant,
}

impl Default for RealClock {
    fn default() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Clock for RealClock {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The owner's time, as the log has it: the wall clock where that goes forward, and the pace of
/// the monotonic one where somebody has set the wall clock back. It never runs backwards, over
/// owners too.
pub(crate) struct OwnerTime {
    clock: Arc<dyn Clock>,
    last: Mutex<Moment>,
}

struct Moment {
    now_ms: u64,
    monotonic_ms: u64,
}

impl OwnerTime {
    /// Goes on from the last time in the log.
    pub(crate) fn new(clock: Arc<dyn Clock>, logged_ms: u64) -> Self {
        let last = Moment {
            now_ms: clock.now_ms().max(logged_ms),
            monotonic_ms: clock.monotonic_ms(),
        };
        Self {
            clock,
            last: Mutex::new(last),
        }
    }

    /// Milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> u64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (wall_ms, monotonic_ms) = (self.clock.now_ms(), self.clock.monotonic_ms());
        let passed_ms = monotonic_ms.saturating_sub(last.monotonic_ms);
        last.now_ms = wall_ms.max(last.now_ms.saturating_add(passed_ms));
        last.monotonic_ms = monotonic_ms;
        last.now_ms
    }
}

/// The random numbers of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealEntropy;

impl Entropy for RealEntropy {
    fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        let mut filled = 0;
        while filled < bytes.len() {
            filled += rustix::rand::getrandom(
                &mut bytes[filled..],
                rustix::rand::GetRandomFlags::empty(),
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Default)]
    struct Moved {
        wall_ms: AtomicU64,
        monotonic_ms: AtomicU64,
    }

    impl Clock for Moved {
        fn now_ms(&self) -> u64 {
            self.wall_ms.load(Ordering::Relaxed)
        }

        fn monotonic_ms(&self) -> u64 {
            self.monotonic_ms.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn owners_time_follows_the_wall_clock_forward_and_never_back() {
        let clock = Arc::new(Moved::default());
        clock.wall_ms.store(1_000, Ordering::Relaxed);
        let time = OwnerTime::new(clock.clone(), 5_000);
        assert_eq!(time.now_ms(), 5_000, "the log is ahead of the clock");
        clock.monotonic_ms.store(30, Ordering::Relaxed);
        assert_eq!(time.now_ms(), 5_030, "and time passes all the same");
        clock.wall_ms.store(9_000, Ordering::Relaxed);
        assert_eq!(time.now_ms(), 9_000);
        clock.wall_ms.store(2_000, Ordering::Relaxed);
        clock.monotonic_ms.store(50, Ordering::Relaxed);
        assert_eq!(time.now_ms(), 9_020, "somebody set the clock back");
    }
}
