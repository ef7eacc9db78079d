//! What the store must hold: a plain map, sessions and grants, and the order of what was done.
//!
//! An operation is decided here by rules of its own, so that the store's are not compared with
//! themselves.

use std::collections::BTreeMap;

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{NamespaceId, Origin, PeerKey, Revision, Sequence, SessionId};
use objsync_proto::key::Key;
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::stored::{self, Compression};
use objsync_proto::value::int_payload;
use objsync_proto::wire::Grant;

use crate::leases::Moment;
use crate::world::STAND_IN;

pub type Changes = Vec<(NamespaceId, Change)>;
pub type Outcomes = Result<Outcome, ErrorKind>;

/// One thing done, in the order of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub what: What,
    /// Of a transaction; none while nobody was told.
    pub revision: Option<Revision>,
    /// Number of the epoch it was done in.
    pub epoch: u64,
    /// Stands for the revision in what was decided, until that is told.
    pub stand_in: Revision,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Wrote {
        changes: Changes,
        asked: Option<(Origin, Sequence)>,
        outcome: Outcomes,
    },
    /// Without an id if the answer was lost: then nobody can use it.
    Opened(Option<SessionId>, PeerKey),
    Closed(SessionId),
    Granted(Grant),
    Revoked(PeerKey),
}

/// The state as of some place in that order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    pub content: BTreeMap<(NamespaceId, Bytes), Held>,
    pub sessions: BTreeMap<SessionId, Session>,
    pub grants: BTreeMap<PeerKey, Grant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub value: Bytes,
    pub revision: Option<Revision>,
    /// The revision, or what stands for it.
    pub stamp: Revision,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub peer: PeerKey,
    pub floor: Sequence,
    pub results: BTreeMap<Sequence, Answered>,
}

/// What an operation with an origin was answered, or would have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    pub outcome: Outcomes,
    pub revision: Option<Revision>,
    pub epoch: u64,
}

/// What a repeat is to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    New,
    Before(Answered),
    /// That nobody knows; it must not be run.
    Unknown,
}

impl Entry {
    pub fn is_transaction(&self) -> bool {
        matches!(self.what, What::Wrote { .. })
    }

    /// The revision, or what stands for it.
    pub fn stamp(&self) -> Revision {
        self.revision.unwrap_or(self.stand_in)
    }

    /// A key that has changed did so at a revision that nobody was told: only now is it.
    pub fn unless_told(mut self, told: &Outcomes) -> Self {
        let Ok(Outcome::Conflict { key: found, .. }) = told else {
            return self;
        };
        if let What::Wrote { outcome, .. } = &mut self.what
            && let Ok(Outcome::Conflict { key, revision }) = outcome
            && (key, revision.0 >= STAND_IN) == (&mut found.clone(), true)
        {
            *outcome = told.clone();
        }
        self
    }

    /// Whether what was decided names the revision that something stands for.
    pub fn names(&self, stand_in: Revision) -> bool {
        let What::Wrote {
            changes, outcome, ..
        } = &self.what
        else {
            return false;
        };
        let name = stand_in.0.to_be_bytes();
        let has = |bytes: &Bytes| bytes.windows(8).any(|part| part == name);
        outcome_names(outcome, stand_in)
            || changes.iter().any(|(of, change)| {
                let is_entry = *of == NamespaceId::LEASES;
                is_entry && (has(&change.key) || change.value.as_ref().is_some_and(has))
            })
    }

    /// A revision was told: what was decided names it from here on.
    pub fn rename(&mut self, stand_in: Revision, revision: Revision) {
        let What::Wrote {
            changes, outcome, ..
        } = &mut self.what
        else {
            return;
        };
        let (from, to) = (stand_in.0.to_be_bytes(), revision.0.to_be_bytes());
        let renamed = |bytes: &Bytes| {
            let mut bytes = bytes.to_vec();
            for at in 0..bytes.len().saturating_sub(7) {
                if bytes[at..at + 8] == from {
                    bytes[at..at + 8].copy_from_slice(&to);
                }
            }
            Bytes::from(bytes)
        };
        for (_, change) in changes
            .iter_mut()
            .filter(|(of, _)| *of == NamespaceId::LEASES)
        {
            change.key = renamed(&change.key);
            change.value = change.value.as_ref().map(renamed);
        }
        if outcome_names(outcome, stand_in) {
            match outcome {
                Ok(Outcome::Lease(lease)) => lease.0 = revision.0,
                Ok(Outcome::Locked(Some(fence))) => *fence = revision,
                Ok(Outcome::Conflict { revision: of, .. }) => *of = revision,
                _ => unreachable!("the others name none"),
            }
        }
    }
}

impl State {
    pub fn apply(&mut self, entry: &Entry) {
        match &entry.what {
            What::Wrote {
                changes,
                asked,
                outcome,
            } => {
                for (namespace, change) in changes {
                    let key = (*namespace, change.key.clone());
                    match &change.value {
                        Some(value) => {
                            let held = Held {
                                value: value.clone(),
                                revision: entry.revision,
                                stamp: entry.stamp(),
                            };
                            self.content.insert(key, held);
                        }
                        None => {
                            self.content.remove(&key);
                        }
                    }
                }
                if let Some((origin, floor)) = asked {
                    let answered = Answered {
                        outcome: outcome.clone(),
                        revision: entry.revision,
                        epoch: entry.epoch,
                    };
                    self.record(*origin, *floor, answered);
                }
            }
            What::Opened(Some(id), peer) => {
                let session = Session {
                    peer: *peer,
                    floor: Sequence(0),
                    results: BTreeMap::new(),
                };
                self.sessions.insert(*id, session);
            }
            What::Opened(None, _) => {}
            What::Closed(id) => {
                self.sessions.remove(id);
            }
            What::Granted(grant) => {
                self.grants.insert(grant.peer, grant.clone());
            }
            What::Revoked(peer) => {
                self.grants.remove(peer);
            }
        }
    }

    fn record(&mut self, origin: Origin, floor: Sequence, result: Answered) {
        let Some(session) = self.sessions.get_mut(&origin.session) else {
            return;
        };
        session.floor = session.floor.max(floor.min(origin.sequence));
        session.results = session.results.split_off(&session.floor);
        session.results.entry(origin.sequence).or_insert(result);
    }

    /// What is known of an operation that comes (again).
    pub fn seen(&self, origin: Origin, peer: PeerKey) -> Seen {
        let session = self.sessions.get(&origin.session);
        let Some(session) = session.filter(|session| session.peer == peer) else {
            return Seen::Unknown;
        };
        if let Some(answered) = session.results.get(&origin.sequence) {
            return Seen::Before(answered.clone());
        }
        let is_late = session.results.keys().next_back() > Some(&origin.sequence);
        match origin.sequence < session.floor || is_late {
            true => Seen::Unknown,
            false => Seen::New,
        }
    }

    /// The dictionaries by name, as the catalog has them.
    pub fn namespaces(&self) -> BTreeMap<String, NamespaceId> {
        let catalog = self.content.range((NamespaceId::CATALOG, Bytes::new())..);
        let catalog = catalog.take_while(|((namespace, _), _)| *namespace == NamespaceId::CATALOG);
        catalog
            .map(|((_, key), held)| {
                let number = number_of(&held.value).unwrap();
                match objsync_proto::key::decode(key).unwrap() {
                    Key::Str(name) => (name, NamespaceId(u32::try_from(number).unwrap())),
                    other => panic!("the catalog has {other:?}"),
                }
            })
            .collect()
    }

    pub fn count(&self, namespace: NamespaceId) -> u64 {
        self.entries(namespace).count() as u64
    }

    /// The entries of a dictionary, in order.
    pub fn entries(&self, namespace: NamespaceId) -> impl Iterator<Item = (&Bytes, &Held)> {
        let from = self.content.range((namespace, Bytes::new())..);
        let inside = from.take_while(move |((of, _), _)| *of == namespace);
        inside.map(|((_, key), held)| (key, held))
    }

    fn value(&self, namespace: NamespaceId, key: &Bytes) -> Option<&Bytes> {
        let held = self.content.get(&(namespace, key.clone()));
        held.map(|held| &held.value)
    }

    /// What an operation comes to.
    pub fn decide(
        &self,
        namespace: NamespaceId,
        operation: &Operation,
        moment: Moment,
    ) -> (Outcomes, Changes) {
        let is_there = self.namespaces().values().any(|there| *there == namespace);
        if !is_there {
            return (Err(ErrorKind::NotFound), Vec::new());
        }
        let is_plain = matches!(
            operation,
            Operation::Put { .. }
                | Operation::Delete { .. }
                | Operation::DeleteRange { .. }
                | Operation::CompareAndSet { .. }
                | Operation::Increment { .. }
                | Operation::Batch { .. }
        );
        if !is_plain {
            return self.decide_leases(namespace, operation, moment);
        }
        let (outcome, changes) = self.decide_in(namespace, operation);
        let changes = changes
            .into_iter()
            .map(|change| (namespace, change))
            .collect();
        match operation {
            // A counter keeps the time that it stays.
            Operation::Increment { .. } => (outcome, changes),
            _ => (outcome, self.released(changes)),
        }
    }

    /// The last change of each key, without removals of what is not there.
    pub fn last_changes(&self, namespace: NamespaceId, changes: &[Change]) -> Changes {
        let changes = changes.to_vec();
        let (_, changes) = self.decide_in(namespace, &Operation::Batch { changes });
        changes
            .into_iter()
            .map(|change| (namespace, change))
            .collect()
    }

    fn decide_in(&self, namespace: NamespaceId, operation: &Operation) -> (Outcomes, Vec<Change>) {
        let removal = |key: &Bytes| {
            let is_there = self.value(namespace, key).is_some();
            is_there.then(|| change_to(key, None))
        };
        match operation {
            Operation::Put { key, value } => (Ok(Outcome::Done), vec![change_to(key, Some(value))]),
            Operation::Delete { key } => {
                let changes: Vec<_> = removal(key).into_iter().collect();
                (Ok(Outcome::Deleted(changes.len() as u64)), changes)
            }
            Operation::DeleteRange {
                start,
                end,
                count_max,
            } => {
                let keys = self.entries(namespace).map(|(key, _)| key);
                let inside =
                    keys.filter(|key| *key >= start && end.as_ref().is_none_or(|end| *key < end));
                let removed = inside.take(*count_max as usize);
                let changes: Vec<_> = removed.map(|key| change_to(key, None)).collect();
                (Ok(Outcome::Deleted(changes.len() as u64)), changes)
            }
            Operation::CompareAndSet { key, expected, new } => {
                let present = self.value(namespace, key).map(|v| stored::open(v).unwrap());
                if present != *expected {
                    return (Ok(Outcome::Swapped(false)), Vec::new());
                }
                let change = match new {
                    Some(new) => Some(change_to(key, Some(new))),
                    None => removal(key),
                };
                (Ok(Outcome::Swapped(true)), change.into_iter().collect())
            }
            Operation::Increment { key, by } => self.add(namespace, key, *by),
            Operation::Batch { changes } => {
                let last = |place: &usize| {
                    let later = &changes[place + 1..];
                    later.iter().all(|later| later.key != changes[*place].key)
                };
                let kept = (0..changes.len()).filter(last).map(|place| &changes[place]);
                let kept = kept.filter(|change| {
                    change.value.is_some() || self.value(namespace, &change.key).is_some()
                });
                (Ok(Outcome::Done), kept.cloned().collect())
            }
            other => panic!("the model does not do {other:?}"),
        }
    }

    fn add(&self, namespace: NamespaceId, key: &Bytes, by: i64) -> (Outcomes, Vec<Change>) {
        let present = match self.value(namespace, key) {
            None => Some(0),
            Some(value) => number_of(value),
        };
        let Some(number) = present.and_then(|present| present.checked_add(by)) else {
            return (Err(ErrorKind::Invalid), Vec::new());
        };
        let value = stored::seal(&int_payload(number), Compression::None).unwrap();
        (
            Ok(Outcome::Number(number)),
            vec![change_to(key, Some(&value))],
        )
    }
}

fn outcome_names(outcome: &Outcomes, stand_in: Revision) -> bool {
    match outcome {
        Ok(Outcome::Lease(lease)) => lease.0 == stand_in.0,
        Ok(Outcome::Locked(Some(fence))) => *fence == stand_in,
        Ok(Outcome::Conflict { revision, .. }) => *revision == stand_in,
        _ => false,
    }
}

pub fn change_to(key: &Bytes, value: Option<&Bytes>) -> Change {
    Change {
        key: key.clone(),
        value: value.cloned(),
    }
}

fn number_of(value: &Bytes) -> Option<i64> {
    let payload = stored::open(value).unwrap();
    rmp_serde::from_slice(&payload).ok()
}
