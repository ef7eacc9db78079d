//! Packs do not grow without bound: what only the log keeps of large values counts to the retention,
//! and goes with it, whatever ends the store in between.
//!
//! Method: a value of some KiB that is written again and again takes a few hundred bytes of log each
//! time, so that the log by itself never comes to its bounds; time is moved by hand.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "it is all tests"
)]

mod harness;

use std::sync::Arc;

use harness::clock::MovedClock;
use harness::disk::SimDisk;
use harness::large::*;
use harness::random::Random;
use harness::*;
use objsync_proto::ids::{Durability, Revision};
use objsync_proto::operation::Operation;
use objsync_store::{Step, Store, StoreError, StoreLimits, StoreOptions};

/// Bytes of a chunk, and of a value.
const CHUNK: usize = 2 << 10;
const VALUE: usize = 60 << 10;

fn limits() -> StoreLimits {
    StoreLimits {
        segment_bytes: 128 << 10,
        retention_bytes: 512 << 10,
        snapshot_log_bytes: 128 << 10,
        pack_bytes: 64 << 10,
        ..StoreLimits::default()
    }
}

fn options(disk: &SimDisk, clock: &Arc<MovedClock>) -> StoreOptions {
    StoreOptions {
        limits: limits(),
        threads: false,
        clock: clock.clone(),
        ..options_on(disk)
    }
}

fn pack_bytes(disk: &SimDisk) -> usize {
    let packs = disk.files(".pack");
    packs
        .iter()
        .map(|path| disk.read(path).unwrap().len())
        .sum()
}

/// The retention, a segment and what waits for a snapshot may be named; of a pack half is alive.
fn bound() -> usize {
    let limits = limits();
    let named = limits.retention_bytes + 2 * limits.segment_bytes + limits.snapshot_log_bytes;
    2 * (named as usize + 2 * VALUE) + limits.pack_bytes as usize
}

#[derive(Debug, Clone, Copy)]
enum End {
    None,
    Closed,
    Killed,
}

/// Writes one key anew 80 times, with such an end after each. Gives the most that packs took, and
/// what the log took at the end.
fn most_taken(end: End) -> (usize, u64) {
    let (directory, disk) = (tempfile::tempdir().unwrap(), SimDisk::new());
    let clock = Arc::new(MovedClock::new());
    let random = &mut Random::new(1);
    let mut store = open(directory.path(), options(&disk, &clock));
    let mut most = 0;
    for _ in 0..80 {
        let content = noise_of(random, VALUE);
        set_large(&store, "k", &content, CHUNK);
        store.step(Step::Keep).unwrap();
        store.step(Step::Keep).unwrap();
        assert_eq!(get_large(&store, NS, "k").unwrap(), content);
        most = most.max(pack_bytes(&disk));
        match end {
            End::None => continue,
            End::Closed => store.close().unwrap(),
            End::Killed => store.kill(),
        }
        drop(store);
        store = Store::open(directory.path(), options(&disk, &clock)).unwrap();
    }
    check_past(&store);
    (most, store.status().log_bytes)
}

/// Every revision that is said to be kept is whole, and the versions within the retention are.
fn check_past(store: &Store) {
    let page = store.history(NS, &key_of("k"), None, 100).unwrap();
    let count = page.versions.len();
    assert!(count >= 4, "{count} versions are 240 KiB");
    for version in &page.versions {
        read_large(store, version.value.as_ref().unwrap()).unwrap();
    }
    let listed = page.versions.iter().map(|version| version.revision.0);
    let oldest_listed = listed.clone().min().unwrap();
    let earlier = (1..60).map(|step| oldest_listed.saturating_sub(step));
    for revision in listed.chain(earlier) {
        match store.at(Revision(revision)) {
            Ok(past) => {
                if let Some(stored) = past.get(NS, &key_of("k")).unwrap() {
                    read_large(store, &stored.value).unwrap();
                }
            }
            Err(StoreError::PastRetention { oldest, .. }) => assert!(revision < oldest.0),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn value_that_is_written_again_and_again_takes_no_more_than_the_retention() {
    let (most, log_bytes) = most_taken(End::None);
    assert!(
        most <= bound(),
        "{most} bytes of packs, {} allowed",
        bound()
    );
    assert!(log_bytes < limits().segment_bytes, "{log_bytes} of log");
}

#[test]
fn what_packs_hold_is_counted_on_by_the_next_owner() {
    for end in [End::Closed, End::Killed] {
        let (most, _) = most_taken(end);
        assert!(most <= bound(), "{end:?}: {most} bytes of packs");
    }
}

/// 1 GiB is not reached, and nothing more is written.
#[test]
fn value_that_was_removed_goes_when_its_age_is_past_the_retention() {
    let (directory, disk) = (tempfile::tempdir().unwrap(), SimDisk::new());
    let clock = Arc::new(MovedClock::new());
    let options = StoreOptions {
        limits: StoreLimits {
            pack_bytes: 64 << 10,
            ..StoreLimits::default()
        },
        ..options(&disk, &clock)
    };
    let store = open(directory.path(), options.clone());
    let content = noise_of(&mut Random::new(2), 4 * VALUE);
    set_large(&store, "k", &content, CHUNK);
    let before = store.position().revision;
    let delete = Operation::Delete { key: key_of("k") };
    execute(&store, delete, Durability::Sync).unwrap();
    let hour = options.limits.retention_ms + 1;
    let keep = || {
        for _ in 0..3 {
            store.step(Step::Keep).unwrap();
        }
    };
    clock.pass(hour - 2);
    keep();
    let past = store.at(before).unwrap().get(NS, &key_of("k")).unwrap();
    assert_eq!(
        read_large(&store, &past.unwrap().value).unwrap(),
        content,
        "within the retention"
    );
    for _ in 0..2 {
        clock.pass(hour);
        keep();
    }
    assert_eq!(
        pack_bytes(&disk),
        0,
        "it was as long ago as the retention is"
    );
    assert!(store.at(before).is_err());
    // Nothing is left to do, however long nothing happens.
    let log = store.status().log_bytes;
    for _ in 0..5 {
        clock.pass(hour);
        keep();
    }
    assert_eq!(store.status().log_bytes, log);
}
