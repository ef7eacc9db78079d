//! What callers ask of the I/O thread, in the order in which they asked.

use std::collections::VecDeque;

use objsync_proto::ids::{Position, Revision};
use objsync_proto::operation::Operation;
use objsync_proto::wire::{Feed, KeyRange, Reply, Request};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::error::{ObjectError, Result};
use crate::pending::Answered;

/// A call that waits for the I/O thread.
pub(crate) enum Command {
    /// Decide this.
    Write {
        /// What to decide.
        operation: Operation,
        /// Who waits.
        answer: oneshot::Sender<Answered>,
        /// Until when.
        deadline: Instant,
    },
    /// Answer this.
    Request {
        /// What is asked.
        request: Request,
        /// Who waits.
        reply: oneshot::Sender<Result<Reply>>,
        /// Until when.
        deadline: Instant,
    },
    /// Send a range's entries or changes to this sink.
    Feed {
        /// Which keys, in which way.
        wanted: FeedWanted,
        /// Where they go.
        sink: FeedSink,
    },
}

/// Where the frames of a stream go: bounded, so that a slow reader slows its own stream only.
pub(crate) type FeedSink = mpsc::Sender<Result<Feed>>;

/// A stream of its own that somebody wants from the owner.
#[derive(Debug, Clone)]
pub(crate) struct FeedWanted {
    /// Which keys.
    pub(crate) range: KeyRange,
    /// Entries as of one revision, or changes.
    pub(crate) what: FeedKind,
}

/// What a stream brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FeedKind {
    /// Entries as of one revision.
    Entries {
        /// From the last key to the first.
        reverse: bool,
        /// Which one; none for the present one.
        at: Option<Revision>,
    },
    /// Changes after this position.
    Changes(Position),
}

/// Commands that wait for the I/O thread.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) commands: VecDeque<Command>,
    /// No more are taken.
    pub(super) ended: bool,
}

impl Command {
    /// When its caller stops waiting.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Write { deadline, .. } | Self::Request { deadline, .. } => Some(*deadline),
            Self::Feed { .. } => None,
        }
    }

    /// Answers it with an error. Who no longer waits does not hear it.
    pub(crate) fn fail(self, error: &ObjectError) {
        match self {
            Self::Write { answer, .. } => drop(answer.send(Err(error.clone()))),
            Self::Request { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Feed { sink, .. } => drop(sink.try_send(Err(error.clone()))),
        }
    }
}
