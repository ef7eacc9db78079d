//! Time and chance, as arguments: a test moves the one and repeats the other.

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
