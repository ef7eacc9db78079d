//! Writes that wait on disk, on their way to an owner and back.

use std::time::Duration;

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{Origin, SessionId};
use objsync_proto::operation::Operation;
use objsync_proto::session::{CallId, ClientSession};
use tokio::time::Instant;

use super::hold::Hold;
use super::{Calls, WaitingWrite};
use crate::core::{Asker, Command, Core};
use crate::error::ObjectError;
use crate::offline::Resume;

/// Why a call for another store has no answer.
const REPLACED: &str = "the store was replaced by another one before it answered";
/// How long a call that stands for nothing is sent again.
const NOTHING_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

fn is_queued(core: &Core, entry: u64) -> bool {
    core.offline
        .as_ref()
        .is_some_and(|offline| offline.has(entry))
}

/// An owner that takes no writes of this handle is not asked.
pub(super) fn deny(core: &Core, entry: u64) {
    if let Some(offline) = &core.offline {
        let failure = Failure::new(ErrorKind::Denied, "this link may not write");
        offline.answered(entry, None, Err(failure));
    }
}

impl Calls {
    /// Has the numbers of queued writes put on disk, before they are sent.
    pub(super) fn write_down(&mut self, core: &Core) {
        let Some(offline) = core.offline.as_ref().filter(|_| !self.is_numbering) else {
            return;
        };
        if let Some((session, first, calls)) = self.session.unwritten() {
            let entry = |call: Option<CallId>| match call.and_then(|call| self.writes.get(&call)) {
                Some(WaitingWrite {
                    answer: Asker::Queue(entry),
                    ..
                }) => *entry,
                _ => 0,
            };
            let entries = calls.into_iter().map(entry).collect();
            self.is_numbering = true;
            offline.number(session, first, entries);
        }
    }

    /// Goes on with what was left in a queue on disk. Tells whether that is in a session of its own,
    /// which a connection has to name first.
    pub(crate) fn resume(&mut self, core: &Core, resume: Resume) -> bool {
        if resume.was_open {
            return false;
        }
        self.leave_session(core);
        self.session = ClientSession::written_down(resume.session);
        let mut sequence = resume.session.map(|(_, floor, _)| floor);
        let mut writes = resume.writes.into_iter().peekable();
        if let Some((_, _, sent)) = resume.session {
            // Each number goes out again with what it was given to, or with nothing.
            while let Some(number) = sequence.filter(|number| *number <= sent) {
                match writes.next_if(|(_, its, _)| *its == Some(number)) {
                    Some((entry, _, operation)) => self.submit_queued(entry, operation),
                    None => self.submit_nothing(),
                }
                sequence = Some(number.next());
            }
        }
        for (entry, _, operation) in writes {
            (self.beyond).push_back(Command::of_queue(entry, operation));
        }
        resume.session.is_some()
    }

    /// What was for another store is not for the next one: its callers hear so.
    fn leave_session(&mut self, core: &Core) {
        self.deliver(core);
        let left = self.session.take_over();
        for call in left.calls {
            let Some(WaitingWrite {
                answer: Asker::Caller(answer),
                bytes,
            }) = self.writes.remove(&call.call)
            else {
                continue;
            };
            core.answered(bytes);
            let error = match (left.session, call.sequence) {
                (Some(session), Some(sequence)) => ObjectError::Unanswered {
                    failure: Failure::new(ErrorKind::OutcomeUnknown, REPLACED),
                    op: Origin { session, sequence },
                },
                _ => ObjectError::new(ErrorKind::Unavailable, REPLACED),
            };
            let _ = answer.send(Err(error));
        }
        self.writes.clear();
        for command in std::mem::take(&mut self.beyond) {
            self.fail_beyond(
                core,
                command,
                &ObjectError::new(ErrorKind::Unavailable, REPLACED),
            );
        }
        self.hold = Hold::default();
    }

    /// Ends a write that had no place in the session.
    pub(super) fn fail_beyond(&self, core: &Core, command: Command, error: &ObjectError) {
        if let Command::Write {
            operation,
            answer: Asker::Caller(_),
            ..
        } = &command
        {
            core.answered(operation.bytes() as u64);
        }
        command.fail(error);
    }

    /// Lets go of a queued write that was not sent, and must not be.
    pub(super) fn withdraw(&mut self, entry: u64) {
        self.beyond.retain(|command| {
            !matches!(command, Command::Write { answer: Asker::Queue(its), .. } if *its == entry)
        });
        let is_it =
            |write: &WaitingWrite| matches!(write.answer, Asker::Queue(its) if its == entry);
        let call = (self.writes.iter()).find_map(|(call, write)| is_it(write).then_some(*call));
        if let Some(call) = call.filter(|call| self.session.withdraw(*call)) {
            self.writes.remove(&call);
        }
    }

    fn submit_queued(&mut self, entry: u64, operation: Operation) {
        if let Command::Write {
            operation,
            answer,
            deadline,
        } = Command::of_queue(entry, operation)
        {
            self.submit(operation, answer, deadline);
        }
    }

    /// Takes a write of the queue, unless it is gone from there; one that comes back after a refusal
    /// goes to its place.
    pub(super) fn take_of_queue(&mut self, core: &Core, entry: u64, command: Command) {
        let is_back = self.hold.returned(entry);
        if !is_queued(core, entry) {
            return;
        }
        let is_later = |command: &Command| matches!(command, Command::Write { answer: Asker::Queue(its), .. } if *its > entry);
        let place = match is_back {
            true => self.beyond.iter().position(is_later),
            false => None,
        };
        (self.beyond).insert(place.unwrap_or(self.beyond.len()), command);
    }

    /// The owner ends the connection for this reason. Tells whether it refused a session by that: then
    /// what waits for one has its answer, but for what the queue promised, which is held back.
    pub(crate) fn refused(&mut self, core: &Core, failure: &Failure) -> bool {
        let was_refused = self.session.refused(failure);
        if was_refused {
            if core.offline.is_some() {
                self.hold.begin(Instant::now());
            }
            self.deliver(core);
        }
        was_refused
    }

    /// The owner has opened the session that was asked for.
    pub(crate) fn opened(&mut self, session: SessionId) {
        self.session.opened(session);
        self.hold.end();
    }

    /// The pause after a refusal is over.
    #[cfg(test)]
    pub(crate) fn end_pause(&mut self) {
        self.hold.end();
    }

    fn submit_nothing(&mut self) {
        let deadline = Instant::now() + NOTHING_TIMEOUT;
        self.submit(Operation::Settle, Asker::Nobody, deadline);
    }

    /// Whether a queue on disk has writes here that were not answered, or whose answers it has not
    /// noted: their session has to live.
    pub(crate) fn has_queued(&self) -> bool {
        let is_queued = |write: &WaitingWrite| matches!(write.answer, Asker::Queue(_));
        self.writes.values().any(is_queued)
            || !self.beyond.is_empty()
            || self.session.has_unfinished()
    }
}
