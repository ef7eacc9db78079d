//! What a repair may not say of a log with parts missing: nobody knows what those held.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "it is all tests"
)]

mod harness;

use std::path::Path;

use harness::work::*;
use harness::*;
use objsync_proto::ids::PeerKey;
use objsync_proto::wire::Grant;
use objsync_store::{IndexKind, RepairReport, Store, StoreLimits, StoreOptions};

fn repair(source: &Path, target: &Path) -> RepairReport {
    let report = objsync_store::repair(source, target, &[], &mut |_| ()).unwrap();
    assert!(report.check.is_intact(), "{:?}", report.check);
    report
}

fn laptop() -> Grant {
    Grant {
        peer: PeerKey([7; 32]),
        scope: "dict/default".to_owned(),
        rights: vec!["read".to_owned()],
        expires_ms: None,
        label: "laptop".to_owned(),
    }
}

/// A frame whose header is sound is hit in its body, and so is all behind it: the frame that takes
/// the link back among it.
#[test]
fn link_does_not_return_where_damage_reaches_from_a_body_to_the_end_of_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let target = tempfile::tempdir().unwrap();
    let store = open(directory.path(), options(IndexKind::Memory));
    store.grant(laptop()).unwrap();
    set(&store, "a", "1");
    set(&store, "b", "2");
    store.revoke(laptop().peer).unwrap();
    set(&store, "c", "3");
    let position = store.position();
    store.close().unwrap();
    let path = files(directory.path(), ".seg").pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let key = key_of("b");
    let place = bytes.windows(key.len()).rposition(|one| one == &key[..]);
    bytes[place.unwrap()..].fill(0xaa);
    std::fs::write(&path, bytes).unwrap();
    let report = repair(directory.path(), target.path());
    assert!(!report.is_whole());
    let lost = report.losses.iter().find(|loss| loss.file == path).unwrap();
    let (_, last) = lost.revisions.unwrap();
    assert!(last >= position.revision, "{report:?}");
    let store = Store::open(target.path(), options(IndexKind::Memory)).unwrap();
    assert_eq!(get(&store, "a").as_deref(), Some("1"));
    assert!(store.grants().is_empty(), "{report:?}");
}

fn tight_options() -> StoreOptions {
    StoreOptions {
        limits: StoreLimits {
            segment_bytes: 4 << 10,
            snapshot_log_bytes: 12 << 10,
            retention_bytes: 8 << 10,
            ..limits()
        },
        ..options(IndexKind::Memory)
    }
}

/// A closed store whose log begins behind its oldest snapshot.
fn trimmed_store(directory: &Path) -> Model {
    let mut model = Model::new();
    let mut random = harness::random::Random::new(5);
    let store = open(directory, tight_options());
    store.grant(laptop()).unwrap();
    let first = files(directory, ".seg")[0].clone();
    wait_until("a trimmed log", || {
        write(&store, &mut model, &mut random, 4 << 10);
        store.flush(store.position().revision).unwrap();
        !first.exists()
    });
    store.close().unwrap();
    model
}

/// Without the manifest, the first segment is not the one that follows the snapshot.
#[test]
fn segment_that_is_missing_behind_the_snapshot_is_a_loss_also_without_a_manifest() {
    let directory = tempfile::tempdir().unwrap();
    trimmed_store(directory.path());
    std::fs::remove_file(directory.path().join("MANIFEST")).unwrap();
    let whole = tempfile::tempdir().unwrap();
    let report = repair(directory.path(), whole.path());
    assert!(report.is_whole() && report.grant_count == 1, "{report:?}");
    // All that the newest snapshot covers, and one more.
    for snapshot in files(directory.path(), ".snap").iter().rev().skip(1) {
        std::fs::remove_file(snapshot).unwrap();
    }
    let store = Store::open(whole.path(), tight_options()).unwrap();
    let revision = store.position().revision;
    drop(store);
    let mut has_lost = false;
    for segment in files(directory.path(), ".seg") {
        std::fs::remove_file(segment).unwrap();
        if files(directory.path(), ".seg").is_empty() {
            break;
        }
        let target = tempfile::tempdir().unwrap();
        let report = repair(directory.path(), target.path());
        if !report.is_whole() {
            has_lost = true;
            assert_eq!(report.grant_count, 0, "{report:?}");
            let lost = report.losses.iter().find(|loss| !loss.is_made_good);
            assert!(lost.unwrap().revisions.is_some(), "{report:?}");
        } else {
            assert!(!has_lost, "{report:?}");
            assert_eq!(report.revision, revision);
        }
    }
    assert!(has_lost);
}

#[test]
fn file_with_the_last_number_there_is_costs_neither_memory_nor_the_rest() {
    for has_manifest in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let target = tempfile::tempdir().unwrap();
        let store = open(directory.path(), options(IndexKind::Memory));
        set(&store, "a", "1");
        match has_manifest {
            true => store.kill(),
            false => store.close().unwrap(),
        }
        std::fs::write(directory.path().join("log/ffffffffffffffff.seg"), "x").unwrap();
        if !has_manifest {
            std::fs::remove_file(directory.path().join("MANIFEST")).unwrap();
        }
        repair(directory.path(), target.path());
        let store = Store::open(target.path(), options(IndexKind::Memory)).unwrap();
        assert_eq!(get(&store, "a").as_deref(), Some("1"));
        set(&store, "a", "2");
        store.close().unwrap();
        Store::open(target.path(), options(IndexKind::Memory)).unwrap();
    }
}
