//! A replica of what was read never answers with what was not so, and never goes back.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{Mirror, Owner, feed_all, join, key, resume};
use crate::ids::Revision;
use crate::replica::{Lookup, Mode, PageError, Replica};
use crate::wire::{Feed, KeyRange};

#[derive(Debug, Clone)]
enum Step {
    Put(u8),
    Delete(u8),
    /// The next so many transactions arrive.
    Deliver(usize),
    /// Look for a key, and ask the owner if the replica cannot tell.
    Read(u8),
    /// The oldest answer of the owner arrives.
    Answer,
    /// A write of this client is acknowledged, at the present revision.
    Ack,
    /// The connection breaks, and answers on their way with it.
    Break,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..8_u8).prop_map(Step::Put),
        1 => (0..8_u8).prop_map(Step::Delete),
        3 => (0..4_usize).prop_map(Step::Deliver),
        6 => (0..8_u8).prop_map(Step::Read),
        3 => Just(Step::Answer),
        1 => Just(Step::Ack),
        1 => Just(Step::Break),
    ]
}

type Answer = (Bytes, Option<(Bytes, Revision)>, Revision);

/// Checks each thing that a reader gets.
#[derive(Default)]
struct Reader {
    seen: Revision,
    by_key: BTreeMap<Bytes, Revision>,
}

impl Reader {
    fn got(&mut self, owner: &Owner, key: &Bytes, got: Option<(Bytes, Revision)>, from: Revision) {
        let moments = (from.0..=owner.revision().0).map(Revision);
        let held = moments
            .into_iter()
            .any(|at| owner.state_at(at).get(key) == got.as_ref());
        assert!(held, "{got:?} was true of no moment from {from} on");
        if let Some((_, revision)) = got {
            let last = self.by_key.entry(key.clone()).or_default();
            assert!(revision >= *last, "{revision} after {last}");
            *last = revision;
        }
    }
}

fn run(steps: Vec<Step>, bytes_max: u64) {
    let mut owner = Owner::new();
    let mut replica = Replica::new(KeyRange::default(), Mode::Auto { bytes_max });
    let mut mirror = Mirror::default();
    let mut answers: Vec<Answer> = Vec::new();
    let mut reader = Reader::default();
    replica.skip_content(owner.position());
    resume(&mut replica, &mut mirror, &owner);
    let mut cursor = Revision(0);
    for step in steps {
        match step {
            Step::Put(number) => drop(owner.put(number, b"value")),
            Step::Delete(number) => {
                owner.delete(number);
            }
            Step::Deliver(count) => {
                let events: Vec<_> = owner.after(cursor).into_iter().take(count).collect();
                cursor = events.last().map_or(cursor, |event| event.revision);
                feed_all(&mut replica, &mut mirror, [Feed::Events(events)]);
            }
            Step::Read(number) => {
                let key = key(number);
                match replica.lookup(&key) {
                    Lookup::Hit(value, revision) => {
                        reader.got(&owner, &key, Some((value, revision)), reader.seen);
                    }
                    Lookup::Absent => reader.got(&owner, &key, None, reader.seen),
                    Lookup::Unknown => {
                        replica.fetching(&key);
                        let entry = owner.state_at(owner.revision()).get(&key).cloned();
                        answers.push((key, entry, owner.revision()));
                    }
                }
            }
            Step::Answer if answers.is_empty() => {}
            Step::Answer => {
                let (key, entry, as_of) = answers.remove(0);
                let got = replica.fetched(&key, entry, as_of);
                reader.seen = reader.seen.max(as_of);
                reader.got(&owner, &key, got, as_of);
            }
            Step::Ack => {
                replica.saw(owner.revision());
                reader.seen = reader.seen.max(owner.revision());
            }
            Step::Break => {
                answers
                    .drain(..)
                    .for_each(|(key, ..)| replica.fetch_failed(&key));
                resume(&mut replica, &mut mirror, &owner);
            }
        }
        assert!(replica.bytes() <= bytes_max);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn reader_gets_what_was_so_and_never_goes_back(steps in vec(step(), 1..60)) {
        run(steps, 10_000);
    }

    #[test]
    fn reader_of_a_small_cache_does_too(steps in vec(step(), 1..60)) {
        run(steps, 600);
    }

    #[test]
    fn reader_without_a_cache_does_too(steps in vec(step(), 1..40)) {
        run(steps, 0);
    }
}

#[test]
fn value_read_before_an_event_is_not_cached_over_it() {
    let mut owner = Owner::new();
    let mut replica = Replica::new(KeyRange::default(), Mode::Auto { bytes_max: 10_000 });
    let mut mirror = Mirror::default();
    replica.skip_content(owner.position());
    resume(&mut replica, &mut mirror, &owner);
    let old = owner.put(1, b"old");
    replica.fetching(&key(1));
    let new = owner.put(1, b"new");
    feed_all(
        &mut replica,
        &mut mirror,
        [Feed::Events(owner.after(Revision(0)))],
    );
    let expected = Some((Bytes::from_static(b"new"), new));
    let answer = Some((Bytes::from_static(b"old"), old));
    assert_eq!(replica.fetched(&key(1), answer, old), expected);
    assert_eq!(
        replica.lookup(&key(1)),
        Lookup::Hit(Bytes::from_static(b"new"), new)
    );
}

#[test]
fn answer_ahead_of_the_feed_sends_other_keys_to_the_owner_until_the_feed_is_there() {
    let mut owner = Owner::new();
    let mut replica = Replica::new(KeyRange::default(), Mode::Auto { bytes_max: 10_000 });
    let mut mirror = Mirror::default();
    let first = owner.put(1, b"a");
    replica.skip_content(owner.position());
    resume(&mut replica, &mut mirror, &owner);
    replica.fetching(&key(1));
    replica.fetched(&key(1), Some((Bytes::from_static(b"a"), first)), first);
    assert!(matches!(replica.lookup(&key(1)), Lookup::Hit(..)));
    let second = owner.put(2, b"b");
    replica.fetching(&key(2));
    replica.fetched(&key(2), Some((Bytes::from_static(b"b"), second)), second);
    assert!(matches!(replica.lookup(&key(2)), Lookup::Hit(..)));
    assert_eq!(
        replica.lookup(&key(1)),
        Lookup::Unknown,
        "it may have changed before {second}"
    );
    feed_all(
        &mut replica,
        &mut mirror,
        [Feed::Events(owner.after(first))],
    );
    assert!(matches!(replica.lookup(&key(1)), Lookup::Hit(..)));
}

#[test]
fn replica_that_grows_too_large_goes_on_with_a_part() {
    let mut owner = Owner::new();
    let mut replica = Replica::new(KeyRange::default(), Mode::Auto { bytes_max: 2_000 });
    let mut mirror = Mirror::default();
    join(&mut replica, &mut mirror, &owner);
    let pin = replica.pin().unwrap();
    owner.put_each(0..100, b"value");
    feed_all(
        &mut replica,
        &mut mirror,
        [Feed::Events(owner.after(Revision(0)))],
    );
    assert!(replica.is_partial());
    assert!(replica.bytes() <= 2_000);
    assert!(
        matches!(replica.lookup(&key(0)), Lookup::Hit(..)),
        "what fits is kept"
    );
    assert_eq!(replica.lookup(&key(99)), Lookup::Unknown);
    let all = KeyRange::default();
    assert_eq!(replica.page(&all, false, 1), Err(PageError::NotHeld));
    assert_eq!(
        replica.page_at(pin, &all, false, 1),
        Err(PageError::Expired)
    );
    assert_eq!(
        mirror.changes.len(),
        100,
        "watchers still hear of everything"
    );
}

#[test]
fn state_that_arrives_too_large_makes_a_part_without_a_peak() {
    let mut owner = Owner::new();
    owner.put_each(0..100, b"value");
    let mut replica = Replica::new(KeyRange::default(), Mode::Auto { bytes_max: 2_000 });
    let mut mirror = Mirror::default();
    join(&mut replica, &mut mirror, &owner);
    assert!(replica.is_partial());
    assert_eq!(replica.position(), Some(owner.position()));
    assert_eq!(replica.count(), 0);
    join(&mut replica, &mut mirror, &owner);
    assert_eq!(
        mirror.exchanges,
        [true, false],
        "the second time, changes cannot be told"
    );
}

#[test]
fn what_is_read_stays_when_there_is_no_room_for_all() {
    let mut owner = Owner::new();
    owner.put_each(0..50, b"value");
    let mut replica = Replica::new(KeyRange::default(), Mode::Auto { bytes_max: 2_500 });
    replica.skip_content(owner.position());
    let state = owner.state_at(owner.revision());
    for number in 0..50 {
        replica.fetching(&key(number));
        replica.fetched(
            &key(number),
            state.get(&key(number)).cloned(),
            owner.revision(),
        );
        assert!(
            matches!(replica.lookup(&key(0)), Lookup::Hit(..)),
            "0 is read all the time"
        );
    }
    let held = (0..50)
        .filter(|number| replica.lookup(&key(*number)) != Lookup::Unknown)
        .count();
    assert!((5..50).contains(&held), "{held}");
}

#[test]
fn older_answer_that_comes_later_does_not_replace_a_newer_one() {
    let mut owner = Owner::new();
    let mut replica = Replica::new(KeyRange::default(), Mode::Auto { bytes_max: 10_000 });
    replica.skip_content(owner.position());
    let (old, new) = (owner.put(1, b"old"), owner.put(1, b"new"));
    replica.fetching(&key(1));
    replica.fetching(&key(1));
    let newer = Some((Bytes::from_static(b"new"), new));
    assert_eq!(replica.fetched(&key(1), newer.clone(), new), newer);
    let older = Some((Bytes::from_static(b"old"), old));
    assert_eq!(replica.fetched(&key(1), older, old), newer);
    assert_eq!(
        replica.lookup(&key(1)),
        Lookup::Hit(Bytes::from_static(b"new"), new)
    );
}
