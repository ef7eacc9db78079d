//! Damage is named, never hidden: any flipped byte of a closed store is found by a check.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "it is all tests"
)]

use std::path::{Path, PathBuf};

use objsync::{CheckReport, DiskObject, ErrorKind};
use objsync_proto::effect::Change;
use objsync_proto::ids::{Durability, NamespaceId};
use objsync_proto::operation::Operation;
use objsync_proto::stored::{self, Compression};
use objsync_store::{IndexKind, Store, StoreLimits, StoreOptions, Submission};

/// A closed store of a few KB with every kind of file: several segments, some with footers, a
/// snapshot, a key. Its index is left out: a check compares that entry by entry.
fn small_store(directory: &Path) {
    let options = StoreOptions {
        index: IndexKind::Memory,
        limits: StoreLimits {
            segment_bytes: 768,
            snapshot_log_bytes: 700,
            ..StoreLimits::default()
        },
        ..StoreOptions::default()
    };
    let store = Store::open(directory, options).unwrap();
    store.create_namespace("default", Vec::new()).unwrap();
    for number in 0..14 {
        let key = objsync::key::encode(&format!("key {}", number % 9).as_str().into()).unwrap();
        let payload = rmp_serde::to_vec(&"x".repeat(number * 3)).unwrap();
        let value = stored::seal(&payload, Compression::None).unwrap();
        let change = Change {
            key: key.into_bytes(),
            value: (number % 5 != 4).then_some(value),
        };
        let answer = store.execute(Submission {
            namespace: NamespaceId::DEFAULT,
            operation: Operation::Batch {
                changes: vec![change],
            },
            origin: None,
            durability: Some(Durability::Sync),
        });
        assert!(answer.unwrap().outcome.is_ok());
    }
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while store.status().snapshot_bytes == 0 {
        assert!(std::time::Instant::now() < end, "a snapshot does not come");
        std::thread::yield_now();
    }
    store.close().unwrap();
    // The owner of a real store makes the key.
    let object = DiskObject::open(directory).unwrap();
    object.set("last", &1).unwrap();
    object.close().unwrap();
    for name in ["index", "index.failed"] {
        let _ = std::fs::remove_dir_all(directory.join(name));
    }
}

/// All files but those of the index.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false if name.starts_with("index") => {}
            false => found.push(path),
        }
    }
    found.sort();
    found
}

fn check(directory: &Path) -> objsync::Result<CheckReport> {
    objsync::check(directory, |_| {})
}

#[test]
fn every_flipped_byte_of_every_file_of_a_closed_store_is_found_and_the_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    small_store(directory.path());
    assert!(check(directory.path()).unwrap().is_intact());
    let all = files(directory.path());
    for part in [
        ".seg", ".keys", ".snap", "FORMAT", "MANIFEST", "key", "key.pub", "LOCK",
    ] {
        let has = |path: &PathBuf| path.to_string_lossy().ends_with(part);
        assert!(all.iter().any(has), "no {part} in {all:?}");
    }
    let mut flips = 0;
    for path in all {
        let good = std::fs::read(&path).unwrap();
        for place in 0..good.len() {
            let mut bad = good.clone();
            // Never 0, and another bit each time.
            bad[place] ^= 1 << (place % 8);
            std::fs::write(&path, &bad).unwrap();
            match check(directory.path()) {
                Ok(report) => {
                    assert!(!report.is_intact());
                    let names_it = report.problems.iter().any(|problem| problem.file == path);
                    assert!(names_it, "{}, byte {place}: {report:?}", path.display());
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                    let name = path.file_name().unwrap().to_string_lossy().into_owned();
                    assert!(error.to_string().contains(&name), "byte {place}: {error}");
                }
            }
            flips += 1;
        }
        std::fs::write(&path, &good).unwrap();
    }
    assert!(flips > 3000, "{flips} bytes were flipped");
    assert!(check(directory.path()).unwrap().is_intact());
}

#[test]
fn every_byte_that_is_added_to_or_cut_from_a_file_is_found() {
    let directory = tempfile::tempdir().unwrap();
    small_store(directory.path());
    for path in files(directory.path()) {
        let good = std::fs::read(&path).unwrap();
        if path.ends_with("LOCK") {
            assert!(good.is_empty(), "nothing is left there to be flipped");
            continue;
        }
        for bad in [&good[..good.len() - 1], &[&good[..], b"x"].concat()] {
            std::fs::write(&path, bad).unwrap();
            let report = check(directory.path()).unwrap();
            let names_it = report.problems.iter().any(|problem| problem.file == path);
            assert!(names_it, "{}: {report:?}", path.display());
        }
        std::fs::write(&path, &good).unwrap();
    }
}

/// A good backup stays good when the store's key goes bad, and a bad one is not put back.
#[test]
fn damaged_key_is_neither_backed_up_nor_restored() {
    let directory = tempfile::tempdir().unwrap();
    let aside = tempfile::tempdir().unwrap();
    small_store(directory.path());
    let (first, later) = (aside.path().join("first"), aside.path().join("later"));
    objsync::backup(directory.path(), &first, |_| {}).unwrap();
    for name in ["key", "key.pub"] {
        let path = directory.path().join(name);
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[30] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        for target in [&first, &later] {
            let error = objsync::backup(directory.path(), target, |_| {}).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(error.to_string().contains(name), "{error}");
        }
        assert_eq!(std::fs::read(first.join(name)).unwrap(), good);
        std::fs::write(&path, &good).unwrap();
        std::fs::write(first.join(name), &bad).unwrap();
        let error = objsync::restore(&first, &later, |_| {}).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains(name), "{error}");
        assert!(!later.exists());
        std::fs::write(first.join(name), &good).unwrap();
    }
    objsync::restore(&first, &later, |_| {}).unwrap();
    assert!(check(&later).unwrap().is_intact());
}

/// The first bytes of a process are never there: reading them is an error of the system.
#[test]
fn key_that_the_disk_cannot_read_is_damage_and_keeps_no_value_from_being_saved() {
    let directory = tempfile::tempdir().unwrap();
    let target = tempfile::tempdir().unwrap();
    small_store(directory.path());
    let path = directory.path().join("key");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/proc/self/mem", &path).unwrap();
    let report = check(directory.path()).unwrap();
    let [problem] = &report.problems[..] else {
        panic!("{report:?}");
    };
    assert!(problem.file == path && !problem.is_cache, "{report:?}");
    assert!(problem.what.contains("cannot be read"), "{report:?}");
    let report = objsync::repair(directory.path(), target.path(), |_| {}).unwrap();
    assert!(report.losses.iter().any(|loss| loss.file == path));
    assert!(report.entry_count > 0 && !target.path().join("key").exists());
}
