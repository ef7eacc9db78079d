//! Staying awake for a moment after traffic, because waking a sleeping core costs more than a
//! whole request.
//!
//! On an idle core the kernel takes some 30 us to get a thread going again. A peer that answers
//! an answer at once is back before that; so for a few tens of microseconds after traffic the I/O
//! thread polls for more instead of sleeping. A single core has better things to do: there it is
//! off by default.
//!
//! Where the cores are busy, polling keeps the peer from the core it would answer on, and where
//! traffic is sparse it finds nothing: so the time is cut down while polling is in vain, and the
//! full time is tried again now and then.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How long to stay awake by default, where there is more than one core.
pub const SPIN_DEFAULT: Duration = Duration::from_micros(50);

/// Remembers when there was traffic last, and keeps the thread that runs [`Spin::run`] awake.
#[derive(Debug)]
pub struct Spin {
    start: Instant,
    duration: Duration,
    /// Nanoseconds after `start` of the last traffic.
    last_ns: AtomicU64,
    awake: AtomicBool,
    wake: Notify,
}

impl Spin {
    /// Stays awake for `duration` after traffic; zero for never.
    #[must_use]
    pub fn new(duration: Duration) -> Self {
        Self {
            start: Instant::now(),
            duration,
            last_ns: AtomicU64::new(0),
            awake: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    /// [`SPIN_DEFAULT`] where there is more than one core, else zero.
    #[must_use]
    pub fn default_duration() -> Duration {
        match std::thread::available_parallelism() {
            Ok(cores) if cores.get() > 1 => SPIN_DEFAULT,
            _ => Duration::ZERO,
        }
    }

    /// There was traffic now. Costs a look at the clock.
    pub fn touch(&self) {
        if self.duration.is_zero() {
            return;
        }
        self.last_ns.store(self.now_ns(), Ordering::Relaxed);
        if !self.awake.swap(true, Ordering::Relaxed) {
            self.wake.notify_one();
        }
    }

    /// Keeps the runtime's thread from sleeping after each [`Spin::touch`]. Runs until dropped;
    /// to be spawned once on a single-threaded runtime.
    pub async fn run(&self) {
        let mut patience = Patience::new(self.duration);
        loop {
            self.wake.notified().await;
            let mut last_ns = self.last_ns.load(Ordering::Relaxed);
            let mut limit_ns = patience.limit_ns();
            while self.now_ns().saturating_sub(last_ns) < limit_ns {
                // Lets the runtime run what is ready and poll for I/O without waiting.
                tokio::task::yield_now().await;
                let latest_ns = self.last_ns.load(Ordering::Relaxed);
                if latest_ns != last_ns {
                    patience.rewarded();
                    last_ns = latest_ns;
                    limit_ns = patience.limit_ns();
                }
            }
            patience.in_vain();
            self.awake.store(false, Ordering::Relaxed);
        }
    }

    fn now_ns(&self) -> u64 {
        nanoseconds(self.start.elapsed())
    }
}

/// How long polling has been worth it lately.
#[derive(Debug)]
struct Patience {
    full_ns: u64,
    now_ns: u64,
    vain_count: u32,
}

impl Patience {
    /// Every so many times in vain the full time is tried again.
    const RETRY_COUNT: u32 = 32;
    /// The least time, as a part of the full one.
    const LEAST_PART: u64 = 16;

    fn new(full: Duration) -> Self {
        let full_ns = nanoseconds(full);
        Self {
            full_ns,
            now_ns: full_ns,
            vain_count: 0,
        }
    }

    /// How long to poll after traffic.
    fn limit_ns(&self) -> u64 {
        if self.vain_count > 0 && self.vain_count.is_multiple_of(Self::RETRY_COUNT) {
            self.full_ns
        } else {
            self.now_ns
        }
    }

    /// There was traffic while polling.
    fn rewarded(&mut self) {
        self.now_ns = self.full_ns;
        self.vain_count = 0;
    }

    /// There was none.
    fn in_vain(&mut self) {
        self.now_ns = (self.now_ns / 2).max(self.full_ns / Self::LEAST_PART);
        self.vain_count = self.vain_count.wrapping_add(1);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polling_in_vain_is_cut_down_and_tried_again_in_full() {
        let mut patience = Patience::new(Duration::from_micros(64));
        let mut limits = Vec::new();
        for _ in 0..=Patience::RETRY_COUNT {
            limits.push(patience.limit_ns());
            patience.in_vain();
        }
        assert_eq!(limits[..6], [64_000, 32_000, 16_000, 8_000, 4_000, 4_000]);
        assert_eq!(limits.last(), Some(&64_000));
        patience.rewarded();
        assert_eq!(patience.limit_ns(), 64_000);
    }

    #[tokio::test]
    async fn thread_sleeps_again_after_traffic() {
        let spin = std::sync::Arc::new(Spin::new(Duration::from_micros(50)));
        let running = std::sync::Arc::clone(&spin);
        let task = tokio::spawn(async move { running.run().await });
        spin.touch();
        assert!(spin.awake.load(Ordering::Relaxed));
        let asleep = async {
            while spin.awake.load(Ordering::Relaxed) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), asleep)
            .await
            .unwrap();
        task.abort();
    }
}
