//! Which chunks a peer is known to have, by its key and over its connections: so that an upload that
//! goes on after a broken connection sends only what is missing.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use objsync_proto::chunk::ChunkKind;
use objsync_proto::ids::{ChunkId, PeerKey};
use objsync_proto::limits::{
    CHUNK_BYTES, CONTENT_BYTES_MAX, NODE_CHILDREN_MAX, UPLOADED_COUNT_MAX,
};

/// Keys of peers that are gone, and of which is known what they had.
const GONE_MAX: usize = 64;

/// The chunks that a peer is known to have: after twice as many, the older half is forgotten.
const CHUNKS_HALF: usize = UPLOADED_COUNT_MAX / 2;
/// The nodes. They are known for longer than what they list: a node over them comes after all that
/// lies below, which is 16 TiB at most, in chunks of 64 KiB.
const NODES_HALF: usize = UPLOADED_COUNT_MAX / 4;
const _: () = {
    let chunk_count = CONTENT_BYTES_MAX / CHUNK_BYTES as u64;
    assert!(NODES_HALF as u64 >= chunk_count / NODE_CHILDREN_MAX as u64);
    assert!(CHUNKS_HALF > NODE_CHILDREN_MAX);
};

/// What one peer has uploaded, or was told is there. Clones are the same.
///
/// What is forgotten is asked for again, unless a node that is known lists it.
#[derive(Clone, Default)]
pub(crate) struct Known(Arc<Mutex<Had>>);

struct Had {
    chunks: Lately,
    nodes: Lately,
}

impl Default for Had {
    fn default() -> Self {
        Self {
            chunks: Lately::new(CHUNKS_HALF),
            nodes: Lately::new(NODES_HALF),
        }
    }
}

/// Ids in two halves: at least so many as one holds, the last that came, are among them.
struct Lately {
    half: usize,
    young: HashSet<ChunkId>,
    old: HashSet<ChunkId>,
}

impl Lately {
    fn new(half: usize) -> Self {
        Self {
            half,
            young: HashSet::new(),
            old: HashSet::new(),
        }
    }

    fn insert(&mut self, id: ChunkId) {
        self.young.insert(id);
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
    }

    fn contains(&self, id: &ChunkId) -> bool {
        self.young.contains(id) || self.old.contains(id)
    }
}

impl Known {
    /// Notes what the peer has.
    pub(crate) fn extend(&self, ids: impl IntoIterator<Item = (ChunkId, ChunkKind)>) {
        let mut had = self.lock();
        for (id, kind) in ids {
            match kind {
                ChunkKind::Chunk => had.chunks.insert(id),
                ChunkKind::Node => had.nodes.insert(id),
            }
        }
    }

    /// Notes that what is known of `ids` is used again: it is forgotten later.
    pub(crate) fn refresh(&self, ids: impl IntoIterator<Item = ChunkId>) {
        let mut had = self.lock();
        for id in ids {
            if had.nodes.contains(&id) {
                had.nodes.insert(id);
            } else if had.chunks.contains(&id) {
                had.chunks.insert(id);
            }
        }
    }

    /// Those of `ids` that the peer is not known to have.
    pub(crate) fn unknown(&self, ids: &[ChunkId]) -> Vec<ChunkId> {
        let had = self.lock();
        let is_known = |id: &ChunkId| had.chunks.contains(id) || had.nodes.contains(id);
        ids.iter().filter(|id| !is_known(id)).copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Had> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That of all peers. Of those that are gone, the ones that went first are forgotten.
#[derive(Default)]
pub(crate) struct KnownByKey(Mutex<VecDeque<(PeerKey, Known)>>);

impl KnownByKey {
    /// What the holder of a key is known to have.
    pub(crate) fn of(&self, key: PeerKey) -> Known {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = all.iter().find(|(other, _)| *other == key) {
            return known.clone();
        }
        let is_gone = |(_, known): &(PeerKey, Known)| Arc::strong_count(&known.0) == 1;
        if all.iter().filter(|entry| is_gone(entry)).count() >= GONE_MAX
            && let Some(first) = all.iter().position(is_gone)
        {
            all.remove(first);
        }
        let known = Known::default();
        all.push_back((key, known.clone()));
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_key_has_is_known_on_its_next_connection_and_of_no_other_key() {
        let all = KnownByKey::default();
        let (one, other) = (PeerKey([1; 32]), PeerKey([2; 32]));
        let chunk = ChunkId([7; 32]);
        all.of(one).extend([(chunk, ChunkKind::Chunk)]);
        assert!(all.of(one).unknown(&[chunk]).is_empty());
        assert_eq!(all.of(other).unknown(&[chunk]), [chunk]);
    }

    #[test]
    fn keys_that_are_gone_for_long_are_forgotten_and_those_that_are_connected_are_not() {
        let all = KnownByKey::default();
        let key = |number: u8| PeerKey([number; 32]);
        let connected = all.of(key(0));
        for number in 0..=100 {
            let chunk = (ChunkId([number; 32]), ChunkKind::Chunk);
            all.of(key(number)).extend([chunk]);
        }
        assert!(all.of(key(100)).unknown(&[ChunkId([100; 32])]).is_empty());
        assert_eq!(all.of(key(1)).unknown(&[ChunkId([1; 32])]).len(), 1);
        assert!(connected.unknown(&[ChunkId([0; 32])]).is_empty());
        assert!(all.0.lock().unwrap().len() <= GONE_MAX + 2);
    }
    #[test]
    fn chunks_that_came_last_are_known_and_nodes_for_longer() {
        let known = Known(Arc::new(Mutex::new(Had {
            chunks: Lately::new(8),
            nodes: Lately::new(4),
        })));
        let chunk = |number: u8| ChunkId([number; 32]);
        let node = ChunkId([255; 32]);
        known.extend([(node, ChunkKind::Node)]);
        for number in 0..100 {
            known.extend([(chunk(number), ChunkKind::Chunk)]);
            let first = number.saturating_sub(7);
            let last: Vec<_> = (first..=number).map(chunk).collect();
            assert_eq!(known.unknown(&last), []);
        }
        assert_eq!(known.unknown(&[chunk(0), node]), [chunk(0)]);
        // Used again, it stays.
        for number in 100..200 {
            known.refresh([chunk(99)]);
            known.extend([(chunk(number), ChunkKind::Chunk)]);
        }
        assert_eq!(known.unknown(&[chunk(99), chunk(98)]), [chunk(98)]);
    }
}
