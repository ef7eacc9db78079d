//! Changes as they happen.

use std::time::Duration;

use bytes::Bytes;
use objsync_proto::ids::{Origin, Revision};

use crate::error::Result;

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It got a value.
    Set,
    /// It was removed.
    Delete,
}

/// One key changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchEvent {
    /// The encoded key.
    pub key: Bytes,
    /// The plain payload it has now; none when it was removed.
    pub value: Option<Bytes>,
    /// The plain payload it had before, where this handle knows it.
    pub old_value: Option<Bytes>,
    /// What happened.
    pub kind: ChangeKind,
    /// The transaction that did it. Several events can share one.
    pub revision: Revision,
    /// Who asked for it, if that was a peer.
    pub origin: Option<Origin>,
    /// Whether this handle asked for it.
    pub origin_is_self: bool,
}

/// A stream of changes, in order, each once, over reconnects and promotions.
///
/// Dropping it closes it.
#[derive(Debug)]
pub struct Watch {
    _private: (),
}

impl Watch {
    /// Waits for the next change; none once the watch or its object is closed.
    ///
    /// # Errors
    /// `Interrupted`, or why the stream broke.
    pub fn recv(&self) -> Result<Option<WatchEvent>> {
        todo!()
    }

    /// As [`Watch::recv`], for at most `timeout`; none also when nothing happened, so ask
    /// [`Watch::is_closed`].
    ///
    /// # Errors
    /// As [`Watch::recv`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<WatchEvent>> {
        let _ = timeout;
        todo!()
    }

    /// The next change if one is there.
    ///
    /// # Errors
    /// As [`Watch::recv`].
    pub fn try_recv(&self) -> Result<Option<WatchEvent>> {
        todo!()
    }

    /// As [`Watch::recv`], awaitable.
    ///
    /// # Cancel safety
    /// No event is lost when the future is dropped.
    ///
    /// # Errors
    /// As [`Watch::recv`].
    pub async fn next(&self) -> Result<Option<WatchEvent>> {
        todo!()
    }

    /// Calls `callback` with each change, in order, from a thread of its own, until the watch or
    /// its object is closed. The returned guard closes the watch when it is dropped.
    pub fn on_change(self, callback: impl FnMut(WatchEvent) + Send + 'static) -> WatchCallback {
        let _ = callback;
        todo!()
    }

    /// Ends the stream, for every thread that waits on it. Harmless when repeated.
    pub fn close(&self) {
        todo!()
    }

    /// Whether nothing more can come.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        todo!()
    }
}

/// A watch whose changes go to a callback; dropping it closes the watch.
#[derive(Debug)]
pub struct WatchCallback {
    _private: (),
}

impl WatchCallback {
    /// Ends the stream. A callback that is running finishes; it is not waited for.
    pub fn close(&self) {
        todo!()
    }
}

impl Iterator for &Watch {
    type Item = Result<WatchEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        self.recv().transpose()
    }
}
