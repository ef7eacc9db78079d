//! Which file a queue is in: opened, left, written anew.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{Origin, StoreId};

use super::Worker;
use crate::core::Core;
use crate::error::{ObjectError, Result};
use crate::offline::Caller;
use crate::offline::conflict::Kept;
use crate::offline::journal::{Journal, REWRITE_BYTES, Record, VERSION};
use crate::offline::reload::{Loaded, Resume};

/// Why nobody knows what became of a write.
const UNKNOWN: &str = "the write was sent, and its session has ended since: it may or may not have \
                       been done";
/// Why a write that was queued for another store is not done in this one.
const REPLACED: &str = "the store was replaced by another one";

impl Worker {
    pub(super) fn open(&mut self, core: &Arc<Core>, store: StoreId) -> Result<Resume> {
        if self.journal.as_ref().is_some_and(|(of, _)| *of == store) {
            return Ok(Resume {
                was_open: true,
                ..Resume::default()
            });
        }
        let left = self.leave_store(core);
        let opened = Journal::open(store, &core.config.options.namespace)?;
        self.enter(core, store, opened, left)
    }

    /// Goes on with a file, and with the conflicts of the one that was left for it.
    pub(super) fn enter(
        &mut self,
        core: &Arc<Core>,
        store: StoreId,
        (journal, records): (Journal, Vec<Record>),
        left: Option<Journal>,
    ) -> Result<Resume> {
        let fd = journal.fds();
        (self.offline.lock_fd).store(fd, Ordering::Release);
        self.journal = Some((store, journal));
        let loaded = Loaded::of(records);
        let (resume, lost) = loaded.resume();
        // Never the number of a write that was queued for another store.
        self.next = self.next.max(loaded.next);
        self.numbered = loaded.session;
        let mut state = self.offline.state();
        let mut conflicts = std::mem::replace(&mut state.conflicts, loaded.conflicts);
        for (number, entry) in loaded.entries {
            state.bytes += entry.operation.bytes() as u64;
            state.overlay.add(number, &entry.changes);
            self.see_overlay(core, &state, &entry.changes);
            state.entries.insert(number, entry);
        }
        drop(state);
        for number in &lost {
            conflicts.extend(self.conflict(*number, String::from(UNKNOWN)));
        }
        let mut records: Vec<_> = conflicts.iter().cloned().map(Record::Conflict).collect();
        records.extend(lost.iter().copied().map(Record::Done));
        if !records.is_empty() {
            self.append(&records, true)?;
        }
        self.offline.state().conflicts.extend(conflicts);
        for number in lost {
            self.forget(core, number);
        }
        // What was told is kept in the new file by now.
        if let Some(mut left) = left
            && let Err(error) = left.rewrite(&[])
        {
            tracing::warn!(%error, "the queue of a store that was replaced is not erased");
        }
        Ok(resume)
    }

    /// The owner has another store now: what was queued for the one before is not for it, and what
    /// was told of it is a conflict, to be kept in the next file before this one is erased.
    pub(super) fn leave_store(&mut self, core: &Arc<Core>) -> Option<Journal> {
        self.journal.as_ref()?;
        self.write_notes(true);
        self.drop_notes();
        let (_, journal) = self.journal.take()?;
        // The I/O thread waits for the next file: nothing of this one is to be sent there.
        core.drop_queued_writes();
        let mut state = self.offline.state();
        for (number, entry) in std::mem::take(&mut state.entries) {
            state.overlay.remove(number, &entry.changes);
            self.see_overlay(core, &state, &entry.changes);
            match entry.caller {
                Caller::Waits(answer, _) => {
                    let failure = Failure::new(ErrorKind::OutcomeUnknown, REPLACED);
                    let error = match entry.number {
                        Some(op) => ObjectError::Unanswered { failure, op },
                        None => ObjectError::new(ErrorKind::Unavailable, REPLACED),
                    };
                    let _ = answer.send(Err(error));
                }
                Caller::WasTold(_) | Caller::IsGone | Caller::GaveUp => {
                    state.conflicts.push(Kept {
                        entry: number,
                        time_ms: entry.time_ms,
                        operation: entry.operation,
                        reason: String::from(REPLACED),
                    });
                }
            }
        }
        state.bytes = 0;
        Some(journal)
    }

    /// Writes the file anew when most of it is done.
    pub(super) fn tidy(&mut self) {
        let Some((store, journal)) = &mut self.journal else {
            return;
        };
        let state = self.offline.state();
        if journal.bytes() < REWRITE_BYTES || state.bytes * 2 > journal.bytes() {
            return;
        }
        let Some(core) = self.core.upgrade() else {
            return;
        };
        let namespace = core.config.options.namespace.clone();
        let mut records = vec![Record::Start(VERSION, *store, namespace)];
        for (number, entry) in &state.entries {
            let (number, operation) = (*number, entry.operation.clone());
            records.push(Record::Queued(number, entry.time_ms, operation));
            if let Some(Origin { session, sequence }) = entry.number {
                records.push(Record::Numbered(session, sequence, vec![number]));
            }
        }
        records.extend(state.conflicts.iter().cloned().map(Record::Conflict));
        drop(state);
        if let Some((session, last)) = self.numbered {
            // No number is ever given twice.
            records.push(Record::Numbered(session, last, vec![0]));
        }
        match journal.rewrite(&records) {
            Ok(()) => self.drop_notes(),
            Err(error) => tracing::warn!(%error, "a queue keeps what it is done with"),
        }
    }
}
