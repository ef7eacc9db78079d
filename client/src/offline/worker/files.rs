//! Which file a queue is in: opened, left, written anew.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use objsync_proto::ids::{Origin, StoreId};

use super::Worker;
use crate::core::Core;
use crate::error::Result;
use crate::offline::conflict::Kept;
use crate::offline::journal::{Journal, REWRITE_BYTES, Record, VERSION};
use crate::offline::reload::{Loaded, Resume};

/// Why nobody knows what became of a write.
const UNKNOWN: &str = "the write was sent, and its session has ended since: it may or may not have \
                       been done";

impl Worker {
    pub(super) fn open(&mut self, core: &Arc<Core>, store: StoreId) -> Result<Resume> {
        if self.journal.as_ref().is_some_and(|(of, _)| *of == store) {
            return Ok(Resume {
                was_open: true,
                ..Resume::default()
            });
        }
        self.leave_store()?;
        let (journal, records) = Journal::open(store, &core.config.options.namespace)?;
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
        for number in lost {
            let reason = String::from(UNKNOWN);
            conflicts.extend(self.conflict(number, reason));
            self.append(&[Record::Done(number)], false)?;
            self.forget(core, number);
        }
        for kept in conflicts {
            self.append(&[Record::Conflict(kept.clone())], true)?;
            self.offline.state().conflicts.push(kept);
        }
        Ok(resume)
    }

    /// The owner has another store now: what was queued for the one before is not for it.
    pub(super) fn leave_store(&mut self) -> Result<()> {
        let Some((_, journal)) = &mut self.journal else {
            return Ok(());
        };
        let mut state = self.offline.state();
        let left: Vec<u64> = state.entries.keys().copied().collect();
        for number in left {
            let Some(entry) = state.entries.remove(&number) else {
                continue;
            };
            state.overlay.remove(number, &entry.changes);
            state.conflicts.push(Kept {
                entry: number,
                time_ms: entry.time_ms,
                operation: entry.operation,
                reason: String::from("the store was replaced by another one"),
            });
        }
        state.bytes = 0;
        drop(state);
        journal.rewrite(&[])?;
        self.journal = None;
        Ok(())
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
        if let Err(error) = journal.rewrite(&records) {
            tracing::warn!(%error, "a queue keeps what it is done with");
        }
    }
}
