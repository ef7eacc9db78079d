//! What a connection keeps of its uploads, and for how long.

use objsync_proto::chunk::record::Packer;
use objsync_proto::chunk::tree::TreeBuilder;
use objsync_proto::chunk::{Child, Cutter, Root};
use objsync_proto::limits::NODE_CHILDREN_MAX;
use objsync_proto::stored::Compression;
use objsync_store::{IndexKind, Store, StoreOptions};

use super::*;
use crate::chunks::Look;

struct Uploading {
    store: Store,
    uploads: Uploads,
    _directory: tempfile::TempDir,
}

impl Uploading {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            index: IndexKind::Memory,
            ..StoreOptions::default()
        };
        let store = Store::open(directory.path(), options).unwrap();
        Self {
            uploads: Uploads::new(store.chunks().pins(), Known::default()),
            store,
            _directory: directory,
        }
    }

    fn put(&self, chunks: &[CheckedChunk]) -> Result<(), Failure> {
        self.uploads
            .put(&self.store.chunks(), chunks.to_vec(), false)
    }

    fn is_there(&self, id: ChunkId) -> bool {
        self.store.chunks().get(id).unwrap().is_some()
    }
}

/// The records of a value of so many chunks, in the order in which they are sent, and its root.
fn value(count: usize) -> (Vec<CheckedChunk>, Root) {
    let mut packer = Packer::new(Compression::None).unwrap();
    let (mut builder, mut records) = (TreeBuilder::default(), Vec::new());
    for number in 0..count {
        let content = number.to_le_bytes().to_vec();
        let chunk = packer.chunk(content.into()).unwrap();
        let (id, bytes) = (chunk.id(), 8);
        records.push(chunk);
        builder.push(Child { id, bytes }, &mut records).unwrap();
    }
    let root = builder.finish(Cutter::default(), &mut records).unwrap();
    (records, root)
}

fn ids(chunks: &[CheckedChunk]) -> Vec<ChunkId> {
    chunks.iter().map(CheckedChunk::id).collect()
}

/// A value of 16 TiB has 256 times more chunks than a connection may keep.
#[test]
fn connection_keeps_nodes_in_place_of_what_they_list() {
    let peer = Uploading::new();
    let count = 3 * NODE_CHILDREN_MAX + 5;
    let (records, root) = value(count);
    assert_eq!(root.depth(), 1);
    for some in records.chunks(300) {
        peer.put(some).unwrap();
    }
    let pins = &peer.uploads.pins;
    assert_eq!(pins.count(), root.children().len());
    assert!(root.children().iter().all(|child| pins.holds(&child.id)));
    // Nothing names it yet, and all of it stays.
    peer.store.collect_chunks().unwrap();
    assert!(ids(&records).into_iter().all(|id| peer.is_there(id)));
}

#[test]
fn connection_that_keeps_very_much_lets_go_below_nodes_that_it_is_told_of() {
    let mut peer = Uploading::new();
    let (records, root) = value(2 * NODE_CHILDREN_MAX);
    let store = peer.store.clone();
    let (chunks, others) = (store.chunks(), store.chunks().pins());
    chunks.put(&others, &records).unwrap();
    let all: HashSet<_> = ids(&records).into_iter().collect();
    let nodes: HashSet<_> = root.children().iter().map(|child| child.id).collect();
    let below: HashSet<_> = all.difference(&nodes).copied().collect();
    assert_eq!(peer.uploads.keep(&chunks, &below), Ok(below.clone()));
    assert_eq!(peer.uploads.keep(&chunks, &nodes), Ok(nodes.clone()));
    assert_eq!(peer.uploads.pins.count(), all.len(), "it keeps little yet");
    peer.uploads.count_max = all.len();
    assert_eq!(peer.uploads.keep(&chunks, &nodes), Ok(nodes.clone()));
    assert_eq!(peer.uploads.pins.count(), nodes.len());
    peer.uploads.count_max = nodes.len() - 1;
    let full = peer.uploads.keep(&chunks, &nodes).unwrap_err();
    assert_eq!(full.kind, ErrorKind::Full);
    assert_eq!(peer.put(&records).unwrap_err().kind, ErrorKind::Full);
}

/// A write of two large values that share content: one asks while the other uploads.
#[test]
fn chunk_that_is_uploaded_while_it_is_asked_for_is_kept() {
    let peer = Uploading::new();
    let (records, _) = value(1);
    let ids = ids(&records);
    let look = Look::new(&peer.store.chunks(), &ids);
    peer.put(&records).unwrap();
    // It was not there, so its peer is told to send it.
    let told = look.there(&ids).into_iter().collect();
    let told = peer.uploads.keep(&peer.store.chunks(), &told);
    assert_eq!(told, Ok(HashSet::new()));
    drop(look);
    peer.store.collect_chunks().unwrap();
    assert!(peer.is_there(ids[0]));
    // What was only asked for is not kept.
    peer.uploads.pins.release(ids.iter().copied());
    drop(Look::new(&peer.store.chunks(), &ids));
    peer.store.collect_chunks().unwrap();
    assert!(!peer.is_there(ids[0]));
}

/// The owner was started anew, or has collected a chunk: what the peer has is asked for again.
#[test]
fn node_that_lists_what_is_not_there_is_to_be_tried_again() {
    let peer = Uploading::new();
    let (records, _) = value(NODE_CHILDREN_MAX);
    let (node, chunks) = records.split_last().unwrap();
    peer.put(chunks).unwrap();
    // As if it was collected: it is kept no more.
    peer.uploads.pins.release(ids(chunks));
    peer.store.collect_chunks().unwrap();
    let lost = peer.put(std::slice::from_ref(node)).unwrap_err();
    assert_eq!(lost.kind, ErrorKind::Conflict);
    let anew = Uploads::new(peer.store.chunks().pins(), Known::default());
    let unknown = anew.put(&peer.store.chunks(), vec![node.clone()], false);
    assert_eq!(unknown.unwrap_err(), lost);
    peer.put(&records).unwrap();
    assert_eq!(peer.uploads.pins.count(), 1);
}
