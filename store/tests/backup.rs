//! Backups: as of one revision while writes go on, whole whenever they are cut short, and restored
//! as a store with a history of its own.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "it is all tests"
)]

mod harness;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::disk::SimDisk;
use harness::random::Random;
use harness::work::*;
use harness::*;
use objsync_proto::effect::Change;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{Durability, Revision};
use objsync_proto::operation::Operation;
use objsync_store::disk::RealDisk;
use objsync_store::lock::Lock;
use objsync_store::{BackupReport, IndexKind, Store, StoreError, StoreLimits, StoreOptions};

fn backup(source: &Path, target: &Path) -> Result<BackupReport, StoreError> {
    objsync_store::backup(&RealDisk, source, target, &mut |_| ())
}

fn restore(source: &Path, target: &Path) -> Result<BackupReport, StoreError> {
    objsync_store::restore(&RealDisk, source, target, &mut |_| ())
}

/// Segments and snapshots come and go while a test looks.
fn busy_options() -> StoreOptions {
    StoreOptions {
        limits: StoreLimits {
            segment_bytes: 8 << 10,
            snapshot_log_bytes: 20 << 10,
            retention_bytes: 24 << 10,
            ..limits()
        },
        ..options(IndexKind::Memory)
    }
}

/// What each revision changed.
type History = Mutex<BTreeMap<Revision, Vec<Change>>>;

fn model_at(history: &History, revision: Revision) -> Model {
    let mut model = Model::new();
    for change in history
        .lock()
        .unwrap()
        .range(..=revision)
        .flat_map(|(_, all)| all)
    {
        match &change.value {
            Some(value) => model.insert(change.key.clone(), value.clone()),
            None => model.remove(&change.key),
        };
    }
    model
}

fn write_one(store: &Store, history: &History, random: &mut Random) {
    let mut changes: Vec<_> = (0..1 + random.below(5))
        .map(|_| {
            let text = "x".repeat(random.below(200) as usize);
            let is_put = random.below(4) > 0;
            let name = format!("key {}", random.below(200));
            change(&name, is_put.then_some(text.as_str()))
        })
        .collect();
    // One that changes something for sure has a revision of its own.
    let text = random.next().to_string();
    changes.push(change(&format!("mark {}", random.below(9)), Some(&text)));
    let level = match random.chance(3) {
        true => Durability::Sync,
        false => Durability::Buffered,
    };
    let operation = Operation::Batch {
        changes: changes.clone(),
    };
    let answer = execute(store, operation, level).unwrap();
    assert!(answer.outcome.is_ok(), "{answer:?}");
    history.lock().unwrap().insert(answer.ack.revision, changes);
}

#[test]
fn backup_under_load_is_the_store_at_the_revision_it_reports() {
    let directory = tempfile::tempdir().unwrap();
    let aside = tempfile::tempdir().unwrap();
    let target = aside.path().join("backup");
    let history = History::default();
    let store = open(directory.path(), busy_options());
    let is_done = AtomicBool::new(false);
    let mut reports = Vec::new();
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (store, history, is_done) = (&store, &history, &is_done);
            scope.spawn(move || {
                let mut random = Random::new(seed);
                while !is_done.load(Ordering::Acquire) {
                    write_one(store, history, &mut random);
                }
            });
        }
        // Also when a backup fails: the others would write for ever.
        let end = Done(&is_done);
        for round in 0..6 {
            let before = store.marks().durable;
            let report = backup(directory.path(), &target).unwrap();
            assert!(report.revision >= before, "what was durable is in it");
            restore(&target, &aside.path().join(round.to_string())).unwrap();
            reports.push(report);
            let next = Revision(report_end(&reports) + 50);
            wait_until("more writes", || store.marks().committed > next);
        }
        drop(end);
    });
    for (round, report) in reports.iter().enumerate() {
        let restored = aside.path().join(round.to_string());
        assert!(check(&restored).is_intact());
        let restored = Store::open(&restored, busy_options()).unwrap();
        assert_is(&restored, &model_at(&history, report.revision));
        restored.close().unwrap();
    }
    assert!(store.status().snapshot_bytes > 0, "files came and went");
    store.close().unwrap();
}

struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn report_end(reports: &[BackupReport]) -> u64 {
    reports.last().unwrap().revision.0
}

#[test]
fn second_backup_copies_what_is_new_and_removes_what_is_no_longer_named() {
    let directory = tempfile::tempdir().unwrap();
    let aside = tempfile::tempdir().unwrap();
    let target = aside.path().join("backup");
    let mut model = Model::new();
    let mut random = Random::new(4);
    let store = open(directory.path(), busy_options());
    for round in 0..5 {
        write(&store, &mut model, &mut random, 30 << 10);
        store.flush(store.position().revision).unwrap();
        let first = backup(directory.path(), &target).unwrap();
        assert_eq!(first.revision, store.position().revision);
        assert_eq!(first.copied_bytes + first.reused_bytes, first.bytes);
        let again = backup(directory.path(), &target).unwrap();
        assert!(again.copied_bytes <= first.copied_bytes);
        set(&store, "one", &round.to_string());
        model.insert(key_of("one"), value_of(&round.to_string()));
        let third = backup(directory.path(), &target).unwrap();
        assert!(third.copied_bytes < third.bytes / 2, "{third:?}");
        let restored = aside.path().join(round.to_string());
        restore(&target, &restored).unwrap();
        let restored = Store::open(&restored, busy_options()).unwrap();
        assert_is(&restored, &model);
        restored.close().unwrap();
    }
    store.close().unwrap();
    // Nothing is left over: the backup of a closed store has the closed store's files.
    backup(directory.path(), &target).unwrap();
    for suffix in [".seg", ".snap", ".tmp"] {
        let names = |directory: &Path| -> Vec<_> {
            let files = files(directory, suffix).into_iter();
            files
                .map(|path| path.file_name().unwrap().to_owned())
                .collect()
        };
        assert_eq!(names(&target), names(directory.path()), "{suffix}");
    }
    let quiet = backup(directory.path(), &target).unwrap();
    assert_eq!(quiet.copied_bytes, 0, "{quiet:?}");
    assert!(check(&target).is_intact());
}

#[test]
fn restored_store_is_never_taken_for_the_one_it_came_from() {
    let directory = tempfile::tempdir().unwrap();
    let aside = tempfile::tempdir().unwrap();
    let (target, restored) = (aside.path().join("backup"), aside.path().join("restored"));
    let store = open(directory.path(), busy_options());
    set(&store, "a", "1");
    let shared = store.position();
    backup(directory.path(), &target).unwrap();
    set(&store, "a", "2");
    let later = store.position();
    let restored_report = restore(&target, &restored).unwrap();
    assert_eq!(restored_report.revision, shared.revision);
    let other = Store::open(&restored, busy_options()).unwrap();
    assert_eq!(get(&other, "a").as_deref(), Some("1"));
    assert!(other.is_on_history(&shared), "both have this");
    assert!(!other.is_on_history(&later), "only the original has this");
    set(&other, "a", "3");
    assert!(!store.is_on_history(&other.position()));
    assert_ne!(other.position().epoch.name, store.position().epoch.name);
    // And so is a backup of one no place for a backup of the other.
    backup(directory.path(), &target).unwrap();
    let error = backup(&restored, &target).unwrap_err();
    assert!(error.to_string().contains("another history"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn killed_store_and_its_torn_tail_are_backed_up_up_to_the_last_whole_frame() {
    let directory = tempfile::tempdir().unwrap();
    let aside = tempfile::tempdir().unwrap();
    let target = aside.path().join("backup");
    let store = open(directory.path(), busy_options());
    set(&store, "a", "1");
    execute(&store, put("b", "2"), Durability::Buffered).unwrap();
    store.kill();
    let last = files(directory.path(), ".seg").pop().unwrap();
    let mut torn = std::fs::read(&last).unwrap();
    let end = torn.iter().rposition(|byte| *byte != 0).unwrap();
    torn[end + 100..end + 120].fill(7);
    std::fs::write(&last, torn).unwrap();
    backup(directory.path(), &target).unwrap();
    // The next owner closes that segment earlier, and goes on in another.
    let store = Store::open(directory.path(), busy_options()).unwrap();
    set(&store, "c", "3");
    backup(directory.path(), &target).unwrap();
    store.close().unwrap();
    backup(directory.path(), &target).unwrap();
    assert!(check(&target).is_intact());
    let restored = aside.path().join("restored");
    restore(&target, &restored).unwrap();
    let restored = Store::open(&restored, busy_options()).unwrap();
    for (name, text) in [("a", "1"), ("b", "2"), ("c", "3")] {
        assert_eq!(get(&restored, name).as_deref(), Some(text));
    }
}

#[test]
fn directory_that_is_no_backup_of_the_store_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let aside = tempfile::tempdir().unwrap();
    let store = open(directory.path(), busy_options());
    set(&store, "a", "1");
    let refused = |target: &Path, why: &str| {
        let error = backup(directory.path(), target).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    };
    let foreign = aside.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("thesis.txt"), "x").unwrap();
    refused(&foreign, "thesis.txt");
    assert!(!foreign.join("LOCK").exists());
    std::fs::write(foreign.join("LOCK"), "mine").unwrap();
    refused(&foreign, "thesis.txt");
    assert_eq!(std::fs::read(foreign.join("LOCK")).unwrap(), b"mine");
    // A first backup that was cut short at once is none yet.
    let begun = aside.path().join("begun");
    std::fs::create_dir(&begun).unwrap();
    std::fs::write(begun.join("BACKUP.tmp"), "objsync ba").unwrap();
    backup(directory.path(), &begun).unwrap();
    refused(&directory.path().join("inside"), "lies in the directory");
    assert!(!directory.path().join("inside").exists());
    // Another store's backup.
    let other = aside.path().join("other");
    open(&other, busy_options()).close().unwrap();
    let others = aside.path().join("others");
    backup(&other, &others).unwrap();
    refused(&others, "of store");
    // A backup that somebody opened and wrote to.
    let opened = aside.path().join("opened");
    backup(directory.path(), &opened).unwrap();
    let as_store = Store::open(&opened, busy_options()).unwrap();
    assert_eq!(get(&as_store, "a").as_deref(), Some("1"));
    let busy = backup(directory.path(), &opened).unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Unavailable, "{busy}");
    as_store.close().unwrap();
    refused(&opened, "opened as a store");
    // A store is no place to restore to.
    let good = aside.path().join("good");
    backup(directory.path(), &good).unwrap();
    let error = restore(&good, &other).unwrap_err();
    assert!(error.to_string().contains("is not empty"), "{error}");
    let error = restore(&other, &aside.path().join("new")).unwrap_err();
    assert!(error.to_string().contains("is no backup"), "{error}");
}

#[test]
fn two_backups_at_once_into_one_directory_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let target = tempfile::tempdir().unwrap();
    open(directory.path(), busy_options()).close().unwrap();
    let held = Lock::take(target.path(), false).unwrap();
    let error = backup(directory.path(), target.path()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    drop(held);
    backup(directory.path(), target.path()).unwrap();
}

#[test]
fn damage_is_not_copied_over_a_good_backup() {
    let directory = tempfile::tempdir().unwrap();
    let aside = tempfile::tempdir().unwrap();
    let target = aside.path().join("backup");
    let model = closed_store(directory.path());
    backup(directory.path(), &target).unwrap();
    let store = Store::open(directory.path(), options(IndexKind::Sled)).unwrap();
    let mut later = model.clone();
    write(&store, &mut later, &mut Random::new(8), 40 << 10);
    store.close().unwrap();
    let mut segments = files(directory.path(), ".seg");
    let path = segments.remove(segments.len() - 2);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[400] ^= 4;
    std::fs::write(&path, bytes).unwrap();
    let error = backup(directory.path(), &target).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    let restored = aside.path().join("restored");
    restore(&target, &restored).unwrap();
    assert_is(&Store::open(&restored, busy_options()).unwrap(), &model);
}

#[test]
fn key_is_kept_for_its_user_alone_and_damage_of_a_backup_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let aside = tempfile::tempdir().unwrap();
    let (target, restored) = (aside.path().join("backup"), aside.path().join("restored"));
    open(directory.path(), busy_options()).close().unwrap();
    std::fs::write(directory.path().join("key"), "secret").unwrap();
    backup(directory.path(), &target).unwrap();
    restore(&target, &restored).unwrap();
    for copy in [&target, &restored] {
        let key = copy.join("key");
        assert_eq!(std::fs::read(&key).unwrap(), b"secret");
        assert_eq!(
            std::fs::metadata(&key).unwrap().permissions().mode() & 0o7777,
            0o600
        );
        let mode = std::fs::metadata(copy).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
    }
    assert!(!restored.join("BACKUP").exists());
    let record = target.join("BACKUP");
    let mut bytes = std::fs::read(&record).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&record, bytes).unwrap();
    assert!(
        check(&target)
            .problems
            .iter()
            .any(|problem| problem.file == record)
    );
    assert_eq!(
        backup(directory.path(), &target).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
}

/// Cuts the power after each number of calls, in the first backup and in the next: what is there
/// is nothing or the first, and then the first or the next, whole.
#[test]
fn power_that_goes_during_a_backup_leaves_the_one_before_or_the_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let target = tempfile::tempdir().unwrap();
    let limits = StoreLimits {
        segment_bytes: 4 << 10,
        snapshot_log_bytes: 10 << 10,
        retention_bytes: 8 << 10,
        ..limits()
    };
    let options_of = |disk: &SimDisk| StoreOptions {
        limits,
        ..options_on(disk)
    };
    let disk = SimDisk::new();
    let mut random = Random::new(21);
    let mut model = Model::new();
    let mut states: Vec<(Model, SimDisk)> = Vec::new();
    let store = open(directory.path(), options_of(&disk));
    for round in 0..2 {
        write(&store, &mut model, &mut random, 20 << 10);
        store.flush(store.position().revision).unwrap();
        if round == 1 {
            wait_until("a snapshot", || store.status().snapshot_bytes > 0);
        }
        states.push((model.clone(), disk.copy()));
    }
    store.kill();
    let run =
        |disk: &SimDisk| objsync_store::backup(disk, directory.path(), target.path(), &mut |_| ());
    let (first_model, first_disk) = &states[0];
    let mut finished = 0;
    for calls in (0..).step_by(3) {
        let disk = first_disk.copy();
        disk.stop_after(calls);
        let made = run(&disk).is_ok();
        disk.cut_power(&mut random);
        match Store::open(
            target.path(),
            StoreOptions {
                create: false,
                ..options_of(&disk)
            },
        ) {
            Ok(found) => assert!(content(&found) == *first_model, "after {calls} calls"),
            Err(error) => assert!(!made, "after {calls} calls: {error}"),
        }
        finished += u64::from(made);
        if finished > 3 {
            break;
        }
    }
    // The next one, over the first.
    let (next_model, next_disk) = &states[1];
    run(first_disk).unwrap();
    next_disk.take_files(first_disk, target.path());
    let (mut old, mut new) = (0, 0);
    for calls in (0..).step_by(3) {
        let disk = next_disk.copy();
        disk.stop_after(calls);
        let made = run(&disk).is_ok();
        disk.cut_power(&mut random);
        let found = Store::open(target.path(), options_of(&disk))
            .unwrap_or_else(|error| panic!("after {calls} calls: {error}"));
        let found = content(&found);
        let is_new = found == *next_model;
        assert!(
            is_new || (found == *first_model && !made),
            "after {calls} calls"
        );
        old += u64::from(!is_new);
        new += u64::from(is_new);
        if new > 3 && made {
            break;
        }
    }
    assert!(old > 20, "{old} cuts left the first");
}

/// What is cut short is finished by the next run, without a copy of what is there.
#[test]
fn backup_that_was_cut_short_is_finished_by_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let target = tempfile::tempdir().unwrap();
    let original = SimDisk::new();
    let store = open(directory.path(), options_on(&original));
    let mut model = Model::new();
    write(&store, &mut model, &mut Random::new(2), 200 << 10);
    store.close().unwrap();
    let mut has_used_again = false;
    for calls in (20..).step_by(20) {
        let disk = original.copy();
        let run = || objsync_store::backup(&disk, directory.path(), target.path(), &mut |_| ());
        disk.stop_after(calls);
        if run().is_ok() {
            break;
        }
        disk.stop_after(u64::MAX);
        let report = run().unwrap();
        has_used_again |= report.reused_bytes > 0;
        let restored = tempfile::tempdir().unwrap();
        let put = objsync_store::restore(&disk, target.path(), restored.path(), &mut |_| ());
        assert_eq!(put.unwrap().revision, report.revision);
        let store = Store::open(restored.path(), options_on(&disk)).unwrap();
        assert_is(&store, &model);
    }
    assert!(has_used_again);
}
