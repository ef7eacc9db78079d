//! A server that answers what it should not.

use std::thread;
use std::time::{Duration, Instant};

use objsync_proto::chunk::record::Packer;
use objsync_proto::chunk::{Child, Cutter, Root, chunk_id};
use objsync_proto::ids::{Epoch, EpochName, Position, Revision, StoreId};
use objsync_proto::stored::Compression;
use objsync_proto::stored_chunks::{StoredChunks, seal};

use super::*;
use crate::core::alone::alone;
use crate::large::reference::reference;
use crate::options::Options;
use crate::wait::block_on;

const BYTES: usize = 100_000;

fn chunk(content: &[u8]) -> ChunkRecord {
    let mut packer = Packer::new(Compression::None).unwrap();
    let chunk = packer.chunk(Bytes::copy_from_slice(content)).unwrap();
    chunk.into_record()
}

/// A value of one chunk, which states so many bytes.
fn value_of(content: &[u8], bytes: u64) -> LargeValue {
    let child = Child {
        id: chunk_id(content),
        bytes,
    };
    let root = Root::new(Cutter::default(), 0, vec![child]).unwrap();
    let mut head = vec![0xC6];
    head.extend_from_slice(&u32::try_from(bytes).unwrap().to_be_bytes());
    let stored = seal(&StoredChunks {
        root,
        head: head.into(),
    });
    let payload = reference(b"\x01", Revision(7), &stored.unwrap());
    LargeValue::of(&payload).unwrap().unwrap()
}

/// What a reader of the only chunk is told when the server answers with these frames.
fn told(value: &LargeValue, answer: Vec<Feed>) -> Result<Vec<Bytes>> {
    let options = Options {
        timeout: Duration::from_secs(20),
        ..Options::default()
    };
    let core = alone(options, |_| None);
    let child = value.root.children()[0];
    let place = ChunkPlace {
        id: child.id,
        level: 0,
        offset: 0,
    };
    let places = [(place, child.bytes)];
    thread::scope(|scope| {
        let reading = scope.spawn(|| block_on("test", fetch(&core, value, &places)).unwrap());
        let deadline = Instant::now() + Duration::from_secs(20);
        let sink = loop {
            assert!(Instant::now() < deadline, "nothing was asked");
            match core.take_queued().pop_front() {
                Some(Command::Feed { wanted, sink }) => {
                    assert!(matches!(wanted.what, FeedKind::Chunks(_)));
                    break sink;
                }
                _ => thread::yield_now(),
            }
        };
        for frame in answer {
            // A reader that was told enough does not listen any more.
            let _ = sink.blocking_send(Ok(frame));
        }
        reading.join().unwrap()
    })
}

fn complete() -> Feed {
    Feed::Complete {
        position: Position {
            store: StoreId([1; 16]),
            epoch: Epoch {
                number: 1,
                name: EpochName([1; 16]),
            },
            revision: Revision(7),
        },
    }
}

#[test]
fn chunk_that_is_what_its_id_says_is_taken() {
    let content = vec![7; BYTES];
    let value = value_of(&content, BYTES as u64);
    let read = told(
        &value,
        vec![Feed::Chunks(vec![chunk(&content)]), complete()],
    );
    assert_eq!(read.unwrap(), [content]);
}

#[test]
fn other_bytes_under_the_id_of_a_chunk_are_refused() {
    let content = vec![7; BYTES];
    let value = value_of(&content, BYTES as u64);
    let mut forged = chunk(&vec![8; BYTES]);
    forged.id = chunk_id(&content);
    let error = told(&value, vec![Feed::Chunks(vec![forged]), complete()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let text = error.to_string();
    assert!(text.contains("has other content: it hashes to"), "{text}");
    assert!(text.contains("value of key"), "{text}");
}

#[test]
fn chunk_that_was_not_asked_for_is_refused() {
    let value = value_of(&vec![7; BYTES], BYTES as u64);
    let other = chunk(b"something else");
    let error = told(&value, vec![Feed::Chunks(vec![other]), complete()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("was not asked for"), "{error}");
}

#[test]
fn chunk_of_another_size_than_its_parent_states_is_refused() {
    let content = vec![7; BYTES];
    let value = value_of(&content, BYTES as u64 + 1);
    let error = told(
        &value,
        vec![Feed::Chunks(vec![chunk(&content)]), complete()],
    )
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(
        error
            .to_string()
            .contains("100000 bytes, where 100001 bytes are stated"),
        "{error}"
    );
}

/// The chunk came with a value that states its true size; a second one names it with another.
#[test]
fn chunk_in_the_cache_of_another_size_than_its_parent_states_is_refused() {
    let content = vec![7; BYTES];
    let value = value_of(&content, BYTES as u64 + 1);
    let core = alone(Options::default(), |_| None);
    let child = value.root.children()[0];
    core.large.cache.put(child.id, content.clone().into());
    let place = ChunkPlace {
        id: child.id,
        level: 0,
        offset: 0,
    };
    let read = |stated| block_on("test", fetch(&core, &value, &[(place, stated)])).unwrap();
    assert_eq!(read(BYTES as u64).unwrap(), [content]);
    let error = read(child.bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let text = error.to_string();
    assert!(text.contains("100000 bytes, where 100001"), "{text}");
}

#[test]
fn chunk_that_claims_a_huge_content_takes_no_memory() {
    let value = value_of(&vec![7; BYTES], BYTES as u64);
    let mut bomb = chunk(b"small");
    bomb.plain_bytes = u32::MAX;
    let error = told(&value, vec![Feed::Chunks(vec![bomb]), complete()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn chunk_that_is_left_out_is_a_value_that_is_no_longer_kept() {
    let value = value_of(&vec![7; BYTES], BYTES as u64);
    let error = told(&value, vec![complete()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(
        error.to_string().contains("at revision 7 is not there"),
        "{error}"
    );
}

#[test]
fn chunk_that_comes_twice_is_refused() {
    let content = vec![7; BYTES];
    let value = value_of(&content, BYTES as u64);
    let twice = vec![chunk(&content), chunk(&content)];
    let error = told(&value, vec![Feed::Chunks(twice), complete()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("was not asked for"), "{error}");
}

#[test]
fn frames_without_end_are_refused_and_not_waited_for() {
    let value = value_of(&vec![7; BYTES], BYTES as u64);
    let mut empty: Vec<Feed> = (0..100).map(|_| Feed::Chunks(Vec::new())).collect();
    empty.push(complete());
    for frames in [empty, vec![Feed::Resume, complete()]] {
        let error = told(&value, frames).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("sent more than"), "{error}");
    }
}
