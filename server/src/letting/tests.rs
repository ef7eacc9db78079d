use objsync_proto::chunk::record::{CheckedChunk, Packer};
use objsync_proto::chunk::{Child, Cutter};
use objsync_proto::stored::Compression;
use objsync_store::{IndexKind, Store, StoreOptions};

use super::*;

fn tree(depth: u8, chunk: &CheckedChunk) -> Root {
    let child = Child {
        id: chunk.id(),
        bytes: 1,
    };
    Root::new(Cutter::default(), depth, vec![child]).unwrap()
}

/// An answer is given on the store's own thread, which may neither wait nor start a thread a write.
#[test]
fn trees_wait_for_their_connection_up_to_a_limit_and_their_roots_are_let_go_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        index: IndexKind::Memory,
        ..StoreOptions::default()
    };
    let store = Store::open(directory.path(), options).unwrap();
    let (pins, letting) = (store.chunks().pins(), Letting::default());
    let mut packer = Packer::new(Compression::None).unwrap();
    let mut chunk = |content: u8| packer.chunk(vec![content].into()).unwrap();
    let (below, count) = (chunk(0), 3 * u8::try_from(WAITING_MAX).unwrap());
    let chunks: Vec<_> = (1..=count).map(chunk).collect();
    store.chunks().put(&pins, &chunks).unwrap();
    store
        .chunks()
        .put(&pins, std::slice::from_ref(&below))
        .unwrap();
    for chunk in &chunks {
        letting.go(&pins, tree(1, chunk));
        letting.go(&pins, tree(0, chunk));
    }
    assert_eq!(pins.count(), 1);
    assert_eq!(letting.waiting().len(), WAITING_MAX);
    assert_eq!(letting.take(), Some(tree(1, &chunks[0])));
    // Nothing is kept below: there is nothing to walk for.
    letting.go(&pins, tree(0, &below));
    letting.go(&pins, tree(1, &chunks[1]));
    assert_eq!(letting.waiting().len(), WAITING_MAX - 1);
}
