//! The end of a copy's log: what is appended is kept, whatever the frame and whenever the copy closes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;

use std::sync::Arc;

use harness::disk::SimDisk;
use harness::follow::{assert_equal, busy, catch_up, follow_options, made, write_many};
use harness::*;
use objsync_proto::ids::{Durability, Revision};
use objsync_store::{Ship, Shipped, Step, Store, StoreError, StoreOptions};

fn frames_after(source: &Store, copy: &Store) -> Vec<Shipped> {
    let place = copy.copy_place().unwrap();
    let mut cursor = source.ship_after(&place).unwrap().unwrap();
    match source.ship(&mut cursor, usize::MAX).unwrap() {
        Ship::Frames(frames) => frames,
        other => panic!("{other:?}"),
    }
}

/// Appends one frame after the other until the copy closes; gives the last revision it appended.
fn append_all(copy: &Store, frames: &[Shipped], base: u64) -> u64 {
    let mut taken = 0;
    while let Some(place) = copy.copy_place() {
        let Some(frame) = frames.get(usize::try_from(place.next.0 - base).unwrap()) else {
            break;
        };
        match copy.append_shipped(vec![frame.clone()]) {
            Ok(applied) => taken = applied.position.revision.0,
            // Another one was there before.
            Err(StoreError::Refused(_)) => {}
            Err(_) => break,
        }
    }
    taken
}

#[test]
fn frames_that_are_taken_while_a_copy_closes_are_kept() {
    for round in 0..40 {
        let folder = tempfile::tempdir().unwrap();
        let source = open(&made(folder.path(), "source"), options_on(&SimDisk::new()));
        let options = options_on(&SimDisk::new());
        let path = made(folder.path(), "copy");
        let mut copy = None;
        catch_up(&source, &path, &options, &mut copy).unwrap();
        let copy = copy.unwrap();
        for number in 0..200 {
            set(&source, "a", &number.to_string());
        }
        let frames = Arc::new(frames_after(&source, &copy));
        let base = copy.copy_place().unwrap().next.0;
        // Several wait for the log at any time, also when the end is written down.
        let appenders: Vec<_> = (0..4)
            .map(|_| (copy.clone(), Arc::clone(&frames)))
            .map(|(copy, frames)| std::thread::spawn(move || append_all(&copy, &frames, base)))
            .collect();
        while copy.position().revision.0 < 3 + round % 7 {
            std::hint::spin_loop();
        }
        copy.close().unwrap();
        let taken = appenders.into_iter().map(|one| one.join().unwrap());
        let taken = Revision(taken.max().unwrap());
        drop(copy);
        let copy = Store::open(&path, follow_options(&options)).unwrap();
        assert_eq!(copy.position().revision, taken, "round {round}");
        let mut copy = Some(copy);
        assert!(!catch_up(&source, &path, &options, &mut copy).unwrap());
        assert_equal(copy.as_ref().unwrap(), &source);
    }
}

#[test]
fn frame_of_a_kind_that_may_be_passed_over_is_kept_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let source = open(&made(folder.path(), "source"), StoreOptions::default());
    let path = made(folder.path(), "copy");
    let options = StoreOptions::default();
    let mut copy = None;
    catch_up(&source, &path, &options, &mut copy).unwrap();
    set(&source, "a", "1");
    let mut held = copy.take().unwrap();
    let frame = &frames_after(&source, &held)[0];
    for skippable in [false, true] {
        let mut head = frame.head(0);
        (head.kind, head.skippable, head.count) = (77, skippable, 0);
        head.first = held.position().revision;
        let later = Shipped::new(&head, frame.body().clone()).unwrap();
        let appended = held.append_shipped(vec![later]);
        assert_eq!(appended.is_ok(), skippable, "{appended:?}");
    }
    let place = held.copy_place();
    for clean in [true, false] {
        match clean {
            true => held.close().unwrap(),
            false => held.kill(),
        }
        drop(held);
        held = Store::open(&path, follow_options(&options)).unwrap();
        assert_eq!(held.copy_place(), place);
    }
    assert_eq!(get(&held, "a"), None);
}

#[test]
fn source_tells_how_far_its_log_can_be_shipped_and_not_how_far_it_is_committed() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        threads: false,
        ..options_on(&SimDisk::new())
    };
    let source = open(folder.path(), options);
    set(&source, "a", "1");
    let durable = source.position();
    execute(&source, put("a", "2"), Durability::Buffered).unwrap();
    assert!(source.position().revision > durable.revision);
    assert_eq!(source.ship_position(), durable);
    source.flush(source.position().revision).unwrap();
    assert_eq!(source.ship_position(), source.position());
}

/// A copy of the newest snapshot stands just before the first frame that is kept: nothing before it is
/// left to compare it with.
#[test]
fn copy_goes_on_from_a_log_that_begins_right_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = busy(options_on(&SimDisk::new()));
    options.limits.retention_bytes = 1;
    let source = open(&made(folder.path(), "source"), options.clone());
    let path = made(folder.path(), "copy");
    write_many(&source, 300, "kept by the snapshot alone");
    for _ in 0..2 {
        source.step(Step::Keep).unwrap();
    }
    let mut copy = None;
    let mut catch_up = || {
        let is_new = catch_up(&source, &path, &options, &mut copy).unwrap();
        assert_equal(copy.as_ref().unwrap(), &source);
        copy.take().unwrap().close().unwrap();
        is_new
    };
    assert!(catch_up(), "it begins with the snapshot");
    assert!(!catch_up(), "and needs no other");
    write_many(&source, 20, "more");
    assert!(!catch_up());
}
