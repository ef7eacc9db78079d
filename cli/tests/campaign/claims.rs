//! What there must be, by what clients were told.

use std::collections::{BTreeMap, HashSet, VecDeque};

use crate::journal::{BATCH_COUNT, CHAIN, Event, Kind, Op, SHARED, name};

/// What one client may claim.
#[derive(Default)]
pub(crate) struct Claims {
    id: u64,
    /// Its own keys, by all that was answered.
    state: BTreeMap<String, i64>,
    /// What it started and was not answered, in order.
    open: VecDeque<Op>,
    /// The revision it was told last.
    revision: u64,
}

/// What all clients of one store may claim.
#[derive(Default)]
pub(crate) struct Ledger {
    clients: BTreeMap<u64, Claims>,
    /// Revisions that were given, and the highest before this round.
    revisions: HashSet<u64>,
    revision_before: u64,
    /// Numbers that the shared counter answered, and how often the shared number was raised.
    shared: HashSet<i64>,
    chain: i64,
    pub(crate) answered: u64,
}

impl Ledger {
    /// Takes note of one line of a client's journal.
    pub(crate) fn note(&mut self, id: u64, event: &Event) {
        let claims = self.clients.entry(id).or_insert_with(|| Claims {
            id,
            ..Claims::default()
        });
        match event {
            Event::Started(op) => claims.open.push_back(*op),
            Event::Answered { revision, result } => {
                self.answered += 1;
                let op = claims.open.pop_front().expect("it was started");
                self.check_answer(id, op, *result);
                if *revision > 0 {
                    self.check_revision(id, *revision);
                }
            }
            _ => {}
        }
    }

    fn check_answer(&mut self, id: u64, op: Op, result: i64) {
        match op.kind {
            Kind::Shared => assert!(
                self.shared.insert(result),
                "client {id}: {op:?} answered {result}, which somebody else was answered"
            ),
            Kind::Chain => self.chain += result,
            _ => {
                let claims = self.clients.get_mut(&id).expect("it was noted");
                let expected = claims.apply(op);
                assert_eq!(result, expected, "client {id}: answer of {op:?}");
            }
        }
    }

    fn check_revision(&mut self, id: u64, revision: u64) {
        assert!(
            self.revisions.insert(revision),
            "client {id}: revision {revision} was given twice"
        );
        assert!(
            revision > self.revision_before,
            "client {id}: revision {revision} after {} of an earlier round",
            self.revision_before
        );
        let claims = self.clients.get_mut(&id).expect("it was noted");
        assert!(
            revision > claims.revision,
            "client {id}: revision {revision} after {}",
            claims.revision
        );
        claims.revision = revision;
    }

    /// Compares what there is with what there must be, and takes it as what was there before the
    /// next round. `living` are the clients of which every answer is known.
    pub(crate) fn check(&mut self, content: &BTreeMap<String, i64>, living: &[u64]) {
        let count = |wanted| -> i64 {
            let open = self.clients.values().flat_map(|claims| &claims.open);
            i64::try_from(open.filter(|op| op.kind == wanted).count()).unwrap()
        };
        let (shared, chain) = (count(Kind::Shared), count(Kind::Chain));
        let given = i64::try_from(self.shared.len()).unwrap();
        let found = between(content, SHARED, given, given + shared);
        assert!(self.shared.iter().all(|number| *number <= found));
        // Those of clients that were killed before they were answered.
        self.shared.extend(1..=found);
        self.chain = between(content, CHAIN, self.chain, self.chain + chain);

        let mut named = 2;
        for claims in self.clients.values_mut() {
            let is_living = living.contains(&claims.id);
            assert!(!is_living || claims.open.is_empty(), "it has stopped");
            named += claims.check(content);
        }
        let shared = [SHARED, CHAIN].map(|name| usize::from(!content.contains_key(name)));
        let strange = content.len() + shared.iter().sum::<usize>() - named;
        assert_eq!(strange, 0, "keys that nobody wrote");
        self.revision_before = self.revisions.iter().copied().max().unwrap_or(0);
    }
}

fn between(content: &BTreeMap<String, i64>, name: &str, low: i64, high: i64) -> i64 {
    let found = content.get(name).copied().unwrap_or(0);
    assert!(
        (low..=high).contains(&found),
        "{name} is {found}; it must be {low} to {high}"
    );
    found
}

impl Claims {
    /// Does to the state what the operation did, and tells what its answer must be.
    fn apply(&mut self, op: Op) -> i64 {
        apply(&mut self.state, self.id, op)
    }

    /// What was answered is there, and of what was not, a first part; tells how many keys it has.
    fn check(&mut self, content: &BTreeMap<String, i64>) -> usize {
        let prefix = format!("{:05}/", self.id);
        let range = content.range(prefix.clone()..);
        let found: BTreeMap<String, i64> = range
            .take_while(|(name, _)| name.starts_with(&prefix))
            .map(|(name, number)| (name.clone(), *number))
            .collect();
        let mut state = self.state.clone();
        let mut open = self.open.iter();
        while state != found {
            let Some(op) = open.next() else {
                panic!(
                    "client {}: there is {found:?}; answered was {:?}; then came {:?}",
                    self.id, self.state, self.open
                );
            };
            apply(&mut state, self.id, *op);
        }
        self.open.clear();
        self.state = state;
        self.state.len()
    }
}

fn apply(state: &mut BTreeMap<String, i64>, client: u64, op: Op) -> i64 {
    let name = |slot| name(client, op.kind, slot);
    match op.kind {
        Kind::Put | Kind::Swap | Kind::Blob => {
            state.insert(name(op.slot), op.number);
            1
        }
        Kind::Batch => {
            state.extend((0..BATCH_COUNT).map(|slot| (name(slot), op.number)));
            1
        }
        Kind::Delete => i64::from(state.remove(&name(op.slot)).is_some()),
        Kind::Own => {
            let counter = state.entry(name(op.slot)).or_insert(0);
            *counter += 1;
            *counter
        }
        Kind::Shared | Kind::Chain => 0,
    }
}

/// What one client was told: two puts and a batch that were answered, one that was not.
#[cfg(test)]
fn noted() -> (Ledger, BTreeMap<String, i64>) {
    let mut ledger = Ledger::default();
    let mut content = BTreeMap::new();
    let ops = [Kind::Put, Kind::Batch, Kind::Own, Kind::Put].into_iter();
    for (kind, number) in ops.zip(1..) {
        let op = Op {
            kind,
            slot: 0,
            number,
        };
        ledger.note(1, &Event::Started(op));
        if number < 4 {
            let revision = if kind == Kind::Own {
                0
            } else {
                u64::try_from(number).unwrap()
            };
            ledger.note(
                1,
                &Event::Answered {
                    revision,
                    result: 1,
                },
            );
            apply(&mut content, 1, op);
        }
    }
    (ledger, content)
}

#[test]
fn ledger_takes_what_was_answered_with_or_without_what_was_not() {
    let (mut ledger, mut content) = noted();
    ledger.check(&content, &[]);
    let (mut again, _) = noted();
    content.insert(name(1, Kind::Put, 0), 4);
    again.check(&content, &[]);
    // From then on it is what there was.
    again.check(&content, &[1]);
}

#[test]
fn ledger_notices_what_is_lost_torn_stale_strange_or_done_twice() {
    let spoil: [fn(&mut BTreeMap<String, i64>); 6] = [
        |content| _ = content.remove(&name(1, Kind::Put, 0)),
        |content| _ = content.remove(&name(1, Kind::Batch, 3)),
        |content| _ = content.insert(name(1, Kind::Batch, 2), 1),
        |content| _ = content.insert(name(1, Kind::Own, 0), 2),
        |content| _ = content.insert(name(2, Kind::Put, 0), 1),
        |content| _ = content.insert(SHARED.to_owned(), 1),
    ];
    for (number, spoil) in spoil.iter().enumerate() {
        let (mut ledger, mut content) = noted();
        spoil(&mut content);
        let checked = std::panic::catch_unwind(move || ledger.check(&content, &[]));
        assert!(checked.is_err(), "spoiled by {number}");
    }
}

#[test]
fn ledger_notices_a_revision_that_is_given_twice_and_a_wrong_answer() {
    let answers = [(Kind::Put, 2, 1), (Kind::Own, 0, 3), (Kind::Swap, 0, 0)];
    for (kind, revision, result) in answers {
        let (mut ledger, content) = noted();
        ledger.check(&content, &[]);
        let op = Op {
            kind,
            slot: 0,
            number: 9,
        };
        ledger.note(1, &Event::Started(op));
        let noted = std::panic::catch_unwind(move || {
            ledger.note(1, &Event::Answered { revision, result });
        });
        assert!(noted.is_err(), "{kind:?}");
    }
}
