//! A copy whose power goes at any moment: what is left is a prefix of its source's history.
//!
//! Method: a disk in memory stops after each of so many calls, then forgets what was not synced.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;

use std::path::Path;

use harness::disk::SimDisk;
use harness::follow::{assert_equal, busy, catch_up, follow_options, made, write_many};
use harness::random::Random;
use harness::*;
use objsync_proto::ids::Revision;
use objsync_store::{Step, Store};

/// Follows until the power of the copy's disk goes after so many calls, then once more.
fn power_goes_after(
    calls: u64,
    source: &Store,
    path: &Path,
    disk: &SimDisk,
    least: Option<Revision>,
) {
    let options = busy(options_on(disk));
    disk.stop_after(calls);
    let mut copy = None;
    let _ = catch_up(source, path, &options, &mut copy);
    let shown = copy.map_or(Revision(0), |copy| {
        let shown = copy.position().revision;
        copy.kill();
        shown
    });
    disk.cut_power(&mut Random::new(calls));
    match Store::open(path, follow_options(&options)) {
        Ok(copy) => {
            let revision = copy.position().revision;
            assert!(Some(revision) >= least, "after {calls} calls: {revision}");
            assert!(
                revision >= shown,
                "after {calls} calls: {revision} of {shown}"
            );
            let then = source.at(revision).unwrap();
            for name in ["k1", "k7", "k33", "first"] {
                let key = key_of(name);
                let (ours, theirs) = (copy.get(NS, &key).unwrap(), then.get(NS, &key).unwrap());
                assert_eq!(ours, theirs, "after {calls} calls, {name} at {revision}");
            }
            copy.kill();
        }
        Err(error) => assert_eq!(least, None, "after {calls} calls: {error}"),
    }
    let mut copy = None;
    catch_up(source, path, &options, &mut copy).unwrap();
    let copy = copy.unwrap();
    assert_equal(&copy, source);
    copy.close().unwrap();
}

#[test]
fn power_cut_after_any_call_leaves_a_prefix_of_the_sources_history() {
    let from = SimDisk::new();
    let folder = tempfile::tempdir().unwrap();
    let source = open(&made(folder.path(), "source"), busy(options_on(&from)));
    set(&source, "first", "1");
    let path = made(folder.path(), "copy");
    let old = SimDisk::new();
    let mut copy = None;
    catch_up(&source, &path, &busy(options_on(&old)), &mut copy).unwrap();
    let copy = copy.unwrap();
    let held = copy.position().revision;
    copy.close().unwrap();
    write_many(&source, 60, "frames");
    let middle = old.copy();
    for calls in 0..120 {
        power_goes_after(calls, &source, &path, &middle.copy(), Some(held));
    }
    write_many(&source, 300, "a");
    source.step(Step::Keep).unwrap();
    write_many(&source, 10, "b");
    // The copy that stands there is replaced, or there is none yet.
    for calls in 0..120 {
        power_goes_after(calls, &source, &path, &middle.copy(), Some(held));
        power_goes_after(calls, &source, &path, &SimDisk::new(), None);
    }
}
