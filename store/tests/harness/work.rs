//! Work for stores with small segments, and what there must be of it afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use objsync_proto::ids::Durability;
use objsync_proto::operation::Operation;
use objsync_store::disk::RealDisk;
use objsync_store::{CheckReport, IndexKind, Store, StoreLimits, StoreOptions};

use super::random::Random;
use super::*;

pub fn limits() -> StoreLimits {
    StoreLimits {
        segment_bytes: 16 << 10,
        snapshot_log_bytes: 40 << 10,
        retention_bytes: 64 << 10,
        recent_bytes_max: 64 << 10,
        ..StoreLimits::default()
    }
}

pub fn options(kind: IndexKind) -> StoreOptions {
    StoreOptions {
        index: kind,
        limits: limits(),
        disk: Arc::new(RealDisk),
        ..StoreOptions::default()
    }
}

/// Waits until `done`, and fails after half a minute.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "{what} does not come");
        std::thread::yield_now();
    }
}

/// Waits until the index is in place and has everything that is durable.
pub fn wait_for_index(store: &Store) {
    wait_until("the index", || {
        let marks = store.marks();
        store.status().index_build.is_none() && marks.indexed == marks.durable
    });
}

pub type Model = BTreeMap<Bytes, Bytes>;

/// Writes about `bytes` of random changes, which the model follows.
pub fn write(store: &Store, model: &mut Model, random: &mut Random, bytes: usize) {
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

pub fn assert_is(store: &Store, model: &Model) {
    assert!(content(store) == *model, "the content is the model's");
    assert_eq!(store.count(NS).unwrap(), model.len() as u64);
}

pub fn check(directory: &Path) -> CheckReport {
    objsync_store::check(directory, &mut |_| ()).unwrap()
}

pub fn files(directory: &Path, suffix: &str) -> Vec<std::path::PathBuf> {
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

pub fn copy(from: &Path, to: &Path) {
    try_copy(from, to).unwrap();
}

/// A closed store with several segments, footers, a snapshot and an index.
pub fn closed_store(directory: &Path) -> Model {
    let mut random = Random::new(9);
    let mut model = Model::new();
    let store = open(directory, options(IndexKind::Sled));
    write(&store, &mut model, &mut random, 150 << 10);
    store.flush(store.position().revision).unwrap();
    wait_until("a snapshot", || store.status().snapshot_bytes > 0);
    wait_for_index(&store);
    store.close().unwrap();
    model
}

/// Copies a directory whose files come and go, as it is at one moment: again, if files came or
/// went meanwhile.
pub fn copy_settled(from: &Path, to: &Path) {
    loop {
        let before = files_of(from);
        if try_copy(from, to).is_ok() && files_of(from) == before {
            return;
        }
        std::fs::remove_dir_all(to).unwrap();
    }
}

/// What the manifest says, and the files of the log.
fn files_of(directory: &Path) -> (Vec<u8>, BTreeSet<OsString>) {
    let log = std::fs::read_dir(directory.join("log")).unwrap();
    let manifest = std::fs::read(directory.join("MANIFEST")).unwrap();
    (
        manifest,
        log.map(|entry| entry.unwrap().file_name()).collect(),
    )
}

fn try_copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => try_copy(&entry.path(), &to)?,
            false => drop(std::fs::copy(entry.path(), to)?),
        }
    }
    Ok(())
}
