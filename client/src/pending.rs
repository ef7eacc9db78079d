//! A call on its way: the blocking and the awaitable form of one thing.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::Result;

/// A call that was made and not yet waited for.
///
/// Like every future it is lazy: nothing happens before [`Pending::wait`], `.await` or
/// [`Pending::start`]. `start` hands the call over and returns at once; calls of one handle happen
/// in the order in which they were started.
///
/// # Cancel safety
/// Dropping a started call does not take it back: a write may still happen.
#[must_use = "a call does nothing before it is waited for, awaited or started"]
pub struct Pending<T> {
    ready: Option<Result<T>>,
}

impl<T> Pending<T> {
    /// Hands the call over now, to be waited for later, or never.
    pub fn start(self) -> Self {
        self
    }

    /// Waits in this thread: it spins for some microseconds, then sleeps.
    ///
    /// # Errors
    /// What the call failed with; `Interrupted` when the interrupt check says so.
    pub fn wait(self) -> Result<T> {
        todo!()
    }

    /// The result, if it is there already. After it was taken the call must not be used again.
    pub fn try_take(&mut self) -> Option<Result<T>> {
        self.ready.take()
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Self::Output> {
        todo!()
    }
}
