//! Chunks that a peer has fetched, as long as there is room: so that large values up to 4 MiB are
//! read from local memory once they were fetched ahead, and the nodes of longer ones are not fetched
//! again.
//!
//! The oldest goes first. An owner holds none: its disk has them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use objsync_proto::ids::ChunkId;
use objsync_proto::limits::MEMORY_BYTES_DEFAULT;

/// Chunks take a quarter of the memory of a store: what an owner's index would.
const SHARE: u64 = 4;

/// Chunks by their ids.
pub(crate) struct ChunkCache {
    inner: Mutex<Inner>,
    bytes_max: usize,
}

#[derive(Default)]
struct Inner {
    chunks: HashMap<ChunkId, Bytes>,
    order: VecDeque<ChunkId>,
    bytes: usize,
}

impl ChunkCache {
    /// Of a handle that may take so much memory.
    pub(crate) fn new(memory_bytes: Option<u64>) -> Self {
        let memory_bytes = memory_bytes
            .or_else(|| crate::memory_bytes().ok())
            .unwrap_or(MEMORY_BYTES_DEFAULT);
        Self {
            inner: Mutex::default(),
            bytes_max: usize::try_from(memory_bytes / SHARE).unwrap_or(usize::MAX),
        }
    }

    /// Bytes that it holds at most.
    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max as u64
    }

    /// Whether so many bytes more push nothing out.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.inner().bytes as u64 + bytes <= self.bytes_max()
    }

    /// A chunk that is held.
    pub(crate) fn get(&self, id: &ChunkId) -> Option<Bytes> {
        self.inner().chunks.get(id).cloned()
    }

    /// Holds a chunk, in the place of the oldest ones.
    pub(crate) fn put(&self, id: ChunkId, plain: Bytes) {
        let mut inner = self.inner();
        if inner.chunks.contains_key(&id) || plain.len() > self.bytes_max {
            return;
        }
        inner.bytes += plain.len();
        inner.order.push_back(id);
        inner.chunks.insert(id, plain);
        while inner.bytes > self.bytes_max {
            let Some(oldest) = inner.order.pop_front() else {
                break;
            };
            if let Some(gone) = inner.chunks.remove(&oldest) {
                inner.bytes -= gone.len();
            }
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_chunks_go_when_there_is_no_room() {
        let cache = ChunkCache::new(Some(4_000));
        let id = |number: u8| ChunkId([number; 32]);
        for number in 0..12 {
            cache.put(id(number), vec![number; 100].into());
        }
        assert_eq!((cache.inner().bytes, cache.bytes_max), (1_000, 1_000));
        assert!(cache.get(&id(0)).is_none() && cache.get(&id(1)).is_none());
        assert_eq!(cache.get(&id(2)).unwrap(), vec![2; 100]);
        cache.put(id(99), vec![0; 1_001].into());
        assert!(cache.get(&id(99)).is_none(), "it would push out all others");
    }
}
