//! The client's side of a session, as a machine without I/O or clock.
//!
//! Invariants
//! * Each submitted call completes exactly once.
//! * Writes go out in the order of submission, again after each reconnect, under the same
//!   sequence; a sequence is never given to two calls of one session.
//! * A write that an owner may have seen is never moved to another session.
//! * The floor that goes out with a write never passes a call that still waits, nor one that was
//!   given up and can still be asked about.

mod ending;
mod written;

use std::collections::VecDeque;

use bytes::BytesMut;

use crate::error::{ErrorKind, Failure};
use crate::ids::{Ack, Durability, Origin, Sequence, SessionId};
use crate::limits::{SESSION_BYTES_MAX, SESSION_IDLE_MS, SESSION_RESULTS_MAX};
use crate::operation::{Operation, Outcome};
use crate::wire::ToOwner;
use crate::wire::codec::{self, WriteRef};

/// The caller's own number for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// A call that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// Which.
    pub call: CallId,
    /// Under which number an owner may have seen it; none if it was never sent.
    pub op: Option<Origin>,
    /// What the owner answered, or why there is no answer.
    pub result: Result<(Outcome, Ack), Failure>,
}

/// What an owner said of a call after its caller had given up.
pub type Late = (Origin, Result<(Outcome, Ack), Failure>);

/// What was not answered, for who becomes the owner itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeOver {
    /// The session that the sent ones belong to.
    pub session: Option<SessionId>,
    /// The lowest sequence not answered.
    pub floor: Sequence,
    /// The first sequence that no call has.
    pub next: Sequence,
    /// The calls in order, those that may have been seen by an owner first.
    pub calls: Vec<Unanswered>,
}

/// A call without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    /// Which.
    pub call: CallId,
    /// Its number in the session if an owner may have seen it; else it was never sent.
    pub sequence: Option<Sequence>,
    /// What to do.
    pub operation: Operation,
    /// The level asked for.
    pub durability: Option<Durability>,
    /// When its caller stops waiting.
    pub deadline_ms: u64,
}

#[derive(Debug)]
struct Waiting {
    call: CallId,
    operation: Operation,
    durability: Option<Durability>,
    deadline_ms: u64,
    bytes: usize,
}

/// What became of a sequence.
#[derive(Debug)]
enum Slot {
    /// It has its answer.
    Done,
    /// A call waits for it.
    Waiting(Waiting),
    /// It was sent, and nobody waits for it any more: it can be asked about.
    GivenUp,
    /// It has its answer, which the client has yet to write down.
    Unfinished,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connection {
    Down,
    Up,
    /// Up, and [`ToOwner::OpenSession`] was sent.
    Opening,
}

/// One client's session. See the module.
#[derive(Debug)]
pub struct ClientSession {
    id: Option<SessionId>,
    connection: Connection,
    /// The sequence of the first slot: the floor.
    floor: Sequence,
    /// By sequence from the floor. The first one is not done.
    slots: VecDeque<Slot>,
    /// Calls that wait.
    waiting: usize,
    /// Their bytes.
    bytes: usize,
    /// Slots that were given up.
    given_up: usize,
    late: VecDeque<Late>,
    /// Highest sequence that any connection of this session has carried; below the floor if none.
    sent: Sequence,
    /// Highest sequence that this connection has carried, or skipped as done.
    cursor: Sequence,
    /// The owner has lost results of this session: send nothing new in it, and leave it once all
    /// that was sent is answered.
    retiring: bool,
    /// A session to close on this connection.
    closing: bool,
    /// Writes wait for their numbers to be written down: up to this one they are. None for "all".
    released: Option<Sequence>,
    completions: VecDeque<Completion>,
    /// No call ends before this.
    deadline_ms: u64,
    used_ms: u64,
}

impl Default for ClientSession {
    fn default() -> Self {
        Self::new()
    }
}

impl ClientSession {
    /// A session that is neither open nor connected.
    #[must_use]
    pub fn new() -> Self {
        Self {
            id: None,
            connection: Connection::Down,
            floor: Sequence(1),
            slots: VecDeque::new(),
            waiting: 0,
            bytes: 0,
            given_up: 0,
            late: VecDeque::new(),
            sent: Sequence(0),
            cursor: Sequence(0),
            retiring: false,
            closing: false,
            released: None,
            completions: VecDeque::new(),
            deadline_ms: u64::MAX,
            used_ms: 0,
        }
    }

    /// The session to name in the next hello.
    #[must_use]
    pub fn id(&self) -> Option<SessionId> {
        self.id
    }

    /// How many calls wait for an answer.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.waiting == 0
    }

    /// When [`expire`](Self::expire) has to be called next, at the latest; `u64::MAX` for never.
    #[must_use]
    pub fn deadline_ms(&self) -> u64 {
        self.deadline_ms
    }

    /// Takes a write to do. It goes out with the next [`transmit`](Self::transmit).
    ///
    /// # Errors
    /// The operation itself when the window is full ([`SESSION_RESULTS_MAX`] operations or
    /// [`SESSION_BYTES_MAX`] bytes in flight): offer it again after a completion.
    #[expect(
        clippy::result_large_err,
        reason = "it goes back to who asked, and is moved once"
    )]
    pub fn submit(
        &mut self,
        call: CallId,
        operation: Operation,
        durability: Option<Durability>,
        deadline_ms: u64,
        now_ms: u64,
    ) -> Result<(), Operation> {
        let bytes = operation.bytes();
        if self.slots.len() >= SESSION_RESULTS_MAX / 2 {
            self.let_go_in_front();
        }
        let full = self.slots.len() >= SESSION_RESULTS_MAX
            || (self.bytes > 0 && self.bytes + bytes > SESSION_BYTES_MAX);
        if full {
            return Err(operation);
        }
        self.bytes += bytes;
        self.deadline_ms = self.deadline_ms.min(deadline_ms);
        self.used_ms = now_ms;
        self.waiting += 1;
        self.slots.push_back(Slot::Waiting(Waiting {
            call,
            operation,
            durability,
            deadline_ms,
            bytes,
        }));
        Ok(())
    }

    /// A connection was welcomed; `session_known` as in [`Welcome`](crate::wire::Welcome).
    ///
    /// Writes of a session that is not known any more cannot be asked about: those that were sent
    /// complete with [`ErrorKind::OutcomeUnknown`], the others go into a new session.
    pub fn connected(&mut self, session_known: bool) {
        self.connection = Connection::Up;
        self.closing = false;
        self.cursor = Sequence(self.floor.0 - 1);
        if self.id.is_some() && !session_known {
            self.fail_sent(&|| {
                let text = "write was sent, but the owner no longer knows the session it was sent \
                            in: it may or may not have been done";
                Failure::new(ErrorKind::OutcomeUnknown, text)
            });
            self.renew();
        }
        self.move_floor();
    }

    /// The connection is gone. What was not answered waits for the next one.
    pub fn disconnected(&mut self) {
        self.connection = Connection::Down;
        self.closing = false;
    }

    /// The owner has opened the session that was asked for.
    pub fn opened(&mut self, id: SessionId) {
        if self.connection == Connection::Opening {
            self.connection = Connection::Up;
            self.id = Some(id);
        }
    }

    /// The owner ends the connection for this reason. If that is its answer to the session that was
    /// asked for, what waits completes with it: none of it was sent. Tells whether it was.
    pub fn refused(&mut self, failure: &Failure) -> bool {
        // An owner that goes is no answer: there is or will be another one.
        let is_answer =
            self.connection == Connection::Opening && failure.kind != ErrorKind::Unavailable;
        if is_answer {
            for place in 0..self.slots.len() {
                self.settle(place, Err(failure.clone()));
            }
            self.move_floor();
        }
        is_answer
    }

    /// The owner has answered a write. An answer to a call that is done is ignored; one to a call
    /// that was given up is kept for [`late`](Self::late).
    pub fn answered(&mut self, sequence: Sequence, result: Result<(Outcome, Ack), Failure>) {
        let was_sent = sequence >= self.floor && sequence <= self.sent && self.id.is_some();
        let Some(place) = sequence.0.checked_sub(self.floor.0).filter(|_| was_sent) else {
            return;
        };
        let Ok(place) = usize::try_from(place) else {
            return;
        };
        // Said of a session that has ended, and of a failed sync: a fresh session is right in
        // both cases, and the others that were sent still get the answer meant for them.
        let unknown = matches!(&result, Err(failure) if failure.kind == ErrorKind::OutcomeUnknown);
        self.retiring |= unknown;
        if matches!(self.slots.get(place), Some(Slot::GivenUp)) {
            if let (false, Some(session)) = (unknown, self.id) {
                self.late.push_back((Origin { session, sequence }, result));
            }
            self.let_go(place);
        } else {
            self.settle(place, result);
        }
        self.move_floor();
    }

    /// The next answer that came after its caller had given up.
    pub fn late(&mut self) -> Option<Late> {
        self.late.pop_front()
    }

    /// Ends the calls whose deadline has come, and a session that has been idle for long.
    ///
    /// A call that was sent completes with [`ErrorKind::OutcomeUnknown`], and its sequence is
    /// never used or sent again; it can be asked about as long as it is one of the last
    /// [`SESSION_GIVEN_UP_MAX`](crate::limits::SESSION_GIVEN_UP_MAX) of this session, and not half of [`SESSION_RESULTS_MAX`] writes ago. One that was not sent completes with [`ErrorKind::Unavailable`] and is
    /// never sent.
    pub fn expire(&mut self, now_ms: u64) {
        if now_ms >= self.deadline_ms {
            self.deadline_ms = u64::MAX;
            for place in 0..self.slots.len() {
                let Slot::Waiting(waiting) = &self.slots[place] else {
                    continue;
                };
                if waiting.deadline_ms > now_ms {
                    self.deadline_ms = self.deadline_ms.min(waiting.deadline_ms);
                    continue;
                }
                let was_sent = self.sequence_at(place) <= self.sent;
                let failure = if was_sent {
                    let text = "write got no answer in time: it may or may not have been done";
                    Failure::new(ErrorKind::OutcomeUnknown, text)
                } else {
                    let text = "write found no owner in time: it was not done";
                    Failure::new(ErrorKind::Unavailable, text)
                };
                self.settle(place, Err(failure));
                if was_sent {
                    self.give_up(place);
                }
            }
            self.move_floor();
        }
        // Well before the owner ends it: a write must not meet a session that is just gone.
        let is_idle = now_ms.saturating_sub(self.used_ms) >= SESSION_IDLE_MS / 2;
        if is_idle && self.is_settled() && !self.has_unfinished() {
            self.renew();
        }
    }

    /// The session has no further use: the owner can forget it. What waits completes with
    /// [`ErrorKind::Closed`].
    pub fn close(&mut self) {
        for place in 0..self.slots.len() {
            let text = "write was not answered before its object was closed";
            self.settle(place, Err(Failure::new(ErrorKind::Closed, text)));
        }
        self.move_floor();
        self.renew();
    }

    /// Appends the frames that can go out now, until `out` holds `bytes_max` bytes or more.
    pub fn transmit(&mut self, out: &mut BytesMut, bytes_max: usize) {
        if self.connection == Connection::Down {
            return;
        }
        if std::mem::take(&mut self.closing) {
            codec::encode(&ToOwner::CloseSession, out);
        }
        if self.id.is_none() {
            if self.connection == Connection::Up && !self.is_settled() {
                codec::encode(&ToOwner::OpenSession, out);
                self.connection = Connection::Opening;
            }
            return;
        }
        let end = Sequence(self.floor.0 + self.slots.len() as u64 - 1);
        let last = if self.retiring {
            end.min(self.sent)
        } else {
            end
        };
        let last = self.released.map_or(last, |released| last.min(released));
        self.cursor = self.cursor.max(Sequence(self.floor.0 - 1));
        while self.cursor < last && out.len() < bytes_max {
            self.cursor = self.cursor.next();
            let place = usize::try_from(self.cursor.0 - self.floor.0).expect("within the window");
            if let Slot::Waiting(waiting) = &self.slots[place] {
                let write = WriteRef {
                    sequence: self.cursor,
                    floor: self.floor,
                    durability: waiting.durability,
                    operation: &waiting.operation,
                };
                codec::encode_write(write, out);
                self.sent = self.sent.max(self.cursor);
            }
        }
    }

    /// The next call that is done.
    pub fn completion(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }

    /// Hands over what was not answered, to be done by who owns the store now, and starts over.
    /// The calls do not complete here.
    pub fn take_over(&mut self) -> TakeOver {
        let (session, floor, sent) = (self.id, self.floor, self.sent);
        let next = Sequence(floor.0 + self.slots.len() as u64);
        let mut sequence = floor;
        let mut calls = Vec::new();
        for slot in std::mem::take(&mut self.slots) {
            if let Slot::Waiting(waiting) = slot {
                calls.push(Unanswered {
                    call: waiting.call,
                    sequence: (sequence <= sent).then_some(sequence),
                    operation: waiting.operation,
                    durability: waiting.durability,
                    deadline_ms: waiting.deadline_ms,
                });
            }
            sequence = sequence.next();
        }
        let completions = std::mem::take(&mut self.completions);
        let late = std::mem::take(&mut self.late);
        *self = Self {
            completions,
            late,
            used_ms: self.used_ms,
            ..Self::new()
        };
        TakeOver {
            session,
            floor,
            next,
            calls,
        }
    }

    fn sequence_at(&self, place: usize) -> Sequence {
        Sequence(self.floor.0 + place as u64)
    }
}
