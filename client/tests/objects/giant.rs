//! A value that is longer than any payload.

use std::path::Path;

use objsync::{Bytes, Dict, ErrorKind, ObjectError, Options};
use objsync_proto::chunk::record::{CheckedChunk, Packer};
use objsync_proto::chunk::tree::TreeBuilder;
use objsync_proto::chunk::{Child, Root, chunk_id};
use objsync_proto::cut::Chunking;
use objsync_proto::operation::Operation;
use objsync_proto::stored_chunks::{self, StoredChunks};
use objsync_store::{Store, StoreOptions, Submission};

use crate::peer::{k, v};

/// Puts a value of 5 GiB of zeros under "b": longer than any payload, made of one chunk.
fn put_giant(store: &Store) {
    let chunk = Bytes::from(vec![0; 64 << 10]);
    let child = Child {
        id: chunk_id(&chunk),
        bytes: chunk.len() as u64,
    };
    let mut records = vec![
        Packer::new(Default::default())
            .unwrap()
            .known_chunk(child.id, chunk)
            .unwrap(),
    ];
    let root = giant_root(child, &mut records);
    records.dedup_by_key(|record| record.id());
    let pins = store.chunks().pins();
    store.chunks().put(&pins, &records).unwrap();
    let bytes = u32::MAX.to_be_bytes();
    let head = [&[0xC6][..], &bytes].concat().into();
    let value = stored_chunks::seal(&StoredChunks { root, head }).unwrap();
    let namespace = store.namespace("default").unwrap().unwrap();
    let key = k("b").into();
    let submission = Submission {
        namespace,
        operation: Operation::Put { key, value },
        origin: None,
        durability: None,
    };
    store.execute(submission).unwrap();
}

fn giant_root(child: Child, nodes: &mut Vec<CheckedChunk>) -> Root {
    let mut tree = TreeBuilder::default();
    for _ in 0..(5_u64 << 30) / child.bytes {
        tree.push(child, nodes).unwrap();
    }
    tree.finish(Chunking::default().cutter(), nodes).unwrap()
}

/// "a", "b" and "c", of which the second is longer than any payload; and the revision before it.
pub(crate) fn with_a_giant(path: &Path) -> (Dict, objsync::Revision) {
    let dict = Dict::open(path, Options::default()).unwrap();
    dict.set(&k("a"), v("x")).wait().unwrap();
    let before = dict.status().position.unwrap().revision;
    dict.close().unwrap();
    let store = Store::open(path, StoreOptions::default()).unwrap();
    put_giant(&store);
    store.close().unwrap();
    let dict = Dict::open(path, Options::default()).unwrap();
    dict.set(&k("c"), v("x")).wait().unwrap();
    (dict, before)
}

/// That an error says which value is too long, and what reads it.
pub(crate) fn check_giant(error: &ObjectError) {
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
    assert!(text.contains("\"b\"") && text.contains("open"), "{text}");
}
