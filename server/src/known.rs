//! Which chunks a peer is known to have, by its key and over its connections: so that an upload that
//! goes on after a broken connection sends only what is missing.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use objsync_proto::ids::{ChunkId, PeerKey};
use objsync_proto::limits::UPLOADED_COUNT_MAX;

/// Keys of peers that are gone, and of which is known what they had.
const GONE_MAX: usize = 64;

/// What one peer has uploaded, or was told is there. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Known(Arc<Mutex<HashSet<ChunkId>>>);

impl Known {
    /// Notes what the peer has.
    pub(crate) fn extend(&self, ids: impl IntoIterator<Item = ChunkId>) {
        let mut known = self.lock();
        known.extend(ids);
        if known.len() > UPLOADED_COUNT_MAX {
            // It is asked for these again.
            known.clear();
        }
    }

    /// Those of `ids` that the peer is not known to have.
    pub(crate) fn unknown(&self, ids: &[ChunkId]) -> Vec<ChunkId> {
        let known = self.lock();
        ids.iter()
            .filter(|id| !known.contains(id))
            .copied()
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<ChunkId>> {
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
        all.of(one).extend([chunk]);
        assert!(all.of(one).unknown(&[chunk]).is_empty());
        assert_eq!(all.of(other).unknown(&[chunk]), [chunk]);
    }

    #[test]
    fn keys_that_are_gone_for_long_are_forgotten_and_those_that_are_connected_are_not() {
        let all = KnownByKey::default();
        let key = |number: u8| PeerKey([number; 32]);
        let connected = all.of(key(0));
        for number in 0..=100 {
            all.of(key(number)).extend([ChunkId([number; 32])]);
        }
        assert!(all.of(key(100)).unknown(&[ChunkId([100; 32])]).is_empty());
        assert_eq!(all.of(key(1)).unknown(&[ChunkId([1; 32])]).len(), 1);
        assert!(connected.unknown(&[ChunkId([0; 32])]).is_empty());
        assert!(all.0.lock().unwrap().len() <= GONE_MAX + 2);
    }
}
