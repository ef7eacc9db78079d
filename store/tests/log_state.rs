//! `log.state`: a store that was closed is opened without its log; what is not right about that file
//! does no harm.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;

use std::fs;
use std::path::Path;

use harness::disk::SimDisk;
use harness::random::Random;
use harness::work::{Model, assert_is, copy_settled, files, options, write};
use harness::*;
use objsync_proto::ids::{Origin, PeerKey, Sequence, SessionId};
use objsync_proto::operation::{Operation, Outcome};
use objsync_store::{IndexKind, Store, StoreError, StoreOptions, Submission, SubmissionOrigin};

/// A segment's header.
const HEADER_BYTES: usize = 128;

fn increment((session, peer): (SessionId, PeerKey)) -> Submission {
    Submission {
        namespace: NS,
        operation: Operation::Increment {
            key: key_of("counter"),
            by: 1,
        },
        origin: Some(SubmissionOrigin {
            origin: Origin {
                session,
                sequence: Sequence(1),
            },
            floor: Sequence(1),
            peer,
        }),
        durability: None,
    }
}

/// Of one segment, until it is closed; nothing is in a snapshot.
fn one_segment() -> StoreOptions {
    let mut options = options(IndexKind::Memory);
    options.limits.segment_bytes = 32 << 10;
    options.limits.snapshot_log_bytes = 1 << 20;
    options
}

fn open_in(directory: &Path) -> Result<Store, StoreError> {
    Store::open(directory, one_segment())
}

/// A store that was closed, with a session; no snapshot covers its log.
fn closed(directory: &Path, seed: u8) -> (Model, (SessionId, PeerKey)) {
    let store = open(directory, one_segment());
    let peer = PeerKey([seed; 32]);
    let session = (store.open_session(peer).unwrap(), peer);
    let first = store.execute(increment(session)).unwrap();
    assert_eq!(first.outcome, Ok(Outcome::Number(1)));
    let mut model = content(&store);
    let mut random = Random::new(u64::from(seed));
    while store.status().log_bytes < 20 << 10 {
        write(&store, &mut model, &mut random, 1 << 10);
    }
    store.close().unwrap();
    assert!(directory.join("log.state").exists());
    (model, session)
}

/// That nothing is missing: neither keys nor answers that were given.
fn assert_whole(directory: &Path, (model, session): &(Model, (SessionId, PeerKey))) {
    let store = open_in(directory).unwrap();
    assert!(store.session_known(session.0, session.1));
    let again = store.execute(increment(*session)).unwrap();
    assert_eq!(again.outcome, Ok(Outcome::Number(1)), "the first answer");
    assert_is(&store, model);
    store.close().unwrap();
}

#[test]
fn store_that_was_closed_is_opened_without_its_log() {
    let directory = tempfile::tempdir().unwrap();
    let (_, session) = closed(directory.path(), 1);
    // The last segment has the end mark and nothing else.
    let mut segments = files(directory.path(), ".seg");
    segments.sort();
    segments.pop();
    assert!(!segments.is_empty());
    for path in segments {
        let mut bytes = fs::read(&path).unwrap();
        // Its first frame is none; values are found by the footer.
        bytes[HEADER_BYTES] = 0;
        fs::write(&path, bytes).unwrap();
    }
    let store = open_in(directory.path()).unwrap();
    assert!(store.session_known(session.0, session.1));
    store.kill();
    drop(store);
    fs::remove_file(directory.path().join("log.state")).unwrap();
    let read = open_in(directory.path()).map(drop);
    assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{read:?}");
}

#[test]
fn state_of_the_log_that_is_not_right_counts_for_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (store, other) = (
        directory.path().join("store"),
        directory.path().join("other"),
    );
    let whole = closed(&store, 2);
    closed(&other, 3);
    let right = fs::read(store.join("log.state")).unwrap();
    let mut wrong = vec![
        fs::read(other.join("log.state")).unwrap(),
        Vec::new(),
        right[..right.len() / 2].to_vec(),
        [&right[..], b"x"].concat(),
        with_later_section(&right),
    ];
    for byte in (0..right.len()).step_by(11) {
        let mut flipped = right.clone();
        flipped[byte] ^= 1 << (byte % 8);
        wrong.push(flipped);
    }
    for (number, wrong) in wrong.into_iter().enumerate() {
        let copy = directory.path().join(format!("copy{number}"));
        copy_settled(&store, &copy);
        fs::write(copy.join("log.state"), wrong).unwrap();
        assert_whole(&copy, &whole);
    }
}

/// As a later build may write it: whole, with a section of a version that nobody here knows.
fn with_later_section(right: &[u8]) -> Vec<u8> {
    let mut bytes = right[..right.len() - 4].to_vec();
    // Behind the magic, the version, the store and the salt: three numbers and a length.
    let mut at = 8 + 1 + 16 + 16;
    for _ in 0..4 {
        while bytes[at] & 0x80 != 0 {
            at += 1;
        }
        at += 1;
    }
    bytes[at] = 0xff;
    let crc = crc32c::crc32c(&bytes);
    [&bytes[..], &crc.to_le_bytes()].concat()
}

#[test]
fn state_of_an_earlier_end_is_read_on_from() {
    let directory = tempfile::tempdir().unwrap();
    let (mut model, session) = closed(directory.path(), 4);
    let earlier = fs::read(directory.path().join("log.state")).unwrap();
    let store = open_in(directory.path()).unwrap();
    let second = store.open_session(session.1).unwrap();
    write(&store, &mut model, &mut Random::new(5), 4 << 10);
    store.kill();
    drop(store);
    assert_eq!(
        fs::read(directory.path().join("log.state")).unwrap(),
        earlier
    );
    let store = open_in(directory.path()).unwrap();
    assert!(
        store.session_known(second, session.1),
        "what came behind it"
    );
    drop(store);
    assert_whole(directory.path(), &(model, session));
}

#[test]
fn store_on_a_full_disk_is_closed_in_order() {
    for room in (0..200).step_by(8) {
        let directory = tempfile::tempdir().unwrap();
        let disk = SimDisk::new();
        let options = StoreOptions {
            disk: std::sync::Arc::new(disk.clone()),
            ..one_segment()
        };
        let store = open(directory.path(), options.clone());
        let mut model = Model::new();
        let mut random = Random::new(6);
        while store.status().log_bytes < 20 << 10 {
            write(&store, &mut model, &mut random, 1 << 10);
        }
        disk.limit(Some(disk.bytes() + room));
        store.close().unwrap();
    }
}
