//! Disks that fail: what is answered, and what is found afterwards.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;

use harness::disk::{Call, Planned, SimDisk};
use harness::*;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{Durability, Revision};
use objsync_store::disk::{Disk, OpenMode};
use objsync_store::{LogRead, Store, StoreError};

#[test]
fn failed_sync_leaves_the_outcome_open_and_refuses_every_later_write() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), options_on(&disk));
    set(&store, "a", "1");
    disk.fail_syncs(true);
    let failed = execute(&store, put("a", "2"), Durability::Sync).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::OutcomeUnknown);
    // The disk is well again: that proves nothing about what it forgot.
    disk.fail_syncs(false);
    for level in [Durability::Sync, Durability::Buffered] {
        let refused = execute(&store, put("a", "3"), level).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Closed);
    }
    assert_eq!(
        store.flush(store.position().revision).unwrap_err().kind(),
        ErrorKind::Closed
    );
    assert_eq!(get(&store, "a").as_deref(), Some("1"), "reads go on");
    assert!(store.status().poisoned.is_some());
    let second = Store::open(directory.path(), options_on(&disk)).map(drop);
    assert!(
        matches!(second, Err(StoreError::Locked { .. })),
        "the owner keeps the lock"
    );
    drop(store);
    let store = Store::open(directory.path(), options_on(&disk)).unwrap();
    let found = get(&store, "a").unwrap();
    assert!(found == "1" || found == "2", "{found}");
    set(&store, "a", "4");
}

#[test]
fn log_is_read_up_to_what_is_committed_whatever_a_failed_sync_left_behind_it() {
    for seed in 0..32 {
        let directory = tempfile::tempdir().unwrap();
        let disk = SimDisk::seeded(seed);
        let store = open(directory.path(), options_on(&disk));
        set(&store, "a", "1");
        set(&store, "a", "2");
        let before = logged(&store);
        assert!(before.len() >= 2);
        disk.plan(Planned::next(Call::Sync));
        execute(&store, put("a", &"3".repeat(3_000)), Durability::Sync).unwrap_err();
        assert_eq!(logged(&store), before, "seed {seed}");
    }
}

fn logged(store: &Store) -> Vec<Revision> {
    match store.read_log(Revision(0), usize::MAX).unwrap() {
        LogRead::Transactions(read) => read.iter().map(|published| published.revision).collect(),
        LogRead::Trimmed => panic!("nothing was trimmed"),
    }
}

#[test]
fn failed_sync_in_the_background_refuses_writes_too() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), options_on(&disk));
    disk.fail_syncs(true);
    execute(&store, put("a", "1"), Durability::Buffered).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while store.status().poisoned.is_none() {
        assert!(
            std::time::Instant::now() < deadline,
            "the flusher never came"
        );
        std::thread::yield_now();
    }
    let refused = execute(&store, put("a", "2"), Durability::Buffered).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
    assert_eq!(get(&store, "a").as_deref(), Some("1"));
}

#[test]
fn full_disk_answers_full_and_the_store_goes_on_once_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), options_on(&disk));
    disk.limit(Some(disk.bytes() + (600 << 10)));
    let large = "x".repeat(10_000);
    let mut written = 0;
    let refused = loop {
        match execute(
            &store,
            put(&format!("k{written}"), &large),
            Durability::Sync,
        ) {
            Ok(answer) => assert!(answer.outcome.is_ok()),
            Err(error) => break error,
        }
        written += 1;
        assert!(written < 1000, "the disk is never full");
    };
    assert_eq!(refused.kind(), ErrorKind::Full);
    assert_eq!(
        get(&store, &format!("k{written}")),
        None,
        "nothing of it was done"
    );
    assert_eq!(store.count(NS).unwrap(), written);
    disk.limit(None);
    set(&store, "after", "1");
    store.kill();
    let store = Store::open(directory.path(), options_on(&disk)).unwrap();
    assert_eq!(store.count(NS).unwrap(), written + 1);
    assert_eq!(get(&store, &format!("k{written}")), None);
}

#[test]
fn disk_that_the_log_itself_has_filled_opens_again_and_takes_a_small_write() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), options_on(&disk));
    set(&store, "a", "1");
    // What lies behind the last frame is room that only the log can use.
    disk.limit(Some(disk.bytes()));
    store.kill();
    drop(store);
    let store = Store::open(directory.path(), options_on(&disk)).unwrap();
    assert_eq!(get(&store, "a").as_deref(), Some("1"));
    set(&store, "b", "2");
    store.kill();
    drop(store);
    let store = Store::open(directory.path(), options_on(&disk)).unwrap();
    assert_eq!(get(&store, "b").as_deref(), Some("2"));
}

#[test]
fn step_that_does_not_fit_leaves_its_room_to_others() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), options_on(&disk));
    set(&store, "a", "1");
    disk.limit(Some(disk.bytes() + 10_000));
    let large = "x".repeat(60_000);
    let mut refused = false;
    for number in 0..3 {
        let put = put(&format!("k{number}"), &large);
        refused |= execute(&store, put, Durability::Sync).is_err();
    }
    assert!(refused, "there was no room");
    let file = directory.path().join("beside");
    let room = disk.open(&file, OpenMode::Create).unwrap();
    room.write_all_at(&[1; 4_000], 0).unwrap();
}

#[test]
fn write_that_fails_half_way_is_taken_back_or_refuses_later_ones() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), options_on(&disk));
    set(&store, "a", "1");
    disk.fail_writes(true);
    let failed = execute(&store, put("a", "2"), Durability::Sync).unwrap_err();
    assert_eq!(
        failed.kind(),
        ErrorKind::OutcomeUnknown,
        "it could not be taken back"
    );
    disk.fail_writes(false);
    let refused = execute(&store, put("a", "3"), Durability::Sync).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
    drop(store);
    let store = Store::open(directory.path(), options_on(&disk)).unwrap();
    assert_eq!(get(&store, "a").as_deref(), Some("1"));
}

#[test]
fn segment_whose_name_may_not_last_refuses_later_writes() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), options_on(&disk));
    disk.fail_dir_syncs(true);
    let large = "x".repeat(10_000);
    let mut acknowledged = 0;
    let failed = loop {
        match execute(
            &store,
            put(&format!("k{acknowledged}"), &large),
            Durability::Sync,
        ) {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(failed.kind(), ErrorKind::OutcomeUnknown);
    disk.fail_dir_syncs(false);
    drop(store);
    let store = Store::open(directory.path(), options_on(&disk)).unwrap();
    assert_eq!(store.count(NS).unwrap(), acknowledged);
}

#[test]
fn writer_that_panics_leaves_nobody_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), options_on(&disk));
    set(&store, "a", "1");
    disk.panic_writes(true);
    for expected in [ErrorKind::OutcomeUnknown, ErrorKind::Closed] {
        let (send, receive) = std::sync::mpsc::channel();
        let done = Box::new(move |result| send.send(result).unwrap());
        store.submit(submission(put("a", "2"), Durability::Sync), done);
        let answer: Result<objsync_store::Answer, StoreError> = receive.recv().unwrap();
        assert_eq!(answer.unwrap_err().kind(), expected);
    }
    let refused = execute(&store, put("a", "3"), Durability::Sync).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
    assert_eq!(get(&store, "a").as_deref(), Some("1"));
}
