//! Random work with power cuts, kills and clean ends, compared with a map.
//!
//! Goal: whatever was acknowledged with a sync is there; what is there is a prefix of what was
//! done, and its order is the order of the answers. Method: a disk in memory forgets any sectors
//! that were not synced; the seed is printed and gives the same run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;

use std::collections::BTreeMap;

use bytes::Bytes;
use harness::disk::SimDisk;
use harness::random::Random;
use harness::*;
use objsync_proto::ids::{Durability, Revision};
use objsync_proto::operation::Operation;
use objsync_store::Store;

type Model = BTreeMap<Bytes, Bytes>;

/// What was done, in order: the revision, and the state behind it.
struct Done {
    states: Vec<(Revision, Model)>,
    /// Everything up to here was acknowledged as synced.
    synced: Revision,
}

impl Done {
    fn state(&self) -> &Model {
        &self.states.last().unwrap().1
    }

    /// The store must hold one of the states from the last synced one on; forgets those after it.
    fn settle(&mut self, found: &Model, seed: u64) {
        let place = self.states.iter().rposition(|(_, state)| state == found);
        let place = place.unwrap_or_else(|| panic!("seed {seed}: a state that never was"));
        let (revision, _) = self.states[place];
        assert!(revision >= self.synced, "seed {seed}: lost what was synced");
        self.states.truncate(place + 1);
        self.synced = revision;
    }
}

fn operation(random: &mut Random, step: u64) -> Operation {
    let name = format!("k{}", random.below(12));
    let text = format!(
        "{step}-{}",
        "x".repeat(usize::try_from(random.below(700)).unwrap())
    );
    match random.below(10) {
        0 | 1 => Operation::Delete { key: key_of(&name) },
        2 => Operation::Batch {
            changes: (0..random.below(20))
                .map(|i| match random.chance(3) {
                    true => change(&format!("k{i}"), None),
                    false => change(&format!("k{i}"), Some(&text)),
                })
                .collect(),
        },
        3 => Operation::DeleteRange {
            start: key_of("k1"),
            end: Some(key_of("k5")),
            count_max: 3,
        },
        _ => put(&name, &text),
    }
}

fn apply(state: &mut Model, operation: &Operation) {
    match operation {
        Operation::Put { key, value } => {
            state.insert(key.clone(), value.clone());
        }
        Operation::Delete { key } => {
            state.remove(key);
        }
        Operation::Batch { changes } => {
            for change in changes {
                match &change.value {
                    Some(value) => state.insert(change.key.clone(), value.clone()),
                    None => state.remove(&change.key),
                };
            }
        }
        Operation::DeleteRange {
            start,
            end,
            count_max,
        } => {
            let end = end.clone().unwrap();
            let keys = state.range(start.clone()..end).map(|(key, _)| key.clone());
            for key in keys.take(*count_max as usize).collect::<Vec<_>>() {
                state.remove(&key);
            }
        }
        other => unreachable!("{other:?}"),
    }
}

/// Writes until the power goes, or enough was written.
fn work(store: &Store, random: &mut Random, done: &mut Done, seed: u64) {
    for step in 0..random.below(120) {
        let level = match random.chance(4) {
            true => Durability::Sync,
            false => Durability::Buffered,
        };
        let operation = operation(random, step);
        let mut after = done.state().clone();
        apply(&mut after, &operation);
        let Ok(answer) = execute(store, operation, level) else {
            // It may be there all the same, but nothing after it.
            done.states.push((Revision(u64::MAX), after));
            return;
        };
        assert!(answer.outcome.is_ok(), "seed {seed}: {answer:?}");
        let revision = answer.ack.revision;
        if &after != done.state() || revision > done.states.last().unwrap().0 {
            done.states.push((revision, after));
        }
        if level == Durability::Sync {
            done.synced = revision;
        }
    }
}

fn run(seed: u64) {
    let random = &mut Random::new(seed);
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), options_on(&disk));
    let mut done = Done {
        states: vec![(store.position().revision, Model::new())],
        synced: store.position().revision,
    };
    drop(store);
    for _ in 0..8 {
        let store = Store::open(directory.path(), options_on(&disk)).unwrap();
        done.settle(&content(&store), seed);
        // After a power cut some revisions were given and are gone.
        let ending = random.below(4);
        if ending == 0 {
            disk.stop_after(random.below(300));
        }
        work(&store, random, &mut done, seed);
        match ending {
            3 => {
                store.close().unwrap();
                done.synced = done.states.last().unwrap().0;
            }
            2 => {
                store.kill();
                // A killed process loses nothing that was answered.
                done.synced = done.states.last().unwrap().0;
            }
            _ => {
                store.kill();
                drop(store);
                disk.cut_power(random);
            }
        }
    }
    let store = Store::open(directory.path(), options_on(&disk)).unwrap();
    done.settle(&content(&store), seed);
}

#[test]
fn what_was_synced_survives_every_end_and_the_rest_is_a_prefix() {
    for seed in 0..25 {
        println!("seed {seed}");
        run(seed);
    }
}

#[test]
fn power_that_goes_while_a_store_is_opened_costs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), options_on(&disk));
    set(&store, "a", "1");
    store.kill();
    for calls in 0..60 {
        let random = &mut Random::new(calls);
        disk.stop_after(calls);
        let opened = Store::open(directory.path(), options_on(&disk));
        if let Ok(store) = opened {
            store.kill();
        }
        disk.cut_power(random);
        let store = Store::open(directory.path(), options_on(&disk)).unwrap();
        assert_eq!(
            get(&store, "a").as_deref(),
            Some("1"),
            "after {calls} calls"
        );
        store.kill();
    }
}

#[test]
fn power_that_goes_while_a_store_is_made_leaves_one_that_can_be_made() {
    for calls in 0..40 {
        let directory = tempfile::tempdir().unwrap();
        let disk = SimDisk::new();
        disk.stop_after(calls);
        if let Ok(store) = Store::open(directory.path(), options_on(&disk)) {
            store.kill();
        }
        disk.cut_power(&mut Random::new(calls));
        let store = open(directory.path(), options_on(&disk));
        set(&store, "a", "1");
        assert_eq!(
            get(&store, "a").as_deref(),
            Some("1"),
            "after {calls} calls"
        );
    }
}

/// The first owner is killed at any call, the second makes the store and acknowledges a write: its
/// directories must survive although the first one made them.
#[test]
fn store_that_one_owner_began_and_the_next_made_survives_a_power_cut() {
    for calls in 0..40 {
        for seed in 0..4 {
            let directory = tempfile::tempdir().unwrap();
            let disk = SimDisk::new();
            disk.stop_after(calls);
            if let Ok(store) = Store::open(directory.path(), options_on(&disk)) {
                store.kill();
            }
            disk.recover();
            let store = open(directory.path(), options_on(&disk));
            set(&store, "a", "1");
            store.kill();
            drop(store);
            disk.cut_power(&mut Random::new(seed));
            let store = Store::open(directory.path(), options_on(&disk)).unwrap();
            let found = get(&store, "a");
            assert_eq!(found.as_deref(), Some("1"), "{calls} calls, seed {seed}");
        }
    }
}
