//! A replica that is told of parts of values holds what the owner has, or nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{Owner, key};
use crate::effect::{Cause, Change, KeyPatch};
use crate::ids::Revision;
use crate::operation::{Edit, Patch};
use crate::patched;
use crate::replica::{Applied, Exchanged, Lookup, Mode, Replica, ReplicaError, Sink};
use crate::stored::{self, Compression};
use crate::value::{self, Value};
use crate::wire::{Entry, Event, Feed, KeyRange, edit};

#[derive(Debug, Clone)]
enum Step {
    Put(u8, bool),
    Append(u8),
    Delete(u8),
    /// The next so many transactions arrive.
    Deliver(usize),
    /// Look for a key, and ask the owner if the replica cannot tell.
    Read(u8),
    /// The oldest answer of the owner arrives.
    Answer,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..5_u8, any::<bool>()).prop_map(|(key, packed)| Step::Put(key, packed)),
        6 => (0..5_u8).prop_map(Step::Append),
        1 => (0..5_u8).prop_map(Step::Delete),
        4 => (0..4_usize).prop_map(Step::Deliver),
        5 => (0..5_u8).prop_map(Step::Read),
        3 => Just(Step::Answer),
    ]
}

/// An owner that remembers how each transaction is told by the part.
struct Source {
    owner: Owner,
    by_part: Vec<Event>,
}

impl Source {
    fn now(&self, number: u8) -> Option<(Bytes, Revision)> {
        let state = self.owner.state_at(self.owner.revision());
        state.get(&key(number)).cloned()
    }

    fn commit(&mut self, number: u8, value: Option<Bytes>, patch: Option<KeyPatch>) {
        let change = Change {
            key: key(number),
            value,
        };
        self.owner.commit(vec![change]);
        let whole = self.owner.events.last_mut().unwrap();
        let mut event = whole.clone();
        if let Some(patch) = patch {
            whole.cause = Cause::Patch;
            event.cause = Cause::Patch;
            event.changes.clear();
            event.patches.push(patch);
        }
        self.by_part.push(event);
    }

    fn put(&mut self, number: u8, is_packed: bool) {
        let list = Value::List(vec![Value::from(
            "a list that is worth packing ".repeat(9).as_str(),
        )]);
        let compression = if is_packed {
            Compression::Zstd(3)
        } else {
            Compression::None
        };
        let value = stored::seal(&value::encode(&list).unwrap(), compression).unwrap();
        self.commit(number, Some(value), None);
    }

    fn append(&mut self, number: u8) {
        let Some((value, base)) = self.now(number) else {
            return self.put(number, false);
        };
        let item = value::to_payload(&format!("item {}", self.by_part.len())).unwrap();
        let patch = Patch::from(Edit::Append { items: vec![item] });
        let edit = edit::encode(&patch);
        let new = patched::apply(&value, std::slice::from_ref(&edit)).unwrap();
        let key = key(number);
        self.commit(number, Some(new), Some(KeyPatch { key, base, edit }));
    }
}

/// Hears what is applied; the last value of each key that it heard of.
struct Told {
    is_watched: bool,
    heard: BTreeMap<Bytes, (Revision, Option<Bytes>)>,
    touched: Vec<Bytes>,
}

impl Sink for Told {
    fn applied(&mut self, change: Applied) {
        self.heard.insert(change.key, (change.revision, change.new));
    }

    fn barrier(&mut self, _: u64, _: crate::ids::Position) {}

    fn touched(&mut self, key: &[u8]) {
        self.touched.push(Bytes::copy_from_slice(key));
    }

    fn is_watched(&self, _: &[u8]) -> bool {
        self.is_watched
    }

    fn exchanged(&mut self, _: Exchanged) {}
}

fn joined(source: &Source, mode: Mode, told: &mut Told) -> Replica {
    let mut replica = Replica::new(KeyRange::default(), mode);
    replica.connected(source.owner.position());
    let entries: Vec<Entry> = source.owner.entries();
    let position = source.owner.position();
    for feed in [
        Feed::Start { subscription: 1 },
        Feed::Reset,
        Feed::Entries(entries),
        Feed::Complete { position },
    ] {
        replica.feed(feed, told).unwrap();
    }
    replica
}

/// Delivers; where a part cannot be applied, asks for whole values from there on, as a client does.
fn deliver(
    source: &Source,
    replica: &mut Replica,
    told: &mut Told,
    count: usize,
    by_part: &mut bool,
) {
    for _ in 0..count {
        let applied = replica.applied();
        let events = if *by_part {
            &source.by_part
        } else {
            &source.owner.events
        };
        let Some(event) = events.iter().find(|event| event.revision > applied) else {
            return;
        };
        match replica.feed(Feed::Events(vec![event.clone()]), told) {
            Ok(()) => {}
            Err(ReplicaError::Unpatchable { .. }) => {
                assert!(
                    told.is_watched && replica.is_partial(),
                    "all of it is held, or nobody asks"
                );
                assert_eq!(replica.applied(), applied, "nothing of it was applied");
                *by_part = false;
                replica.disconnected();
                replica.feed(Feed::Start { subscription: 2 }, told).unwrap();
                replica.feed(Feed::Resume, told).unwrap();
            }
            Err(other) => panic!("{other}"),
        }
    }
}

fn check(source: &Source, replica: &Replica, told: &Told) {
    let applied = replica.applied();
    let state = source.owner.state_at(applied);
    for number in 0..5 {
        let key = key(number);
        match replica.lookup(&key) {
            Lookup::Hit(value, revision) => {
                // An answer can be ahead of the feed.
                let mut moments = (applied.0..=source.owner.revision().0).map(Revision);
                let held = Some((value, revision));
                let is_true =
                    moments.any(|at| source.owner.state_at(at).get(&key) == held.as_ref());
                assert!(
                    is_true,
                    "key {number} at {revision}, with {applied} applied"
                );
            }
            Lookup::Absent if replica.is_partial() => {}
            Lookup::Absent => assert_eq!(state.get(&key), None),
            Lookup::Unknown => assert!(replica.is_partial()),
        }
        if told.is_watched
            && let Some((revision, value)) = told.heard.get(&key)
        {
            let expected = source.owner.state_at(*revision);
            assert_eq!(value.as_ref(), expected.get(&key).map(|(value, _)| value));
        }
    }
}

proptest! {
    #[test]
    fn replica_told_of_parts_is_what_the_owner_has(
        steps in vec(step(), 1..120), bytes_max in prop_oneof![Just(u64::MAX), 300..3000_u64],
        is_watched: bool,
    ) {
        let mut source = Source { owner: Owner::new(), by_part: Vec::new() };
        (0..3).for_each(|number| source.put(number, number == 1));
        let mut told = Told { is_watched, heard: BTreeMap::new(), touched: Vec::new() };
        let mut replica = joined(&source, Mode::Auto { bytes_max }, &mut told);
        let mut by_part = true;
        let mut asked = Vec::new();
        for step in steps {
            match step {
                Step::Put(number, is_packed) => source.put(number, is_packed),
                Step::Append(number) => source.append(number),
                Step::Delete(number) => source.commit(number, None, None),
                Step::Deliver(count) => deliver(&source, &mut replica, &mut told, count, &mut by_part),
                Step::Read(number) => {
                    if matches!(replica.lookup(&key(number)), Lookup::Unknown) {
                        replica.fetching(&key(number));
                        asked.push((number, source.now(number), source.owner.revision()));
                    }
                }
                Step::Answer if asked.is_empty() => {}
                Step::Answer => {
                    let (number, entry, as_of) = asked.remove(0);
                    replica.fetched(&key(number), entry, as_of);
                }
            }
            check(&source, &replica, &told);
        }
        deliver(&source, &mut replica, &mut told, usize::MAX, &mut by_part);
        prop_assert_eq!(replica.applied(), source.owner.revision());
        check(&source, &replica, &told);
    }
}

#[test]
fn part_of_another_entry_is_refused_and_nothing_changes() {
    let mut source = Source {
        owner: Owner::new(),
        by_part: Vec::new(),
    };
    source.put(1, false);
    let mut told = Told {
        is_watched: true,
        heard: BTreeMap::new(),
        touched: Vec::new(),
    };
    let mut replica = joined(&source, Mode::Full, &mut told);
    source.append(1);
    let mut event = source.by_part.last().unwrap().clone();
    event.patches[0].base = Revision(0);
    let held = replica.lookup(&key(1));
    let refused = replica.feed(Feed::Events(vec![event.clone()]), &mut told);
    assert!(
        matches!(refused, Err(ReplicaError::Unpatchable { .. })),
        "{refused:?}"
    );
    event.patches[0].base = Revision(1);
    event.patches[0].edit = Bytes::from_static(b"\x93\x00");
    let refused = replica.feed(Feed::Events(vec![event]), &mut told);
    assert!(
        matches!(refused, Err(ReplicaError::Unpatchable { .. })),
        "{refused:?}"
    );
    assert_eq!(
        (replica.lookup(&key(1)), replica.applied()),
        (held, Revision(1))
    );
    assert!(told.heard.is_empty());
}

/// Nobody wants to know, so nobody is asked: but what was remembered of the key is void.
#[test]
fn part_of_what_is_not_held_lets_go_of_the_key() {
    let mut source = Source {
        owner: Owner::new(),
        by_part: Vec::new(),
    };
    (0..3).for_each(|number| source.put(number, false));
    let mut told = Told {
        is_watched: false,
        heard: BTreeMap::new(),
        touched: Vec::new(),
    };
    let mut replica = joined(&source, Mode::Auto { bytes_max: 10 }, &mut told);
    assert!(replica.is_partial());
    replica.fetching(&key(1));
    let (entry, as_of) = (source.now(1), source.owner.revision());
    source.append(1);
    deliver(&source, &mut replica, &mut told, 1, &mut true);
    assert_eq!(told.touched, [key(1)]);
    // The answer is from before that: its reader may have it, but nobody after.
    replica.fetched(&key(1), entry, as_of);
    assert_eq!(replica.lookup(&key(1)), Lookup::Unknown);
}

/// No owner makes such a transaction: its values would be more than any transaction's.
#[test]
fn parts_of_more_than_a_transaction_may_hold_are_refused_and_nothing_changes() {
    let mut source = Source {
        owner: Owner::new(),
        by_part: Vec::new(),
    };
    let list = Value::List(vec![Value::from("x".repeat(900 << 10).as_str())]);
    let value = stored::seal(&value::encode(&list).unwrap(), Compression::None).unwrap();
    (0..20).for_each(|number| source.commit(number, Some(value.clone()), None));
    let mut told = Told {
        is_watched: false,
        heard: BTreeMap::new(),
        touched: Vec::new(),
    };
    let mut replica = joined(&source, Mode::Full, &mut told);
    (0..20).for_each(|number| source.append(number));
    let parts = &source.by_part[20..];
    let all = |count: usize| {
        let mut event = parts[0].clone();
        event.patches = parts[..count]
            .iter()
            .flat_map(|one| one.patches.clone())
            .collect();
        Feed::Events(vec![event])
    };
    let refused = replica.feed(all(20), &mut told);
    assert!(
        matches!(refused, Err(ReplicaError::Unpatchable { .. })),
        "{refused:?}"
    );
    assert_eq!(replica.applied(), Revision(20), "nothing of it");
    replica.feed(all(10), &mut told).unwrap();
    assert_eq!(replica.applied(), Revision(21));
}
