//! Queued writes that wait after an owner has refused a session, so that it is not asked again at once.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

/// First and longest pause: each refusal ends the connection, and reads need one as well.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Whether writes are held back.
#[derive(Debug, Default)]
pub(super) struct Hold {
    pause: Duration,
    until: Option<Instant>,
    /// Refused writes that the queue has not given back yet, nor said to be gone.
    returning: BTreeSet<u64>,
}

impl Hold {
    /// A session was refused: twice as long a pause as the last time.
    pub(super) fn begin(&mut self, now: Instant) {
        self.pause = (self.pause * 2).clamp(PAUSE.0, PAUSE.1);
        self.until = Some(now + self.pause);
    }

    /// A session was opened: the next refusal is a new story.
    pub(super) fn end(&mut self) {
        self.pause = Duration::ZERO;
        self.until = None;
    }

    /// A queued write was refused, and the queue decides what becomes of it.
    pub(super) fn refused(&mut self, entry: u64) {
        self.returning.insert(entry);
    }

    /// The queue has decided. Tells whether it was asked.
    pub(super) fn returned(&mut self, entry: u64) -> bool {
        self.returning.remove(&entry)
    }

    /// Whether no write is to go out: not even a later one before those that come back.
    pub(super) fn is_on(&self, now: Instant) -> bool {
        !self.returning.is_empty() || self.until.is_some_and(|until| now < until)
    }
}
