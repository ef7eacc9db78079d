//! Staying awake for a moment after traffic, because waking a sleeping core costs more than a
//! whole request.
//!
//! On an idle core the kernel takes some 30 us to get a thread going again. A peer that answers
//! an answer at once is back before that; so for a few tens of microseconds after traffic the I/O
//! thread polls for more instead of sleeping. A single core has better things to do: there it is
//! off by default.

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
        loop {
            self.wake.notified().await;
            while self.is_recent() {
                // Lets the runtime run what is ready and poll for I/O without waiting.
                tokio::task::yield_now().await;
            }
            self.awake.store(false, Ordering::Relaxed);
        }
    }

    fn is_recent(&self) -> bool {
        let idle_ns = self
            .now_ns()
            .saturating_sub(self.last_ns.load(Ordering::Relaxed));
        u128::from(idle_ns) < self.duration.as_nanos()
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
