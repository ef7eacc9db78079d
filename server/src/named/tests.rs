use objsync_proto::chunk::record::Packer;
use objsync_proto::chunk::{Cutter, chunk_id};
use objsync_proto::limits::{CHUNK_DEPTH_MAX, NODE_CHILDREN_MAX, ROOT_CHILDREN_MAX};
use objsync_proto::stored::Compression;
use objsync_store::{IndexKind, Store, StoreOptions};

use super::*;

fn store(directory: &tempfile::TempDir) -> Store {
    let options = StoreOptions {
        index: IndexKind::Memory,
        ..StoreOptions::default()
    };
    Store::open(directory.path(), options).unwrap()
}

/// A chunk of one byte, and nodes over it of which each lists the one below `width` times.
fn tower(width: usize) -> (Vec<CheckedChunk>, Root) {
    let mut packer = Packer::new(Compression::None).unwrap();
    let mut records = vec![packer.chunk(vec![7].into()).unwrap()];
    let mut bytes = 1;
    for level in 1..=CHUNK_DEPTH_MAX {
        let id = records.last().unwrap().id();
        let node = Node::new(level, vec![Child { id, bytes }; width]).unwrap();
        bytes = node.bytes();
        records.push(CheckedChunk::node(&node));
    }
    let id = records.last().unwrap().id();
    let top = vec![Child { id, bytes }; ROOT_CHILDREN_MAX];
    let root = Root::new(Cutter::default(), CHUNK_DEPTH_MAX, top).unwrap();
    (records, root)
}

/// Four records of which a tree of 64 Gi places is made. A walk that reads a node anew wherever it
/// stands does not come back.
#[test]
fn tree_whose_nodes_repeat_is_walked_by_its_different_nodes() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory);
    let (records, root) = tower(NODE_CHILDREN_MAX);
    let pins = store.chunks().pins();
    store.chunks().put(&pins, &records).unwrap();
    let no_one = chunk_id(b"no one");
    let mut wanted: HashSet<_> = records.iter().map(CheckedChunk::id).collect();
    wanted.insert(no_one);
    let named = among(&store.chunks(), &root, wanted, NODES_READ_MAX).unwrap();
    let found: HashSet<_> = named.iter().copied().collect();
    let all = records.iter().map(|record| (record.id(), record.kind()));
    assert_eq!(found, all.collect());
    assert_eq!(named.len(), records.len());
    // What was not asked about is not told.
    let chunk = records[0].id();
    let named = among(&store.chunks(), &root, [chunk].into(), NODES_READ_MAX).unwrap();
    assert_eq!(named, [(chunk, ChunkKind::Chunk)]);
}

#[test]
fn walk_ends_after_so_many_nodes() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory);
    let (records, root) = tower(1);
    let pins = store.chunks().pins();
    store.chunks().put(&pins, &records).unwrap();
    let ids = |some: &[CheckedChunk]| some.iter().map(CheckedChunk::id).collect::<HashSet<_>>();
    for reads_max in 0..=3 {
        let named = among(&store.chunks(), &root, ids(&records), reads_max).unwrap();
        let found: HashSet<_> = named.iter().map(|(id, _)| *id).collect();
        assert_eq!(found, ids(&records[3 - reads_max..]));
    }
}
