//! Snapshots, trimming and the index over many segments: whatever is closed, killed, cut, deleted
//! or damaged, the content is that of the model.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "it is all tests"
)]

mod harness;

use std::sync::Arc;

use harness::disk::SimDisk;
use harness::random::Random;
use harness::work::*;
use harness::*;
use objsync_proto::ids::{Durability, Origin, PeerKey, Revision, Sequence};
use objsync_proto::operation::{Operation, Outcome};
use objsync_store::{
    IndexKind, LogRead, Store, StoreLimits, StoreOptions, Submission, SubmissionOrigin,
};

const PEER: PeerKey = PeerKey([7; 32]);

#[test]
fn log_is_cut_off_behind_snapshots_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = Random::new(1);
    let mut model = Model::new();
    let store = open(directory.path(), options(IndexKind::Sled));
    write(&store, &mut model, &mut random, 600 << 10);
    store.flush(store.position().revision).unwrap();
    wait_until("a trimmed log", || store.status().log_bytes < 200 << 10);
    assert!(store.status().snapshot_bytes > 0);
    assert!(matches!(
        store.read_log(Revision(1), 1000).unwrap(),
        LogRead::Trimmed
    ));
    assert_is(&store, &model);
    store.close().unwrap();
    let report = check(directory.path());
    assert!(report.problems.is_empty(), "{report:?}");
    assert!(report.was_closed && report.index_entry_count >= model.len() as u64);
    let store = Store::open(directory.path(), options(IndexKind::Sled)).unwrap();
    assert_is(&store, &model);
}

#[test]
fn closed_killed_or_robbed_of_its_index_a_store_comes_back_whole() {
    for seed in 0..4 {
        println!("seed {seed}");
        let directory = tempfile::tempdir().unwrap();
        let mut random = Random::new(seed);
        let mut model = Model::new();
        let mut store = open(directory.path(), options(IndexKind::Sled));
        for _ in 0..8 {
            let bytes = 20 << 10 << random.below(4);
            write(&store, &mut model, &mut random, bytes);
            assert_is(&store, &model);
            match random.below(3) {
                0 => store.kill(),
                _ => store.close().unwrap(),
            }
            drop(store);
            if random.below(3) == 0 {
                std::fs::remove_dir_all(directory.path().join("index")).unwrap();
            }
            if random.below(3) == 0 {
                for footer in files(directory.path(), ".keys") {
                    std::fs::remove_file(footer).unwrap();
                }
            }
            let report = check(directory.path());
            assert!(report.is_sound(), "{report:?}");
            store = Store::open(directory.path(), options(IndexKind::Sled)).unwrap();
            assert_is(&store, &model);
        }
    }
}

#[test]
fn index_of_an_older_copy_of_the_store_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let aside = tempfile::tempdir().unwrap();
    let mut random = Random::new(5);
    let mut model = Model::new();
    let store = open(directory.path(), options(IndexKind::Sled));
    write(&store, &mut model, &mut random, 30 << 10);
    wait_for_index(&store);
    store.close().unwrap();
    drop(store);
    let other = aside.path().join("other");
    copy(directory.path(), &other);
    // The copy goes its own way, and its index comes back into the first store.
    let store = Store::open(&other, options(IndexKind::Sled)).unwrap();
    write(&store, &mut model.clone(), &mut Random::new(6), 100 << 10);
    wait_for_index(&store);
    store.close().unwrap();
    drop(store);
    std::fs::remove_dir_all(directory.path().join("index")).unwrap();
    copy(&other.join("index"), &directory.path().join("index"));
    let store = Store::open(directory.path(), options(IndexKind::Sled)).unwrap();
    assert_is(&store, &model);
    wait_for_index(&store);
    assert_is(&store, &model);
    assert!(directory.path().join("index.failed").exists());
}

#[test]
fn repeat_of_an_operation_gets_its_first_answer_from_a_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = Random::new(2);
    let mut model = Model::new();
    let store = open(directory.path(), options(IndexKind::Memory));
    let session = store.open_session(PEER).unwrap();
    let increment = || Submission {
        namespace: NS,
        operation: Operation::Increment {
            key: key_of("counter"),
            by: 1,
        },
        origin: Some(SubmissionOrigin {
            origin: Origin {
                session,
                sequence: Sequence(1),
            },
            floor: Sequence(1),
            peer: PEER,
        }),
        durability: None,
    };
    let first = store.execute(increment()).unwrap();
    assert_eq!(first.outcome, Ok(Outcome::Number(1)));
    write(&store, &mut model, &mut random, 600 << 10);
    store.flush(store.position().revision).unwrap();
    wait_until("a trimmed log", || store.status().log_bytes < 200 << 10);
    store.kill();
    drop(store);
    let store = Store::open(directory.path(), options(IndexKind::Memory)).unwrap();
    let again = store.execute(increment()).unwrap();
    assert_eq!(again.outcome, first.outcome);
    assert_eq!(again.ack.revision, first.ack.revision);
}

#[test]
fn power_cut_while_snapshots_are_made_and_the_log_is_trimmed_loses_nothing_synced() {
    for seed in 0..25 {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let disk = SimDisk::new();
        let options = || StoreOptions {
            index: IndexKind::Memory,
            limits: limits(),
            disk: Arc::new(disk.clone()),
            ..StoreOptions::default()
        };
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path(), options());
        let mut model = Model::new();
        write(&store, &mut model, &mut random, 60 << 10);
        store.flush(store.position().revision).unwrap();
        disk.stop_after(random.below(400));
        // Synced one by one, until the power goes: the last one may or may not be there.
        let mut unsure = None;
        for number in 0..2000 {
            let name = format!("key {}", random.below(500));
            let text = format!("{number} {}", "y".repeat(300));
            let (key, value) = (key_of(&name), value_of(&text));
            match execute(&store, put(&name, &text), Durability::Sync) {
                Ok(_) => {
                    model.insert(key, value);
                }
                Err(_) => {
                    unsure = Some((key, value));
                    break;
                }
            }
        }
        let (key, value) = unsure.expect("the power went");
        store.kill();
        drop(store);
        disk.cut_power(&mut random);
        let store = Store::open(directory.path(), options()).unwrap();
        let found = content(&store);
        if found.get(&key) == Some(&value) {
            model.insert(key, value);
        }
        assert!(found == model, "seed {seed}");
        write(&store, &mut model, &mut random, 100 << 10);
        assert_is(&store, &model);
    }
}

#[test]
fn damaged_snapshot_is_named_by_whoever_reads_there() {
    let directory = tempfile::tempdir().unwrap();
    let model = closed_store(directory.path());
    std::fs::remove_dir_all(directory.path().join("index")).unwrap();
    let path = files(directory.path(), ".snap").pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let store = Store::open(directory.path(), options(IndexKind::Sled)).unwrap();
    let mut refused = 0;
    for (key, value) in &model {
        match store.get(NS, key) {
            Ok(found) => assert_eq!(found.map(|stored| stored.value).as_ref(), Some(value)),
            Err(error) => {
                assert!(error.to_string().contains(".snap"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
    let error = store.count(NS).unwrap_err();
    assert!(error.to_string().contains(".snap"), "{error}");
}

#[test]
fn files_of_a_snapshot_that_was_not_finished_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    closed_store(directory.path());
    let waste = [
        "snapshots/00000000000000ff.snap",
        "snapshots/1.snap.tmp",
        "log/00000000000000ff.keys",
    ];
    for name in waste {
        std::fs::write(directory.path().join(name), "half").unwrap();
    }
    let store = Store::open(directory.path(), options(IndexKind::Sled)).unwrap();
    for name in waste {
        assert!(!directory.path().join(name).exists(), "{name}");
    }
    store.close().unwrap();
}

#[test]
fn reopening_at_once_finds_the_index_free() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), options(IndexKind::Sled));
    wait_for_index(&store);
    store.close().unwrap();
    for _ in 0..10 {
        let store = Store::open(directory.path(), options(IndexKind::Sled)).unwrap();
        // The old handle is still there when the next owner comes.
        store.close().unwrap();
        let next = Store::open(directory.path(), options(IndexKind::Sled)).unwrap();
        next.close().unwrap();
        drop(store);
    }
    assert!(
        !directory.path().join("index.failed").exists(),
        "the index was never made again"
    );
}

/// The writer puts a key and removes the one put ten transactions before, in one transaction: at
/// each revision there are ten keys that follow each other. The index moves all the while.
#[test]
fn readers_see_whole_transactions_while_the_index_follows() {
    for kind in [IndexKind::Memory, IndexKind::Sled] {
        let directory = tempfile::tempdir().unwrap();
        let store = open(
            directory.path(),
            StoreOptions {
                limits: StoreLimits {
                    recent_bytes_max: 100_000,
                    ..limits()
                },
                ..options(kind)
            },
        );
        let step = |number: u64| {
            let mut changes = vec![change(&format!("{number:06}"), Some("value"))];
            if let Some(old) = number.checked_sub(10) {
                changes.push(change(&format!("{old:06}"), None));
            }
            execute(&store, Operation::Batch { changes }, Durability::Buffered).unwrap();
        };
        (0..10).for_each(step);
        let is_done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_done.load(std::sync::atomic::Ordering::SeqCst) {
                        read_ten(&store);
                    }
                });
            }
            (10..4000).for_each(step);
            is_done.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        read_ten(&store);
        wait_for_index(&store);
        read_ten(&store);
        store.close().unwrap();
    }
}

fn read_ten(store: &Store) {
    let reader = store.reader();
    let mut range = objsync_proto::wire::KeyRange::default();
    let mut keys = Vec::new();
    loop {
        let page = match reader.page(NS, &range, false, 50) {
            Ok(page) => page,
            Err(objsync_store::StoreError::SnapshotExpired { .. }) => return,
            Err(error) => panic!("{error}"),
        };
        let Some(last) = page.last() else { break };
        range.start = objsync_proto::key::successor(&last.key);
        keys.extend(page.into_iter().map(|entry| entry.key));
    }
    let first = (0..4000)
        .find(|number| keys[0] == key_of(&format!("{number:06}")))
        .unwrap();
    let expected: Vec<_> = (first..first + 10)
        .map(|n| key_of(&format!("{n:06}")))
        .collect();
    assert_eq!(keys, expected, "at revision {}", reader.position().revision);
    assert_eq!(store.count(NS).unwrap(), 10);
}

/// What a killed process leaves: the files as they are, the index in the middle of its work.
#[test]
fn store_that_was_never_closed_comes_back_whole_from_its_files() {
    let directory = tempfile::tempdir().unwrap();
    let copies = tempfile::tempdir().unwrap();
    let mut random = Random::new(11);
    let mut model = Model::new();
    let store = open(directory.path(), options(IndexKind::Sled));
    for round in 0..8 {
        write(&store, &mut model, &mut random, 60 << 10);
        let copied = copies.path().join(round.to_string());
        copy_settled(directory.path(), &copied);
        let left = Store::open(&copied, options(IndexKind::Sled)).unwrap();
        assert_is(&left, &model);
        left.close().unwrap();
        let report = check(&copied);
        assert!(report.problems.is_empty(), "{report:?}");
    }
}

/// What a snapshot covers is history that was promised, and not needed to open.
#[test]
fn oldest_segment_that_is_missing_is_named_though_a_snapshot_covers_it() {
    let directory = tempfile::tempdir().unwrap();
    closed_store(directory.path());
    assert!(!files(directory.path(), ".snap").is_empty());
    let oldest = files(directory.path(), ".seg").remove(0);
    std::fs::remove_file(&oldest).unwrap();
    let opened = Store::open(directory.path(), options(IndexKind::Sled)).map(drop);
    let error = opened.unwrap_err().to_string();
    assert!(error.contains("it is missing"), "{error}");
    assert!(error.contains(oldest.to_str().unwrap()), "{error}");
}
