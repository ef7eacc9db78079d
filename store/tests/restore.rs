//! What a copy of a store must not share with it, and what is not copied over a good copy.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "it is all tests"
)]

mod harness;

use std::path::Path;

use harness::work::*;
use harness::*;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::PeerKey;
use objsync_store::disk::RealDisk;
use objsync_store::{BackupReport, IndexKind, Store, StoreError};

fn backup(source: &Path, target: &Path) -> Result<BackupReport, StoreError> {
    objsync_store::backup(&RealDisk, source, target, &mut |_| ())
}

/// A client opens a session after the backup; in each copy another one does the same. Under one
/// id, the first would be answered what the other wrote.
#[test]
fn session_opened_after_a_backup_is_not_known_in_any_copy() {
    let directory = tempfile::tempdir().unwrap();
    let aside = tempfile::tempdir().unwrap();
    let (target, peer) = (aside.path().join("backup"), PeerKey([7; 32]));
    let store = open(directory.path(), options(IndexKind::Memory));
    let before = store.open_session(peer).unwrap();
    store.close().unwrap();
    backup(directory.path(), &target).unwrap();
    let copies = ["one", "two"].map(|name| aside.path().join(name));
    for copy in &copies {
        objsync_store::restore(&RealDisk, &target, copy, &mut |_| ()).unwrap();
    }
    let mut sessions = Vec::new();
    for place in [directory.path(), &copies[0], &copies[1], &target] {
        let store = Store::open(place, options(IndexKind::Memory)).unwrap();
        assert!(store.session_known(before, peer), "it is in the backup");
        sessions.push(store.open_session(peer).unwrap());
        for other in &sessions[..sessions.len() - 1] {
            assert!(!store.session_known(*other, peer), "{other:?}");
        }
        store.close().unwrap();
    }
}

/// A backup is of one key: another would lie beside the old content if the run were cut short.
#[test]
fn key_of_the_backup_before_is_not_replaced_by_another() {
    let directory = tempfile::tempdir().unwrap();
    let aside = tempfile::tempdir().unwrap();
    let target = aside.path().join("backup");
    open(directory.path(), options(IndexKind::Memory))
        .close()
        .unwrap();
    for name in ["key", "key.pub"] {
        std::fs::write(directory.path().join(name), "good").unwrap();
    }
    backup(directory.path(), &target).unwrap();
    for name in ["key", "key.pub"] {
        let path = directory.path().join(name);
        std::fs::write(&path, "goad").unwrap();
        let error = backup(directory.path(), &target).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(std::fs::read(target.join(name)).unwrap(), b"good");
        std::fs::write(&path, "good").unwrap();
    }
    backup(directory.path(), &target).unwrap();
}
