//! What is queued: a request, and who waits for its answer.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use objsync_proto::effect::Change;
use objsync_proto::evaluate::change_bytes;
use objsync_proto::ids::{NamespaceId, PeerKey, SessionId};

use crate::error::StoreError;
use crate::grants::GrantEvent;
use crate::store::{Answer, Done, Submission};

/// Bytes that a request counts beside what it carries.
const REQUEST_BYTES: usize = 256;

/// A request with its way back.
pub(crate) struct Job {
    pub(crate) request: Request,
    pub(crate) reply: Reply,
}

/// What the writer is asked to do.
pub(crate) enum Request {
    Write(Submission),
    OpenSession(PeerKey),
    CloseSession(SessionId),
    Grant(GrantEvent),
    CreateNamespace {
        name: String,
        content: Vec<Change>,
    },
    /// End the keys and leases that have had their time.
    Expire,
    /// Leave an end mark: the last request of all.
    Close,
}

/// What a request was answered.
#[derive(Debug)]
pub(crate) enum Given {
    Answer(Answer),
    Session(SessionId),
    Flag(bool),
    Namespace(NamespaceId, bool),
    Nothing,
}

/// Who waits for an answer.
pub(crate) enum ReplyTo {
    /// The thread that leads.
    Inline,
    /// A thread that waits.
    Slot(Arc<Slot>),
    /// A function, for a write.
    Done(Done),
}

/// The way back, which is taken once: one that is lost, because the writer panicked, answers that
/// the outcome is unknown, so that nobody waits for ever.
pub(crate) struct Reply(Option<ReplyTo>);

impl From<ReplyTo> for Reply {
    fn from(to: ReplyTo) -> Self {
        Self(Some(to))
    }
}

impl Reply {
    /// Of what nobody asked for.
    pub(crate) fn nobody() -> Self {
        Self(None)
    }

    /// Answers; an inline answer goes to `inline`.
    pub(crate) fn give(
        mut self,
        result: Result<Given, StoreError>,
        inline: &mut Option<Result<Given, StoreError>>,
    ) {
        if let Some(to) = self.0.take() {
            to.give(result, inline);
        }
    }

    /// The slot of a thread that waits.
    pub(crate) fn slot(&self) -> Option<&Slot> {
        match &self.0 {
            Some(ReplyTo::Slot(slot)) => Some(slot),
            _ => None,
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(to) = self.0.take() {
            let cause = "the writer ended before its time".to_owned();
            to.give(Err(StoreError::OutcomeUnknown { cause }), &mut None);
        }
    }
}

impl ReplyTo {
    fn give(
        self,
        result: Result<Given, StoreError>,
        inline: &mut Option<Result<Given, StoreError>>,
    ) {
        match self {
            Self::Inline => *inline = Some(result),
            Self::Slot(slot) => slot.set(Turn::Answered(result)),
            Self::Done(done) => done(result.and_then(|given| match given {
                Given::Answer(answer) => Ok(answer),
                _ => Err(StoreError::Closed),
            })),
        }
    }
}

impl Job {
    /// Bytes it counts towards the bound of the queue.
    pub(crate) fn bytes(&self) -> usize {
        self.request.bytes()
    }
}

impl Request {
    /// Bytes in memory, and at most in the log, about.
    pub(crate) fn bytes(&self) -> usize {
        REQUEST_BYTES
            + match self {
                Self::Write(submission) => submission.operation.bytes(),
                Self::CreateNamespace { content, .. } => changes_bytes(content),
                _ => 0,
            }
    }
}

fn changes_bytes(changes: &[Change]) -> usize {
    let bytes = |change: &Change| change_bytes(&change.key, change.value.as_deref());
    changes.iter().map(bytes).sum()
}

/// Where a thread waits for its answer, or for its turn to lead.
#[derive(Default)]
pub(crate) struct Slot {
    turn: Mutex<Turn>,
    changed: Condvar,
}

#[derive(Default)]
enum Turn {
    #[default]
    Waiting,
    Lead,
    Answered(Result<Given, StoreError>),
}

impl Slot {
    /// Waits for the answer; none when this thread is to lead.
    pub(crate) fn wait(&self) -> Option<Result<Given, StoreError>> {
        let mut turn = self.turn();
        loop {
            match std::mem::take(&mut *turn) {
                Turn::Answered(result) => return Some(result),
                Turn::Lead => return None,
                Turn::Waiting => {
                    turn = self
                        .changed
                        .wait(turn)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Makes the waiting thread lead.
    pub(crate) fn lead(&self) {
        self.set(Turn::Lead);
    }

    fn set(&self, next: Turn) {
        *self.turn() = next;
        self.changed.notify_one();
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
