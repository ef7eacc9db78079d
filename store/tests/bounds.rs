//! Changes that are told by the part take, where they are decided and followed, the memory of the
//! values that they lead to: that is bounded as the values themselves are.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use harness::follow::{append_all, assert_equal, carried, catch_up, follow_options, made};
use harness::*;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{Durability, Origin, PeerKey, Sequence};
use objsync_proto::operation::{Edit, Operation, Patch};
use objsync_proto::stored::{self, Compression};
use objsync_proto::value::{self, Value};
use objsync_store::{
    FeedRead, IndexKind, Ship, Shipped, Step, Store, StoreLimits, StoreOptions, Submission,
    SubmissionOrigin,
};

/// Of one value.
const VALUE_BYTES: usize = 700 << 10;
/// What a batch may hold of them, and one more.
const BATCH_BYTES: u64 = (16 << 20) + (1 << 20);
const RECENT_BYTES: usize = 4 << 20;
const COUNT: u64 = 60;

fn options() -> StoreOptions {
    StoreOptions {
        index: IndexKind::Memory,
        limits: StoreLimits {
            recent_bytes_max: RECENT_BYTES,
            ring_bytes_max: 1 << 20,
            ..StoreLimits::default()
        },
        threads: false,
        ..StoreOptions::default()
    }
}

fn put_list(store: &Store, name: &str) {
    let bulk = "x".repeat(VALUE_BYTES);
    let list = value::encode(&Value::List(vec![Value::from(bulk.as_str())])).unwrap();
    let operation = Operation::Put {
        key: key_of(name),
        value: stored::seal(&list, Compression::None).unwrap(),
    };
    let answer = execute(store, operation, Durability::Sync).unwrap();
    assert!(answer.outcome.is_ok(), "{answer:?}");
}

fn append(name: &str, number: u64) -> Operation {
    let item = value::to_payload(&number).unwrap();
    Operation::Patch {
        key: key_of(name),
        patch: Patch::from(Edit::Append { items: vec![item] }),
    }
}

/// Queues so many appends at once; gives how many were answered.
fn queue(store: &Store, name: &str, count: u64) -> Arc<AtomicU64> {
    let answered = Arc::new(AtomicU64::new(0));
    for number in 0..count {
        let counted = Arc::clone(&answered);
        let done = move |answer: Result<objsync_store::Answer, _>| {
            assert!(answer.unwrap().outcome.is_ok());
            counted.fetch_add(1, Ordering::SeqCst);
        };
        store.submit(
            submission(append(name, number), Durability::Buffered),
            Box::new(done),
        );
    }
    answered
}

fn item_count(store: &Store, name: &str) -> usize {
    let stored = store.get(NS, &key_of(name)).unwrap().unwrap();
    match value::decode(&stored::open(&stored.value).unwrap()).unwrap() {
        Value::List(items) => items.len() - 1,
        other => panic!("{other:?}"),
    }
}

/// A peer has many appends to a large list in flight. They were one batch: a few KiB of log, and
/// as many large values at once in the recent map, whatever its bound.
#[test]
fn queued_changes_of_a_large_value_are_decided_as_far_as_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), options());
    while store.step(Step::BuildIndex).unwrap() {}
    put_list(&store, "k");
    let answered = queue(&store, "k", COUNT);
    while store.step(Step::Queue).unwrap() {
        let recent = store.status().recent_bytes;
        assert!(
            recent <= RECENT_BYTES as u64 + BATCH_BYTES,
            "{recent} bytes"
        );
    }
    assert_eq!(answered.load(Ordering::SeqCst), COUNT);
    assert_eq!(item_count(&store, "k"), 60);
}

/// Everything of a source's log after what a copy has.
fn shipped(source: &Store, copy: &Store) -> Vec<Shipped> {
    source.flush(source.position().revision).unwrap();
    let place = copy.copy_place().unwrap();
    let mut cursor = source.ship_after(&place).unwrap().unwrap();
    match source.ship(&mut cursor, usize::MAX).unwrap() {
        Ship::Frames(frames) => frames.iter().map(carried).collect(),
        other => panic!("{other:?}"),
    }
}

/// A source, with a list under each name, and a copy of it.
fn pair(folder: &std::path::Path, names: &[&str]) -> (Store, Store) {
    let source = open(&made(folder, "source"), options());
    for name in names {
        put_list(&source, name);
    }
    let mut copy = None;
    catch_up(&source, &folder.join("copy"), &options(), &mut copy).unwrap();
    let copy = copy.unwrap();
    while copy.step(Step::BuildIndex).unwrap() {}
    (source, copy)
}

#[test]
fn copy_takes_changes_of_a_large_value_as_far_as_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let (source, copy) = pair(folder.path(), &["k"]);
    for number in 0..COUNT {
        execute(&source, append("k", number), Durability::Buffered).unwrap();
    }
    let mut frames = shipped(&source, &copy);
    let mut calls = 0;
    while !frames.is_empty() {
        frames = copy.append_shipped(frames).unwrap().rest;
        calls += 1;
        let recent = copy.status().recent_bytes;
        assert!(
            recent <= RECENT_BYTES as u64 + BATCH_BYTES,
            "{recent} bytes"
        );
    }
    assert!(calls > 2, "{calls} calls");
    assert_equal(&copy, &source);
    assert_eq!(item_count(&copy, "k"), 60);
}

/// Frames of transactions as one, as an owner would write it that minds no memory.
fn as_one_frame(frames: &[Shipped]) -> Shipped {
    let mut head = frames[0].head(0);
    let body: Vec<u8> = frames
        .iter()
        .flat_map(|frame| frame.body().to_vec())
        .collect();
    head.count = frames.iter().map(|frame| frame.head(0).count).sum();
    head.body_bytes = u32::try_from(body.len()).unwrap();
    head.body_crc = crc32c::crc32c(&body);
    Shipped::new(&head, Bytes::from(body)).unwrap()
}

#[test]
fn copy_takes_one_frame_of_many_such_changes_and_holds_few_of_its_values() {
    let folder = tempfile::tempdir().unwrap();
    let (source, copy) = pair(folder.path(), &["k"]);
    for number in 0..COUNT {
        execute(&source, append("k", number), Durability::Buffered).unwrap();
    }
    let follower = copy.position().revision;
    let frame = as_one_frame(&shipped(&source, &copy));
    let recent_seen = Arc::new(AtomicU64::new(0));
    let (seen, watched) = (Arc::clone(&recent_seen), copy.clone());
    let _guard = copy.feed().on_commit(Box::new(move || {
        seen.fetch_max(watched.status().recent_bytes, Ordering::SeqCst);
    }));
    append_all(&copy, vec![frame]).unwrap();
    let recent = recent_seen.load(Ordering::SeqCst);
    assert!(
        recent <= RECENT_BYTES as u64 + BATCH_BYTES,
        "{recent} bytes"
    );
    assert_eq!(copy.position().revision, source.position().revision);
    assert_eq!(content(&copy), content(&source));
    // Who follows the copy has missed nothing that the ring or the log does not have.
    assert!(matches!(copy.feed().read(follower, 1), FeedRead::Behind));
    // And it is there after the copy was closed, as any other frame.
    copy.close().unwrap();
    let copy = Store::open(&folder.path().join("copy"), follow_options(&options())).unwrap();
    assert_eq!(content(&copy), content(&source));
}

/// Where the last of them lies on another entry, nothing of the frame is taken.
#[test]
fn frame_of_many_such_changes_is_refused_before_any_of_it_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    let (source, copy) = pair(folder.path(), &["k"]);
    for number in 0..COUNT {
        execute(&source, append("k", number), Durability::Buffered).unwrap();
    }
    let mut frames = shipped(&source, &copy);
    let last = frames.len() - 1;
    frames.swap(last - 1, last);
    let before = (copy.copy_place(), content(&copy));
    let error = copy
        .append_shipped(vec![as_one_frame(&frames)])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("changes revision"), "{error}");
    assert_eq!((copy.copy_place(), content(&copy)), before);
}

/// The transactions of frames as one, of which each changed one key and was answered a number.
fn as_one_transaction(frames: &[Shipped]) -> Shipped {
    let mut head = frames[0].head(0);
    // Flags, outcome and number; then how many effects.
    let (start, count_at) = (0, 10);
    let mut body = frames[0].body()[start..count_at].to_vec();
    body.push(u8::try_from(frames.len()).unwrap());
    for frame in frames {
        assert_eq!(frame.body()[count_at], 1, "effects");
        body.extend_from_slice(&frame.body()[count_at + 1..]);
    }
    head.body_bytes = u32::try_from(body.len()).unwrap();
    head.body_crc = crc32c::crc32c(&body);
    Shipped::new(&head, Bytes::from(body)).unwrap()
}

#[test]
fn transaction_of_more_such_changes_than_its_limit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..30).map(|number| format!("k{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (source, copy) = pair(folder.path(), &names);
    for name in &names {
        execute(&source, append(name, 1), Durability::Buffered).unwrap();
    }
    let frames = shipped(&source, &copy);
    let before = (copy.copy_place(), content(&copy));
    let error = copy
        .append_shipped(vec![as_one_transaction(&frames)])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("the limit is"), "{error}");
    assert_eq!((copy.copy_place(), content(&copy)), before);
    append_all(&copy, vec![as_one_transaction(&frames[..20])]).unwrap();
    assert_eq!(item_count(&copy, "k19"), 1);
}

/// A peer's request, of which one value is kept, in the buffer that it came in.
#[test]
fn value_of_a_peer_keeps_no_buffer_of_the_network() {
    let folder = tempfile::tempdir().unwrap();
    let (source, copy) = pair(folder.path(), &[]);
    let session = source.open_session(PeerKey([9; 32])).unwrap();
    let value = value_of(&"x".repeat(20 << 10));
    let key = key_of("k");
    let buffer = Bytes::from([&key[..], &value[..], &[0; 100 << 10]].concat());
    let operation = Operation::Put {
        key: buffer.slice(..key.len()),
        value: buffer.slice(key.len()..key.len() + value.len()),
    };
    let asked = SubmissionOrigin {
        origin: Origin {
            session,
            sequence: Sequence(1),
        },
        peer: PeerKey([9; 32]),
        floor: Sequence(1),
    };
    let write = Submission {
        origin: Some(asked),
        ..submission(operation, Durability::Sync)
    };
    assert!(source.execute(write).unwrap().outcome.is_ok());
    assert!(
        buffer.is_unique(),
        "ring and recent map hold what they count"
    );
    let frames = shipped(&source, &copy);
    let bodies: Vec<Bytes> = frames.iter().map(|frame| frame.body().clone()).collect();
    append_all(&copy, frames).unwrap();
    assert!(bodies.iter().all(Bytes::is_unique), "nor does a copy");
    assert_equal(&copy, &source);
}
