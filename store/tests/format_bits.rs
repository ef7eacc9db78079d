//! Feature bits that this program does not know: who may still do what.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;

use std::path::Path;

use harness::work::*;
use harness::*;
use objsync_proto::error::ErrorKind;
use objsync_store::disk::RealDisk;
use objsync_store::{IndexKind, Store, StoreError, StoreOptions};

const COMPATIBLE: &str = "\ncompatible ";
const READ_COMPATIBLE: &str = "\nread-compatible ";
const INCOMPATIBLE: &str = "\nincompatible ";

/// A closed store whose `FORMAT` has a bit of one set that nobody knows yet.
fn store_with_bit(directory: &Path, set: &str) {
    let store = open(directory, options(IndexKind::Memory));
    harness::set(&store, "a", "1");
    store.close().unwrap();
    let path = directory.join("FORMAT");
    let text = std::fs::read_to_string(&path).unwrap();
    let none = format!("{set}0000000000000000");
    assert!(text.contains(&none), "{text}");
    let text = text.replace(&none, &format!("{set}0000000000008000"));
    let body = &text[..text.rfind("crc ").unwrap()];
    let crc = crc32c::crc32c(body.as_bytes());
    std::fs::write(&path, format!("{body}crc {crc:08x}\n")).unwrap();
}

/// Opening to write and to read, check, repair and backup: what each says.
fn attempts(directory: &Path) -> Vec<(&'static str, Result<(), StoreError>)> {
    let aside = tempfile::tempdir().unwrap();
    let (backup, repaired) = (aside.path().join("backup"), aside.path().join("repaired"));
    let readonly = StoreOptions {
        readonly: true,
        ..options(IndexKind::Memory)
    };
    let nothing = &mut |_| ();
    vec![
        ("read", Store::open(directory, readonly).map(drop)),
        (
            "check",
            objsync_store::check(directory, &mut |_| ()).map(drop),
        ),
        (
            "backup",
            objsync_store::backup(&RealDisk, directory, &backup, nothing).map(drop),
        ),
        (
            "repair",
            objsync_store::repair(directory, &repaired, &[], &mut |_| ()).map(drop),
        ),
        (
            "write",
            Store::open(directory, options(IndexKind::Memory)).map(drop),
        ),
    ]
}

fn assert_refused(name: &str, said: Result<(), StoreError>) {
    let error = said.expect_err(name);
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}: {error}");
    let text = error.to_string();
    assert!(
        text.contains("FORMAT") && text.contains("0x8000"),
        "{name}: {text}"
    );
    assert!(text.contains("a newer objsync is needed"), "{name}: {text}");
}

#[test]
fn unknown_compatible_bit_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    store_with_bit(directory.path(), COMPATIBLE);
    for (name, said) in attempts(directory.path()) {
        said.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn unknown_read_compatible_bit_refuses_what_writes_or_makes_a_copy() {
    let directory = tempfile::tempdir().unwrap();
    store_with_bit(directory.path(), READ_COMPATIBLE);
    for (name, said) in attempts(directory.path()) {
        match name {
            "read" | "check" => said.unwrap_or_else(|error| panic!("{name}: {error}")),
            _ => assert_refused(name, said),
        }
    }
}

#[test]
fn unknown_incompatible_bit_refuses_everything_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    store_with_bit(directory.path(), INCOMPATIBLE);
    let names = |directory: &Path| -> Vec<_> {
        let names = std::fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = (names(directory.path()), files(directory.path(), "").len());
    for (name, said) in attempts(directory.path()) {
        assert_refused(name, said);
    }
    assert_eq!(
        (names(directory.path()), files(directory.path(), "").len()),
        before
    );
}
