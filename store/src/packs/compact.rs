//! How the space of dead chunks comes back: what lives of packs that are mostly dead is copied into
//! the open pack, and they are removed.
//!
//! Order: copies are on disk, then the index points there, then the old file goes. Whenever the power
//! goes, each live chunk is on disk once at least; two copies are as good as one.

use std::collections::BTreeSet;

use objsync_proto::chunk::record::CheckedChunk;
use objsync_proto::ids::ChunkId;

use super::collect::Collected;
use super::index::{Entry, Pack};
use super::{Packs, pack_directory};
use crate::error::StoreError;

/// A pack is rewritten when less than one of so many parts of it lives.
const LIVE_SHARE: u64 = 2;
/// Packs below one of so many parts of a full one are small,
const SMALL_SHARE: u64 = 4;
/// and put together when there are so many.
const SMALL_COUNT: usize = 16;

impl Packs {
    /// Gives back the space of what was condemned, as far as nobody reads it any more. After it, a
    /// pack that is closed and that nobody reads is alive for one half at least.
    pub(super) fn reclaim(&self) -> Result<Collected, StoreError> {
        self.index_mut().forget_condemned(self.pins.oldest_hold());
        self.seal_if_dead()?;
        let slots = self.worth_rewriting();
        let copied_bytes = self.copy(&slots)?;
        let removed_pack_count = self.remove_dead()?;
        Ok(Collected {
            removed_pack_count,
            copied_bytes,
            ..Collected::default()
        })
    }

    /// The open pack is rewritten as any other.
    fn seal_if_dead(&self) -> Result<(), StoreError> {
        let mut writing = self.writing();
        let is_dead = {
            let index = self.index();
            let mut open = index
                .packs()
                .filter(|(slot, _)| self.is_open(&writing, *slot));
            open.any(|(_, pack)| is_mostly_dead(pack))
        };
        match is_dead {
            true => self.seal(&mut writing),
            false => Ok(()),
        }
    }

    fn worth_rewriting(&self) -> BTreeSet<u32> {
        let index = self.index();
        let sealed = index.packs().filter(|(_, pack)| pack.is_sealed);
        let (dead, rest): (Vec<_>, Vec<_>) = sealed.partition(|(_, pack)| is_mostly_dead(pack));
        let mut slots: BTreeSet<_> = dead.into_iter().map(|(slot, _)| slot).collect();
        let small_bytes = self.options.pack_bytes / SMALL_SHARE;
        let small = rest
            .into_iter()
            .filter(|(_, pack)| pack.bytes < small_bytes);
        let small: Vec<_> = small.map(|(slot, _)| slot).collect();
        if small.len() >= SMALL_COUNT {
            slots.extend(small);
        }
        slots
    }

    /// Copies what lives in these packs, and lets the index point at the copies once they are on
    /// disk. What is damaged stays where it is, and its pack with it.
    fn copy(&self, slots: &BTreeSet<u32>) -> Result<u64, StoreError> {
        let mut moved: Vec<(ChunkId, Entry, Entry)> = Vec::new();
        let mut bytes = 0;
        let entries = self.index().of_packs(slots);
        for (id, from) in entries {
            let read = self.read(id, &from);
            let Ok((header, record)) = read else {
                self.index_mut().note_damage(&id, &from);
                tracing::warn!(%id, "a chunk is damaged: its pack is kept");
                continue;
            };
            // Nobody compares it with its hash before it is the only copy.
            let Ok(chunk) = CheckedChunk::check(record) else {
                self.index_mut().note_damage(&id, &from);
                continue;
            };
            let mut writing = self.writing();
            if self.index().get(&id).is_some_and(|held| held.is_at(&from)) {
                let to = self.append(&mut writing, &header, &chunk.record().payload)?;
                moved.push((id, from, to));
                bytes += header.whole_bytes();
            }
        }
        if moved.is_empty() {
            return Ok(0);
        }
        self.sync()?;
        let mut index = self.index_mut();
        for (id, from, to) in moved {
            // Somebody else's failed sync may have taken the copy back.
            if index.is_durable(&to) {
                index.repoint(id, &from, to);
            }
        }
        Ok(bytes)
    }

    /// Removes packs of which nothing lives, and in which nobody reads.
    fn remove_dead(&self) -> Result<u64, StoreError> {
        let dead: Vec<(u32, Pack)> = {
            let index = self.index();
            let read = index.read_packs();
            let packs = index.packs().filter(|(slot, pack)| {
                pack.is_sealed && pack.live_bytes == 0 && !read.contains(slot)
            });
            packs.map(|(slot, pack)| (slot, *pack)).collect()
        };
        if dead.is_empty() {
            return Ok(0);
        }
        for (slot, pack) in &dead {
            let path = self.path(pack.id);
            match self.options.disk.remove(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", &path, error));
                }
                _ => {}
            }
            self.index_mut().remove_pack(*slot);
            self.files().remove(slot);
        }
        let directory = pack_directory(&self.options.directory);
        let synced = self.options.disk.sync_dir(&directory);
        synced.map_err(|error| StoreError::io("sync", &directory, error))?;
        Ok(dead.len() as u64)
    }
}

fn is_mostly_dead(pack: &Pack) -> bool {
    pack.live_bytes < pack.bytes / LIVE_SHARE
}
