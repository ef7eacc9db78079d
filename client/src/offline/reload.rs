//! What a queue on disk says after its process has ended.

use std::collections::BTreeMap;

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::ids::{Origin, Sequence, SessionId};
use objsync_proto::operation::Operation;

use super::conflict::Kept;
use super::journal::Record;
use super::{Caller, Entry};

/// What is to be sent of a queue, and how.
#[derive(Debug, Default)]
pub(crate) struct Resume {
    /// The session it was left in, the lowest number without an answer, and the highest given.
    pub(crate) session: Option<(SessionId, Sequence, Sequence)>,
    /// The writes in order, each with its number there if it has one.
    pub(crate) writes: Vec<(u64, Option<Sequence>, Operation)>,
    /// The queue was open already.
    pub(crate) was_open: bool,
}

/// A queue as its file tells it.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) entries: BTreeMap<u64, Entry>,
    pub(super) conflicts: Vec<Kept>,
    pub(super) next: u64,
    /// The newest session, and the highest number given there.
    pub(super) session: Option<(SessionId, Sequence)>,
}

impl Loaded {
    /// Reads the records of a file in order.
    pub(super) fn of(records: Vec<Record>) -> Self {
        let mut loaded = Self {
            next: 1,
            ..Self::default()
        };
        for record in records {
            loaded.read(record);
        }
        loaded
    }

    fn read(&mut self, record: Record) {
        match record {
            Record::Start(..) => {}
            Record::Queued(entry, time_ms, operation) => {
                self.next = self.next.max(entry.saturating_add(1));
                let changes = certain(&operation);
                let entry_of = Entry {
                    operation,
                    time_ms,
                    number: None,
                    caller: Caller::IsGone,
                    changes,
                };
                self.entries.insert(entry, entry_of);
            }
            Record::Numbered(session, first, entries) => {
                let mut sequence = first;
                for entry in entries {
                    if let Some(entry) = self.entries.get_mut(&entry) {
                        entry.number = Some(Origin { session, sequence });
                    }
                    self.session = Some((session, sequence));
                    sequence = sequence.next();
                }
            }
            Record::Done(entry) => drop(self.entries.remove(&entry)),
            Record::Conflict(kept) => {
                // Its write has ended, also where the record that says so was torn.
                let is_it = |entry: &Entry| {
                    entry.time_ms == kept.time_ms && entry.operation == kept.operation
                };
                if self.entries.get(&kept.entry).is_some_and(is_it) {
                    self.entries.remove(&kept.entry);
                }
                self.conflicts.push(kept);
            }
            Record::Cleared => self.conflicts.clear(),
        }
    }

    /// What is to be sent, and which writes were numbered in a session that was left since: what
    /// became of them cannot be asked.
    pub(super) fn resume(&self) -> (Resume, Vec<u64>) {
        let mut lost = Vec::new();
        let mut resume = Resume::default();
        let newest = self.session.map(|(session, _)| session);
        for (number, entry) in &self.entries {
            let sequence = match entry.number {
                Some(op) if Some(op.session) == newest => Some(op.sequence),
                Some(_) => {
                    lost.push(*number);
                    continue;
                }
                None => None,
            };
            (resume.writes).push((*number, sequence, entry.operation.clone()));
        }
        // Those with a number first, in the order of these.
        (resume.writes)
            .sort_by_key(|(number, sequence, _)| (sequence.is_none(), *sequence, *number));
        if let (Some((_, Some(floor), _)), Some((session, sent))) =
            (resume.writes.first(), self.session)
        {
            resume.session = Some((session, *floor, sent));
        }
        (resume, lost)
    }
}

/// What an operation changes whatever the dictionary holds.
fn certain(operation: &Operation) -> Vec<Change> {
    let one = |key: &Bytes, value: Option<&Bytes>| {
        vec![Change {
            key: key.clone(),
            value: value.cloned(),
        }]
    };
    match operation {
        Operation::Put { key, value } | Operation::PutLeased { key, value, .. } => {
            one(key, Some(value))
        }
        Operation::Delete { key } => one(key, None),
        Operation::Batch { changes } => changes.clone(),
        _ => Vec::new(),
    }
}
