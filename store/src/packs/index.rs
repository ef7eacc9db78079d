//! Where each chunk lies, in memory: made of the packs' footers when the store is opened.
//!
//! Memory: 56 bytes for a chunk, and what the map keeps free: 64 to 130 bytes, a six hundredth of
//! chunks of 64 KiB.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use objsync_proto::ids::ChunkId;

use super::layout::{PackId, RECORD_ALIGN_BYTES, RecordHeader};

/// Where a chunk lies, and what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// The slot of its pack.
    pub(super) pack: u32,
    /// Where its record begins, in units of [`RECORD_ALIGN_BYTES`].
    place: u32,
    stored_bytes: u32,
    content_bytes: [u32; 2],
    pub(super) level: u8,
    /// The present collection has found it alive, and of a node all that is below it; or it is a
    /// chunk that came since that began.
    pub(super) is_alive: bool,
    /// It was read, and is not what was written.
    pub(super) is_damaged: bool,
    /// It was there when a node was found that lives and cannot be read: it may lie below that.
    is_hidden: bool,
}

impl Entry {
    /// Of a record at an offset of a pack.
    pub(super) fn new(pack: u32, offset: u64, header: &RecordHeader) -> Self {
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let content = header.content_bytes;
        Self {
            pack,
            place: small(offset / RECORD_ALIGN_BYTES),
            stored_bytes: small(header.stored_bytes),
            content_bytes: [small(content >> 32), small(content & 0xFFFF_FFFF)],
            level: header.level,
            // A node is walked first: of what it lists, all may have been there before.
            is_alive: header.level == 0,
            is_damaged: false,
            is_hidden: false,
        }
    }

    pub(super) fn offset(&self) -> u64 {
        u64::from(self.place) * RECORD_ALIGN_BYTES
    }

    /// Bytes of content: of a node all that lies below it.
    pub(super) fn content_bytes(&self) -> u64 {
        u64::from(self.content_bytes[0]) << 32 | u64::from(self.content_bytes[1])
    }

    /// Bytes that its record takes of its pack.
    pub(super) fn whole_bytes(&self) -> u64 {
        (super::layout::RECORD_HEADER_BYTES as u64 + u64::from(self.stored_bytes))
            .next_multiple_of(RECORD_ALIGN_BYTES)
    }

    /// Whether it is the same record.
    pub(super) fn is_at(&self, other: &Self) -> bool {
        (self.pack, self.place) == (other.pack, other.place)
    }
}

/// A pack as the index knows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pack {
    pub(super) id: PackId,
    /// Bytes of its file, about.
    pub(super) bytes: u64,
    /// Bytes of records that the index points at.
    pub(super) live_bytes: u64,
    /// Records that begin below are on disk.
    pub(super) synced_end: u64,
    /// Nothing is written to it any more.
    pub(super) is_sealed: bool,
}

/// All chunks that are there.
#[derive(Debug, Default)]
pub(super) struct PackIndex {
    map: HashMap<ChunkId, Entry>,
    /// By slot; slots are not used again.
    packs: BTreeMap<u32, Pack>,
    next_slot: u32,
    /// What the last collections found dead, and who began to read before may still look for: with
    /// the hold that must have ended.
    condemned: HashMap<ChunkId, (Entry, u64)>,
    /// Nodes that the present collection found alive and could not read, with their levels.
    unread: BTreeMap<ChunkId, u8>,
    /// Those of the last collection that came to its end: what may lie below them is hidden.
    hiding: BTreeSet<ChunkId>,
}

impl PackIndex {
    /// A pack that comes to be, or was found.
    pub(super) fn add_pack(&mut self, id: PackId, bytes: u64, is_sealed: bool) -> u32 {
        let slot = self.next_slot;
        self.next_slot += 1;
        let pack = Pack {
            id,
            bytes,
            live_bytes: 0,
            synced_end: if is_sealed { u64::MAX } else { 0 },
            is_sealed,
        };
        self.packs.insert(slot, pack);
        slot
    }

    pub(super) fn pack(&self, slot: u32) -> Option<&Pack> {
        self.packs.get(&slot)
    }

    pub(super) fn pack_mut(&mut self, slot: u32) -> Option<&mut Pack> {
        self.packs.get_mut(&slot)
    }

    pub(super) fn packs(&self) -> impl Iterator<Item = (u32, &Pack)> {
        self.packs.iter().map(|(slot, pack)| (*slot, pack))
    }

    pub(super) fn get(&self, id: &ChunkId) -> Option<&Entry> {
        self.map.get(id)
    }

    /// Where a reader finds it, also if it was found dead since that reader began.
    pub(super) fn find(&self, id: &ChunkId) -> Option<Entry> {
        let condemned = || self.condemned.get(id).map(|(entry, _)| *entry);
        self.map.get(id).copied().or_else(condemned)
    }

    /// Whether it is there, as far as is known.
    pub(super) fn has(&self, id: &ChunkId) -> bool {
        self.map.get(id).is_some_and(|entry| !entry.is_damaged)
    }

    /// Whether what an entry points at is on disk.
    pub(super) fn is_durable(&self, entry: &Entry) -> bool {
        let pack = self.packs.get(&entry.pack);
        pack.is_some_and(|pack| entry.offset() < pack.synced_end)
    }

    /// Points an id at a record; what it pointed at before is dead.
    pub(super) fn insert(&mut self, id: ChunkId, mut entry: Entry) {
        if let Some(old) = self.map.get(&id) {
            // What named it does so still.
            entry.is_alive |= old.is_alive;
            entry.is_hidden |= old.is_hidden;
        }
        // It can be read now, and what it lists may have come since.
        self.hiding.remove(&id);
        if let Some(pack) = self.packs.get_mut(&entry.pack) {
            pack.live_bytes += entry.whole_bytes();
        }
        if let Some(old) = self.map.insert(id, entry) {
            self.let_go(&old);
        }
    }

    /// Forgets an id, if it points at this record.
    pub(super) fn remove(&mut self, id: &ChunkId, entry: &Entry) {
        if self.map.get(id).is_some_and(|held| held.is_at(entry)) {
            self.map.remove(id);
            self.let_go(entry);
        }
    }

    fn let_go(&mut self, entry: &Entry) {
        if let Some(pack) = self.packs.get_mut(&entry.pack) {
            pack.live_bytes = pack.live_bytes.saturating_sub(entry.whole_bytes());
        }
    }

    /// Begins a collection: nothing that is there has been found alive.
    pub(super) fn begin_marking(&mut self) {
        self.unread.clear();
        self.map
            .values_mut()
            .for_each(|entry| entry.is_alive = false);
    }

    /// Marks an id as alive; tells its level, if it is there and was not marked before.
    pub(super) fn mark_alive(&mut self, id: &ChunkId) -> Option<u8> {
        let entry = self.map.get_mut(id)?;
        (!std::mem::replace(&mut entry.is_alive, true)).then_some(entry.level)
    }

    /// A node that lives cannot be read: nobody knows what lies below it.
    pub(super) fn note_unread(&mut self, id: ChunkId, level: u8) {
        self.unread.insert(id, level);
    }

    /// Nodes that the last collection found alive and could not read.
    pub(super) fn unread_count(&self) -> u64 {
        self.hiding.len() as u64
    }

    /// What was read there is damaged.
    pub(super) fn note_damage(&mut self, id: &ChunkId, entry: &Entry) {
        if let Some(held) = self.map.get_mut(id)
            && held.is_at(entry)
        {
            held.is_damaged = true;
        }
    }

    /// Takes out everything that was not found alive, and that cannot lie below a node that could not
    /// be read. Who has a hold below `hold` still finds it. Tells how many chunks that are, and their
    /// bytes.
    pub(super) fn condemn(&mut self, hold: u64) -> (u64, u64) {
        let is_new = |id| !self.hiding.contains(id);
        if self.unread.keys().any(is_new) {
            // All that a node lists was there before it, and is of a level below its own.
            let entries = self.map.values_mut();
            entries.for_each(|entry| entry.is_hidden = true);
        }
        self.hiding = self.unread.keys().copied().collect();
        let hidden_level = self.unread.values().max().copied().unwrap_or(0);
        let is_dead = |entry: &Entry| {
            let may_be_below = entry.is_hidden && entry.level < hidden_level;
            !entry.is_alive && !may_be_below
        };
        let dead: Vec<_> = self.map.extract_if(|_, entry| is_dead(entry)).collect();
        let bytes = dead.iter().map(|(_, entry)| entry.whole_bytes()).sum();
        let count = dead.len() as u64;
        for (id, entry) in dead {
            self.let_go(&entry);
            self.condemned.insert(id, (entry, hold));
        }
        self.map.shrink_to_fit();
        (count, bytes)
    }

    /// Forgets what nobody can look for any more, where this is the oldest hold.
    pub(super) fn forget_condemned(&mut self, oldest_hold: u64) {
        self.condemned.retain(|_, (_, hold)| *hold > oldest_hold);
    }

    /// The packs in which a reader may still look for something that was found dead.
    pub(super) fn read_packs(&self) -> BTreeSet<u32> {
        self.condemned
            .values()
            .map(|(entry, _)| entry.pack)
            .collect()
    }

    /// The chunks of some packs that are alive, of each in the order they lie there.
    pub(super) fn of_packs(&self, slots: &[u32]) -> HashMap<u32, Vec<(ChunkId, Entry)>> {
        let mut found: HashMap<_, Vec<_>> = slots.iter().map(|slot| (*slot, Vec::new())).collect();
        for (id, entry) in &self.map {
            if let Some(of_pack) = found.get_mut(&entry.pack) {
                of_pack.push((*id, *entry));
            }
        }
        let by_offset = |of_pack: &mut Vec<(_, Entry)>| {
            of_pack.sort_unstable_by_key(|(_, entry)| entry.offset());
        };
        found.values_mut().for_each(by_offset);
        found
    }

    /// Lets an id point at a copy of its record, if it points at that record still.
    pub(super) fn repoint(&mut self, id: ChunkId, from: &Entry, to: Entry) {
        if self.map.get(&id).is_some_and(|held| held.is_at(from)) {
            self.insert(id, to);
        }
    }

    /// Forgets a pack of which nothing is alive.
    pub(super) fn remove_pack(&mut self, slot: u32) -> Option<Pack> {
        self.packs.remove(&slot)
    }

    /// Chunks and nodes.
    pub(super) fn count(&self) -> u64 {
        self.map.len() as u64
    }

    /// Bytes of all packs, and of what is alive in them.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let sum = |of: fn(&Pack) -> u64| self.packs.values().map(of).sum();
        (sum(|pack| pack.bytes), sum(|pack| pack.live_bytes))
    }
}
