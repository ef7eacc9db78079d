//! What callers ask of the I/O thread, in the order in which they asked.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use objsync_proto::chunk::record::ChunkRecord;
use objsync_proto::ids::{Origin, Position, Revision, Sequence, SessionId};
use objsync_proto::operation::Operation;
use objsync_proto::wire::{ChunkPlace, Feed, Held, KeyRange, Reply, Request};
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
        answer: Asker,
        /// Until when.
        deadline: Instant,
    },
    /// The numbers of queued writes, up to this one, are on disk.
    Numbered {
        /// Numbers of this session.
        session: SessionId,
        /// The highest.
        through: Sequence,
    },
    /// A queued write that was not sent is queued no longer.
    Withdrawn(u64),
    /// The answer to a queued write is on disk.
    Finished(Origin),
    /// Answer this.
    Request {
        /// What is asked.
        request: Request,
        /// Who waits.
        reply: oneshot::Sender<Result<Reply>>,
        /// Until when.
        deadline: Instant,
    },
    /// Send chunks to the owner, in a stream of their own.
    Upload(Upload),
    /// Send a range's entries or changes, or chunks, to this sink.
    Feed {
        /// Which keys, in which way.
        wanted: FeedWanted,
        /// Where they go.
        sink: FeedSink,
    },
}

/// Chunks that somebody wants sent to the owner.
pub(crate) struct Upload {
    /// Which.
    pub(crate) records: Vec<ChunkRecord>,
    /// Who waits for them to be on their way: hears the number of the upload.
    pub(crate) sent: oneshot::Sender<Result<u64>>,
    /// Ends when nobody wants them sent any more.
    pub(crate) given_up: oneshot::Receiver<()>,
}

/// Who asked for a write.
pub(crate) enum Asker {
    /// A caller.
    Caller(oneshot::Sender<Answered>),
    /// The queue on disk: which of its writes.
    Queue(u64),
    /// Nobody: it stands for a number that has to go out.
    Nobody,
}

/// How long a queued write waits for an owner: for as long as this process may live.
const QUEUED: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

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
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Chunks of a large value.
    Chunks(Arc<ChunksWanted>),
}

/// Chunks of a large value that somebody wants from the owner.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ChunksWanted {
    /// The key of the value.
    pub(crate) key: Bytes,
    /// The revision that wrote it.
    pub(crate) revision: Revision,
    /// Which.
    pub(crate) places: Vec<ChunkPlace>,
}

impl FeedWanted {
    /// What the owner is asked for a stream of this number.
    pub(crate) fn request(&self, subscription: u64) -> Request {
        let range = self.range.clone();
        match &self.what {
            FeedKind::Entries { reverse, at: None } => Request::Fetch {
                subscription,
                range,
                reverse: *reverse,
            },
            FeedKind::Entries {
                reverse,
                at: Some(revision),
            } => Request::FetchAt {
                subscription,
                range,
                reverse: *reverse,
                revision: *revision,
            },
            FeedKind::Changes(since) => Request::Follow {
                subscription,
                range,
                since: *since,
                held: Held::Nothing,
            },
            FeedKind::Chunks(wanted) => Request::FetchChunks {
                subscription,
                key: wanted.key.clone(),
                revision: wanted.revision,
                places: wanted.places.clone(),
            },
        }
    }
}

/// Commands that wait for the I/O thread.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) commands: VecDeque<Command>,
    /// No more are taken.
    pub(super) ended: bool,
}

impl Command {
    /// A write that is queued on disk.
    pub(crate) fn of_queue(entry: u64, operation: Operation) -> Self {
        Self::Write {
            operation,
            answer: Asker::Queue(entry),
            deadline: Instant::now() + QUEUED,
        }
    }

    /// When its caller stops waiting.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Write { deadline, .. } | Self::Request { deadline, .. } => Some(*deadline),
            Self::Feed { .. }
            | Self::Upload(_)
            | Self::Numbered { .. }
            | Self::Withdrawn(_)
            | Self::Finished(_) => None,
        }
    }

    /// Answers it with an error. Who no longer waits does not hear it.
    pub(crate) fn fail(self, error: &ObjectError) {
        match self {
            Self::Write {
                answer: Asker::Caller(answer),
                ..
            } => drop(answer.send(Err(error.clone()))),
            // A queued one stays on disk.
            Self::Write {
                answer: Asker::Queue(_) | Asker::Nobody,
                ..
            }
            | Self::Numbered { .. }
            | Self::Withdrawn(_)
            | Self::Finished(_) => {}
            Self::Request { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Upload(upload) => drop(upload.sent.send(Err(error.clone()))),
            Self::Feed { sink, .. } => drop(sink.try_send(Err(error.clone()))),
        }
    }
}
