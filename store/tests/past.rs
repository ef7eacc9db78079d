//! Reading the past: every revision that is kept is what it was, every older one is refused by name,
//! and what a key was is told in full.
//!
//! Method: random transactions over small segments, with snapshots, trimming, clean and unclean ends
//! and power cuts; the model keeps the state of every revision. Seeds are printed.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "it is all tests"
)]

mod harness;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use harness::disk::SimDisk;
use harness::random::Random;
use harness::work::{limits, options, wait_until};
use harness::*;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{Durability, NamespaceId, Revision};
use objsync_proto::key;
use objsync_proto::operation::Operation;
use objsync_proto::wire::{KeyRange, Version};
use objsync_store::{IndexKind, Past, Store, StoreError, StoreLimits, StoreOptions, Submission};

/// Both dictionaries.
type State = BTreeMap<(NamespaceId, Bytes), Bytes>;

const OTHER: NamespaceId = NamespaceId::FIRST_NAMED;
const KEYS: u64 = 25;

/// The state behind each revision that changed it, oldest first.
struct Model {
    states: Vec<(Revision, State)>,
    /// Makes every value another one.
    written: u64,
    /// Revisions that were given, and that an unclean end took back.
    lost: Vec<Revision>,
    /// How often a revision was past the retention.
    refused_count: u64,
}

impl Model {
    fn new(store: &Store) -> Self {
        Self {
            states: vec![(store.position().revision, State::new())],
            written: 0,
            lost: Vec::new(),
            refused_count: 0,
        }
    }

    fn at(&self, revision: Revision) -> &State {
        let later = self.states.partition_point(|(at, _)| *at <= revision);
        match later.checked_sub(1) {
            Some(place) => &self.states[place].1,
            None => &self.states[0].1,
        }
    }

    fn newest(&self) -> Revision {
        self.states.last().unwrap().0
    }

    /// A random transaction, and the state behind it.
    fn plan(&mut self, random: &mut Random) -> (NamespaceId, Operation, State) {
        let mut state = self.states.last().unwrap().1.clone();
        let namespace = if random.chance(4) { OTHER } else { NS };
        let mut changes = Vec::new();
        for _ in 0..1 + random.below(6) {
            let name = format!("key {}", random.below(KEYS));
            self.written += 1;
            let text = format!(
                "{}-{}",
                self.written,
                "x".repeat(random.below(700) as usize)
            );
            changes.push(change(&name, (!random.chance(4)).then_some(text.as_str())));
        }
        for change in &changes {
            let key = (namespace, change.key.clone());
            match &change.value {
                Some(value) => state.insert(key, value.clone()),
                None => state.remove(&key),
            };
        }
        (namespace, Operation::Batch { changes }, state)
    }

    /// What a key was, newest first: revision and value.
    fn versions(&self, namespace: NamespaceId, key: &Bytes) -> Vec<(Revision, Option<Bytes>)> {
        let key = (namespace, key.clone());
        let mut versions = Vec::new();
        let mut last = None;
        for (revision, state) in &self.states {
            let value = state.get(&key).cloned();
            if value != last {
                versions.push((*revision, value.clone()));
                last = value;
            }
        }
        versions.reverse();
        versions
    }
}

/// Writes until so many bytes were, or the disk stops; tells whether it went well.
fn work(store: &Store, model: &mut Model, random: &mut Random, bytes: usize) -> bool {
    let mut written = 0;
    while written < bytes {
        let (namespace, operation, state) = model.plan(random);
        written += 2000;
        let level = match random.chance(6) {
            true => Durability::Sync,
            false => Durability::Buffered,
        };
        let answer = store.execute(Submission {
            namespace,
            operation,
            origin: None,
            durability: Some(level),
        });
        match answer {
            Ok(answer) => {
                assert!(answer.outcome.is_ok(), "{answer:?}");
                if answer.ack.revision > model.newest() {
                    model.states.push((answer.ack.revision, state));
                }
            }
            Err(_) => {
                model.states.push((Revision(u64::MAX), state));
                return false;
            }
        }
    }
    true
}

/// All of both dictionaries at a past revision, read in small pages in one direction.
fn content_of(past: &Past, reverse: bool) -> State {
    let mut state = State::new();
    for namespace in [NS, OTHER] {
        let mut range = KeyRange::default();
        let mut count = 0;
        loop {
            let page = past.page(namespace, &range, reverse, 3000).unwrap();
            let Some(last) = page.last() else { break };
            match reverse {
                true => range.end = Some(last.key.clone()),
                false => range.start = key::successor(&last.key),
            }
            count += page.len() as u64;
            for entry in page {
                assert!(entry.revision <= past.position().revision);
                state.insert((namespace, entry.key), entry.value);
            }
        }
        assert_eq!(past.count(namespace).unwrap(), count);
    }
    state
}

fn assert_past(past: &Past, state: &State, seed: u64) {
    let at = past.position().revision;
    assert!(content_of(past, false) == *state, "seed {seed}: at {at}");
    assert!(
        content_of(past, true) == *state,
        "seed {seed}: back at {at}"
    );
    for number in 0..KEYS {
        let key = key_of(&format!("key {number}"));
        let found = past.get(NS, &key).unwrap().map(|stored| stored.value);
        assert_eq!(
            found.as_ref(),
            state.get(&(NS, key)),
            "seed {seed}: at {at}"
        );
    }
}

/// The oldest revision that can be read, by what the store says to one that is older.
fn oldest(store: &Store) -> Revision {
    match store.at(Revision(0)) {
        Ok(_) => Revision(0),
        Err(StoreError::PastRetention { revision, oldest }) => {
            assert_eq!(revision, Revision(0));
            oldest
        }
        Err(other) => panic!("{other}"),
    }
}

/// Any revisions, also such as were never given, against the model; and those at both ends.
fn assert_revisions(store: &Store, model: &mut Model, random: &mut Random, seed: u64) {
    let newest = store.position().revision;
    let first = oldest(store);
    let mut revisions = vec![first, newest, Revision(first.0.saturating_sub(1))];
    for _ in 0..25 {
        let (at, _) = model.states[random.below(model.states.len() as u64) as usize];
        revisions.push(Revision(at.0 + random.below(2)).min(newest));
    }
    let lost = model.lost.iter().rev().filter(|at| **at <= newest);
    revisions.extend(lost.take(5));
    for revision in revisions {
        match store.at(revision) {
            Ok(past) => assert_past(&past, model.at(revision), seed),
            Err(StoreError::PastRetention {
                revision: named,
                oldest,
            }) => {
                assert_eq!(named, revision, "seed {seed}");
                assert!(revision < oldest, "seed {seed}: {revision} and {oldest}");
                model.refused_count += 1;
            }
            Err(other) => panic!("seed {seed}: {other}"),
        }
    }
}

/// All versions of a key, in pages.
fn all_versions(store: &Store, namespace: NamespaceId, key: &[u8], count_max: u32) -> Vec<Version> {
    let mut versions = Vec::new();
    let mut before = None;
    loop {
        let page = store.history(namespace, key, before, count_max).unwrap();
        assert!(page.versions.len() <= count_max as usize);
        versions.extend(page.versions);
        before = page.before;
        if before.is_none() {
            return versions;
        }
    }
}

fn assert_history(store: &Store, model: &Model, random: &mut Random, seed: u64) {
    for namespace in [NS, OTHER] {
        for _ in 0..8 {
            let key = key_of(&format!("key {}", random.below(KEYS + 1)));
            let count_max = [1, 3, 1000, 1000][random.below(4) as usize];
            let before = oldest(store);
            let listed = all_versions(store, namespace, &key, count_max);
            let first = oldest(store);
            let expected = model.versions(namespace, &key);
            for (version, (revision, value)) in listed.iter().zip(&expected) {
                assert_eq!(version.revision, *revision, "seed {seed}: {key:?}");
                assert_eq!(version.value, *value, "seed {seed}: {key:?}");
                assert_eq!(version.time_ms.is_none(), version.is_oldest_known);
            }
            assert!(listed.len() <= expected.len(), "seed {seed}: {listed:?}");
            let left = &expected[listed.len()..];
            assert!(
                left.iter().all(|(at, _)| *at <= first),
                "seed {seed}: versions since {first} are missing"
            );
            let is_known = listed.last().is_some_and(|last| last.is_oldest_known);
            let was_there = left.first().is_some_and(|(_, value)| value.is_some());
            // What is trimmed between two pages is missing from the second without a sign.
            let was_trimmed = first > before && count_max < 1000;
            assert!(
                !was_there || is_known || was_trimmed,
                "seed {seed}: it begins with nothing"
            );
        }
    }
}

/// No flusher comes by itself, so what a power cut takes does not depend on when it ran.
fn options_on_small(disk: &SimDisk) -> StoreOptions {
    StoreOptions {
        limits: StoreLimits {
            flush_delay_ms: 3_600_000,
            ..limits()
        },
        ..options_on(disk)
    }
}

fn open_both(directory: &std::path::Path, options: StoreOptions) -> Store {
    let store = open(directory, options);
    let (other, _) = store.create_namespace("other", Vec::new()).unwrap();
    assert_eq!(other, OTHER);
    store
}

/// Gives how many revisions were past the retention, and how many were lost.
fn run(seed: u64) -> (u64, usize) {
    let random = &mut Random::new(seed);
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let mut store = open_both(directory.path(), options_on_small(&disk));
    store.flush(store.position().revision).unwrap();
    let mut model = Model::new(&store);
    for _ in 0..6 {
        let ending = random.below(4);
        let bytes = 20_000 << random.below(4);
        if ending == 0 {
            disk.stop_after(random.below(600));
        }
        let went_well = work(&store, &mut model, random, bytes);
        if went_well && ending != 0 {
            assert_revisions(&store, &mut model, random, seed);
            assert_history(&store, &model, random, seed);
        }
        match ending {
            3 => store.close().unwrap(),
            _ => store.kill(),
        }
        drop(store);
        if ending < 2 {
            disk.cut_power(random);
        }
        store = Store::open(directory.path(), options_on_small(&disk)).unwrap();
        settle(&store, &mut model, seed);
        assert_revisions(&store, &mut model, random, seed);
        assert_history(&store, &model, random, seed);
    }
    (model.refused_count, model.lost.len())
}

/// Forgets what an unclean end took, and learns the revision of a write whose answer was lost.
fn settle(store: &Store, model: &mut Model, seed: u64) {
    let kept = store.position().revision;
    let present = store.at(kept).unwrap();
    let present = content_of(&present, false);
    if model.newest() == Revision(u64::MAX) {
        let (_, state) = model.states.pop().unwrap();
        if kept > model.newest() && present == state {
            model.states.push((kept, state));
        }
    }
    let lost = model.states.iter().map(|(at, _)| *at);
    model.lost.extend(lost.filter(|at| *at > kept));
    model.states.retain(|(at, _)| *at <= kept);
    assert!(present == *model.at(kept), "seed {seed}: what is kept");
}

#[test]
fn revision_that_is_kept_is_what_it_was_whatever_ends_the_store() {
    let (mut refused_count, mut lost_count) = (0, 0);
    for seed in 0..6 {
        println!("seed {seed}");
        let (refused, lost) = run(seed);
        refused_count += refused;
        lost_count += lost;
    }
    assert!(
        refused_count > 20,
        "{refused_count} were past the retention"
    );
    assert!(lost_count > 5, "{lost_count} were lost");
}

#[test]
fn revision_past_the_retention_is_refused_with_the_oldest_that_can_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let random = &mut Random::new(1);
    let store = open_both(directory.path(), options(IndexKind::Memory));
    let mut model = Model::new(&store);
    let early = store.at(store.position().revision).unwrap();
    work(&store, &mut model, random, 900 << 10);
    store.flush(store.position().revision).unwrap();
    wait_until("a trimmed log", || store.status().log_bytes < 200 << 10);
    let error = store.at(Revision(3)).unwrap_err();
    let StoreError::PastRetention { revision, oldest } = &error else {
        panic!("{error}");
    };
    assert_eq!((*revision, error.kind()), (Revision(3), ErrorKind::Invalid));
    let text = format!("revision 3 is no longer kept; the oldest that can be read is {oldest}");
    assert_eq!(error.to_string(), text);
    assert!(*oldest > Revision(3));
    assert_past(&store.at(*oldest).unwrap(), model.at(*oldest), 1);
    assert!(store.at(Revision(oldest.0 - 1)).is_err());
    // What was opened before it was trimmed can still be read.
    assert!(content_of(&early, false).is_empty());
    assert_history(&store, &model, random, 1);
}

#[test]
fn revision_that_is_not_there_yet_is_refused_with_the_newest() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), options(IndexKind::Memory));
    let newest = set(&store, "a", "1").ack.revision;
    let error = store.at(Revision(newest.0 + 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let next = newest.0 + 1;
    let text = format!("revision {next} is not there yet; the newest is {newest}");
    assert_eq!(error.to_string(), text);
    store.close().unwrap();
    assert!(matches!(store.at(newest), Err(StoreError::Closed)));
    let closed = store.history(NS, &key_of("a"), None, 1);
    assert!(matches!(closed, Err(StoreError::Closed)));
}

#[test]
fn past_that_is_held_stays_readable_and_holds_up_neither_index_nor_trimming() {
    let directory = tempfile::tempdir().unwrap();
    let random = &mut Random::new(2);
    let store = open_both(directory.path(), options(IndexKind::Sled));
    let mut model = Model::new(&store);
    work(&store, &mut model, random, 100 << 10);
    let held = store.at(store.position().revision).unwrap();
    let state = model.at(held.position().revision).clone();
    work(&store, &mut model, random, 900 << 10);
    store.flush(store.position().revision).unwrap();
    wait_until("a trimmed log", || {
        oldest(&store) > held.position().revision
    });
    wait_until("the index", || {
        store.marks().indexed == store.marks().durable
    });
    assert_past(&held, &state, 2);
}

#[test]
fn past_is_read_and_listed_while_writers_write_and_the_log_is_trimmed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_both(directory.path(), options(IndexKind::Memory));
    let model = Mutex::new(Model::new(&store));
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..2 {
            let (store, model, is_done) = (&store, &model, &is_done);
            scope.spawn(move || {
                let random = &mut Random::new(100 + reader);
                let mut read_count = 0;
                while !is_done.load(Ordering::Acquire) || read_count < 20 {
                    let (revision, state) = {
                        let model = model.lock().unwrap();
                        let newest = 30.min(model.states.len() as u64);
                        let back = 1 + random.below(newest) as usize;
                        model.states[model.states.len() - back].clone()
                    };
                    match store.at(revision) {
                        Ok(past) => assert_past(&past, &state, reader),
                        Err(StoreError::PastRetention { oldest, .. }) => {
                            assert!(oldest > revision);
                        }
                        Err(other) => panic!("{other}"),
                    }
                    let key = key_of(&format!("key {}", random.below(KEYS)));
                    let listed = all_versions(store, NS, &key, 5);
                    let known = model.lock().unwrap().versions(NS, &key);
                    let is_known = |version: &Version| {
                        known.contains(&(version.revision, version.value.clone()))
                            || version.revision > known.first().map_or(Revision(0), |one| one.0)
                    };
                    assert!(listed.iter().all(is_known), "{listed:?}");
                    assert!(listed.is_sorted_by(|a, b| a.revision > b.revision));
                    read_count += 1;
                }
            });
        }
        let random = &mut Random::new(3);
        for _ in 0..60 {
            // The model is held while one transaction is written, so that it is never behind.
            let mut model = model.lock().unwrap();
            assert!(work(&store, &mut model, random, 16_000));
        }
        is_done.store(true, Ordering::Release);
    });
}

#[test]
fn history_of_a_key_written_very_often_comes_in_pages_of_bounded_size() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), options_on(&SimDisk::new()));
    let text = "x".repeat(60 << 10);
    for number in 0..20 {
        let operation = put("large", &format!("{number}{text}"));
        execute(&store, operation, Durability::Buffered).unwrap();
    }
    let page = store.history(NS, &key_of("large"), None, 1000).unwrap();
    assert!(page.versions.len() < 6, "{}", page.versions.len());
    assert_eq!(page.before, page.versions.last().map(|last| last.revision));
    let all = all_versions(&store, NS, &key_of("large"), 1000);
    assert_eq!(all.len(), 20);
    assert!(all.is_sorted_by(|a, b| a.revision > b.revision));
}

#[test]
fn several_writes_of_a_key_in_one_transaction_are_one_version_and_its_removal_is_another() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), options_on(&SimDisk::new()));
    let changes = vec![change("a", Some("1")), change("a", Some("2"))];
    execute(&store, Operation::Batch { changes }, Durability::Sync).unwrap();
    let removal = Operation::Delete { key: key_of("a") };
    execute(&store, removal, Durability::Sync).unwrap();
    let page = store.history(NS, &key_of("a"), None, 10).unwrap();
    let values: Vec<_> = page.versions.iter().map(|one| one.value.clone()).collect();
    assert_eq!(values, [None, Some(value_of("2"))]);
    assert!(page.versions.iter().all(|one| one.time_ms.is_some()));
    assert_eq!(page.before, None);
    let never = store.history(NS, &key_of("b"), None, 10).unwrap();
    assert!(never.versions.is_empty() && never.before.is_none());
}
