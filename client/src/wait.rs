//! How a thread waits: it spins for as long as an answer usually takes, then sleeps.
//!
//! Waking a sleeping core costs some 50 us, which is most of a round trip between two processes of
//! one machine. So a thread whose last wait was short looks at an atomic for a while, yielding the
//! core between looks; whoever wakes it then needs no system call. A thread that waited for long
//! sleeps at once, so nobody spins for what comes seldom (docs/decisions/0007).

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::error::{ObjectError, Result};

/// How often a sleeping thread asks whether it was interrupted.
const INTERRUPT_INTERVAL: Duration = Duration::from_millis(50);
/// How long a thread spins before it sleeps, if its last wait was over within that time.
const SPIN_MAX: Duration = Duration::from_micros(400);

static INTERRUPT_CHECK: OnceLock<fn() -> bool> = OnceLock::new();

/// Whether spinning can help: somebody else must be able to run meanwhile.
pub(crate) static MANY_CORES: LazyLock<bool> =
    LazyLock::new(|| std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1));

/// Sets what is asked every 50 ms while a blocking call waits; `true` makes the call return
/// `Interrupted`. One for the process: the first call counts. The Python package asks for pending
/// signals.
pub fn set_interrupt_check(check: fn() -> bool) {
    let _ = INTERRUPT_CHECK.set(check);
}

/// Runs a future in this thread until it is done, or the interrupt check says so.
pub(crate) fn block_on<T>(what: &str, future: impl Future<Output = T>) -> Result<T> {
    block_until(what, None, future)
        .map(|done| done.expect("without a deadline it ends only with a result"))
}

/// As [`block_on`], but gives up at `deadline` with none.
pub(crate) fn block_until<T>(
    what: &str,
    deadline: Option<Instant>,
    future: impl Future<Output = T>,
) -> Result<Option<T>> {
    let parker = Parker::of_this_thread();
    let waker = Waker::from(Arc::clone(&parker));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        parker.state.store(AWAKE, Ordering::Relaxed);
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Ok(Some(value));
        }
        let start = Instant::now();
        if parker.spin() {
            continue;
        }
        while !parker.sleep(deadline) {
            if INTERRUPT_CHECK.get().is_some_and(|check| check()) {
                return Err(ObjectError::Interrupted {
                    what: what.to_owned(),
                });
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
        }
        let was_short = start.elapsed() < SPIN_MAX;
        let _ = WAS_SHORT.try_with(|short| short.set(was_short));
    }
}

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const WOKEN: u8 = 2;

/// Where one thread waits.
struct Parker {
    state: AtomicU8,
    thread: Thread,
}

thread_local! {
    static PARKER: Arc<Parker> =
        Arc::new(Parker { state: AtomicU8::new(AWAKE), thread: std::thread::current() });
    /// Whether this thread's last wait was short: the next one will most likely be too.
    static WAS_SHORT: Cell<bool> = const { Cell::new(true) };
}

impl Parker {
    /// The thread's own one; a fresh one while the thread's are being taken down.
    fn of_this_thread() -> Arc<Self> {
        PARKER.try_with(Arc::clone).unwrap_or_else(|_| {
            Arc::new(Self {
                state: AtomicU8::new(AWAKE),
                thread: std::thread::current(),
            })
        })
    }

    /// Looks at the state for a while; true when it was woken meanwhile.
    fn spin(&self) -> bool {
        let worth_it = *MANY_CORES && WAS_SHORT.try_with(Cell::get).unwrap_or(false);
        let start = Instant::now();
        while self.state.load(Ordering::Acquire) != WOKEN {
            if !worth_it || start.elapsed() >= SPIN_MAX {
                return false;
            }
            // Whoever is to answer may need this very core.
            std::thread::yield_now();
        }
        true
    }

    /// Sleeps until woken (true), or until it is time to look around (false).
    fn sleep(&self, deadline: Option<Instant>) -> bool {
        if self.state.swap(ASLEEP, Ordering::AcqRel) == WOKEN {
            return true;
        }
        let limit = deadline.map_or(INTERRUPT_INTERVAL, |deadline| {
            deadline
                .saturating_duration_since(Instant::now())
                .min(INTERRUPT_INTERVAL)
        });
        std::thread::park_timeout(limit);
        self.state.swap(AWAKE, Ordering::AcqRel) == WOKEN
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, Ordering::AcqRel) == ASLEEP {
            self.thread.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_thread_gets_what_another_thread_sends_late() {
        let (send, receive) = tokio::sync::oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let waiter = std::thread::spawn(move || {
            ready.send(()).unwrap();
            block_on("test", receive).unwrap().unwrap()
        });
        is_ready.recv().unwrap();
        // Longer than a spin, so that it sleeps.
        std::thread::park_timeout(SPIN_MAX * 20);
        send.send(7).unwrap();
        assert_eq!(waiter.join().unwrap(), 7);
    }

    #[test]
    fn deadline_ends_the_wait_without_a_result() {
        let start = Instant::now();
        let deadline = start + Duration::from_millis(20);
        let none = block_until("test", Some(deadline), std::future::pending::<()>()).unwrap();
        assert!(none.is_none());
        assert!(start.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn wake_from_inside_the_poll_is_not_lost() {
        let mut polls = 0;
        let twice = std::future::poll_fn(|context| {
            polls += 1;
            if polls == 2 {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        });
        block_on("test", twice).unwrap();
        assert_eq!(polls, 2);
    }
}
