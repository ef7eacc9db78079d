//! What keeps chunks from being collected beside log and snapshots: uploads, and readers.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use objsync_proto::ids::ChunkId;

/// Everybody's pins and holds.
#[derive(Debug, Default)]
pub(super) struct PinTable {
    pins: Mutex<HashMap<ChunkId, u32>>,
    holds: Mutex<Holds>,
}

#[derive(Debug, Default)]
struct Holds {
    next: u64,
    /// How many there are of each number.
    held: BTreeMap<u64, u32>,
}

impl PinTable {
    /// Ids that are pinned.
    pub(super) fn pinned(&self) -> Vec<ChunkId> {
        lock(&self.pins).keys().copied().collect()
    }

    /// The number that holds have from now on: whoever has it has not seen what is dead now.
    pub(super) fn next_hold(&self) -> u64 {
        let mut holds = lock(&self.holds);
        holds.next += 1;
        holds.next
    }

    /// The number of the oldest hold; the largest number when there is none.
    pub(super) fn oldest_hold(&self) -> u64 {
        let holds = lock(&self.holds);
        holds.held.keys().next().copied().unwrap_or(u64::MAX)
    }
}

/// Keeps chunks while they are uploaded: what was put or asked for under it is not collected while
/// it lives. To be dropped after the write that names them was answered.
///
/// Memory: some 100 bytes for a chunk.
#[derive(Debug)]
pub struct ChunkPins {
    table: Arc<PinTable>,
    own: Mutex<std::collections::HashSet<ChunkId>>,
}

impl ChunkPins {
    pub(super) fn new(table: &Arc<PinTable>) -> Self {
        Self {
            table: Arc::clone(table),
            own: Mutex::default(),
        }
    }

    /// Keeps these from now on.
    pub(super) fn add(&self, ids: impl IntoIterator<Item = ChunkId>) {
        let mut own = lock(&self.own);
        let mut pins = lock(&self.table.pins);
        for id in ids {
            if own.insert(id) {
                *pins.entry(id).or_default() += 1;
            }
        }
    }

    /// Whether it is kept by this.
    #[must_use]
    pub fn holds(&self, id: &ChunkId) -> bool {
        lock(&self.own).contains(id)
    }

    /// Keeps these no longer.
    pub fn release(&self, ids: impl IntoIterator<Item = ChunkId>) {
        let mut own = lock(&self.own);
        let mut pins = lock(&self.table.pins);
        ids.into_iter()
            .filter(|id| own.remove(id))
            .for_each(|id| unpin(&mut pins, id));
    }

    /// Keeps all of it until the store is closed.
    pub(crate) fn keep_to_the_end(self) {
        lock(&self.own).clear();
    }

    /// How many are kept.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.own).len()
    }
}

impl Drop for ChunkPins {
    fn drop(&mut self) {
        let own = std::mem::take(&mut *lock(&self.own));
        let mut pins = lock(&self.table.pins);
        own.into_iter().for_each(|id| unpin(&mut pins, id));
    }
}

fn unpin(pins: &mut HashMap<ChunkId, u32>, id: ChunkId) {
    if let Some(count) = pins.get_mut(&id) {
        *count -= 1;
        if *count == 0 {
            pins.remove(&id);
        }
    }
}

/// Keeps every chunk that could be read when it was made. To be taken before a value is read whose
/// chunks are read later. While it lives, space that becomes free is not given back.
#[derive(Debug)]
pub struct ChunkHold {
    table: Arc<PinTable>,
    number: u64,
}

impl ChunkHold {
    pub(super) fn new(table: &Arc<PinTable>) -> Self {
        let mut holds = lock(&table.holds);
        let number = holds.next;
        *holds.held.entry(number).or_default() += 1;
        Self {
            table: Arc::clone(table),
            number,
        }
    }
}

impl Drop for ChunkHold {
    fn drop(&mut self) {
        let mut holds = lock(&self.table.holds);
        if let Some(count) = holds.held.get_mut(&self.number) {
            *count -= 1;
            if *count == 0 {
                holds.held.remove(&self.number);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
