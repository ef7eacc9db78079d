//! What callers are told while there is no owner.

use std::sync::Arc;
use std::time::Instant;

use objsync_proto::error::{ErrorKind, Failure};
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
        self.give_up(|_| true);
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

    /// Ends the wait of callers whose time is over. Their writes stay in the queue.
    pub(super) fn give_up_late(&mut self) {
        let now = Instant::now();
        self.give_up(|deadline| deadline <= now);
    }

    /// Tells callers that nobody knows what became of writes that an owner may have seen.
    fn give_up(&mut self, is_over: impl Fn(Instant) -> bool) {
        self.has_waiting = false;
        let mut state = self.offline.state();
        for entry in state.entries.values_mut() {
            let is_late = matches!(&entry.caller, Caller::Waits(_, until) if is_over(*until));
            if let (true, Some(op)) = (is_late, entry.number)
                && let Caller::Waits(answer, _) =
                    std::mem::replace(&mut entry.caller, Caller::GaveUp)
            {
                let text = "write got no answer in time: it is queued, and will be done once";
                let failure = Failure::new(ErrorKind::OutcomeUnknown, text);
                let _ = answer.send(Err(ObjectError::Unanswered { failure, op }));
            }
            self.has_waiting |= matches!(entry.caller, Caller::Waits(..));
        }
    }
}

/// Whether an operation comes to the same also when it was done before.
fn is_certain(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Put { .. } | Operation::Batch { .. } | Operation::PutLeased { .. }
    )
}
