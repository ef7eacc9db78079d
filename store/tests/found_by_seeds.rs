//! What simulated stores found: one story each, told without chance.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;

use std::sync::Arc;

use harness::disk::{Call, Planned, SimDisk};
use harness::random::Random;
use harness::*;
use objsync_proto::ids::Durability;
use objsync_store::{IndexKind, Step, Store, StoreError, StoreLimits, StoreOptions};

/// Nothing happens by itself.
fn stepped(disk: &SimDisk) -> StoreOptions {
    StoreOptions {
        index: IndexKind::Memory,
        threads: false,
        limits: StoreLimits {
            segment_bytes: 4 << 10,
            snapshot_log_bytes: 8 << 10,
            retention_bytes: 4 << 10,
            recent_bytes_max: 32 << 10,
            ..StoreLimits::default()
        },
        disk: Arc::new(disk.clone()),
        ..StoreOptions::default()
    }
}

/// Seed 2886: a reader was pinned while a stand-in answered; then a snapshot was made behind it and
/// the log trimmed, and the stand-in could move nowhere any more.
#[test]
fn stand_in_goes_on_when_the_log_was_trimmed_beyond_a_reader() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), stepped(&SimDisk::new()));
    let reader = store.reader();
    let text = "x".repeat(400);
    for count in 0..60 {
        set(
            &store,
            &format!("k{}", count % 7),
            &format!("{count}{text}"),
        );
        store.step(Step::Keep).unwrap();
        store.step(Step::Index).unwrap();
    }
    assert_eq!(get(&store, "k3"), Some(format!("59{text}")));
    let expired = reader.get(NS, &key_of("k3")).unwrap_err();
    assert!(matches!(expired, StoreError::SnapshotExpired { .. }));
}

/// Two old segments were removed, and the sync of their directory failed between. A power cut then
/// brought the older one back alone, and the gap behind it was taken for damage.
#[test]
fn segments_that_a_power_cut_brings_back_behind_the_trimmed_end_are_no_gap() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), stepped(&disk));
    let text = "x".repeat(400);
    let first = disk.files(".seg").remove(0);
    let mut content = None;
    for count in 0..60 {
        set(
            &store,
            &format!("k{}", count % 7),
            &format!("{count}{text}"),
        );
        content = disk.read(&first).or(content);
        store.step(Step::Keep).unwrap();
    }
    assert!(disk.read(&first).is_none(), "it is trimmed");
    store.kill();
    disk.write(&first, content.unwrap());
    let store = Store::open(directory.path(), stepped(&disk)).unwrap();
    assert_eq!(get(&store, "k3"), Some(format!("59{text}")));
    assert!(disk.read(&first).is_none(), "it is removed again");
}

/// A write failed that had arrived whole, and its header was taken back in memory only. A power cut
/// then brought it back, though its caller had been told that nothing was written.
#[test]
fn write_that_was_taken_back_does_not_come_back_with_a_power_cut() {
    for seed in 0..60 {
        let directory = tempfile::tempdir().unwrap();
        let disk = SimDisk::seeded(seed);
        let store = open(directory.path(), stepped(&disk));
        set(&store, "a", "kept");
        disk.plan(Planned::next(Call::Write));
        let failed = execute(&store, put("a", "taken back"), Durability::Buffered).unwrap_err();
        assert!(matches!(failed, StoreError::Io { .. }), "{failed}");
        store.kill();
        disk.cut_power(&mut Random::new(seed));
        let store = Store::open(directory.path(), stepped(&disk)).unwrap();
        assert_eq!(get(&store, "a").as_deref(), Some("kept"), "seed {seed}");
    }
}

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

/// Seed 16709: the name of FORMAT was not synced, and the next owner went on behind it. A power cut
/// left the directory of the log without it, which is no store.
#[test]
fn store_whose_first_file_was_not_synced_is_made_by_the_next_owner() {
    for calls in 0..30 {
        let directory = tempfile::tempdir().unwrap();
        let disk = SimDisk::new();
        disk.plan(Planned {
            after: 1,
            ..Planned::next(Call::SyncDirectory)
        });
        assert!(Store::open(directory.path(), options_on(&disk)).is_err());
        disk.stop_after(calls);
        let opened = Store::open(directory.path(), options_on(&disk));
        opened.map(|store| store.kill()).unwrap_or_default();
        for seed in 0..4 {
            let copy = disk.copy_with_synced();
            copy.cut_power(&mut Random::new(seed));
            let store = Store::open(directory.path(), options_on(&copy));
            store.unwrap_or_else(|error| panic!("after {calls} calls: {error}"));
        }
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

/// Seed 2 of the whole stack: where nothing happens by itself, a session was asked for while a write
/// was queued. It waited for somebody to decide the write, which nobody did.
#[test]
fn call_that_waits_decides_what_is_queued_before_it_where_nobody_else_would() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), stepped(&SimDisk::new()));
    let (told, answered) = std::sync::mpsc::channel();
    let done = Box::new(move |result: Result<_, _>| told.send(result.is_ok()).unwrap());
    store.submit(submission(put("a", "1"), Durability::Sync), done);
    store
        .open_session(objsync_proto::ids::PeerKey([1; 32]))
        .unwrap();
    assert_eq!(answered.try_recv(), Ok(true), "the write came first");
    assert_eq!(get(&store, "a"), Some(String::from("1")));
}
