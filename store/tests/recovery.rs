//! Opening again: after a clean end, after a kill, after a power cut, and with damage.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;

use std::path::Path;

use harness::disk::SimDisk;
use harness::random::Random;
use harness::*;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{Durability, Origin, PeerKey, Revision, Sequence};
use objsync_proto::operation::{Operation, Outcome};
use objsync_store::{LogRead, Store, StoreError, StoreOptions, Submission, SubmissionOrigin};

const PEER: PeerKey = PeerKey([7; 32]);

/// A store with some keys, as files that a killed process leaves.
fn killed_store(directory: &Path, count: u64) -> SimDisk {
    let disk = SimDisk::new();
    let store = open(directory, options_on(&disk));
    for number in 0..count {
        set(&store, &format!("k{number}"), &number.to_string());
    }
    store.kill();
    disk
}

fn reopen(directory: &Path, disk: &SimDisk) -> Result<Store, StoreError> {
    Store::open(directory, options_on(disk))
}

#[test]
fn killed_process_loses_nothing_even_buffered() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), options_on(&disk));
    let answer = execute(&store, put("a", "1"), Durability::Buffered).unwrap();
    let before = store.position();
    store.kill();
    let store = reopen(directory.path(), &disk).unwrap();
    assert_eq!(get(&store, "a").as_deref(), Some("1"));
    assert!(store.is_on_history(&before));
    let next = set(&store, "b", "2");
    assert!(next.ack.revision > answer.ack.revision);
}

#[test]
fn clean_end_leaves_no_gap_and_an_unclean_one_skips_what_may_have_been_given() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), options_on(&disk));
    let first = set(&store, "a", "1").ack;
    store.close().unwrap();
    let store = reopen(directory.path(), &disk).unwrap();
    let second = set(&store, "a", "2").ack;
    assert_eq!(second.revision, first.revision.next());
    store.kill();
    let store = reopen(directory.path(), &disk).unwrap();
    let third = set(&store, "a", "3").ack;
    assert!(third.revision.0 >= 1_000_000, "{third:?}");
    assert!(third.epoch.number > second.epoch.number);
}

#[test]
fn unsynced_write_that_a_power_cut_took_is_off_the_history() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), options_on(&disk));
    set(&store, "a", "kept");
    let kept = store.position();
    // The flusher must not come before the power goes.
    disk.fail_syncs(true);
    execute(&store, put("a", "lost"), Durability::Buffered).unwrap();
    let lost = store.position();
    store.kill();
    disk.fail_syncs(false);
    // Sector by sector the cut keeps or loses at random: one of these loses it.
    let mut was_lost = false;
    for seed in 0..20 {
        let copy = disk.copy_with_synced();
        copy.cut_power(&mut Random::new(seed));
        let store = reopen(directory.path(), &copy).unwrap();
        assert!(store.is_on_history(&kept));
        if get(&store, "a").as_deref() == Some("kept") {
            assert!(!store.is_on_history(&lost));
            was_lost = true;
        }
        let next = set(&store, "a", "next").ack;
        assert!(
            next.revision > lost.revision,
            "a revision is never given twice"
        );
    }
    assert!(was_lost);
}

#[test]
fn tail_torn_at_any_byte_of_the_last_frame_is_cut_there() {
    let directory = tempfile::tempdir().unwrap();
    let disk = killed_store(directory.path(), 3);
    let segment = disk.files(".seg").pop().unwrap();
    let whole = disk.read(&segment).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let is_start = |at: &usize| at.is_multiple_of(8) && whole[*at] == 0xf5;
    let start = (0..end).rev().find(is_start).unwrap();
    for torn in start..end {
        let copy = disk.copy();
        let mut content = whole.clone();
        content[torn..].fill(0);
        copy.write(&segment, content);
        let store = reopen(directory.path(), &copy).unwrap();
        assert_eq!(content_names(&store), ["k0", "k1"], "torn at {torn}");
        set(&store, "k9", "goes on");
        store.kill();
        let store = reopen(directory.path(), &copy).unwrap();
        assert_eq!(get(&store, "k9").as_deref(), Some("goes on"));
    }
}

fn content_names(store: &Store) -> Vec<String> {
    let names = ["k0", "k1", "k2"].into_iter().map(str::to_owned);
    names.filter(|name| get(store, name).is_some()).collect()
}

#[test]
fn flipped_byte_that_was_known_synced_is_damage_and_nothing_is_changed() {
    let directory = tempfile::tempdir().unwrap();
    let disk = killed_store(directory.path(), 10);
    let segment = disk.files(".seg").pop().unwrap();
    let mut content = disk.read(&segment).unwrap();
    // The body of an early frame: later frames know that it was synced.
    content[700] ^= 1;
    disk.write(&segment, content.clone());
    match reopen(directory.path(), &disk).map(drop) {
        Err(StoreError::Corrupt { path, offset, .. }) => {
            assert_eq!(path, segment);
            assert!((600..=700).contains(&offset), "{offset}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(disk.read(&segment).unwrap(), content);
}

#[test]
fn flipped_byte_in_a_closed_segment_is_damage_by_file_and_offset() {
    let directory = tempfile::tempdir().unwrap();
    let disk = killed_store(directory.path(), 800);
    let segments = disk.files(".seg");
    assert!(segments.len() >= 2, "{segments:?}");
    let mut content = disk.read(&segments[0]).unwrap();
    content[40_000] ^= 0x10;
    disk.write(&segments[0], content);
    match reopen(directory.path(), &disk).map(drop) {
        Err(error @ StoreError::Corrupt { .. }) => {
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            let text = error.to_string();
            assert!(text.contains(segments[0].to_str().unwrap()), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn missing_segment_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let disk = killed_store(directory.path(), 2000);
    let segments = disk.files(".seg");
    assert!(segments.len() >= 3, "{segments:?}");
    for missing in [0, 1, segments.len() - 1] {
        let copy = disk.copy();
        objsync_store::disk::Disk::remove(&copy, &segments[missing]).unwrap();
        let opened = reopen(directory.path(), &copy).map(drop);
        assert!(
            matches!(opened, Err(StoreError::Corrupt { .. })),
            "{missing}: {opened:?}"
        );
    }
}

#[test]
fn closed_store_that_lost_its_end_is_damage_not_a_torn_tail() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), options_on(&disk));
    set(&store, "a", "1");
    store.close().unwrap();
    let segment = disk.files(".seg").pop().unwrap();
    let mut content = disk.read(&segment).unwrap();
    let end = content.iter().rposition(|byte| *byte != 0).unwrap();
    content[end] ^= 1;
    disk.write(&segment, content);
    let opened = reopen(directory.path(), &disk).map(drop);
    assert!(
        matches!(opened, Err(StoreError::Corrupt { .. })),
        "{opened:?}"
    );
}

#[test]
fn index_that_was_deleted_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), StoreOptions::default());
    for number in 0..100 {
        set(&store, &format!("k{number}"), &number.to_string());
    }
    let before = content(&store);
    store.close().unwrap();
    std::fs::remove_dir_all(directory.path().join("index")).unwrap();
    let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
    assert_eq!(content(&store), before);
    assert_eq!(store.count(NS).unwrap(), 100);
}

#[test]
fn repeat_of_a_write_gets_its_first_answer_after_a_restart_too() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let mut store = open(directory.path(), options_on(&disk));
    let session = store.open_session(PEER).unwrap();
    let asked = |sequence: u64, floor: u64| Submission {
        namespace: NS,
        operation: Operation::Increment {
            key: key_of("n"),
            by: 1,
        },
        origin: Some(SubmissionOrigin {
            origin: Origin {
                session,
                sequence: Sequence(sequence),
            },
            floor: Sequence(floor),
            peer: PEER,
        }),
        durability: Some(Durability::Buffered),
    };
    let first = store.execute(asked(1, 1)).unwrap();
    assert_eq!(first.outcome, Ok(Outcome::Number(1)));
    assert_eq!(store.execute(asked(1, 1)).unwrap(), first);
    for round in 0..3 {
        match round {
            0 => store.kill(),
            _ => store.close().unwrap(),
        }
        store = reopen(directory.path(), &disk).unwrap();
        assert!(store.session_known(session, PEER));
        assert!(!store.session_known(session, PeerKey([8; 32])));
        assert_eq!(store.execute(asked(1, 1)).unwrap(), first, "round {round}");
    }
    let second = store.execute(asked(2, 2)).unwrap();
    assert_eq!(second.outcome, Ok(Outcome::Number(2)));
    let gone = store.execute(asked(1, 2)).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::OutcomeUnknown);
    store.close_session(session).unwrap();
    let ended = store.execute(asked(2, 2)).unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::OutcomeUnknown);
}

#[test]
fn refusal_with_an_origin_is_repeated_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), options_on(&disk));
    set(&store, "s", "text");
    let session = store.open_session(PEER).unwrap();
    let asked = Submission {
        namespace: NS,
        operation: Operation::Increment {
            key: key_of("s"),
            by: 1,
        },
        origin: Some(SubmissionOrigin {
            origin: Origin {
                session,
                sequence: Sequence(1),
            },
            floor: Sequence(1),
            peer: PEER,
        }),
        durability: Some(Durability::Sync),
    };
    let first = store.execute(asked.clone()).unwrap();
    assert!(first.outcome.is_err());
    execute(
        &store,
        Operation::Delete { key: key_of("s") },
        Durability::Sync,
    )
    .unwrap();
    store.kill();
    let store = reopen(directory.path(), &disk).unwrap();
    assert_eq!(
        store.execute(asked).unwrap(),
        first,
        "though it would succeed now"
    );
}

#[test]
fn log_is_read_from_any_revision_across_segments_and_epochs() {
    let directory = tempfile::tempdir().unwrap();
    let disk = killed_store(directory.path(), 1000);
    let store = reopen(directory.path(), &disk).unwrap();
    set(&store, "last", "x");
    let all = read_all(&store, Revision(0));
    assert_eq!(
        all.len(),
        1 + 1000 + 1,
        "with the one that made the namespace"
    );
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
    for start in [0, 1, 500, 999, 1001] {
        let after = all[start];
        assert_eq!(read_all(&store, after), all[start + 1..]);
    }
}

fn read_all(store: &Store, mut after: Revision) -> Vec<Revision> {
    let mut all = Vec::new();
    loop {
        let LogRead::Transactions(read) = store.read_log(after, 10_000).unwrap() else {
            panic!("nothing was trimmed");
        };
        let Some(last) = read.last() else {
            return all;
        };
        after = last.revision;
        all.extend(read.iter().map(|published| published.revision));
    }
}

#[test]
fn readonly_store_takes_no_lock_and_writes_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let disk = killed_store(directory.path(), 5);
    let owner = reopen(directory.path(), &disk).unwrap();
    // A copy: the owner's threads go on with theirs.
    let seen = disk.copy_with_synced();
    let before = (seen.write_count(), seen.sync_count());
    let options = StoreOptions {
        readonly: true,
        ..options_on(&seen)
    };
    let store = Store::open(directory.path(), options).unwrap();
    assert_eq!(get(&store, "k3").as_deref(), Some("3"));
    let refused = execute(&store, put("a", "1"), Durability::Sync).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied);
    store.close().unwrap();
    assert_eq!((seen.write_count(), seen.sync_count()), before);
    set(&owner, "a", "1");
}

#[test]
fn store_of_a_later_format_is_unsupported() {
    let directory = tempfile::tempdir().unwrap();
    let disk = killed_store(directory.path(), 1);
    let format = disk.files("FORMAT").pop().unwrap();
    let text = String::from_utf8(disk.read(&format).unwrap()).unwrap();
    let body = text.replace("format 0", "format 1");
    let body = &body[..body.rfind("crc ").unwrap()];
    let later = format!("{body}crc {:08x}\n", crc32c::crc32c(body.as_bytes()));
    disk.write(&format, later.into_bytes());
    let error = reopen(directory.path(), &disk).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

/// A write that the disk put in the wrong place: two frames that follow each other, of one length,
/// the second of which stands in the place of the first too. Each is right by itself.
fn misdirect(content: &mut [u8], from_end: bool) {
    let is_start = |at: &usize| content[*at] == 0xf5 && content[*at + 3] == 0;
    let starts: Vec<usize> = (128..content.len()).step_by(8).filter(is_start).collect();
    let is_even = |three: &&[usize]| three[1] - three[0] == three[2] - three[1];
    let threes: Vec<&[usize]> = starts.windows(3).filter(is_even).collect();
    let place = if from_end {
        threes.len() - 1
    } else {
        threes.len() / 2
    };
    let (first, second, third) = (threes[place][0], threes[place][1], threes[place][2]);
    let (first, second, bytes) = match from_end {
        true => (second, third, third - second),
        false => (first, second, second - first),
    };
    content.copy_within(second..second + bytes, first);
}

#[test]
fn frame_in_the_place_of_the_one_before_it_is_damage_in_any_segment() {
    let directory = tempfile::tempdir().unwrap();
    let disk = killed_store(directory.path(), 800);
    let segments = disk.files(".seg");
    assert!(segments.len() >= 2, "{segments:?}");
    for (segment, from_end) in [(&segments[0], false), (&segments[segments.len() - 1], true)] {
        let copy = disk.copy();
        let mut content = copy.read(segment).unwrap();
        misdirect(&mut content, from_end);
        copy.write(segment, content);
        let opened = reopen(directory.path(), &copy).map(drop);
        assert!(
            matches!(opened, Err(StoreError::Corrupt { .. })),
            "{}: {opened:?}",
            segment.display()
        );
    }
}
