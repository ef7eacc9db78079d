//! How the space of dead chunks comes back: what lives of packs that are mostly dead is copied into
//! the open pack, and they are removed.
//!
//! Order: copies are on disk, then the index points there, then the old file goes. Whenever the power
//! goes, each live chunk is on disk once at least; two copies are as good as one.
//!
//! On a full disk: what is wholly dead goes first, which takes no room, and then one pack after the
//! other, the deadest first: so each makes room for the next.

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
        let sealed = self.seal_if_dead();
        let mut removed_pack_count = self.remove_dead()?;
        sealed?;
        let mut copied_bytes = 0;
        let slots = self.worth_rewriting();
        let mut entries = self.index().of_packs(&slots);
        for slot in slots {
            copied_bytes += self.copy(entries.remove(&slot).unwrap_or_default())?;
            removed_pack_count += self.remove_dead()?;
        }
        Ok(Collected {
            removed_pack_count,
            copied_bytes,
            ..Collected::default()
        })
    }

    /// The open pack is rewritten as any other; if nothing of it lives and nobody reads it, it is removed
    /// at once, and needs no footer.
    fn seal_if_dead(&self) -> Result<(), StoreError> {
        let mut writing = self.writing();
        let open = {
            let index = self.index();
            let read = index.read_packs();
            let mut open = index
                .packs()
                .filter(|(slot, _)| self.is_open(&writing, *slot));
            open.next()
                .map(|(slot, pack)| (*pack, read.contains(&slot)))
        };
        match open {
            Some((pack, false)) if pack.live_bytes == 0 => {
                self.leave(&mut writing);
                Ok(())
            }
            Some((pack, _)) if is_mostly_dead(&pack) => self.seal(&mut writing),
            _ => Ok(()),
        }
    }

    /// The packs that are mostly dead, or small where these are many; those first of which least
    /// lives.
    fn worth_rewriting(&self) -> Vec<u32> {
        let index = self.index();
        let sealed = index.packs().filter(|(_, pack)| pack.is_sealed);
        let (mut worth, rest): (Vec<_>, Vec<_>) =
            sealed.partition(|(_, pack)| is_mostly_dead(pack));
        let small_bytes = self.options.pack_bytes / SMALL_SHARE;
        let small = rest
            .into_iter()
            .filter(|(_, pack)| pack.bytes < small_bytes);
        let small: Vec<_> = small.collect();
        if small.len() >= SMALL_COUNT {
            worth.extend(small);
        }
        worth.sort_by_key(|(_, pack)| pack.live_bytes);
        worth.into_iter().map(|(slot, _)| slot).collect()
    }

    /// Copies what lives in a pack, and lets the index point at the copies once they are on disk; tells
    /// how many bytes that are. What is damaged stays where it is, and its pack with it.
    fn copy(&self, entries: Vec<(ChunkId, Entry)>) -> Result<u64, StoreError> {
        let mut moved = Vec::new();
        let copied = self.append_copies(entries, &mut moved);
        if !moved.is_empty() {
            // Of those that were made before the disk was full, none has to be made again.
            self.sync()?;
        }
        let mut index = self.index_mut();
        let mut bytes = 0;
        for (id, from, to) in moved {
            // Somebody else's failed sync may have taken the copy back.
            if index.is_durable(&to) {
                index.repoint(id, &from, to);
                bytes += to.whole_bytes();
            }
        }
        copied.map(|()| bytes)
    }

    /// Copies what lives in a pack into the open one: each id, where it was, and where its copy is.
    fn append_copies(
        &self,
        entries: Vec<(ChunkId, Entry)>,
        moved: &mut Vec<(ChunkId, Entry, Entry)>,
    ) -> Result<(), StoreError> {
        for (id, from) in entries {
            // Nobody compares it with its hash before it is the only copy.
            let read = self.read(id, &from).map(|(header, record)| {
                let checked = CheckedChunk::check(record);
                checked.ok().map(|chunk| (header, chunk))
            });
            let (header, chunk) = match read {
                Ok(Some(sound)) => sound,
                Ok(None) | Err(StoreError::Corrupt { .. }) => {
                    self.index_mut().note_damage(&id, &from);
                    tracing::warn!(%id, "a chunk is damaged: its pack is kept");
                    continue;
                }
                Err(error) => {
                    // The disk, or this process, has trouble: that says nothing of what lies there.
                    tracing::warn!(%id, %error, "a chunk cannot be read: its pack is kept");
                    return Ok(());
                }
            };
            let mut writing = self.writing();
            if self.index().get(&id).is_some_and(|held| held.is_at(&from)) {
                let to = self.append(&mut writing, &header, &chunk.record().payload)?;
                moved.push((id, from, to));
            }
        }
        Ok(())
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
