//! What a source may send, by what it was asked for.

use objsync_proto::chunk::record::Packer;
use objsync_proto::chunk::{Child, Node};
use objsync_proto::limits::CHUNK_DEPTH_MAX;
use objsync_proto::stored::Compression;

use super::*;

fn chunk(content: &'static [u8]) -> CheckedChunk {
    let mut packer = Packer::new(Compression::None).unwrap();
    packer.chunk(Bytes::from_static(content)).unwrap()
}

fn node(level: u8, below: &CheckedChunk) -> CheckedChunk {
    let (id, bytes) = (below.id(), 1);
    CheckedChunk::node(&Node::new(level, vec![Child { id, bytes }]).unwrap())
}

fn taken(
    level: Option<u8>,
    sent: &[&CheckedChunk],
    asked: &[&CheckedChunk],
) -> Result<(), Failure> {
    let ids = asked.iter().map(|chunk| chunk.id()).collect();
    let records = sent.iter().map(|chunk| chunk.record().clone()).collect();
    Wanted { ids, level }.take(records).map(drop)
}

#[test]
fn node_is_taken_only_where_one_of_its_level_was_asked_for() {
    let chunk = chunk(b"a");
    // As a source would do that wants its follower to go down without end.
    let mut chain = vec![node(1, &chunk)];
    for at in 0..100 {
        chain.push(node(1, &chain[at]));
    }
    let top = &chain[100];
    assert_eq!(taken(None, &[top], &[top]), Ok(()), "named by a value");
    for below in &chain[..100] {
        let why = taken(Some(0), &[below], &[below]).unwrap_err();
        assert_eq!(why.kind, ErrorKind::Invalid);
    }
    for level in 1..=CHUNK_DEPTH_MAX {
        let node = node(level, &chunk);
        for asked in 0..=CHUNK_DEPTH_MAX {
            let is_taken = taken(Some(asked), &[&node], &[&node]).is_ok();
            assert_eq!(is_taken, asked == level);
        }
        assert!(taken(Some(level), &[&chunk], &[&chunk]).is_err());
    }
    assert_eq!(taken(Some(0), &[&chunk], &[&chunk]), Ok(()));
}

#[test]
fn chunk_that_was_not_asked_for_or_comes_twice_is_refused() {
    let (one, other) = (chunk(b"a"), chunk(b"b"));
    assert_eq!(taken(None, &[&other, &one], &[&one, &other]), Ok(()));
    for sent in [&[&other][..], &[&one, &one], &[&one, &other]] {
        let why = taken(None, sent, &[&one]).unwrap_err();
        assert_eq!(why.kind, ErrorKind::Invalid);
    }
}
