//! A replica that holds everything is a prefix of the history, whatever happens to its feed.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{Map, Mirror, Owner, content, feed_all, join, key, resume};
use crate::effect::Change;
use crate::ids::Revision;
use crate::replica::{Lookup, Mode, PinId, Replica};
use crate::wire::{Feed, KeyRange};

#[derive(Debug, Clone)]
enum Step {
    /// The owner commits a transaction.
    Commit(Vec<Change>),
    /// The next so many transactions arrive, in one frame.
    Deliver(usize),
    /// The connection breaks; the next one repeats so many transactions that were applied.
    Resume(u64),
    /// The connection breaks; the state is sent anew, or only begins to be.
    Reset { whole: bool },
    /// The owner loses its last transactions.
    Lose(usize),
    /// An iteration begins.
    Pin,
    /// An iteration ends.
    Unpin,
}

fn change() -> impl Strategy<Value = Change> {
    (0..10_u8, option::of(vec(any::<u8>(), 0..12))).prop_map(|(number, value)| Change {
        key: key(number),
        value: value.map(Bytes::from),
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => vec(change(), 0..4).prop_map(Step::Commit),
        6 => (0..4_usize).prop_map(Step::Deliver),
        2 => (0..5_u64).prop_map(Step::Resume),
        1 => any::<bool>().prop_map(|whole| Step::Reset { whole }),
        1 => (0..4_usize).prop_map(Step::Lose),
        1 => Just(Step::Pin),
        1 => Just(Step::Unpin),
    ]
}

/// Transactions change each key once, as the owner decides them.
fn one_per_key(changes: Vec<Change>) -> Vec<Change> {
    let mut seen = std::collections::BTreeSet::new();
    changes
        .into_iter()
        .filter(|change| seen.insert(change.key.clone()))
        .collect()
}

fn pinned(replica: &Replica, pin: PinId, reverse: bool) -> Map {
    let mut map = Map::new();
    let mut rest = Some(KeyRange::default());
    let mut last: Option<Bytes> = None;
    while let Some(range) = rest {
        let page = replica.page_at(pin, &range, reverse, 15).unwrap();
        for entry in page.entries {
            let in_order = |last: &Bytes| (*last < entry.key) != reverse;
            assert!(last.as_ref().is_none_or(in_order), "pages are in order");
            last = Some(entry.key.clone());
            map.insert(entry.key, (entry.value, entry.revision));
        }
        rest = page.rest;
    }
    map
}

fn check(replica: &Replica, mirror: &Mirror, owner: &Owner, pins: &[(PinId, Map)]) {
    let position = replica.position().unwrap();
    let held = content(replica);
    let values: Vec<_> = held.iter().map(|(key, (value, _))| (key, value)).collect();
    assert_eq!(
        values,
        mirror.map.iter().collect::<Vec<_>>(),
        "the changes told make the map"
    );
    if position.epoch == owner.position().epoch {
        assert_eq!(held, owner.state_at(position.revision));
        assert_eq!(replica.count(), held.len() as u64);
    }
    for (pin, moment) in pins {
        assert_eq!(&pinned(replica, *pin, false), moment);
        assert_eq!(&pinned(replica, *pin, true), moment);
        assert_eq!(replica.count_at(*pin).unwrap(), moment.len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn replica_is_a_prefix_of_the_history(steps in vec(step(), 1..40)) {
        let mut owner = Owner::new();
        let mut replica = Replica::new(KeyRange::default(), Mode::Full);
        let mut mirror = Mirror::default();
        let mut pins: Vec<(PinId, Map)> = Vec::new();
        let mut cursor = Revision(0);
        join(&mut replica, &mut mirror, &owner);
        for step in steps {
            match step {
                Step::Commit(changes) => {
owner.commit(one_per_key(changes));
}
                Step::Deliver(count) => {
                    let events: Vec<_> = owner.after(cursor).into_iter().take(count).collect();
                    cursor = events.last().map_or(cursor, |event| event.revision);
                    feed_all(&mut replica, &mut mirror, [Feed::Events(events)]);
                }
                Step::Resume(repeated) => {
                    resume(&mut replica, &mut mirror, &owner);
                    cursor = Revision(cursor.0.saturating_sub(repeated));
                    let again = owner.after(cursor);
                    let position = replica.position().unwrap();
                    let again = again.into_iter().filter(|e| e.revision <= position.revision);
                    feed_all(&mut replica, &mut mirror, [Feed::Events(again.collect())]);
                    cursor = position.revision;
                }
                Step::Reset { whole: true } => {
                    join(&mut replica, &mut mirror, &owner);
                    cursor = owner.revision();
                }
                Step::Reset { whole: false } => {
                    replica.connected(owner.position());
                    let frames = super::reset_frames(&owner);
                    let cut = frames.len() - 1;
                    feed_all(&mut replica, &mut mirror, frames.into_iter().take(cut));
                    check(&replica, &mirror, &owner, &pins);
                    resume(&mut replica, &mut mirror, &owner);
                }
                Step::Lose(count) => {
                    owner.lose(count);
                    join(&mut replica, &mut mirror, &owner);
                    cursor = owner.revision();
                }
                Step::Pin => pins.push((replica.pin().unwrap(), content(&replica))),
                Step::Unpin => {
                    if let Some((pin, _)) = pins.pop() {
                        replica.unpin(pin);
                    }
                }
            }
            check(&replica, &mirror, &owner, &pins);
        }
    }

    /// Readers see all of a transaction or nothing of it, and each key's value by itself too.
    #[test]
    fn lookup_agrees_with_pages(changes in vec(change(), 0..20), probe in 0..12_u8) {
        let mut owner = Owner::new();
        owner.commit(one_per_key(changes));
        let mut replica = Replica::new(KeyRange::default(), Mode::Full);
        assert_eq!(replica.lookup(&key(probe)), Lookup::Unknown);
        assert_eq!(replica.contains(&key(probe)), None);
        join(&mut replica, &mut Mirror::default(), &owner);
        let expected = match content(&replica).get(&key(probe)) {
            Some((value, revision)) => Lookup::Hit(value.clone(), *revision),
            None => Lookup::Absent,
        };
        let there = Some(expected != Lookup::Absent);
        prop_assert_eq!(replica.contains(&key(probe)), there);
        prop_assert_eq!(replica.lookup(&key(probe)), expected);
    }
}
