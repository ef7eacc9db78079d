//! The open pack: append, sync, seal.
//!
//! After a failed sync of it nobody knows what of its last records will be kept: those that were not
//! on disk before are forgotten and cut off, so that they are not found again while the system has
//! them in memory, and a new one is begun. No frame names them, so nothing is lost that was
//! acknowledged. The system may report the failure to one of several that sync at once: a pack is
//! synced by one at a time, and never again after it failed.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use objsync_proto::chunk::record::{CheckedChunk, unpack};
use objsync_proto::chunk::{ChunkError, ChunkKind, Node};
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::ChunkId;

use super::index::{Entry, PackIndex};
use super::layout::{PACK_HEADER_BYTES, PackId, RECORD_HEADER_BYTES, RecordHeader, footer};
use super::pins::ChunkPins;
use super::{Packs, pack_directory};
use crate::disk::{DiskFile, OpenMode};
use crate::error::StoreError;
use crate::format::{Feature, name_feature};

/// What is written to.
pub(super) struct Writing {
    pack: Option<OpenPack>,
    next_number: u64,
    /// Bytes that were put since the last collection.
    pub(super) put_bytes: u64,
    is_closed: bool,
}

struct OpenPack {
    slot: u32,
    id: PackId,
    file: Arc<dyn DiskFile>,
    /// Whether a sync of the file has failed; locked by who syncs it.
    has_failed: Arc<Mutex<bool>>,
    end: u64,
    records: Vec<(u64, RecordHeader)>,
}

/// What the packs that were found say of those to come.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Found {
    pub(super) next_number: u64,
    /// Bytes of packs that were not sealed in order: what they hold may be named by nobody.
    pub(super) unsealed_bytes: u64,
}

impl Writing {
    pub(super) fn new(found: Found) -> Self {
        Self {
            pack: None,
            next_number: found.next_number,
            put_bytes: found.unsealed_bytes,
            is_closed: false,
        }
    }
}

impl Packs {
    /// As `Chunks::missing`, without pins.
    pub(crate) fn missing(&self, ids: &[ChunkId]) -> Vec<ChunkId> {
        let index = self.index();
        ids.iter().filter(|id| !index.has(id)).copied().collect()
    }

    /// As `Chunks::missing`.
    pub(super) fn missing_and_keep(&self, ids: &[ChunkId], pins: &ChunkPins) -> Vec<ChunkId> {
        // No collection comes between looking and pinning: it condemns with this locked.
        let _writing = self.writing();
        let (there, missing) = {
            let index = self.index();
            let ids = ids.iter().copied();
            ids.partition::<Vec<_>, _>(|id| index.has(id))
        };
        pins.add(there);
        missing
    }

    /// As `Chunks::put`, without pins.
    pub(crate) fn put(&self, chunks: &[CheckedChunk]) -> Result<(), StoreError> {
        let mut writing = self.writing();
        for chunk in chunks {
            if self.index().has(&chunk.id()) {
                continue;
            }
            let header = header_of(chunk, &self.index())?;
            let entry = self.append(&mut writing, &header, &chunk.record().payload)?;
            self.index_mut().insert(header.id, entry);
            writing.put_bytes = writing.put_bytes.saturating_add(header.whole_bytes());
            self.note_put(header.whole_bytes());
        }
        Ok(())
    }

    /// Appends a record to the open pack; tells where it lies.
    pub(super) fn append(
        &self,
        writing: &mut Writing,
        header: &RecordHeader,
        payload: &[u8],
    ) -> Result<Entry, StoreError> {
        if self.options.readonly {
            let directory = self.options.directory.clone();
            return Err(StoreError::ReadOnly { directory });
        }
        if writing.is_closed {
            return Err(StoreError::Closed);
        }
        let is_full = writing.pack.as_ref().is_some_and(|pack| {
            pack.end + header.whole_bytes() > self.options.pack_bytes && !pack.records.is_empty()
        });
        if is_full {
            self.seal(writing)?;
        }
        if writing.pack.is_none() {
            writing.pack = Some(self.create(writing.next_number)?);
            writing.next_number += 1;
        }
        let pack = writing.pack.as_mut().expect("it was made just now");
        let whole = usize::try_from(header.whole_bytes()).unwrap_or(usize::MAX);
        let mut record = Vec::with_capacity(whole);
        record.extend_from_slice(&header.encode(pack.id));
        record.extend_from_slice(payload);
        assert_eq!(
            record.len() as u64,
            RECORD_HEADER_BYTES as u64 + header.stored_bytes
        );
        record.resize(whole, 0);
        // What a failed write leaves there is written over by the next.
        let written = pack.file.write_all_at(&record, pack.end);
        written.map_err(|error| StoreError::io("write", &self.path(pack.id), error))?;
        let offset = pack.end;
        pack.end += header.whole_bytes();
        pack.records.push((offset, *header));
        if let Some(known) = self.index_mut().pack_mut(pack.slot) {
            known.bytes = pack.end;
        }
        Ok(Entry::new(pack.slot, offset, header))
    }

    /// A new pack; its name is on disk, and `FORMAT` says that there are packs.
    fn create(&self, number: u64) -> Result<OpenPack, StoreError> {
        name_feature(&*self.options.disk, &self.options.directory, Feature::Packs)?;
        let directory = pack_directory(&self.options.directory);
        let failed = |error| StoreError::io("create", &directory, error);
        let disk = &*self.options.disk;
        disk.create_dir(&directory).map_err(failed)?;
        disk.sync_dir(&self.options.directory).map_err(failed)?;
        let mut salt = [0; 8];
        self.options.entropy.fill(&mut salt).map_err(failed)?;
        let salt = u64::from_le_bytes(salt);
        let id = PackId { number, salt };
        let file = disk
            .open(&self.path(id), OpenMode::Create)
            .map_err(failed)?;
        let written = file.write_all_at(&id.header(self.options.store), 0);
        if let Err(error) = written.and_then(|()| disk.sync_dir(&directory)) {
            // The next attempt makes another: on a full disk there may be many.
            let _ = disk.remove(&self.path(id));
            return Err(failed(error));
        }
        let end = PACK_HEADER_BYTES as u64;
        let slot = self.index_mut().add_pack(id, end, false);
        Ok(OpenPack {
            slot,
            id,
            file,
            has_failed: Arc::default(),
            end,
            records: Vec::new(),
        })
    }

    /// Returns when all that was appended is on disk.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        let (slot, id, file, has_failed, end) = {
            let writing = self.writing();
            let Some(pack) = &writing.pack else {
                return Ok(());
            };
            let (file, has_failed) = (Arc::clone(&pack.file), Arc::clone(&pack.has_failed));
            (pack.slot, pack.id, file, has_failed, pack.end)
        };
        // Others may append meanwhile.
        self.sync_once((slot, end), &*file, &has_failed)
            .map_err(|error| {
                let mut writing = self.writing();
                if let Some(pack) = writing.pack.take_if(|pack| pack.slot == slot) {
                    self.abandon(&pack);
                }
                StoreError::io("sync", &self.path(id), error)
            })
    }

    /// Syncs a pack, of which records up to `end` were written, unless somebody has done so.
    fn sync_once(
        &self,
        (slot, end): (u32, u64),
        file: &dyn DiskFile,
        has_failed: &Mutex<bool>,
    ) -> io::Result<()> {
        let mut has_failed = has_failed.lock().unwrap_or_else(PoisonError::into_inner);
        if *has_failed {
            let text = "another sync of this pack failed: what it held may be lost";
            return Err(io::Error::other(text));
        }
        let synced_end = |pack: &super::index::Pack| pack.synced_end;
        if self.index().pack(slot).map_or(0, synced_end) >= end {
            return Ok(());
        }
        file.sync_data().inspect_err(|_| *has_failed = true)?;
        // Still locked, so that a sync that fails after it forgets none of this.
        if let Some(pack) = self.index_mut().pack_mut(slot) {
            pack.synced_end = pack.synced_end.max(end);
        }
        Ok(())
    }

    /// Ends the open pack with a footer, if there is room for it; on disk when this returns.
    pub(super) fn seal(&self, writing: &mut Writing) -> Result<(), StoreError> {
        let Some(pack) = writing.pack.take() else {
            return Ok(());
        };
        let path = self.path(pack.id);
        let failed = |error| StoreError::io("seal", &path, error);
        let footer = footer(pack.id, pack.end, &pack.records);
        let ended = end_file(&*pack.file, pack.end, &footer).map_err(failed);
        let sealed = ended.and_then(|bytes| {
            let synced = self.sync_once((pack.slot, u64::MAX), &*pack.file, &pack.has_failed);
            synced.map(|()| bytes).map_err(failed)
        });
        let bytes = sealed.inspect_err(|_| self.abandon(&pack))?;
        if let Some(known) = self.index_mut().pack_mut(pack.slot) {
            known.bytes = bytes;
            known.is_sealed = true;
        }
        Ok(())
    }

    /// Writes no more to the open pack, of which nothing lives: it has no footer.
    pub(super) fn leave(&self, writing: &mut Writing) {
        if let Some(left) = writing.pack.take()
            && let Some(known) = self.index_mut().pack_mut(left.slot)
        {
            known.is_sealed = true;
        }
    }

    /// Seals what is open, and begins no pack any more: a collection may still be at work.
    pub(crate) fn close(&self) -> Result<(), StoreError> {
        let mut writing = self.writing();
        writing.is_closed = true;
        self.seal(&mut writing)
    }

    /// Whether it is the open pack's slot.
    pub(super) fn is_open(&self, writing: &Writing, slot: u32) -> bool {
        writing.pack.as_ref().is_some_and(|pack| pack.slot == slot)
    }

    /// Forgets what is not known to be on disk, and cuts it off.
    fn abandon(&self, pack: &OpenPack) {
        // Held to the end: a sync of what is cut off here must not count.
        let mut has_failed = pack
            .has_failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *has_failed = true;
        let mut index = self.index_mut();
        let synced_end = index.pack(pack.slot).map_or(0, |pack| pack.synced_end);
        for (offset, header) in pack.records.iter().filter(|(at, _)| *at >= synced_end) {
            let entry = Entry::new(pack.slot, *offset, header);
            index.remove(&header.id, &entry);
        }
        let end = synced_end.max(PACK_HEADER_BYTES as u64);
        if let Some(known) = index.pack_mut(pack.slot) {
            known.is_sealed = true;
            known.bytes = end;
        }
        drop(index);
        if let Err(error) = pack.file.truncate(end) {
            let path = self.path(pack.id);
            tracing::warn!(%error, path = %path.display(), "a pack keeps chunks that may be lost");
        }
    }
}

/// Writes a footer behind the last record, at `end`; tells how many bytes the file has. On a full disk
/// it has no footer: who opens the store reads its records. Nothing is synced.
pub(super) fn end_file(file: &dyn DiskFile, end: u64, footer: &[u8]) -> io::Result<u64> {
    // A failed write may have left something behind the end.
    file.truncate(end)?;
    match file.write_all_at(footer, end) {
        Ok(()) => Ok(end + footer.len() as u64),
        Err(error) if is_out_of_room(&error) => file.truncate(end).map(|()| end),
        Err(error) => Err(error),
    }
}

fn is_out_of_room(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// What stands before a chunk; of a node it is checked that what it lists is there.
fn header_of(chunk: &CheckedChunk, index: &PackIndex) -> Result<RecordHeader, StoreError> {
    let record = chunk.record();
    let (level, content_bytes) = match chunk.kind() {
        ChunkKind::Chunk => (0, u64::from(record.plain_bytes)),
        ChunkKind::Node => {
            let node = Node::decode(&unpack(record).map_err(invalid)?).map_err(invalid)?;
            for child in node.children() {
                check_child(index, child, node.level() - 1)?;
            }
            (node.level(), node.bytes())
        }
    };
    Ok(RecordHeader {
        id: record.id,
        level,
        codec: record.codec,
        stored_bytes: record.payload.len() as u64,
        plain_bytes: u64::from(record.plain_bytes),
        content_bytes,
        payload_crc: crc32c::crc32c(&record.payload),
    })
}

/// That a child is there, of this level and with so much content.
fn check_child(
    index: &PackIndex,
    child: &objsync_proto::chunk::Child,
    level: u8,
) -> Result<(), StoreError> {
    let id = child.id;
    let Some(entry) = index.get(&id).filter(|entry| !entry.is_damaged) else {
        let text = format!("chunk {id} is listed by a node and is not there: upload it first");
        return Err(Failure::new(ErrorKind::Invalid, text).into());
    };
    same_size(child, entry, level).map_err(StoreError::from)
}

/// That an entry is what a list says of it.
pub(super) fn same_size(
    child: &objsync_proto::chunk::Child,
    entry: &Entry,
    level: u8,
) -> Result<(), Failure> {
    let id = child.id;
    if entry.level != level {
        let found = entry.level;
        let text = format!("chunk {id} is of level {found}, where level {level} is stated");
        return Err(Failure::new(ErrorKind::Invalid, text));
    }
    if entry.content_bytes() == child.bytes {
        return Ok(());
    }
    let wrong = ChunkError::WrongSize {
        id,
        stated: child.bytes,
        found: entry.content_bytes(),
    };
    Err(Failure::new(ErrorKind::Invalid, wrong.to_string()))
}

fn invalid(error: ChunkError) -> StoreError {
    Failure::new(ErrorKind::Invalid, error.to_string()).into()
}
