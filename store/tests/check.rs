//! What a check of a closed store finds, and says of it.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "it is all tests"
)]

mod harness;

use std::path::Path;

use harness::random::Random;
use harness::work::*;
use harness::*;
use objsync_proto::limits::SEGMENT_BYTES_MAX;
use objsync_store::check::Problem;
use objsync_store::{IndexKind, Store};

#[test]
fn check_finds_any_damaged_byte_and_says_where() {
    let directory = tempfile::tempdir().unwrap();
    closed_store(directory.path());
    let sound = check(directory.path());
    assert!(sound.problems.is_empty(), "{sound:?}");
    let mut random = Random::new(3);
    let mut all = files(directory.path(), ".seg");
    let last_segment = all.pop().unwrap();
    all.extend(files(directory.path(), ".snap"));
    all.extend(files(directory.path(), ".keys"));
    all.extend(["FORMAT", "MANIFEST"].map(|name| directory.path().join(name)));
    assert!(all.len() > 5, "{all:?}");
    for path in all {
        let good = std::fs::read(&path).unwrap();
        let is_segment = path.extension().is_some_and(|extension| extension == "seg");
        for _ in 0..12 {
            let mut bad = good.clone();
            // What lies behind the end of a closed segment counts for nothing.
            let end = bad.iter().rposition(|byte| *byte != 0).unwrap();
            let place = random.below(if is_segment {
                end as u64 - 8
            } else {
                bad.len() as u64
            });
            bad[place as usize] ^= 1 << random.below(8);
            std::fs::write(&path, &bad).unwrap();
            let Ok(report) = objsync_store::check(directory.path(), &mut |_| ()) else {
                continue; // Says that it is of a later format.
            };
            let names_it = report.problems.iter().any(|problem| problem.file == path);
            assert!(names_it, "{}: byte {place}: {report:?}", path.display());
        }
        std::fs::write(&path, &good).unwrap();
    }
    std::fs::remove_file(&last_segment).unwrap();
    let report = check(directory.path());
    assert!(
        report
            .problems
            .iter()
            .any(|problem| problem.file == last_segment)
    );
    assert!(!report.is_sound());
}

#[test]
fn check_names_the_revisions_and_keys_that_damage_hits() {
    let directory = tempfile::tempdir().unwrap();
    closed_store(directory.path());
    let footer = files(directory.path(), ".keys").pop().unwrap();
    let segment = footer.with_extension("seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[8000] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let report = check(directory.path());
    let problem = report
        .problems
        .iter()
        .find(|problem| problem.file == segment)
        .unwrap();
    let (first, last) = problem.revisions.unwrap();
    assert!(first <= last && problem.offset <= 8000);
    assert!(problem.key_count > 0 && !problem.keys.is_empty());
}

#[test]
fn check_finds_an_index_that_differs_and_calls_it_a_cache() {
    let directory = tempfile::tempdir().unwrap();
    let aside = tempfile::tempdir().unwrap();
    let model = closed_store(directory.path());
    // An index with other entries under the same mark.
    let mark = sled_copy(&directory.path().join("index"), &aside.path().join("index"));
    assert!(mark > 10, "{mark} entries");
    std::fs::remove_dir_all(directory.path().join("index")).unwrap();
    copy(&aside.path().join("index"), &directory.path().join("index"));
    let report = check(directory.path());
    assert!(report.is_sound(), "the next open may make it again");
    let problem = report
        .problems
        .iter()
        .find(|problem| problem.key_count == 1)
        .unwrap_or_else(|| panic!("{report:?}"));
    assert!(problem.is_cache && problem.file.ends_with("index"));
    let store = Store::open(directory.path(), options(IndexKind::Sled)).unwrap();
    assert_is(&store, &model);
    wait_for_index(&store);
    store.close().unwrap();
    assert!(
        check(directory.path()).problems.is_empty(),
        "it was made again"
    );
}

/// Copies an index but for one entry; tells how many it copied.
fn sled_copy(from: &Path, to: &Path) -> usize {
    use objsync_store::index::{Index, IndexBatch, IndexChange, SledIndex};
    let (from, to) = (SledIndex::open(from).unwrap(), SledIndex::open(to).unwrap());
    let mut batch = IndexBatch {
        changes: Vec::new(),
        counts: from.counts().unwrap(),
        mark: from.mark().unwrap(),
    };
    for (namespace, _) in batch.counts.clone() {
        from.scan(
            namespace,
            &objsync_proto::wire::KeyRange::default(),
            false,
            &mut |key, entry| {
                let entry = Some(entry);
                batch.changes.push(IndexChange {
                    namespace,
                    key,
                    entry,
                });
                std::ops::ControlFlow::Continue(())
            },
        )
        .unwrap();
    }
    let place = batch
        .changes
        .iter()
        .position(|one| one.namespace == NS)
        .unwrap();
    batch.changes.remove(place);
    to.apply(&batch).unwrap();
    batch.changes.len()
}

#[test]
fn check_refuses_a_store_that_is_open_and_one_that_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let missing = objsync_store::check(&directory.path().join("none"), &mut |_| ());
    assert!(matches!(
        missing,
        Err(objsync_store::StoreError::NotFound { .. })
    ));
    let store = open(directory.path(), options(IndexKind::Memory));
    let locked = objsync_store::check(directory.path(), &mut |_| ());
    assert!(matches!(
        locked,
        Err(objsync_store::StoreError::Locked { .. })
    ));
    drop(store);
}

#[test]
fn check_tells_how_far_it_is() {
    let directory = tempfile::tempdir().unwrap();
    closed_store(directory.path());
    let mut last = 0;
    let report = objsync_store::check(directory.path(), &mut |progress| {
        assert!(progress.done_bytes >= last && progress.done_bytes <= progress.total_bytes);
        last = progress.done_bytes;
    })
    .unwrap();
    assert_eq!(last, report.bytes);
}

/// A last segment over the limit, which is a hole in a file and costs no room.
#[test]
fn last_segment_over_the_limit_is_damage_that_a_check_names() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), options(IndexKind::Memory));
    set(&store, "a", "1");
    store.kill();
    let path = files(directory.path(), ".seg").pop().unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path);
    file.unwrap().set_len(SEGMENT_BYTES_MAX + 1).unwrap();
    let report = check(directory.path());
    let names_it = |problem: &Problem| problem.file == path && problem.what.contains("the limit");
    assert!(report.problems.iter().any(names_it), "{report:?}");
    assert!(!report.is_sound());
}
