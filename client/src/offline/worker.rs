//! The thread of a queue: it alone touches the disk, and it decides what callers are told.

mod answer;
mod files;
mod tell;

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use objsync_proto::effect::Change;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{
    Ack, Durability, Epoch, EpochName, Origin, Revision, Sequence, SessionId, StoreId,
};
use objsync_proto::limits::{QUEUE_BYTES_MAX, QUEUE_WRITES_MAX};
use objsync_proto::operation::{Operation, Outcome};
use tokio::sync::oneshot;

use super::journal::{Journal, Record};
use super::view::Local;
use super::{Caller, Entry, Job, Offline};
use crate::core::{Command, Core};
use crate::error::{ObjectError, Result};
use crate::pending::Answered;

/// How often callers that wait are looked at.
const TICK: Duration = Duration::from_millis(50);
/// Most jobs done with one sync of the disk.
const TOGETHER_MAX: usize = 1_024;

/// What the thread works with.
pub(super) struct Worker {
    core: Weak<Core>,
    offline: Arc<Offline>,
    journal: Option<(StoreId, Journal)>,
    next: u64,
    is_online: bool,
    /// Somebody may wait.
    has_waiting: bool,
    /// The highest number given to a write.
    numbered: Option<(SessionId, Sequence)>,
    /// Writes of this round, with what is told of them once they are on disk.
    fresh: Vec<(u64, Entry)>,
    records: Vec<Record>,
    /// What the file has not taken yet of answers, and to which writes.
    notes: Vec<Record>,
    noted: Vec<Origin>,
    /// Writes whose answers are in the file, to be synced.
    unsynced: Vec<Origin>,
    /// Writes whose answers are safe, which the owner may forget.
    finished: Vec<Origin>,
}

impl Worker {
    pub(super) fn new(core: Weak<Core>, offline: Arc<Offline>) -> Self {
        Self {
            core,
            offline,
            journal: None,
            next: 1,
            is_online: false,
            has_waiting: false,
            numbered: None,
            fresh: Vec::new(),
            records: Vec::new(),
            notes: Vec::new(),
            noted: Vec::new(),
            unsynced: Vec::new(),
            finished: Vec::new(),
        }
    }

    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let mut job = if self.has_waiting || !self.is_noted() {
                match jobs.recv_timeout(TICK) {
                    Ok(job) => Some(job),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            } else {
                let Ok(job) = jobs.recv() else { return };
                Some(job)
            };
            let Some(core) = self.core.upgrade() else {
                return;
            };
            let is_quiet = job.is_none() || core.is_closing();
            let mut count = 0;
            while let Some(now) = job.take() {
                match now {
                    Job::Write(operation, answer) => self.take(&core, operation, answer),
                    Job::Close(done) => {
                        self.write_fresh(&core);
                        self.tell_all(&core);
                        self.finish(&core, true);
                        self.journal = None;
                        self.offline.lock_fd.store(-1, Ordering::Release);
                        let _ = done.send(());
                        return;
                    }
                    other => {
                        self.write_fresh(&core);
                        self.do_one(&core, other);
                    }
                }
                count += 1;
                if count < TOGETHER_MAX {
                    job = jobs.try_recv().ok();
                }
            }
            self.write_fresh(&core);
            self.finish(&core, is_quiet);
            self.give_up_late(&core, Instant::now());
        }
    }

    fn do_one(&mut self, core: &Arc<Core>, job: Job) {
        match job {
            Job::Open(store, reply) => {
                let _ = reply.send(self.open(core, store));
            }
            Job::Number(session, first, entries) => self.number(core, session, first, entries),
            Job::Answered(entry, op, result) => self.answered(core, entry, op, result),
            Job::Online(is_online) => {
                self.is_online = is_online;
                if !is_online {
                    self.tell_certain(core);
                }
            }
            Job::Clear(reply) => {
                let cleared = self.append(&[Record::Cleared], true);
                if cleared.is_ok() {
                    self.offline.state().conflicts.clear();
                    (self.notes).retain(|note| !matches!(note, Record::Conflict(_)));
                    self.tidy();
                }
                let _ = reply.send(cleared);
            }
            Job::Write(..) | Job::Close(_) => unreachable!("done by the caller"),
        }
    }

    /// Takes a write into this round.
    fn take(&mut self, core: &Arc<Core>, operation: Operation, answer: oneshot::Sender<Answered>) {
        if let Err(error) = self.check_room(&operation) {
            self.refuse(core, &operation, answer, Err(error));
            return;
        }
        let (caller, changes) = if self.is_online {
            let deadline = Instant::now() + core.config.options.timeout;
            (Caller::Waits(answer, deadline), Vec::new())
        } else {
            // What was taken before in this round has a say in what this comes to.
            self.write_fresh(core);
            let local = Local {
                core,
                offline: &self.offline,
            };
            let decided = local.decide(&operation);
            match decided {
                Err(error) => return self.refuse(core, &operation, answer, Err(error)),
                // What comes to nothing here is not asked for later: the caller was told so.
                Ok((outcome, changes)) if changes.is_empty() => {
                    let answered = Ok((outcome, queued_ack()));
                    return self.refuse(core, &operation, answer, answered);
                }
                Ok((outcome, changes)) => {
                    // Told once it is on disk.
                    let told = Caller::Waits(answer, Instant::now());
                    self.put_in(operation, told, changes);
                    self.write_fresh_told(core, outcome);
                    return;
                }
            }
        };
        self.put_in(operation, caller, changes);
    }

    /// Answers a write that does not come into the queue.
    fn refuse(
        &self,
        core: &Core,
        operation: &Operation,
        answer: oneshot::Sender<Answered>,
        answered: Answered,
    ) {
        self.seen(core, operation);
        let _ = answer.send(answered);
    }

    /// The thread has seen to a write: another one may be handed to it.
    fn seen(&self, core: &Core, operation: &Operation) {
        self.offline.unseen.fetch_sub(1, Ordering::AcqRel);
        core.answered(operation.bytes() as u64);
    }

    fn put_in(&mut self, operation: Operation, caller: Caller, changes: Vec<Change>) {
        let (entry, time_ms) = (self.next, now_ms());
        self.next += 1;
        (self.records).push(Record::Queued(entry, time_ms, operation.clone()));
        let queued = Entry {
            operation,
            time_ms,
            number: None,
            caller,
            changes,
        };
        self.fresh.push((entry, queued));
    }

    /// Puts the writes of this round on disk, and gives them to the I/O thread.
    fn write_fresh(&mut self, core: &Arc<Core>) {
        if self.fresh.is_empty() {
            return;
        }
        let records = std::mem::take(&mut self.records);
        let written = self.append(&records, true);
        for (number, entry) in std::mem::take(&mut self.fresh) {
            match &written {
                Ok(()) => self.keep(core, number, entry),
                Err(error) => {
                    if let Caller::Waits(answer, _) = entry.caller {
                        self.refuse(core, &entry.operation, answer, Err(error.clone()));
                    }
                }
            }
        }
    }

    /// As [`Self::write_fresh`] for one write that nobody but this disk has: tells its caller so.
    fn write_fresh_told(&mut self, core: &Arc<Core>, outcome: Outcome) {
        let number = self.next - 1;
        self.write_fresh(core);
        let mut state = self.offline.state();
        if let Some(entry) = state.entries.get_mut(&number) {
            let told = Caller::WasTold(outcome.clone());
            if let Caller::Waits(answer, _) = std::mem::replace(&mut entry.caller, told) {
                drop(state);
                let _ = answer.send(Ok((outcome, queued_ack())));
            }
        }
    }

    fn keep(&self, core: &Arc<Core>, number: u64, entry: Entry) {
        let operation = entry.operation.clone();
        let mut state = self.offline.state();
        state.bytes += operation.bytes() as u64;
        state.overlay.add(number, &entry.changes);
        self.see_overlay(core, &state, &entry.changes);
        state.entries.insert(number, entry);
        self.seen(core, &operation);
        drop(state);
        core.push(Command::of_queue(number, operation));
    }

    fn check_room(&self, operation: &Operation) -> Result<()> {
        let state = self.offline.state();
        let bytes = operation.bytes() as u64;
        let waiting: u64 = (self.fresh.iter())
            .map(|(_, entry)| entry.operation.bytes() as u64)
            .sum();
        if state.bytes + waiting + bytes > QUEUE_BYTES_MAX {
            let text = format!(
                "queue holds {} bytes; with this write of {bytes} bytes it passes the limit of \
                 {QUEUE_BYTES_MAX} bytes",
                state.bytes + waiting
            );
            return Err(ObjectError::new(ErrorKind::Full, text));
        }
        let count = state.entries.len() + state.conflicts.len() + self.fresh.len();
        if count >= QUEUE_WRITES_MAX {
            let text = format!(
                "queue holds {} writes, and {} conflicts that were not cleared; the limit is \
                 {QUEUE_WRITES_MAX} of both",
                state.entries.len() + self.fresh.len(),
                state.conflicts.len()
            );
            return Err(ObjectError::new(ErrorKind::Full, text));
        }
        Ok(())
    }

    /// Writes numbers down, and lets the I/O thread send what has them.
    fn number(&mut self, core: &Arc<Core>, session: SessionId, first: Sequence, entries: Vec<u64>) {
        let through = Sequence(first.0 + entries.len() as u64 - 1);
        let record = Record::Numbered(session, first, entries.clone());
        if let Err(error) = self.append(&[record], true) {
            tracing::warn!(%error, "queued writes cannot be sent yet");
            // Nothing is sent, and the numbers are asked for again.
            std::thread::sleep(TICK);
            let through = Sequence(first.0 - 1);
            core.push(Command::Numbered { session, through });
            return;
        }
        self.numbered = Some((session, through));
        let mut state = self.offline.state();
        let mut sequence = first;
        for entry in entries {
            if let Some(entry) = state.entries.get_mut(&entry) {
                entry.number = Some(Origin { session, sequence });
            }
            sequence = sequence.next();
        }
        drop(state);
        core.push(Command::Numbered { session, through });
    }

    fn caller_of(&self, number: u64) -> Option<Caller> {
        let mut state = self.offline.state();
        let entry = state.entries.get_mut(&number)?;
        Some(std::mem::replace(&mut entry.caller, Caller::GaveUp))
    }

    fn put_back(&self, number: u64, caller: Caller) {
        if let Some(entry) = self.offline.state().entries.get_mut(&number) {
            entry.caller = caller;
        }
    }

    /// A write is queued no longer.
    fn forget(&self, core: &Core, number: u64) {
        let mut state = self.offline.state();
        if let Some(entry) = state.entries.remove(&number) {
            state.bytes = state.bytes.saturating_sub(entry.operation.bytes() as u64);
            state.overlay.remove(number, &entry.changes);
            self.see_overlay(core, &state, &entry.changes);
        }
    }

    /// Makes readers look at what has changed.
    fn see_overlay(&self, core: &Core, state: &super::State, changes: &[Change]) {
        let has_overlay = !state.overlay.is_empty();
        (self.offline.has_overlay).store(has_overlay, Ordering::Release);
        for change in changes {
            core.replica.touch(&change.key);
        }
    }

    fn append(&mut self, records: &[Record], durable: bool) -> Result<()> {
        let Some((_, journal)) = &mut self.journal else {
            return Err(super::closed());
        };
        journal.append(records, durable)?;
        if durable {
            // What was written before is synced as well.
            self.finished.append(&mut self.unsynced);
        }
        Ok(())
    }
}

/// The acknowledgement of a write that no owner has yet.
fn queued_ack() -> Ack {
    Ack {
        revision: Revision(0),
        epoch: Epoch {
            number: 0,
            name: EpochName([0; 16]),
        },
        durability: Durability::Queued,
    }
}

pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests;
