//! Snapshots, trimming and the index over many segments: whatever is closed, killed, cut, deleted
//! or damaged, the content is that of the model.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "it is all tests"
)]

mod harness;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::disk::SimDisk;
use harness::random::Random;
use harness::*;
use objsync_proto::ids::{Durability, Origin, PeerKey, Revision, Sequence};
use objsync_proto::operation::{Operation, Outcome};
use objsync_store::disk::RealDisk;
use objsync_store::{
    CheckReport, IndexKind, LogRead, Store, StoreLimits, StoreOptions, Submission, SubmissionOrigin,
};

const PEER: PeerKey = PeerKey([7; 32]);

fn limits() -> StoreLimits {
    StoreLimits {
        segment_bytes: 16 << 10,
        snapshot_log_bytes: 40 << 10,
        retention_bytes: 64 << 10,
        recent_bytes_max: 64 << 10,
        ..StoreLimits::default()
    }
}

fn options(kind: IndexKind) -> StoreOptions {
    StoreOptions {
        index: kind,
        limits: limits(),
        disk: Arc::new(RealDisk),
        ..StoreOptions::default()
    }
}

/// Waits until `done`, and fails after half a minute.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "{what} does not come");
        std::thread::yield_now();
    }
}

type Model = BTreeMap<Bytes, Bytes>;

/// Writes about `bytes` of random changes, which the model follows.
fn write(store: &Store, model: &mut Model, random: &mut Random, bytes: usize) {
    let mut written = 0;
    while written < bytes {
        let changes: Vec<_> = (0..1 + random.below(8))
            .map(|_| {
                let name = format!("key {}", random.below(500));
                let text = "x".repeat(random.below(400) as usize);
                let is_put = random.below(4) > 0;
                change(&name, is_put.then_some(text.as_str()))
            })
            .collect();
        for change in &changes {
            written += 100 + change.value.as_ref().map_or(0, Bytes::len);
            match &change.value {
                Some(value) => model.insert(change.key.clone(), value.clone()),
                None => model.remove(&change.key),
            };
        }
        let level = if random.below(20) == 0 {
            Durability::Sync
        } else {
            Durability::Buffered
        };
        let answer = execute(store, Operation::Batch { changes }, level).unwrap();
        assert!(answer.outcome.is_ok(), "{answer:?}");
    }
}

fn assert_is(store: &Store, model: &Model) {
    assert!(content(store) == *model, "the content is the model's");
    assert_eq!(store.count(NS).unwrap(), model.len() as u64);
}

fn check(directory: &Path) -> CheckReport {
    objsync_store::check(directory, &mut |_| ()).unwrap()
}

fn files(directory: &Path, suffix: &str) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = ["log", "snapshots"]
        .iter()
        .filter_map(|name| std::fs::read_dir(directory.join(name)).ok())
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(suffix))
        .collect();
    files.sort();
    files
}

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
    store.close().unwrap();
    drop(store);
    let other = aside.path().join("other");
    copy(directory.path(), &other);
    // The copy goes its own way, and its index comes back into the first store.
    let store = Store::open(&other, options(IndexKind::Sled)).unwrap();
    write(&store, &mut model.clone(), &mut Random::new(6), 100 << 10);
    wait_until("the index", || {
        store.marks().indexed == store.marks().durable
    });
    store.close().unwrap();
    drop(store);
    std::fs::remove_dir_all(directory.path().join("index")).unwrap();
    copy(&other.join("index"), &directory.path().join("index"));
    let store = Store::open(directory.path(), options(IndexKind::Sled)).unwrap();
    assert_is(&store, &model);
    assert!(directory.path().join("index.failed").exists());
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
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

/// A closed store with several segments, footers, a snapshot and an index.
fn closed_store(directory: &Path) -> Model {
    let mut random = Random::new(9);
    let mut model = Model::new();
    let store = open(directory, options(IndexKind::Sled));
    write(&store, &mut model, &mut random, 150 << 10);
    store.flush(store.position().revision).unwrap();
    wait_until("a snapshot", || store.status().snapshot_bytes > 0);
    wait_until("the index", || {
        store.marks().indexed == store.marks().durable
    });
    store.close().unwrap();
    model
}

#[test]
fn check_finds_any_damaged_byte_and_says_where() {
    let directory = tempfile::tempdir().unwrap();
    closed_store(directory.path());
    let sound = check(directory.path());
    assert!(sound.problems.is_empty(), "{sound:?}");
    let mut random = Random::new(3);
    let mut all = files(directory.path(), ".seg");
    let last_segment = all.pop().unwrap();
    all.extend(files(directory.path(), ".snap"));
    all.extend(files(directory.path(), ".keys"));
    all.extend(["FORMAT", "MANIFEST"].map(|name| directory.path().join(name)));
    assert!(all.len() > 5, "{all:?}");
    for path in all {
        let good = std::fs::read(&path).unwrap();
        let is_segment = path.extension().is_some_and(|extension| extension == "seg");
        for _ in 0..12 {
            let mut bad = good.clone();
            // What lies behind the end of a closed segment counts for nothing.
            let end = bad.iter().rposition(|byte| *byte != 0).unwrap();
            let place = random.below(if is_segment {
                end as u64 - 8
            } else {
                bad.len() as u64
            });
            bad[place as usize] ^= 1 << random.below(8);
            std::fs::write(&path, &bad).unwrap();
            let Ok(report) = objsync_store::check(directory.path(), &mut |_| ()) else {
                continue; // Says that it is of a later format.
            };
            let names_it = report.problems.iter().any(|problem| problem.file == path);
            assert!(names_it, "{}: byte {place}: {report:?}", path.display());
        }
        std::fs::write(&path, &good).unwrap();
    }
    std::fs::remove_file(&last_segment).unwrap();
    let report = check(directory.path());
    assert!(
        report
            .problems
            .iter()
            .any(|problem| problem.file == last_segment)
    );
    assert!(!report.is_sound());
}

#[test]
fn check_names_the_revisions_and_keys_that_damage_hits() {
    let directory = tempfile::tempdir().unwrap();
    closed_store(directory.path());
    let footer = files(directory.path(), ".keys").pop().unwrap();
    let segment = footer.with_extension("seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[8000] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let report = check(directory.path());
    let problem = report
        .problems
        .iter()
        .find(|problem| problem.file == segment)
        .unwrap();
    let (first, last) = problem.revisions.unwrap();
    assert!(first <= last && problem.offset <= 8000);
    assert!(problem.key_count > 0 && !problem.keys.is_empty());
}

#[test]
fn check_finds_an_index_that_differs_and_calls_it_a_cache() {
    let directory = tempfile::tempdir().unwrap();
    let aside = tempfile::tempdir().unwrap();
    closed_store(directory.path());
    // An index with other entries under the same mark.
    let mark = sled_copy(&directory.path().join("index"), &aside.path().join("index"));
    assert!(mark > 10, "{mark} entries");
    std::fs::remove_dir_all(directory.path().join("index")).unwrap();
    copy(&aside.path().join("index"), &directory.path().join("index"));
    let report = check(directory.path());
    assert!(report.is_sound(), "the next open may make it again");
    let problem = report
        .problems
        .iter()
        .find(|problem| problem.key_count == 1)
        .unwrap_or_else(|| panic!("{report:?}"));
    assert!(problem.is_cache && problem.file.ends_with("index"));
}

/// Copies an index but for one entry; tells how many it copied.
fn sled_copy(from: &Path, to: &Path) -> usize {
    use objsync_store::index::{Index, IndexBatch, IndexChange, SledIndex};
    let (from, to) = (SledIndex::open(from).unwrap(), SledIndex::open(to).unwrap());
    let mut batch = IndexBatch {
        changes: Vec::new(),
        counts: from.counts().unwrap(),
        mark: from.mark().unwrap(),
    };
    for (namespace, _) in batch.counts.clone() {
        from.scan(
            namespace,
            &objsync_proto::wire::KeyRange::default(),
            false,
            &mut |key, entry| {
                let entry = Some(entry);
                batch.changes.push(IndexChange {
                    namespace,
                    key,
                    entry,
                });
                std::ops::ControlFlow::Continue(())
            },
        )
        .unwrap();
    }
    let place = batch
        .changes
        .iter()
        .position(|one| one.namespace == NS)
        .unwrap();
    batch.changes.remove(place);
    to.apply(&batch).unwrap();
    batch.changes.len()
}

#[test]
fn check_refuses_a_store_that_is_open_and_one_that_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let missing = objsync_store::check(&directory.path().join("none"), &mut |_| ());
    assert!(matches!(
        missing,
        Err(objsync_store::StoreError::NotFound { .. })
    ));
    let store = open(directory.path(), options(IndexKind::Memory));
    let locked = objsync_store::check(directory.path(), &mut |_| ());
    assert!(matches!(
        locked,
        Err(objsync_store::StoreError::Locked { .. })
    ));
    drop(store);
}

#[test]
fn check_tells_how_far_it_is() {
    let directory = tempfile::tempdir().unwrap();
    closed_store(directory.path());
    let mut last = 0;
    let report = objsync_store::check(directory.path(), &mut |progress| {
        assert!(progress.done_bytes >= last && progress.done_bytes <= progress.total_bytes);
        last = progress.done_bytes;
    })
    .unwrap();
    assert_eq!(last, report.bytes);
}

#[test]
fn damaged_snapshot_refuses_to_open_and_is_named() {
    let directory = tempfile::tempdir().unwrap();
    closed_store(directory.path());
    std::fs::remove_dir_all(directory.path().join("index")).unwrap();
    let path = files(directory.path(), ".snap").pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = Store::open(directory.path(), options(IndexKind::Sled))
        .map(drop)
        .unwrap_err();
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
        wait_until("the index", || {
            store.marks().indexed == store.marks().durable
        });
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
