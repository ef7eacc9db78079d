//! An owner in memory: a log, what of it is durable, and the state that follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ops::Bound;

use bytes::Bytes;
use objsync_proto::effect::{Cause, Change};
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::evaluate::{self, Changed, Decided, Leased, Present, Ranges, View};
use objsync_proto::ids::{
    Ack, Durability, Epoch, EpochName, FrameIndex, NamespaceId, Origin, Position, Revision,
    Sequence, SessionId, StoreId,
};
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::session::{Check, Recorded, Results};
use objsync_proto::wire::{Event, KeyRange};

/// A dictionary: stored values and their revisions.
pub(crate) type Map = BTreeMap<Bytes, (Bytes, Revision)>;

/// One transaction of the log.
pub(crate) struct Logged {
    pub(crate) event: Event,
    pub(crate) operation: Operation,
    pub(crate) recorded: Recorded,
}

/// An answer that waits until what it speaks of is durable.
pub(crate) struct Answered {
    pub(crate) result: Result<(Outcome, Ack), Failure>,
    /// What has to be durable first.
    pub(crate) revision: Revision,
}

pub(crate) struct Owner {
    pub(crate) epoch: Epoch,
    pub(crate) log: Vec<Logged>,
    /// So many transactions of the log survive a crash for sure.
    pub(crate) durable: usize,
    /// Subscribers at a lower revision get the state anew.
    pub(crate) trimmed: Revision,
    map: Map,
    sessions: BTreeMap<SessionId, Results>,
    opened: BTreeSet<SessionId>,
    next_revision: u64,
    next_frame: u64,
}

/// Its one dictionary.
const DICTIONARY: NamespaceId = NamespaceId::DEFAULT;

struct Dictionary<'a> {
    map: &'a Map,
    next: Revision,
}

impl View for Dictionary<'_> {
    type Error = Infallible;

    fn get(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<Present>, Infallible> {
        let found = self.map.get(key).filter(|_| namespace == DICTIONARY);
        Ok(found
            .cloned()
            .map(|(value, revision)| Present { value, revision }))
    }

    fn changed(&self, _: NamespaceId, _: Revision, _: &Ranges) -> Result<Changed, Infallible> {
        Ok(Changed::Unknown {
            oldest: self.last(),
        })
    }

    fn leased(&self) -> Leased {
        Leased::default()
    }

    fn revision(&self) -> Revision {
        self.next
    }

    fn last(&self) -> Revision {
        Revision(self.next.0 - 1)
    }

    fn now_ms(&self) -> u64 {
        self.next.0
    }

    fn keys(
        &self,
        _: NamespaceId,
        range: &KeyRange,
        count_max: u32,
    ) -> Result<Vec<Bytes>, Infallible> {
        let end = range
            .end
            .as_ref()
            .map_or(Bound::Unbounded, |end| Bound::Excluded(&end[..]));
        let inside = self
            .map
            .range::<[u8], _>((Bound::Included(&range.start[..]), end));
        Ok(inside
            .map(|(key, _)| key.clone())
            .take(count_max as usize)
            .collect())
    }
}

/// What an owner says of a write.
pub(crate) enum Asked<'a> {
    Done(&'a Result<Outcome, Failure>),
    NotDone,
    NotYet,
    Forgotten,
}

pub(crate) fn apply(map: &mut Map, event: &Event) {
    for change in &event.changes {
        match &change.value {
            Some(value) => map.insert(change.key.clone(), (value.clone(), event.revision)),
            None => map.remove(&change.key),
        };
    }
}

impl Owner {
    pub(crate) fn new() -> Self {
        Self {
            epoch: epoch(1),
            log: Vec::new(),
            durable: 0,
            trimmed: Revision(0),
            map: Map::new(),
            sessions: BTreeMap::new(),
            opened: BTreeSet::new(),
            next_revision: 1,
            next_frame: 1,
        }
    }

    /// What subscribers may know of.
    pub(crate) fn position(&self) -> Position {
        let revision = self.log[..self.durable]
            .last()
            .map_or(Revision(0), |l| l.event.revision);
        Position {
            store: StoreId([5; 16]),
            epoch: self.epoch,
            revision,
        }
    }

    /// The durable state at a revision.
    pub(crate) fn state_at(&self, revision: Revision) -> Map {
        let mut map = Map::new();
        let until = self.log[..self.durable]
            .iter()
            .filter(|l| l.event.revision <= revision);
        until.for_each(|logged| apply(&mut map, &logged.event));
        map
    }

    /// The durable revisions from one on.
    pub(crate) fn revisions_from(&self, from: Revision) -> Vec<Revision> {
        let later = self.log[..self.durable]
            .iter()
            .map(|logged| logged.event.revision);
        std::iter::once(from)
            .chain(later.filter(|revision| *revision > from))
            .collect()
    }

    pub(crate) fn events_after(&self, revision: Revision) -> impl Iterator<Item = &Event> {
        let durable = self.log[..self.durable].iter().map(|logged| &logged.event);
        durable.filter(move |event| event.revision > revision)
    }

    /// The log frame of a session is synced before the session is named to anybody.
    pub(crate) fn open_session(&mut self) -> SessionId {
        let id = SessionId {
            epoch: self.epoch.number,
            frame: FrameIndex(self.next_frame),
        };
        self.next_frame += 1;
        self.sync();
        self.opened.insert(id);
        self.sessions.insert(id, Results::default());
        id
    }

    pub(crate) fn close_session(&mut self, id: SessionId) {
        self.opened.remove(&id);
        self.sessions.remove(&id);
    }

    pub(crate) fn knows(&self, id: SessionId) -> bool {
        self.sessions.contains_key(&id)
    }

    pub(crate) fn sessions(&self) -> Vec<SessionId> {
        self.sessions.keys().copied().collect()
    }

    /// What is known of a write of a session; none when the session is not.
    pub(crate) fn outcome(&self, id: SessionId, sequence: Sequence) -> Option<Asked<'_>> {
        let results = self.sessions.get(&id)?;
        Some(match results.check(sequence) {
            Check::Repeat(recorded) => Asked::Done(&recorded.result),
            Check::Forgotten if sequence < results.floor() => Asked::Forgotten,
            Check::Forgotten => Asked::NotDone,
            Check::New => Asked::NotYet,
        })
    }

    /// Decides a write of a session, or finds that it was decided.
    pub(crate) fn write(
        &mut self,
        session: Option<SessionId>,
        sequence: Sequence,
        floor: Sequence,
        operation: Operation,
    ) -> Answered {
        let unknown = || Answered {
            result: Err(Failure::new(
                ErrorKind::OutcomeUnknown,
                "nothing is known of it",
            )),
            revision: Revision(0),
        };
        let Some(id) = session else { return unknown() };
        let Some(results) = self.sessions.get_mut(&id) else {
            return unknown();
        };
        results.advance(floor);
        match results.check(sequence) {
            Check::Forgotten => unknown(),
            Check::Repeat(recorded) => answer(recorded),
            Check::New => self.run(
                Some(Origin {
                    session: id,
                    sequence,
                }),
                operation,
            ),
        }
    }

    /// Decides an operation and logs what came of it.
    pub(crate) fn run(&mut self, origin: Option<Origin>, operation: Operation) -> Answered {
        let view = Dictionary {
            map: &self.map,
            next: Revision(self.next_revision),
        };
        let Ok(decision) = evaluate::evaluate(DICTIONARY, &operation, &view);
        let (result, cause, changes) = match decision {
            Ok(Decided {
                outcome,
                cause,
                changes,
                ..
            }) => (Ok(outcome), cause, changes),
            Err(failure) => (Err(failure), Cause::Write, Vec::new()),
        };
        let changes: Vec<Change> = changes.into_iter().map(|(_, change)| change).collect();
        let revision = Revision(self.next_revision);
        self.next_revision += 1;
        let recorded = Recorded {
            result,
            revision,
            epoch: self.epoch,
        };
        let event = Event {
            revision,
            time_ms: revision.0,
            origin,
            cause,
            changes,
            patches: Vec::new(),
        };
        apply(&mut self.map, &event);
        self.remember(origin, &recorded);
        let answered = answer(&recorded);
        self.log.push(Logged {
            event,
            operation,
            recorded,
        });
        answered
    }

    fn remember(&mut self, origin: Option<Origin>, recorded: &Recorded) {
        let Some(Origin { session, sequence }) = origin else {
            return;
        };
        if let Some(results) = self.sessions.get_mut(&session) {
            results.record(sequence, recorded.clone());
        }
    }

    pub(crate) fn sync(&mut self) {
        self.durable = self.log.len();
    }

    /// The process dies; of what was not durable, the first `kept` transactions survived. The next
    /// owner reads the log and goes on under a new epoch.
    pub(crate) fn restart(&mut self, kept: usize) {
        self.log.truncate((self.durable + kept).min(self.log.len()));
        self.sync();
        self.epoch = epoch(self.epoch.number + 1);
        self.next_revision += 1_000;
        self.map.clear();
        self.sessions = self
            .opened
            .iter()
            .map(|id| (*id, Results::default()))
            .collect();
        for logged in &self.log {
            apply(&mut self.map, &logged.event);
            let Some(Origin { session, sequence }) = logged.event.origin else {
                continue;
            };
            if let Some(results) = self.sessions.get_mut(&session) {
                results.record(sequence, logged.recorded.clone());
            }
        }
    }
}

fn answer(recorded: &Recorded) -> Answered {
    let Recorded {
        result,
        revision,
        epoch,
    } = recorded.clone();
    let ack = Ack {
        revision,
        epoch,
        durability: Durability::Sync,
    };
    Answered {
        result: result.map(|outcome| (outcome, ack)),
        revision,
    }
}

fn epoch(number: u64) -> Epoch {
    Epoch {
        number,
        name: EpochName([u8::try_from(number).unwrap(); 16]),
    }
}
