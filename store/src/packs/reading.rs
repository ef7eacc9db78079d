//! A chunk from its pack, and a part of a value from its chunks.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::chunk::record::{CheckedChunk, ChunkRecord, unpack};
use objsync_proto::chunk::{Child, Node, Root, overlapping};
use objsync_proto::ids::ChunkId;

use super::index::Entry;
use super::layout::{PackId, RECORD_HEADER_BYTES, RecordHeader};
use super::{Chunks, Packs};
use crate::disk::{DiskFile, OpenMode};
use crate::error::StoreError;

/// Files kept open for reading.
const FILES_MAX: usize = 64;
/// How often a chunk is looked for anew that was moved as it was read.
const TRY_COUNT: u32 = 8;

/// Takes a piece of content: the offset at which it begins, and its bytes.
pub type EachPiece<'a> = dyn FnMut(u64, Bytes) -> Result<(), StoreError> + 'a;

impl Chunks<'_> {
    /// Calls `each` with the chunks that hold the content from `start` to `end`, whole and in order.
    ///
    /// Cost: a read of each chunk, and of each node above.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when one is damaged or not there.
    pub fn read_range(
        &self,
        root: &Root,
        (start, end): (u64, u64),
        each: &mut EachPiece<'_>,
    ) -> Result<(), StoreError> {
        self.core.refuse_if_closed()?;
        let below = Below {
            children: root.children(),
            level: root.depth(),
            base: 0,
        };
        self.core.packs.walk(&below, (start, end), each)
    }
}

impl Chunks<'_> {
    /// Whether an id stands in the tree of a value, at this level and where its content begins at
    /// this offset.
    ///
    /// Cost: a read of each node above it.
    pub fn stands_at(
        &self,
        root: &Root,
        (id, level, offset): (ChunkId, u8, u64),
    ) -> Result<bool, StoreError> {
        self.core.refuse_if_closed()?;
        let (mut children, mut at, mut base) = (root.children().to_vec(), root.depth(), 0);
        loop {
            let found = overlapping(&children, base, offset, offset.saturating_add(1)).next();
            let Some((start, child)) = found else {
                return Ok(false);
            };
            if at <= level {
                return Ok((at, child.id, start) == (level, id, offset));
            }
            let Some(node) = self.core.packs.node(child.id)? else {
                return Ok(false);
            };
            (children, at, base) = (node.children().to_vec(), at - 1, start);
        }
    }

    /// Calls `each` with the ids of a value, those of nodes before those of what they list, until it
    /// returns false. An id comes as often as different nodes list it, or one does.
    ///
    /// Cost: a read of each node, however often it is listed.
    pub fn ids_below(
        &self,
        root: &Root,
        each: &mut dyn FnMut(ChunkId) -> bool,
    ) -> Result<(), StoreError> {
        self.core.packs.each_list(root, &mut |children| {
            children.iter().all(|child| each(child.id))
        })
    }
}

/// A list of children, of one level, whose content begins at `base`.
struct Below<'a> {
    children: &'a [Child],
    level: u8,
    base: u64,
}

impl Packs {
    fn walk(
        &self,
        below: &Below<'_>,
        (start, end): (u64, u64),
        each: &mut EachPiece<'_>,
    ) -> Result<(), StoreError> {
        for (base, child) in overlapping(below.children, below.base, start, end) {
            let missing = || {
                let what = format!("chunk {} is not there", child.id);
                StoreError::corrupt(&super::pack_directory(&self.options.directory), 0, what)
            };
            match below.level.checked_sub(1) {
                None => {
                    let record = self.get(child.id)?.ok_or_else(missing)?;
                    each(base, unpack(&record).map_err(|error| self.damaged(&error))?)?;
                }
                Some(level) => {
                    let node = self.node(child.id)?.ok_or_else(missing)?;
                    let below = Below {
                        children: node.children(),
                        level,
                        base,
                    };
                    self.walk(&below, (start, end), each)?;
                }
            }
        }
        Ok(())
    }

    /// Calls `each` with what a root lists, and with what each node below it lists, that of a node
    /// once, until it returns false.
    ///
    /// A few records can make a tree with more places than anybody could walk: nodes are told apart.
    /// Memory: 32 bytes for each node.
    pub(super) fn each_list(
        &self,
        root: &Root,
        each: &mut dyn FnMut(&[Child]) -> bool,
    ) -> Result<(), StoreError> {
        let mut seen: HashSet<ChunkId> = HashSet::new();
        let mut next: Vec<(u8, ChunkId)> = Vec::new();
        let mut walk = |level: u8, children: &[Child], next: &mut Vec<_>| {
            if level > 0 {
                let new = children.iter().filter(|child| seen.insert(child.id));
                next.extend(new.map(|child| (level - 1, child.id)));
            }
            each(children)
        };
        let mut goes_on = walk(root.depth(), root.children(), &mut next);
        while goes_on && let Some((level, id)) = next.pop() {
            if let Some(node) = self.node(id)? {
                goes_on = walk(level, node.children(), &mut next);
            }
        }
        Ok(())
    }

    fn damaged(&self, error: &objsync_proto::chunk::ChunkError) -> StoreError {
        let directory = super::pack_directory(&self.options.directory);
        StoreError::corrupt(&directory, 0, error.to_string())
    }

    /// A node, whose hash was compared.
    pub(crate) fn node(&self, id: ChunkId) -> Result<Option<Node>, StoreError> {
        let Some(record) = self.get(id)? else {
            return Ok(None);
        };
        let checked = CheckedChunk::check(record).and_then(|checked| checked.plain());
        let node = checked.and_then(|plain| Node::decode(&plain));
        node.map(Some).map_err(|error| {
            // Not there any more, so that it can be stored anew.
            let entry = self.index().find(&id);
            if let Some(entry) = entry {
                self.index_mut().note_damage(&id, &entry);
            }
            self.damaged(&error)
        })
    }

    /// As `Chunks::get`.
    pub(crate) fn get(&self, id: ChunkId) -> Result<Option<ChunkRecord>, StoreError> {
        let mut tries = TRY_COUNT;
        loop {
            let Some(entry) = self.index().find(&id) else {
                return Ok(None);
            };
            let read = self.read(id, &entry);
            tries -= 1;
            let is_moved = || {
                let now = self.index().find(&id);
                now.is_none_or(|now| !now.is_at(&entry))
            };
            match read {
                // Its pack was removed meanwhile, and it is elsewhere.
                Err(_) if tries > 0 && is_moved() => {}
                Err(error @ StoreError::Corrupt { .. }) => {
                    self.index_mut().note_damage(&id, &entry);
                    return Err(error);
                }
                other => return other.map(|(_, record)| Some(record)),
            }
        }
    }

    /// The record that an entry points at.
    pub(super) fn read(
        &self,
        id: ChunkId,
        entry: &Entry,
    ) -> Result<(RecordHeader, ChunkRecord), StoreError> {
        let (pack, file) = self.file(entry.pack)?;
        let read = read_record(&*file, pack, &self.path(pack), entry.offset())?;
        if read.0.id != id {
            let what = format!("chunk {} lies in the place of {id}", read.0.id);
            return Err(StoreError::corrupt(&self.path(pack), entry.offset(), what));
        }
        Ok(read)
    }

    /// The file of a pack.
    fn file(&self, slot: u32) -> Result<(PackId, Arc<dyn DiskFile>), StoreError> {
        let gone = || StoreError::io("open", &self.options.directory, not_found());
        let id = self
            .index()
            .pack(slot)
            .map(|pack| pack.id)
            .ok_or_else(gone)?;
        if let Some(file) = self.files().get(&slot) {
            return Ok((id, Arc::clone(file)));
        }
        let path = self.path(id);
        let opened = self.options.disk.open(&path, OpenMode::Read);
        let file = opened.map_err(|error| StoreError::io("open", &path, error))?;
        let mut files = self.files();
        if files.len() >= FILES_MAX {
            let first = files.keys().next().copied();
            first.and_then(|first| files.remove(&first));
        }
        files.insert(slot, Arc::clone(&file));
        Ok((id, file))
    }
}

fn not_found() -> std::io::Error {
    std::io::ErrorKind::NotFound.into()
}

/// Reads the record at an offset of a pack, and compares its checksums.
pub(super) fn read_record(
    file: &dyn DiskFile,
    pack: PackId,
    path: &Path,
    offset: u64,
) -> Result<(RecordHeader, ChunkRecord), StoreError> {
    let short = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            StoreError::corrupt(path, offset, "the pack ends within a chunk")
        }
        _ => StoreError::io("read", path, error),
    };
    let mut header = [0; RECORD_HEADER_BYTES];
    file.read_exact_at(&mut header, offset).map_err(short)?;
    let header = RecordHeader::decode(&header, pack)
        .map_err(|error| StoreError::corrupt(path, offset, error.0))?;
    // Bounded by what a chunk or a node may be.
    let mut payload = vec![0; usize::try_from(header.stored_bytes).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut payload, offset + RECORD_HEADER_BYTES as u64)
        .map_err(short)?;
    if crc32c::crc32c(&payload) != header.payload_crc {
        let what = format!("chunk {} is damaged: its checksum is wrong", header.id);
        return Err(StoreError::corrupt(path, offset, what));
    }
    Ok((header, header.record(payload.into())))
}
