//! What is salvaged of a damaged store: everything that the listed losses do not touch, and nothing
//! that never was.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "it is all tests"
)]

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use harness::random::Random;
use harness::work::*;
use harness::*;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{Durability, PeerKey, Position};
use objsync_proto::operation::Operation;
use objsync_proto::wire::Grant;
use objsync_store::{IndexKind, RepairReport, Store, StoreError, StoreLimits, StoreOptions};

fn try_repair(source: &Path, target: &Path) -> Result<RepairReport, StoreError> {
    objsync_store::repair(source, target, &["key"], &mut |_| ())
}

/// Repairs, and checks what holds of every repair.
fn repair(source: &Path, target: &Path) -> RepairReport {
    let before = seen(source);
    let report = try_repair(source, target).unwrap();
    assert!(seen(source) == before, "the original is as it was");
    assert!(report.check.is_intact(), "{:?}", report.check);
    assert_eq!(report.store, report.check.store);
    report
}

/// Every file with its bytes and times.
fn seen(directory: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        match path.is_dir() {
            true => {
                found.extend(seen(&path));
                found.insert(path, (Vec::new(), modified));
            }
            false => drop(found.insert(path.clone(), (std::fs::read(&path).unwrap(), modified))),
        }
    }
    found
}

fn tight_options() -> StoreOptions {
    StoreOptions {
        limits: StoreLimits {
            segment_bytes: 4 << 10,
            snapshot_log_bytes: 12 << 10,
            retention_bytes: 20 << 10,
            ..limits()
        },
        ..options(IndexKind::Memory)
    }
}

/// What a store was, over time.
struct Past {
    last: Model,
    /// Every value that a key ever had; none where it was not there.
    ever: BTreeMap<Bytes, BTreeSet<Option<Bytes>>>,
    position: Position,
}

/// A store with snapshots, footers and an open segment.
fn make_store(directory: &Path, seed: u64, is_closed: bool) -> Past {
    let mut random = Random::new(seed);
    let store = open(directory, tight_options());
    let mut last = Model::new();
    let mut ever: BTreeMap<Bytes, BTreeSet<Option<Bytes>>> = BTreeMap::new();
    for _ in 0..250 {
        let changes: Vec<_> = (0..1 + random.below(4))
            .map(|_| {
                let name = format!("key {:03}", random.below(120));
                let text = "x".repeat(random.below(150) as usize) + &random.next().to_string();
                change(&name, (random.below(4) > 0).then_some(text.as_str()))
            })
            .collect();
        for change in &changes {
            let values = ever.entry(change.key.clone()).or_default();
            values.insert(None);
            values.insert(change.value.clone());
            match &change.value {
                Some(value) => last.insert(change.key.clone(), value.clone()),
                None => last.remove(&change.key),
            };
        }
        let answer = execute(&store, Operation::Batch { changes }, Durability::Buffered).unwrap();
        assert!(answer.outcome.is_ok());
    }
    store.flush(store.position().revision).unwrap();
    wait_until("a snapshot", || store.status().snapshot_bytes > 0);
    let position = store.position();
    match is_closed {
        true => store.close().unwrap(),
        false => store.kill(),
    }
    Past {
        last,
        ever,
        position,
    }
}

/// Opens what was salvaged: each value is one that its key had, and the last one where no listed
/// loss touches it.
fn assert_honest(target: &Path, past: &Past, report: &RepairReport, seed: u64) {
    let store = Store::open(target, tight_options()).unwrap();
    let found = match store.namespace("default").unwrap() {
        Some(_) => content(&store),
        None => Model::new(),
    };
    for (key, value) in &found {
        let had = past
            .ever
            .get(key)
            .is_some_and(|all| all.contains(&Some(value.clone())));
        assert!(
            had,
            "seed {seed}: a value that {key:?} never had: {report:?}"
        );
    }
    if report.is_whole() {
        assert!(
            found == past.last,
            "seed {seed}: nothing is lost: {report:?}"
        );
    } else {
        let open = report.losses.iter().filter(|loss| !loss.is_made_good);
        let may_hit = |key: &Bytes| {
            open.clone()
                .any(|loss| !loss.are_keys_known || loss.keys.iter().any(|(_, hit)| hit == key))
        };
        for key in past.ever.keys().filter(|key| !may_hit(key)) {
            let (found, last) = (found.get(key), past.last.get(key));
            assert!(
                found == last,
                "seed {seed}: {key:?} is not listed: {report:?}"
            );
        }
    }
    // Who saw what is lost, or may have, is not on this history.
    if !report.is_whole() && report.losses.iter().any(|loss| loss.revisions.is_some()) {
        let first = report.losses.iter().filter(|loss| !loss.is_made_good);
        let first = first
            .filter_map(|loss| loss.revisions)
            .map(|(first, _)| first)
            .min();
        if first.is_some_and(|first| first <= past.position.revision) {
            assert!(
                !store.is_on_history(&past.position),
                "seed {seed}: {report:?}"
            );
        }
    }
    let before = store.position().revision;
    assert!(before >= report.revision || report.revision.0 == 0);
    store.create_namespace("default", Vec::new()).unwrap();
    let next = set(&store, "new", "1").ack.revision;
    assert!(next > past.position.revision, "no revision is used twice");
    store.close().unwrap();
}

#[test]
fn sound_store_is_salvaged_whole() {
    for is_closed in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let target = tempfile::tempdir().unwrap();
        let past = make_store(directory.path(), 3, is_closed);
        let report = repair(directory.path(), target.path());
        assert!(report.losses.is_empty(), "{report:?}");
        assert_eq!(report.entry_count, past.last.len() as u64);
        assert_honest(target.path(), &past, &report, 0);
        let store = Store::open(target.path(), tight_options()).unwrap();
        assert!(
            store.is_on_history(&past.position),
            "it is the same history"
        );
    }
}

/// Flips bytes and removes files, by seed; the salvage is honest about it.
#[test]
fn salvage_of_a_store_with_random_damage_is_honest() {
    let mut whole = 0;
    let mut cut = 0;
    let originals: Vec<_> = (0..4)
        .map(|seed| {
            let directory = tempfile::tempdir().unwrap();
            let past = make_store(directory.path(), seed, true);
            (directory, past)
        })
        .collect();
    for seed in 0..60_usize {
        let directory = tempfile::tempdir().unwrap();
        let target = tempfile::tempdir().unwrap();
        let (original, past) = &originals[seed % originals.len()];
        copy(original.path(), directory.path());
        let seed = seed as u64;
        let mut random = Random::new(1000 + seed);
        let mut all = files(directory.path(), "");
        all.extend(["FORMAT", "MANIFEST"].map(|name| directory.path().join(name)));
        for _ in 0..1 + random.below(3) {
            let path = all[random.below(all.len() as u64) as usize].clone();
            let Ok(mut bytes) = std::fs::read(&path) else {
                continue;
            };
            match random.below(5) {
                0 => std::fs::remove_file(&path).unwrap(),
                1 => {
                    bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
                    std::fs::write(&path, bytes).unwrap();
                }
                _ => {
                    for _ in 0..1 + random.below(3) {
                        if !bytes.is_empty() {
                            let place = random.below(bytes.len() as u64) as usize;
                            bytes[place] ^= 1 << random.below(8);
                        }
                    }
                    std::fs::write(&path, bytes).unwrap();
                }
            }
        }
        let report = repair(directory.path(), target.path());
        whole += u64::from(report.is_whole());
        cut += u64::from(!report.is_whole());
        assert_honest(target.path(), past, &report, seed);
    }
    assert!(whole > 5 && cut > 5, "{whole} were whole, {cut} were not");
}

#[test]
fn frames_behind_a_damaged_one_are_salvaged_and_its_keys_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let target = tempfile::tempdir().unwrap();
    let store = open(directory.path(), tight_options());
    for number in 0..9 {
        set(&store, &format!("k{number}"), "1");
    }
    store.close().unwrap();
    let path = files(directory.path(), ".seg").pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let key = key_of("k4");
    let place = bytes
        .windows(key.len())
        .position(|window| window == &key[..])
        .unwrap();
    bytes[place] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let opened = Store::open(directory.path(), tight_options())
        .map(drop)
        .unwrap_err();
    assert_eq!(
        opened.kind(),
        ErrorKind::Corrupt,
        "nothing is written on damage"
    );
    let report = repair(directory.path(), target.path());
    let [loss] = &report.losses[..] else {
        panic!("{report:?}");
    };
    assert!(loss.file == path && loss.start <= place as u64 && place as u64 <= loss.end);
    let (first, last) = loss.revisions.unwrap();
    assert_eq!(first, last, "one transaction is lost");
    assert!(!report.is_whole());
    let store = Store::open(target.path(), tight_options()).unwrap();
    for number in 0..9 {
        let expected = (number != 4).then_some("1");
        assert_eq!(
            get(&store, &format!("k{number}")).as_deref(),
            expected,
            "{number}"
        );
    }
}

#[test]
fn what_was_deleted_stays_deleted_when_the_snapshot_with_the_delete_is_hit_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let target = tempfile::tempdir().unwrap();
    let past = make_store(directory.path(), 7, true);
    // A block of the newest snapshot: the keys of others are known.
    let path = files(directory.path(), ".snap").pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let place = bytes.len() / 2;
    bytes[place] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let report = repair(directory.path(), target.path());
    assert!(
        report.losses.iter().any(|loss| loss.file == path),
        "{report:?}"
    );
    assert_honest(target.path(), &past, &report, 7);
}

#[test]
fn links_are_kept_unless_one_that_was_taken_back_might_return() {
    let grant = Grant {
        peer: PeerKey([7; 32]),
        scope: "dict/default".to_owned(),
        rights: vec!["read".to_owned()],
        expires_ms: None,
        label: "laptop".to_owned(),
    };
    for is_revoked in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let target = tempfile::tempdir().unwrap();
        let store = open(directory.path(), tight_options());
        store.grant(grant.clone()).unwrap();
        set(&store, "a", "1");
        if is_revoked {
            store.revoke(grant.peer).unwrap();
        }
        set(&store, "b", "2");
        store.close().unwrap();
        let path = files(directory.path(), ".seg").pop().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = |bytes: &[u8], wanted: &[u8]| {
            bytes
                .windows(wanted.len())
                .rposition(|window| window == wanted)
                .unwrap()
        };
        // The header of the frame that takes it back; else the body of one that is no grant's.
        let place = match is_revoked {
            true => at(&bytes, &grant.peer.0) - 60,
            false => at(&bytes, &key_of("b")),
        };
        bytes[place] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let report = repair(directory.path(), target.path());
        assert!(!report.is_whole());
        let store = Store::open(target.path(), tight_options()).unwrap();
        assert_eq!(get(&store, "a").as_deref(), Some("1"));
        assert_eq!(store.grants().len(), usize::from(!is_revoked), "{report:?}");
        let says_so = |loss: &objsync_store::Loss| loss.what.contains("links are not kept");
        assert_eq!(report.losses.iter().any(says_so), is_revoked);
    }
}

#[test]
fn dictionary_whose_name_is_lost_gets_one_and_no_other_gets_its_content() {
    let directory = tempfile::tempdir().unwrap();
    let target = tempfile::tempdir().unwrap();
    let store = open(directory.path(), tight_options());
    let (prices, _) = store.create_namespace("prices", Vec::new()).unwrap();
    let mut put_there = submission(put("apple", "1"), Durability::Sync);
    put_there.namespace = prices;
    store.execute(put_there).unwrap();
    store.close().unwrap();
    let path = files(directory.path(), ".seg").pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let name = key_of("prices");
    let place = bytes
        .windows(name.len())
        .position(|window| window == &name[..])
        .unwrap();
    bytes[place] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    repair(directory.path(), target.path());
    let store = Store::open(target.path(), tight_options()).unwrap();
    let named = store.namespace(&format!("salvaged-{}", prices.0)).unwrap();
    assert_eq!(named, Some(prices));
    assert!(store.get(prices, &key_of("apple")).unwrap().is_some());
    let (other, _) = store.create_namespace("prices", Vec::new()).unwrap();
    assert_ne!(other, prices);
}

#[test]
fn repair_refuses_what_is_open_or_not_there_and_a_target_with_something_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let aside = tempfile::tempdir().unwrap();
    let target = aside.path().join("new");
    let none = try_repair(&aside.path().join("none"), &target).unwrap_err();
    assert!(matches!(none, StoreError::NotFound { .. }), "{none}");
    let store = open(directory.path(), tight_options());
    let open = try_repair(directory.path(), &target).unwrap_err();
    assert!(matches!(open, StoreError::Locked { .. }), "{open}");
    store.close().unwrap();
    let inside = try_repair(directory.path(), &directory.path().join("new")).unwrap_err();
    assert_eq!(inside.kind(), ErrorKind::Invalid);
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("thesis.txt"), "x").unwrap();
    let full = try_repair(directory.path(), &target).unwrap_err();
    assert!(full.to_string().contains("is not empty"), "{full}");
    std::fs::write(directory.path().join("key"), "secret").unwrap();
    std::fs::remove_file(target.join("thesis.txt")).unwrap();
    repair(directory.path(), &target);
    assert_eq!(std::fs::read(target.join("key")).unwrap(), b"secret");
}
