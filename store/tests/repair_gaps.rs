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
use objsync_store::{IndexKind, RepairReport, Store};

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
