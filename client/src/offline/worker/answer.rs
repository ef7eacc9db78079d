//! What owners answer to queued writes, and how that gets on disk: the owner keeps an answer until
//! its note is synced, or the write would be sent again to who knows nothing of it any more.

use std::sync::Arc;

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{Ack, Origin};
use objsync_proto::operation::Outcome;

use super::Worker;
use crate::core::{Command, Core};
use crate::offline::conflict::Kept;
use crate::offline::journal::Record;
use crate::offline::{Caller, answered};

/// So many answers wait for a sync at most: it comes with the next write, or in a quiet moment.
const UNSYNCED_MAX: usize = 256;

impl Worker {
    /// Notes the answer to a write.
    pub(super) fn answered(
        &mut self,
        core: &Arc<Core>,
        number: u64,
        op: Option<Origin>,
        result: Result<(Outcome, Ack), Failure>,
    ) {
        let Some(caller) = self.caller_of(number) else {
            core.push(op.map_or(Command::Withdrawn(number), Command::Finished));
            return;
        };
        let caller = match (caller, op) {
            // It knows a number that stands for nothing any more.
            (Caller::GaveUp, None) => Caller::IsGone,
            (caller, _) => caller,
        };
        let was_told = matches!(caller, Caller::WasTold(_) | Caller::IsGone);
        let is_final = matches!(&result, Err(failure) if failure.kind == ErrorKind::Denied);
        if op.is_none() && was_told && !is_final {
            // It was never sent: the next owner, or the same one with more room, may take it.
            self.put_back(number, caller);
            if let Some(operation) = self.offline.operation(number) {
                core.push(Command::of_queue(number, operation));
            }
            return;
        }
        let reason = contradiction(&caller, &result);
        let conflict = reason
            .filter(|_| was_told)
            .and_then(|reason| self.conflict(number, reason));
        // In this order: what is torn must not lose the conflict.
        let is_conflict = conflict.is_some();
        self.notes.extend(conflict.clone().map(Record::Conflict));
        self.notes.push(Record::Done(number));
        self.noted.extend(op);
        self.write_notes(is_conflict);
        self.offline.state().conflicts.extend(conflict);
        self.forget(core, number);
        if op.is_none() {
            core.push(Command::Withdrawn(number));
        }
        match caller {
            Caller::Waits(answer, _) => drop(answer.send(answered(op, result))),
            Caller::GaveUp => {
                if let Some(op) = op {
                    core.keep_late(op, result);
                }
            }
            Caller::WasTold(_) | Caller::IsGone => {}
        }
        self.tidy();
    }

    pub(super) fn conflict(&self, number: u64, reason: String) -> Option<Kept> {
        let state = self.offline.state();
        let entry = state.entries.get(&number)?;
        Some(Kept {
            entry: number,
            time_ms: entry.time_ms,
            operation: entry.operation.clone(),
            reason,
        })
    }

    /// Puts the notes into the file. Those that it does not take are tried again.
    pub(super) fn write_notes(&mut self, durable: bool) {
        let notes = std::mem::take(&mut self.notes);
        let written = self.append(&notes, durable);
        match written {
            Ok(()) if durable => self.finished.append(&mut self.noted),
            Ok(()) => self.unsynced.append(&mut self.noted),
            Err(error) => {
                tracing::warn!(%error, "answers to queued writes are not on disk");
                self.notes = notes;
            }
        }
    }

    /// Whether each answer is safe on disk.
    pub(super) fn is_noted(&self) -> bool {
        self.notes.is_empty() && self.unsynced.is_empty()
    }

    /// Lets the owner forget the answers that are safe; in a quiet moment all are made so.
    pub(super) fn finish(&mut self, core: &Core, is_quiet: bool) {
        let is_time = is_quiet || self.unsynced.len() >= UNSYNCED_MAX;
        if is_time && !self.is_noted() {
            self.write_notes(true);
        }
        for op in self.finished.drain(..) {
            core.push(Command::Finished(op));
        }
    }

    /// The file holds nothing any more that a note is about.
    pub(super) fn drop_notes(&mut self) {
        self.notes.clear();
        self.finished.append(&mut self.noted);
        self.finished.append(&mut self.unsynced);
    }
}

/// What an answer says against what the caller was told.
pub(super) fn contradiction(
    caller: &Caller,
    result: &Result<(Outcome, Ack), Failure>,
) -> Option<String> {
    let told = match caller {
        Caller::WasTold(told) => Some(told),
        Caller::Waits(..) | Caller::IsGone | Caller::GaveUp => None,
    };
    let outcome = match result {
        Err(failure) => return Some(failure.message.clone()),
        Ok((outcome, _)) => outcome,
    };
    let text = match (told, outcome) {
        (Some(Outcome::Swapped(false)), Outcome::Swapped(true)) => {
            "the key had the expected value after all, and was changed"
        }
        (Some(Outcome::Swapped(false)), _) => return None,
        (_, Outcome::Swapped(false)) => "the key had another value than expected",
        (Some(Outcome::Deleted(0)), Outcome::Deleted(1..)) => {
            "there was something to remove after all"
        }
        _ => return None,
    };
    Some(String::from(text))
}
