//! How buffered writes reach the disk, by themselves and when asked.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;

use std::path::Path;
use std::time::{Duration, Instant};

use harness::disk::SimDisk;
use harness::*;
use objsync_proto::ids::{Durability, Origin, PeerKey, Revision, Sequence};
use objsync_store::{Store, StoreLimits, StoreOptions, Submission, SubmissionOrigin};

/// No flusher comes by itself within the time of a test.
fn options_without_flusher(disk: &SimDisk) -> StoreOptions {
    let options = options_on(disk);
    StoreOptions {
        limits: StoreLimits {
            flush_delay_ms: 3_600_000,
            ..options.limits
        },
        ..options
    }
}

fn write_buffered(store: &Store, name: &str, text: &str) -> Revision {
    let answer = execute(store, put(name, text), Durability::Buffered).unwrap();
    assert!(answer.outcome.is_ok());
    answer.ack.revision
}

#[test]
fn buffered_write_is_durable_soon_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), options_on(&SimDisk::new()));
    let revision = write_buffered(&store, "a", "1");
    let deadline = Instant::now() + Duration::from_secs(10);
    while store.marks().durable < revision {
        assert!(Instant::now() < deadline, "{:?}", store.marks());
        std::thread::yield_now();
    }
}

#[test]
fn buffered_write_is_committed_before_it_is_durable_and_a_synced_one_after() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), options_without_flusher(&SimDisk::new()));
    let before = store.marks();
    let revision = write_buffered(&store, "a", "1");
    let marks = store.marks();
    assert_eq!((marks.appended, marks.committed), (revision, revision));
    assert_eq!(marks.durable, before.durable);
    assert!(marks.indexed <= marks.durable);
    let revision = set(&store, "b", "2").ack.revision;
    assert_eq!(store.marks().durable, revision, "one sync for both");
}

#[test]
fn flush_makes_buffered_writes_durable() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), options_without_flusher(&disk));
    let revision = write_buffered(&store, "a", "1");
    let syncs = disk.sync_count();
    assert_eq!(store.flush(revision).unwrap().revision, revision);
    assert_eq!(disk.sync_count(), syncs + 1);
    store.flush(revision).unwrap();
    assert_eq!(disk.sync_count(), syncs + 1, "nothing was left to sync");
}

#[test]
fn writes_wait_for_the_disk_when_too_much_is_unsynced() {
    let directory = tempfile::tempdir().unwrap();
    let options = options_without_flusher(&SimDisk::new());
    let limits = StoreLimits {
        unsynced_bytes_max: 10_000,
        segment_bytes: 64 << 20,
        ..options.limits
    };
    let store = open(directory.path(), StoreOptions { limits, ..options });
    let text = "x".repeat(1000);
    let mut last_durable = store.marks().durable;
    let mut sync_count = 0;
    for number in 0..100 {
        write_buffered(&store, &format!("k{number}"), &text);
        let marks = store.marks();
        assert!(marks.appended.0 - marks.durable.0 <= 10, "{marks:?}");
        sync_count += u32::from(marks.durable > last_durable);
        last_durable = marks.durable;
    }
    assert!((8..=20).contains(&sync_count), "{sync_count} syncs");
}

#[test]
fn lone_synced_write_costs_one_write_and_one_sync() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), options_without_flusher(&disk));
    set(&store, "a", "1");
    let before = (disk.write_count(), disk.sync_count());
    set(&store, "a", "2");
    assert_eq!(
        (disk.write_count(), disk.sync_count()),
        (before.0 + 1, before.1 + 1)
    );
}

#[test]
fn change_of_one_key_writes_as_little_in_a_store_of_100_mb_as_in_an_empty_one() {
    let log_bytes_of_a_change = |store: &Store| {
        let before = store.status().log_bytes;
        set(store, "small", "changed");
        store.status().log_bytes - before
    };
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), StoreOptions::default());
    let in_empty = log_bytes_of_a_change(&store);
    let large = "x".repeat(1 << 20);
    for number in 0..100 {
        execute(
            &store,
            put(&format!("large {number}"), &large),
            Durability::Buffered,
        )
        .unwrap();
    }
    assert_eq!(log_bytes_of_a_change(&store), in_empty);
    assert!(in_empty < 200, "{in_empty} bytes");
}

/// A client that asked for `buffered` and lost the answer may ask for more the second time.
#[test]
fn repeat_of_a_buffered_write_that_asks_for_sync_is_answered_after_one() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), options_without_flusher(&SimDisk::new()));
    let peer = PeerKey([7; 32]);
    let session = store.open_session(peer).unwrap();
    store.flush(store.position().revision).unwrap();
    let asked = |level| Submission {
        origin: Some(SubmissionOrigin {
            origin: Origin {
                session,
                sequence: Sequence(1),
            },
            floor: Sequence(1),
            peer,
        }),
        ..submission(put("a", "1"), level)
    };
    let first = store.execute(asked(Durability::Buffered)).unwrap();
    assert!(store.marks().durable < first.ack.revision);
    let again = store.execute(asked(Durability::Sync)).unwrap();
    assert_eq!(again.ack.revision, first.ack.revision);
    assert_eq!(store.marks().durable, first.ack.revision);
}

#[test]
fn queued_writes_share_a_sync() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), options_without_flusher(&disk));
    let (send, receive) = std::sync::mpsc::channel();
    let before = disk.sync_count();
    for number in 0..1000 {
        let send = send.clone();
        let done = Box::new(move |result: Result<_, _>| send.send(result.is_ok()).unwrap());
        store.submit(
            submission(put(&format!("k{number}"), "1"), Durability::Sync),
            done,
        );
    }
    assert!(receive.iter().take(1000).all(|ok| ok));
    let syncs = disk.sync_count() - before;
    assert!(syncs < 500, "{syncs} syncs for 1000 writes");
}

#[test]
fn promises_of_the_documentation_name_tests_that_exist() {
    let page = include_str!("../../docs/durability.md");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let names = page.split('`').filter_map(|word| word.split_once("::"));
    let mut count = 0;
    for (file, name) in names {
        // `folder/file` lies in another crate's tests.
        let folder = match file.contains('/') {
            true => tests.join("../.."),
            false => tests.clone(),
        };
        let source = [format!("{file}.rs"), format!("{file}/main.rs")]
            .into_iter()
            .find_map(|path| std::fs::read_to_string(folder.join(path)).ok());
        let source = source.unwrap_or_else(|| panic!("docs/durability.md names {file}"));
        let is_there = ["fn ", "def "]
            .iter()
            .any(|word| source.contains(&format!("{word}{name}(")));
        assert!(is_there, "no test {file}::{name}");
        count += 1;
    }
    assert!(count >= 20, "{count} names found");
}
