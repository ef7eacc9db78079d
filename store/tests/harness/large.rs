//! Values whose content lies in chunks, small ones: a test needs many.

use bytes::Bytes;
use objsync_proto::chunk::record::{CheckedChunk, Packer};
use objsync_proto::chunk::tree::TreeBuilder;
use objsync_proto::chunk::{Child, Cutter};
use objsync_proto::ids::{ChunkId, Durability, NamespaceId};
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::stored::Compression;
use objsync_proto::stored_chunks::{self, StoredChunks};
use objsync_store::{Answer, ChunkPins, Store, StoreError, StoreLimits, StoreOptions, Submission};

use super::disk::SimDisk;
use super::random::Random;
use super::{key_of, options_on};

/// Bytes of a chunk, where a small test is to have many.
pub const CHUNK: usize = 700;

/// So little of everything that packs, segments and snapshots come soon.
pub fn limits() -> StoreLimits {
    StoreLimits {
        segment_bytes: 16 << 10,
        retention_bytes: 16 << 10,
        snapshot_log_bytes: 16 << 10,
        pack_bytes: 24 << 10,
        ..StoreLimits::default()
    }
}

/// Those, on a simulated disk and without threads.
pub fn options(disk: &SimDisk) -> StoreOptions {
    StoreOptions {
        limits: limits(),
        threads: false,
        ..options_on(disk)
    }
}

/// Content of some length: noise, or text that shrinks.
pub fn content_of(random: &mut Random, bytes: usize) -> Vec<u8> {
    match random.chance(3) {
        true => format!("{} again ", random.below(50))
            .into_bytes()
            .into_iter()
            .cycle()
            .take(bytes)
            .collect(),
        false => noise_of(random, bytes),
    }
}

pub fn noise_of(random: &mut Random, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|_| random.below(256) as u8).collect()
}

/// A value as it is stored, and its chunks and nodes in the order in which they are to be put.
pub fn cut(content: &[u8], chunk_bytes: usize) -> (Bytes, Vec<CheckedChunk>) {
    let mut packer = Packer::new(Compression::Zstd(1)).unwrap();
    let (mut builder, mut chunks) = (TreeBuilder::default(), Vec::new());
    for piece in content.chunks(chunk_bytes) {
        let chunk = packer.chunk(Bytes::copy_from_slice(piece)).unwrap();
        let (id, bytes) = (chunk.id(), piece.len() as u64);
        chunks.push(chunk);
        builder.push(Child { id, bytes }, &mut chunks).unwrap();
    }
    let bytes = chunk_bytes as u32;
    let root = builder
        .finish(Cutter::Fixed { bytes }, &mut chunks)
        .unwrap();
    let mut head = vec![0xC6];
    head.extend_from_slice(&(content.len() as u32).to_be_bytes());
    let head = head.into();
    (
        stored_chunks::seal(&StoredChunks { root, head }).unwrap(),
        chunks,
    )
}

pub fn put_in(namespace: NamespaceId, name: &str, value: &Bytes) -> Submission {
    Submission {
        namespace,
        operation: Operation::Put {
            key: key_of(name),
            value: value.clone(),
        },
        origin: None,
        durability: Some(Durability::Sync),
    }
}

/// Puts what is missing of a value's chunks, and then the value.
pub fn write_large(
    store: &Store,
    pins: &ChunkPins,
    submission: Submission,
    chunks: &[CheckedChunk],
) -> Result<Answer, StoreError> {
    let ids: Vec<ChunkId> = chunks.iter().map(CheckedChunk::id).collect();
    let missing = store.chunks().missing(pins, &ids);
    let absent: Vec<_> = chunks
        .iter()
        .filter(|chunk| missing.contains(&chunk.id()))
        .cloned()
        .collect();
    store.chunks().put(pins, &absent)?;
    store.chunks().sync()?;
    store.execute(submission)
}

/// As [`write_large`] to the usual namespace; it must succeed.
pub fn set_large(store: &Store, name: &str, content: &[u8], chunk_bytes: usize) {
    let (value, chunks) = cut(content, chunk_bytes);
    let pins = store.chunks().pins();
    let answer = write_large(store, &pins, put_in(super::NS, name, &value), &chunks).unwrap();
    assert_eq!(answer.outcome, Ok(Outcome::Done));
}

/// The content of a stored value, from its chunks.
pub fn read_large(store: &Store, value: &Bytes) -> Result<Vec<u8>, StoreError> {
    let root = stored_chunks::open(value).unwrap().expect("chunks").root;
    let mut content = Vec::new();
    store
        .chunks()
        .read_range(&root, (0, root.bytes()), &mut |offset, piece| {
            assert_eq!(offset, content.len() as u64);
            content.extend_from_slice(&piece);
            Ok(())
        })?;
    assert_eq!(content.len() as u64, root.bytes());
    Ok(content)
}

pub fn get_large(store: &Store, namespace: NamespaceId, name: &str) -> Option<Vec<u8>> {
    let stored = store.get(namespace, &key_of(name)).unwrap()?;
    Some(read_large(store, &stored.value).unwrap())
}
