//! What callers are told while there is no owner.

use std::sync::Arc;
use std::time::Instant;

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::Origin;
use objsync_proto::operation::Operation;

use super::{Worker, queued_ack};
use crate::core::{Command, Core};
use crate::error::ObjectError;
use crate::offline::Caller;
use crate::offline::journal::Record;
use crate::offline::view::Local;
use crate::pending::Answered;

impl Worker {
    /// There is no owner any more: who waits for a write that comes to the same whenever it is done
    /// is told that it is queued. The others may have been done: they wait for the next owner.
    pub(super) fn tell_certain(&mut self, core: &Arc<Core>) {
        let waiting: Vec<u64> = (self.offline.state().entries.iter())
            .filter(|(_, entry)| matches!(entry.caller, Caller::Waits(..)))
            .filter(|(_, entry)| entry.number.is_none() || is_certain(&entry.operation))
            .map(|(number, _)| *number)
            .collect();
        for number in waiting {
            self.tell(core, number);
        }
    }

    /// The handle is closed: nobody waits any longer.
    pub(super) fn tell_all(&mut self, core: &Arc<Core>) {
        self.tell_certain(core);
        self.give_up(core, |_| true, &core.closed_error());
    }

    /// Tells the caller of a write what it comes to as far as this handle knows.
    fn tell(&mut self, core: &Arc<Core>, number: u64) {
        let Some(operation) = self.offline.operation(number) else {
            return;
        };
        let local = Local {
            core,
            offline: &self.offline,
        };
        let Ok((outcome, changes)) = local.decide(&operation) else {
            return;
        };
        if changes.is_empty() && self.is_unnumbered(number) {
            // Who hears that it comes to nothing must not find it done later.
            self.take_back(core, number, Ok((outcome, queued_ack())));
            return;
        }
        let mut state = self.offline.state();
        let Some(entry) = state.entries.get_mut(&number) else {
            return;
        };
        if !matches!(entry.caller, Caller::Waits(..)) {
            return;
        }
        let told = Caller::WasTold(outcome.clone());
        let caller = std::mem::replace(&mut entry.caller, told);
        entry.changes.clone_from(&changes);
        state.overlay.add(number, &changes);
        self.see_overlay(core, &state, &changes);
        drop(state);
        if let Caller::Waits(answer, _) = caller {
            let _ = answer.send(Ok((outcome, queued_ack())));
        }
    }

    /// Whether a caller waits for a write that no owner can have seen.
    fn is_unnumbered(&self, number: u64) -> bool {
        let state = self.offline.state();
        let entry = state.entries.get(&number);
        entry.is_some_and(|entry| {
            entry.number.is_none() && matches!(entry.caller, Caller::Waits(..))
        })
    }

    /// Takes a write that no owner can have seen out of the queue, and answers its caller. Nothing of
    /// that happens when the disk does not take it.
    fn take_back(&mut self, core: &Arc<Core>, number: u64, answered: Answered) {
        if let Err(error) = self.append(&[Record::Done(number)], true) {
            tracing::warn!(%error, "a write stays in the queue that comes to nothing");
            return;
        }
        let caller = self.caller_of(number);
        self.forget(core, number);
        core.push(Command::Withdrawn(number));
        if let Some(Caller::Waits(answer, _)) = caller {
            let _ = answer.send(answered);
        }
    }

    /// Ends the wait of callers whose time is over.
    pub(super) fn give_up_late(&mut self, core: &Arc<Core>, now: Instant) {
        let error = core.unreachable(core.config.options.timeout);
        self.give_up(core, |until| until <= now, &error);
    }

    /// A write that an owner may have seen stays in the queue, and its caller hears that nobody knows
    /// what became of it. Another one is told, or taken back with this error.
    fn give_up(
        &mut self,
        core: &Arc<Core>,
        is_over: impl Fn(Instant) -> bool,
        error: &ObjectError,
    ) {
        let is_late =
            |caller: &Caller| matches!(caller, Caller::Waits(_, until) if is_over(*until));
        let unseen: Vec<u64> = (self.offline.state().entries.iter())
            .filter(|(_, entry)| entry.number.is_none() && is_late(&entry.caller))
            .map(|(number, _)| *number)
            .collect();
        for number in unseen {
            self.tell(core, number);
            if self.is_unnumbered(number) {
                self.take_back(core, number, Err(error.clone()));
            }
        }
        self.has_waiting = false;
        let mut state = self.offline.state();
        for entry in state.entries.values_mut() {
            let without = match entry.number {
                Some(_) => Caller::GaveUp,
                None => Caller::IsGone,
            };
            if is_late(&entry.caller)
                && let Caller::Waits(answer, _) = std::mem::replace(&mut entry.caller, without)
            {
                let _ = answer.send(Err(unanswered(entry.number)));
            }
            self.has_waiting |= matches!(entry.caller, Caller::Waits(..));
        }
    }
}

/// The error for a write that stays in the queue; without a number as the disk did not let it go.
fn unanswered(number: Option<Origin>) -> ObjectError {
    let text = "write got no answer in time: it is queued, and will be done once";
    let failure = Failure::new(ErrorKind::OutcomeUnknown, text);
    match number {
        Some(op) => ObjectError::Unanswered { failure, op },
        None => ObjectError::from(failure),
    }
}

/// Whether an operation comes to the same also when it was done before.
fn is_certain(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Put { .. } | Operation::Batch { .. } | Operation::PutLeased { .. }
    )
}
