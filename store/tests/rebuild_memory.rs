//! What making an index again takes in memory: a process of its own, that runs this one test.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;

use harness::*;
use objsync_proto::ids::Durability;
use objsync_proto::operation::Operation;
use objsync_store::{IndexKind, Step, Store, StoreLimits, StoreOptions};

const KEY_COUNT: u64 = 200_000;
/// Some 30 MiB are seen; without letting go of what it replaced sled took more than 200.
const GROWTH_KIB_MAX: u64 = 120 << 10;

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let words: Vec<_> = line.unwrap().split_whitespace().collect();
    words[1].parse().unwrap()
}

#[test]
fn index_that_is_made_again_takes_its_cache_and_not_every_page_it_ever_had() {
    let directory = tempfile::tempdir().unwrap();
    let options = |index| StoreOptions {
        index,
        threads: false,
        limits: StoreLimits {
            snapshot_log_bytes: 1 << 20,
            segment_bytes: 4 << 20,
            ..StoreLimits::default()
        },
        ..StoreOptions::default()
    };
    let store = open(directory.path(), options(IndexKind::Memory));
    let text = "x".repeat(100);
    for start in (0..KEY_COUNT).step_by(1000) {
        let changes = (start..start + 1000)
            .map(|number| change(&format!("{number:09}"), Some(&text)))
            .collect();
        execute(&store, Operation::Batch { changes }, Durability::Buffered).unwrap();
    }
    store.flush(store.position().revision).unwrap();
    while store.step(Step::Keep).unwrap() && store.status().snapshot_bytes == 0 {}
    store.close().unwrap();
    drop(store);
    let store = Store::open(directory.path(), options(IndexKind::Sled)).unwrap();
    let before_kib = resident_kib();
    assert!(store.step(Step::BuildIndex).unwrap());
    let grown_kib = resident_kib().saturating_sub(before_kib);
    println!("{grown_kib} KiB");
    assert!(grown_kib < GROWTH_KIB_MAX, "{grown_kib} KiB");
    assert_eq!(store.count(NS).unwrap(), KEY_COUNT);
}
