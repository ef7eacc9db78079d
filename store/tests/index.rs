//! sled is a cache: whatever becomes of it, the store opens, answers from snapshot and footers, and
//! makes it again meanwhile.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "it is all tests"
)]

mod harness;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use harness::random::Random;
use harness::work::*;
use harness::*;
use objsync_proto::ids::{Durability, NamespaceId, Revision};
use objsync_proto::wire::KeyRange;
use objsync_store::index::{
    Index, IndexBatch, IndexHome, MemoryIndex, Reused, SledHome, SledIndex, Visit,
};
use objsync_store::{BuildProgress, IndexKind, Step, Store, StoreError, StoreOptions, Stored};

/// Opens a store whose index is not what it was left, and compares it with the model before the
/// index is there, while it is written on, and once the index has taken over.
fn assert_survives(directory: &Path, model: &mut Model, seed: u64) {
    let options = StoreOptions {
        threads: false,
        ..options(IndexKind::Sled)
    };
    let store = Store::open(directory, options).unwrap();
    assert!(store.status().index_build.is_some(), "not opened yet");
    assert_is(&store, model);
    write(&store, model, &mut Random::new(seed), 20 << 10);
    assert_is(&store, model);
    assert!(store.step(Step::BuildIndex).unwrap());
    assert_eq!(store.status().index_build, None);
    assert_is(&store, model);
    write(&store, model, &mut Random::new(seed + 1), 20 << 10);
    while store.step(Step::Flush).unwrap() || store.step(Step::Index).unwrap() {}
    assert_eq!(store.marks().indexed, store.marks().durable);
    assert_is(&store, model);
    store.close().unwrap();
    let report = check(directory);
    assert!(report.problems.is_empty(), "{report:?}");
    assert!(report.index_entry_count >= model.len() as u64);
}

fn index_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut rest = vec![directory.join("index")];
    while let Some(path) = rest.pop() {
        for entry in std::fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => rest.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found.sort();
    found
}

#[test]
fn index_that_is_deleted_whole_or_file_by_file_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut model = closed_store(directory.path());
    std::fs::remove_dir_all(directory.path().join("index")).unwrap();
    assert_survives(directory.path(), &mut model, 1);
    std::fs::remove_file(directory.path().join("index.state")).unwrap();
    assert_survives(directory.path(), &mut model, 2);
    for place in 0..index_files(directory.path()).len() {
        let files = index_files(directory.path());
        std::fs::remove_file(&files[place.min(files.len() - 1)]).unwrap();
        assert_survives(directory.path(), &mut model, 3 + place as u64);
    }
}

#[test]
fn index_that_is_cut_short_or_has_flipped_bits_answers_nobody() {
    for seed in 0..12 {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let directory = tempfile::tempdir().unwrap();
        let mut model = closed_store(directory.path());
        let files = index_files(directory.path());
        let file = &files[random.below(files.len() as u64) as usize];
        let mut bytes = std::fs::read(file).unwrap();
        match bytes.len() as u64 {
            0 => bytes.push(1),
            length if random.chance(3) => bytes.truncate(random.below(length) as usize),
            length => {
                for _ in 0..1 + random.below(20) {
                    let place = random.below(length) as usize;
                    bytes[place] ^= 1 << random.below(8);
                }
            }
        }
        std::fs::write(file, bytes).unwrap();
        // What says that the index is whole may be gone too, as after a kill.
        if random.chance(3) {
            std::fs::write(directory.path().join("index.state"), "open\n").unwrap();
        }
        assert_survives(directory.path(), &mut model, seed);
    }
}

#[test]
fn index_far_behind_the_log_catches_up_and_one_of_another_time_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let kept = tempfile::tempdir().unwrap();
    let mut model = closed_store(directory.path());
    copy(&directory.path().join("index"), &kept.path().join("index"));
    let state = std::fs::read(directory.path().join("index.state")).unwrap();
    // First within the log, then so far on that the log no longer reaches back to the mark.
    for round in 0..2 {
        let store = Store::open(directory.path(), options(IndexKind::Sled)).unwrap();
        write(
            &store,
            &mut model,
            &mut Random::new(7),
            45 << 10 << (2 * round),
        );
        store.close().unwrap();
        drop(store);
        std::fs::remove_dir_all(directory.path().join("index")).unwrap();
        copy(&kept.path().join("index"), &directory.path().join("index"));
        std::fs::write(directory.path().join("index.state"), &state).unwrap();
        let _ = std::fs::remove_dir_all(directory.path().join("index.failed"));
        assert_survives(directory.path(), &mut model, 11);
        let is_made_again = directory.path().join("index.failed").exists();
        assert_eq!(is_made_again, round == 1, "round {round}");
    }
}

/// An entry is changed, removed or added behind the store's back, with nothing else to tell.
#[test]
fn index_that_disagrees_with_the_log_after_a_kill_answers_nobody() {
    for case in 0..3 {
        let directory = tempfile::tempdir().unwrap();
        let mut model = closed_store(directory.path());
        let index = SledIndex::open(&directory.path().join("index")).unwrap();
        let mut entries = Vec::new();
        let whole = KeyRange::default();
        index
            .scan(NS, &whole, false, &mut |key, entry| {
                entries.push((key, entry));
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        let (key, entry) = entries.swap_remove(entries.len() / 2);
        let (key, entry) = match case {
            0 => (
                key,
                Some(Stored {
                    value: value_of("wrong"),
                    ..entry
                }),
            ),
            1 => (key, None),
            _ => (key_of("never written"), Some(entry)),
        };
        index
            .apply(&IndexBatch {
                changes: vec![objsync_store::index::IndexChange {
                    namespace: NS,
                    key,
                    entry,
                }],
                counts: Vec::new(),
                mark: index.mark().unwrap(),
            })
            .unwrap();
        drop(index);
        std::fs::write(directory.path().join("index.state"), "open\n").unwrap();
        assert_survives(directory.path(), &mut model, case);
        assert!(
            directory.path().join("index.failed").exists(),
            "case {case}"
        );
    }
}

#[test]
fn sled_that_panics_at_any_call_is_replaced_under_readers_and_writers() {
    for calls in [1, 2, 3, 5, 8, 20, 60, 200] {
        println!("panics at call {calls}");
        let directory = tempfile::tempdir().unwrap();
        let mut model = closed_store(directory.path());
        let fuse = Arc::new(AtomicU64::new(u64::MAX));
        let home = SledHome::new(directory.path().join("index"), 1 << 20).with_fuse(fuse.clone());
        let options = StoreOptions {
            index: IndexKind::Home(Arc::new(home)),
            ..options(IndexKind::Sled)
        };
        let store = Store::open(directory.path(), options).unwrap();
        wait_for_index(&store);
        fuse.store(calls, Ordering::SeqCst);
        for round in 0..6 {
            write(
                &store,
                &mut model,
                &mut Random::new(calls + round),
                10 << 10,
            );
            assert_is(&store, &model);
        }
        wait_until("another index", || store.status().index_build.is_none());
        assert_is(&store, &model);
        store.close().unwrap();
        drop(store);
        assert!(check(directory.path()).problems.is_empty());
    }
}

/// An index that takes its batches one by one, when the test lets it.
#[derive(Default)]
struct Gate {
    allowed: Mutex<u64>,
    changed: Condvar,
    inner: MemoryIndex,
}

impl Gate {
    fn open(&self, batches: u64) {
        *self.allowed.lock().unwrap() += batches;
        self.changed.notify_all();
    }
}

impl Index for Gate {
    fn get(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        self.inner.get(namespace, key)
    }
    fn scan(
        &self,
        namespace: NamespaceId,
        range: &KeyRange,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        self.inner.scan(namespace, range, reverse, visit)
    }
    fn apply(&self, batch: &IndexBatch) -> Result<(), StoreError> {
        let allowed = self.allowed.lock().unwrap();
        let mut allowed = self.changed.wait_while(allowed, |left| *left == 0).unwrap();
        *allowed -= 1;
        self.inner.apply(batch)
    }
    fn mark(&self) -> Result<Option<Bytes>, StoreError> {
        self.inner.mark()
    }
    fn counts(&self) -> Result<Vec<(NamespaceId, u64)>, StoreError> {
        self.inner.counts()
    }
    fn bytes(&self) -> u64 {
        self.inner.bytes()
    }
}

struct GateHome(Arc<Gate>);

impl IndexHome for GateHome {
    fn reuse(&self) -> Result<Option<Reused>, StoreError> {
        Ok(None)
    }
    fn make(&self) -> Result<Arc<dyn Index>, StoreError> {
        Ok(self.0.clone())
    }
    fn closed(&self) -> Result<(), StoreError> {
        Ok(())
    }
    fn inherited_fds(&self) -> Vec<i32> {
        Vec::new()
    }
}

#[test]
fn store_tells_how_far_its_index_is_and_works_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = Random::new(4);
    let mut model = Model::new();
    let store = open(directory.path(), options(IndexKind::Memory));
    for number in 0..5000 {
        let (key, value) = (key_of(&format!("n{number}")), value_of("x"));
        model.insert(key, value);
    }
    for (key, value) in &model {
        let operation = objsync_proto::operation::Operation::Put {
            key: key.clone(),
            value: value.clone(),
        };
        execute(&store, operation, Durability::Buffered).unwrap();
    }
    store.flush(store.position().revision).unwrap();
    wait_until("a snapshot", || store.status().snapshot_bytes > 0);
    store.close().unwrap();
    drop(store);
    let gate = Arc::new(Gate::default());
    let options = StoreOptions {
        index: IndexKind::Home(Arc::new(GateHome(gate.clone()))),
        ..options(IndexKind::Memory)
    };
    let store = Store::open(directory.path(), options).unwrap();
    gate.open(1);
    let progress = || store.status().index_build.unwrap_or_default();
    wait_until("the first batch", || progress().done_count > 0);
    let BuildProgress {
        revision,
        done_count,
        total_count,
    } = progress();
    assert!(done_count < total_count, "{done_count} of {total_count}");
    assert_eq!(revision, Revision(0));
    assert_is(&store, &model);
    // Much more than the recent map holds: the stand-in takes it over.
    write(&store, &mut model, &mut random, 300 << 10);
    assert_is(&store, &model);
    assert!(store.status().index_build.is_some());
    gate.open(1_000_000);
    wait_until("the index", || store.status().index_build.is_none());
    assert_is(&store, &model);
    write(&store, &mut model, &mut random, 100 << 10);
    assert_is(&store, &model);
}

#[test]
fn store_without_room_for_an_index_opens_reads_and_writes() {
    struct FullHome;
    impl IndexHome for FullHome {
        fn reuse(&self) -> Result<Option<Reused>, StoreError> {
            Ok(None)
        }
        fn make(&self) -> Result<Arc<dyn Index>, StoreError> {
            let path = PathBuf::from("index");
            Err(StoreError::Full { path })
        }
        fn closed(&self) -> Result<(), StoreError> {
            unreachable!("there is none")
        }
        fn inherited_fds(&self) -> Vec<i32> {
            Vec::new()
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let mut model = closed_store(directory.path());
    let options = StoreOptions {
        index: IndexKind::Home(Arc::new(FullHome)),
        ..options(IndexKind::Sled)
    };
    let store = Store::open(directory.path(), options).unwrap();
    assert_is(&store, &model);
    write(&store, &mut model, &mut Random::new(5), 300 << 10);
    assert_is(&store, &model);
    store.close().unwrap();
    drop(store);
    assert_survives(directory.path(), &mut model, 6);
}
