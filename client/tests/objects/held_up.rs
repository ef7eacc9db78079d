//! A call whose answer is there and is not taken, while nothing else is heard either.

use std::error::Error;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use objsync::{Dict, Lock, Pending};

use crate::peer::k;

const LONG: Duration = Duration::from_secs(20);

/// A lock that is being acquired. In a process of its own, as all handles of one share a thread.
pub(crate) struct HeldUp {
    // Until it was told whether it was taken.
    _lock: Lock,
    call: Pending<bool>,
    woken: Arc<Woken>,
    told: Receiver<()>,
}

/// Tells when a call is woken; holds up the thread that wakes it, which brings all answers, where it
/// is told to.
struct Woken {
    tell: Mutex<Sender<()>>,
    holds_up: AtomicBool,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        // Known before it is told: whoever hears of this wake holds up the next one.
        let is_held_up = self.holds_up.load(Ordering::Acquire);
        let _ = self.tell.lock().unwrap().send(());
        while is_held_up && self.holds_up.load(Ordering::Acquire) {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

impl HeldUp {
    /// Asks for a lock with a lease of `ttl`, until the lock was given and that is not heard yet.
    pub(crate) fn begin(dict: &Dict, name: &str, ttl: Duration) -> Result<Self, Box<dyn Error>> {
        let lock = dict.lock(&k(name), ttl)?;
        let call = lock.acquire(Some(Duration::from_secs(1)));
        let (tell, told) = mpsc::channel();
        let woken = Arc::new(Woken {
            tell: Mutex::new(tell),
            holds_up: AtomicBool::new(false),
        });
        let mut held_up = Self {
            _lock: lock,
            call,
            woken,
            told,
        };
        held_up.poll_pending("the lease is asked for")?;
        held_up.told.recv_timeout(LONG)?;
        held_up.woken.holds_up.store(true, Ordering::Release);
        held_up.poll_pending("the lock is asked for")?;
        held_up.told.recv_timeout(LONG)?;
        Ok(held_up)
    }

    /// Hears the answers, and tells whether the lock was taken.
    pub(crate) fn go_on(mut self) -> Result<bool, Box<dyn Error>> {
        self.woken.holds_up.store(false, Ordering::Release);
        loop {
            match self.poll() {
                Poll::Ready(taken) => return Ok(taken?),
                Poll::Pending => self.told.recv_timeout(LONG)?,
            }
        }
    }

    fn poll(&mut self) -> Poll<objsync::Result<bool>> {
        let waker = Arc::clone(&self.woken).into();
        Pin::new(&mut self.call).poll(&mut Context::from_waker(&waker))
    }

    fn poll_pending(&mut self, when: &str) -> Result<(), Box<dyn Error>> {
        match self.poll() {
            Poll::Pending => Ok(()),
            Poll::Ready(taken) => Err(format!("{taken:?} at once, when {when}").into()),
        }
    }
}
