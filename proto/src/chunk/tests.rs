use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::record::{CODEC_RAW, CODEC_ZSTD, CheckedChunk, ChunkRecord, Packer};
use super::tree::TreeBuilder;
use super::*;
use crate::stored::Compression;

fn child(number: u64, bytes: u64) -> Child {
    let id = chunk_id(&number.to_le_bytes());
    Child { id, bytes }
}

/// Root and nodes over so many chunks of `bytes` each.
fn tree(count: u64, bytes: u64) -> (Root, Vec<CheckedChunk>) {
    let (mut builder, mut nodes) = (TreeBuilder::default(), Vec::new());
    for number in 0..count {
        builder.push(child(number, bytes), &mut nodes).unwrap();
    }
    let root = builder.finish(Cutter::default(), &mut nodes).unwrap();
    (root, nodes)
}

/// The chunks below a list of children, in order.
fn leaves(children: &[Child], level: u8, nodes: &[CheckedChunk]) -> Vec<Child> {
    if level == 0 {
        return children.to_vec();
    }
    let below = |child: &Child| {
        let node = nodes.iter().find(|node| node.id() == child.id).unwrap();
        let node = Node::decode(&node.plain().unwrap()).unwrap();
        assert_eq!((node.level(), node.bytes()), (level, child.bytes));
        leaves(node.children(), level - 1, nodes)
    };
    children.iter().flat_map(below).collect()
}

#[test]
fn tree_of_any_length_has_one_root_and_all_chunks_in_order() {
    for (count, depth) in [
        (1, 0),
        (64, 0),
        (65, 1),
        (1024, 1),
        (1025, 1),
        (65_536, 1),
        (65_537, 2),
    ] {
        let (root, nodes) = tree(count, 10);
        assert_eq!((root.depth(), root.bytes()), (depth, count * 10), "{count}");
        assert!(root.children().len() <= ROOT_CHILDREN_MAX);
        let expected: Vec<_> = (0..count).map(|number| child(number, 10)).collect();
        assert!(
            leaves(root.children(), depth, &nodes) == expected,
            "{count}"
        );
    }
}

#[test]
fn node_comes_back_and_its_id_is_no_chunks() {
    let node = Node::new(2, (0..3).map(|number| child(number, 5 + number)).collect()).unwrap();
    let record = node.encode();
    assert_eq!(Node::decode(&record).unwrap(), node);
    assert_eq!(node.bytes(), 18);
    assert_ne!(node_id(&record), chunk_id(&record));
    assert_eq!(
        chunk_id(b"abc").to_string(),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(node_id(b"abc").0[0], !0xba);
}

#[test]
fn node_that_cannot_be_is_refused() {
    let good = Node::new(1, vec![child(1, 5)]).unwrap().encode().to_vec();
    let decode = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut record = good.clone();
        change(&mut record);
        Node::decode(&record).unwrap_err().to_string()
    };
    assert!(decode(&|record| record.truncate(3)).contains("shorter"));
    assert!(decode(&|record| record[0] = 9).contains("version of a node is 9"));
    assert!(decode(&|record| record[1] = 0).contains("depth 0"));
    assert!(decode(&|record| record[1] = 4).contains("depth 4"));
    assert!(decode(&|record| record[2] = 2).contains("count"));
    assert!(decode(&|record| record.push(0)).contains("count"));
    assert!(decode(&|record| record.truncate(4)).contains("count"));
    assert!(decode(&|record| record[36..44].fill(0)).contains("0 bytes"));
    assert!(decode(&|record| record[36..44].fill(0xFF)).contains("limits"));
    assert!(
        Node::new(2, vec![child(1, CONTENT_BYTES_MAX), child(2, 1)]).is_err(),
        "the sum is bounded too"
    );
    assert!(Node::new(1, vec![child(1, 1); NODE_CHILDREN_MAX + 1]).is_err());
}

#[test]
fn chunk_comes_back_packed_or_raw_and_noise_stays_raw() {
    let text = Bytes::from(b"a line that comes again\n".repeat(3000));
    let mut packer = Packer::new(Compression::Zstd(3)).unwrap();
    let packed = packer.chunk(text.clone()).unwrap();
    assert_eq!(packed.record().codec, CODEC_ZSTD);
    assert!(packed.record().payload.len() < 1000);
    assert_eq!(packed.plain().unwrap(), text);
    assert_eq!(
        CheckedChunk::check(packed.record().clone()).unwrap(),
        packed
    );
    let raw = Packer::new(Compression::None)
        .unwrap()
        .chunk(text.clone())
        .unwrap();
    assert_eq!((raw.record().codec, raw.id()), (CODEC_RAW, packed.id()));

    let mut state = 7_u64;
    let noise: Vec<u8> = (0..CHUNK_BYTES)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        })
        .collect();
    let noise = packer.chunk(noise.into()).unwrap();
    assert_eq!(noise.record().codec, CODEC_RAW);
    assert!(packer.chunk(Bytes::new()).is_err());
    assert!(packer.chunk(vec![0; CHUNK_BYTES_MAX + 1].into()).is_err());
}

#[test]
fn record_that_is_not_what_its_id_says_is_refused() {
    let mut packer = Packer::new(Compression::Zstd(3)).unwrap();
    let good = packer.chunk(vec![5; 2000].into()).unwrap().into_record();
    let check = |change: &dyn Fn(&mut ChunkRecord)| {
        let mut record = good.clone();
        change(&mut record);
        CheckedChunk::check(record).unwrap_err()
    };
    let wrong_id = check(&|record| record.id.0[0] ^= 1);
    assert!(matches!(wrong_id, ChunkError::WrongHash { .. }));
    let wrong_kind = check(&|record| record.kind = 1);
    assert!(
        matches!(wrong_kind, ChunkError::WrongHash { .. }),
        "a chunk is no node"
    );
    assert!(matches!(
        check(&|record| record.kind = 2),
        ChunkError::Unknown { .. }
    ));
    assert!(matches!(
        check(&|record| record.codec = 2),
        ChunkError::Unknown { .. }
    ));
    assert!(matches!(
        check(&|record| record.codec = 0),
        ChunkError::WrongSize { .. }
    ));
    assert!(matches!(
        check(&|record| record.plain_bytes = 0),
        ChunkError::Size { .. }
    ));
    assert!(matches!(
        check(&|record| record.plain_bytes = u32::MAX),
        ChunkError::Size { .. }
    ));
    assert!(matches!(
        check(&|record| record.plain_bytes += 1),
        ChunkError::Malformed(_)
    ));
    let cut = check(&|record| record.payload.truncate(record.payload.len() - 1));
    assert!(matches!(cut, ChunkError::Malformed(_)));
}

#[test]
fn overlapping_children_are_found_from_any_offset() {
    let children: Vec<_> = [3, 4, 5]
        .into_iter()
        .zip(0..)
        .map(|(b, n)| child(n, b))
        .collect();
    let found = |start, end| -> Vec<u64> {
        overlapping(&children, 100, start, end)
            .map(|(at, _)| at)
            .collect()
    };
    assert_eq!(found(100, 112), [100, 103, 107]);
    assert_eq!(found(103, 104), [103]);
    assert_eq!(found(102, 104), [100, 103]);
    assert_eq!(found(112, 200), []);
    assert_eq!(found(0, 100), []);
}

proptest! {
    #[test]
    fn garbage_is_an_error_or_a_node_but_no_panic(mut garbage in vec(any::<u8>(), 0..200)) {
        if garbage.len() > 4 {
            garbage[..2].copy_from_slice(&[1, 1]);
        }
        if let Ok(node) = Node::decode(&garbage) {
            prop_assert_eq!(&node.encode()[..], &garbage[..]);
        }
    }

    #[test]
    fn garbage_of_a_record_is_refused_without_memory(
        kind in 0..3_u8, codec in 0..3_u8, plain_bytes: u32, payload in vec(any::<u8>(), 0..60),
    ) {
        let record = ChunkRecord {
            id: chunk_id(b""), kind, codec, plain_bytes, payload: payload.into(),
        };
        prop_assert!(CheckedChunk::check(record).is_err());
    }
}
