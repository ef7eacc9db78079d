//! What simulated stores found: one story each, told without chance.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;

use harness::disk::{Call, Planned, SimDisk};
use harness::random::Random;
use harness::*;
use objsync_proto::ids::Durability;
use objsync_store::Store;

/// Seed 1290: the sync of the parent failed when the store's directory was made. The next owner
/// found the directory, made the store in it, and lost all of it when the power went.
#[test]
fn directory_whose_name_was_not_synced_is_synced_by_whoever_makes_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let path = directory.path().join("store");
    disk.plan(Planned::next(Call::SyncDirectory));
    assert!(Store::open(&path, options_on(&disk)).is_err());
    let store = open(&path, options_on(&disk));
    set(&store, "a", "1");
    store.close().unwrap();
    for seed in 0..8 {
        disk.cut_power(&mut Random::new(seed));
        let store = open(&path, options_on(&disk));
        assert_eq!(get(&store, "a").as_deref(), Some("1"));
    }
}

/// Seed 12: after an unclean end revisions go on far above the log's. A write that changed nothing
/// was answered with one of those between, which no reader would ever see.
#[test]
fn write_that_changes_nothing_after_an_unclean_end_is_answered_with_what_it_saw() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), options_on(&disk));
    let seen = set(&store, "a", "1").ack.revision;
    store.kill();
    let store = Store::open(directory.path(), options_on(&disk)).unwrap();
    let nothing = objsync_proto::operation::Operation::Delete { key: key_of("b") };
    let answer = execute(&store, nothing, Durability::Sync).unwrap();
    assert_eq!(answer.ack.revision, seen);
    assert_eq!(store.position().revision, seen);
}
