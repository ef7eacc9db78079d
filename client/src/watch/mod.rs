//! Changes as they happen, in order, each once.
//!
//! A watch is a position in the history, and a place to read on from there. The place changes
//! with the role of the handle; the position makes the change invisible:
//!
//! ```text
//! Tap (the hub of the handle tells) --full, cut, or promoted--> Find
//! Find --nothing missed--> Tap
//! Find --something missed--> CatchUp (a stream of its own, or the log) --> Tap
//! ```
//!
//! Nothing waits here but what a tap or a stream holds, both bounded: who is slow falls back to
//! the owner's log, by position, and hears which changes are missing if it no longer reaches back.

mod loading;
mod source;

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use objsync_proto::effect::Cause;
use objsync_proto::error::Failure;
use objsync_proto::ids::{Origin, Position, Revision};
use objsync_proto::wire::KeyRange;
use tokio::sync::{Mutex, Notify};

use crate::core::Core;
use crate::error::{ObjectError, Result};
use crate::wait::{block_on, block_until};
use crate::watch::loading::Loading;
use crate::watch::source::Source;

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It got a value.
    Set,
    /// It was removed.
    Delete,
    /// It was removed by itself: its time to live, its lease or the connection of who was present
    /// has ended.
    Expire,
    /// A part of its value changed: something was added to a list or a set, or removed from a set.
    Patch,
}

impl ChangeKind {
    /// What a transaction with this cause did to a key.
    fn of(cause: Cause, has_value: bool) -> Self {
        match (has_value, cause) {
            (true, Cause::Patch) => Self::Patch,
            (true, _) => Self::Set,
            (false, Cause::Expiry) => Self::Expire,
            (false, _) => Self::Delete,
        }
    }
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Set => "set",
            Self::Delete => "delete",
            Self::Expire => "expire",
            Self::Patch => "patch",
        })
    }
}

/// One key changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchEvent {
    /// The encoded key.
    pub key: Bytes,
    /// The plain payload it has now; none when it was removed, or when `unread` says why it cannot be
    /// told.
    pub value: Option<Bytes>,
    /// Why the value that it has now is not in `value`: `Invalid` where that is too long to be one
    /// payload (4 GiB), which [`crate::Dict::open_read`] reads in pieces; `Conflict` where it was
    /// replaced since, and is no longer kept; `Corrupt` where it is damaged. None in all other events.
    pub unread: Option<Failure>,
    /// The plain payload it had before, where this handle knows it: an owner does, and a peer that
    /// holds the whole dictionary, of what happens while they watch. None also where it was large, in
    /// chunks: the change itself does not need it.
    pub old_value: Option<Bytes>,
    /// What happened.
    pub kind: ChangeKind,
    /// The transaction that did it, or behind a gap the state that shows it. Several events can
    /// share one, so it is a place to go on from once an event with a higher one has come.
    pub revision: Revision,
    /// Who asked for it; none when that was the owner's own process, or nobody.
    pub origin: Option<Origin>,
    /// Whether this handle asked for it; of an owner: whether its process did. Nobody asks for what
    /// ends by itself.
    pub origin_is_self: bool,
}

/// A stream of changes, in order, each once, over reconnects and promotions.
///
/// Several threads may read it; each event goes to one of them. Dropping it closes it.
pub struct Watch {
    shared: Arc<Shared>,
}

struct Shared {
    core: Arc<Core>,
    range: KeyRange,
    closed: AtomicBool,
    /// The source has failed for good: what is read next is why.
    failed: AtomicBool,
    closing: Notify,
    reading: Mutex<Reading>,
}

/// Where the watch is; held by the one who reads.
struct Reading {
    /// Changes, and gaps among them.
    ready: VecDeque<Result<Unread>>,
    source: Source,
    /// Everything up to here was read from the source.
    position: Position,
    /// The value of the first event, where that is large.
    loading: Loading,
    failed: Option<ObjectError>,
}

impl Watch {
    /// Follows the changes of a range after this moment, or after `since`.
    pub(crate) async fn begin(
        core: Arc<Core>,
        range: KeyRange,
        since: Option<Revision>,
    ) -> Result<Self> {
        core.readable().await?;
        let range = core.config.clip(range);
        let (source, position) = Source::first(&core, &range, since).await?;
        let reading = Reading {
            ready: VecDeque::new(),
            source,
            position,
            loading: Loading::default(),
            failed: None,
        };
        let shared = Shared {
            core,
            range,
            closed: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            closing: Notify::new(),
            reading: Mutex::new(reading),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Waits for the next change; none once the watch or its object is closed.
    ///
    /// # Errors
    /// `Interrupted`; [`ObjectError::Gap`] when changes since the last one read are no longer kept,
    /// once: the next call goes on behind them; `Unavailable` while the large value of the next change
    /// cannot be fetched: the next call tries again, and nothing is passed over; or why the object
    /// failed, and then [`Watch::is_closed`] says so.
    pub fn recv(&self) -> Result<Option<WatchEvent>> {
        block_on(&self.shared.core.config.what, self.next())?
    }

    /// As [`Watch::recv`], for at most `timeout`; none also when nothing happened, so ask
    /// [`Watch::is_closed`].
    ///
    /// # Errors
    /// As [`Watch::recv`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<WatchEvent>> {
        let deadline = Instant::now().checked_add(timeout);
        let received = block_until(&self.shared.core.config.what, deadline, self.next())?;
        received.unwrap_or(Ok(None))
    }

    /// The next change if one is there.
    ///
    /// # Errors
    /// As [`Watch::recv`].
    pub fn try_recv(&self) -> Result<Option<WatchEvent>> {
        let mut next = std::pin::pin!(self.next());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match next.as_mut().poll(&mut context) {
            std::task::Poll::Ready(received) => received,
            std::task::Poll::Pending => Ok(None),
        }
    }

    /// As [`Watch::recv`], awaitable.
    ///
    /// # Cancel safety
    /// No event is lost when the future is dropped.
    ///
    /// # Errors
    /// As [`Watch::recv`].
    pub async fn next(&self) -> Result<Option<WatchEvent>> {
        let shared = &self.shared;
        tokio::select! {
            biased;
            () = shared.ended() => Ok(None),
            received = shared.read() => received.map(Some),
        }
    }

    /// Calls `callback` with each change, in order, from a thread of its own, until the watch or
    /// its object is closed, or fails for good. All other errors and a panic of the callback are
    /// logged, and the next change follows. The returned guard closes the watch when it is dropped.
    pub fn on_change(self, callback: impl FnMut(WatchEvent) + Send + 'static) -> WatchCallback {
        let guard = WatchCallback {
            shared: Arc::clone(&self.shared),
        };
        let run = move || self.call_back(callback);
        let named = std::thread::Builder::new().name("objsync-watch".into());
        if let Err(error) = named.spawn(run) {
            tracing::error!(%error, "no thread for the callback of a watch");
            guard.close();
        }
        guard
    }

    fn call_back(self, mut callback: impl FnMut(WatchEvent)) {
        loop {
            match self.recv() {
                Ok(Some(event)) => {
                    // One bad event must not end the stream. The callback is used again as it
                    // is left, as by a thread that takes over a poisoned lock.
                    let called = catch_unwind(AssertUnwindSafe(|| callback(event)));
                    if called.is_err() {
                        tracing::error!("the callback of a watch has panicked");
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    let has_ended =
                        self.is_closed() || matches!(error, ObjectError::Interrupted { .. });
                    tracing::error!(%error, has_ended, "the watch of a callback");
                    if has_ended {
                        break;
                    }
                }
            }
        }
    }

    /// Ends the stream, for every thread that waits on it. Harmless when repeated.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Whether nothing more can come.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.has_ended() || self.shared.failed.load(Ordering::Acquire)
    }
}

impl Shared {
    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.closing.notify_waiters();
    }

    fn has_ended(&self) -> bool {
        self.closed.load(Ordering::Acquire) || self.core.check_open().is_err()
    }

    /// Waits for the end of the watch or of its object. Cancel safe.
    async fn ended(&self) {
        loop {
            let mut closing = std::pin::pin!(self.closing.notified());
            closing.as_mut().enable();
            let mut changed = std::pin::pin!(self.core.phase_changed.notified());
            changed.as_mut().enable();
            if self.has_ended() {
                return;
            }
            tokio::select! { biased;
                () = closing => {}
                () = changed => {}
            }
        }
    }

    /// The next change. Cancel safe: what was read is kept in `reading`.
    async fn read(&self) -> Result<WatchEvent> {
        let mut reading = self.reading.lock().await;
        loop {
            reading.load(&self.core).await?;
            if let Some(next) = reading.ready.pop_front() {
                return next.map(|unread| unread.event);
            }
            if let Some(error) = &reading.failed {
                return Err(error.clone());
            }
            match reading.read_on(&self.core, &self.range).await {
                Ok(()) => {}
                // Told once: who reads on gets what comes behind it.
                Err(error @ ObjectError::Gap(_)) => return Err(error),
                Err(error) => {
                    reading.failed = Some(error);
                    self.failed.store(true, Ordering::Release);
                }
            }
        }
    }
}

/// A change that waits to be read. Its values stay as they are stored until then: opened, they can
/// take many times as much, and many can wait.
struct Unread {
    event: WatchEvent,
    is_opened: bool,
}

/// A watch whose changes go to a callback; dropping it closes the watch.
pub struct WatchCallback {
    shared: Arc<Shared>,
}

impl WatchCallback {
    /// Ends the stream. A callback that is running finishes; it is not waited for.
    pub fn close(&self) {
        self.shared.close();
    }
}

impl Drop for WatchCallback {
    fn drop(&mut self) {
        self.close();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.close();
    }
}

impl Iterator for &Watch {
    type Item = Result<WatchEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        self.recv().transpose()
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("range", &self.shared.range)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for WatchCallback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchCallback")
            .field("range", &self.shared.range)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
