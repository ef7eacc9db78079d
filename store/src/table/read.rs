//! Reading a table: one key, a range, or all of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::wire::KeyRange;

use super::block::{
    BLOCK_HEADER_BYTES, BlockHeader, BlockKind, BlockRef, decode_head, decode_trailer, find_entry,
    take_entries, take_refs,
};
use super::{
    EDGE_BYTES, Section, TableCursor, TableEntry, TableHead, TableKind, TableRange, Trailer,
};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::StoreError;
use crate::frame::Malformed;

/// An open table. Its index of blocks is in memory, about a thousandth of the whole.
pub struct Table {
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) head: TableHead,
    pub(super) trailer: Trailer,
    pub(super) blocks: Vec<BlockRef>,
    pub(super) bytes: u64,
}

/// A block that is not what was written.
pub(crate) struct DamagedBlock {
    pub(crate) section: Section,
    pub(crate) offset: u64,
    pub(crate) first_key: Bytes,
    pub(crate) count: u32,
    pub(crate) what: String,
}

impl Table {
    /// Opens the table at `path`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] unless header, index and trailer are what was written.
    pub fn open(disk: &dyn Disk, path: &Path, kind: TableKind) -> Result<Self, StoreError> {
        let failed = |error| StoreError::io("open", path, error);
        let file = disk.open(path, OpenMode::Read).map_err(failed)?;
        let bytes = file.bytes().map_err(failed)?;
        if bytes < 2 * EDGE_BYTES as u64 {
            return Err(StoreError::corrupt(
                path,
                0,
                "no room for header and trailer",
            ));
        }
        let trailer_at = bytes - EDGE_BYTES as u64;
        let head = edge(&*file, path, 0, decode_head)?;
        if head.kind != kind {
            return Err(StoreError::corrupt(path, 9, "a table of another kind"));
        }
        let trailer = edge(&*file, path, trailer_at, |bytes| {
            decode_trailer(bytes, &head)
        })?;
        let mut table = Self {
            path: path.to_owned(),
            file,
            head,
            trailer,
            blocks: Vec::new(),
            bytes,
        };
        table.blocks = table.read_index(trailer_at)?;
        Ok(table)
    }

    /// What it says of itself.
    #[must_use]
    pub fn head(&self) -> &TableHead {
        &self.head
    }

    /// Bytes of the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many entries it has.
    #[must_use]
    pub fn entry_count(&self) -> u64 {
        self.trailer.entry_count
    }

    /// Its sections and how many entries each has, in order.
    #[must_use]
    pub fn sections(&self) -> Vec<(Section, u64)> {
        let mut sections: Vec<(Section, u64)> = Vec::new();
        for block in &self.blocks {
            match sections.last_mut() {
                Some((section, count)) if *section == block.section => {
                    *count += u64::from(block.count);
                }
                _ => sections.push((block.section, u64::from(block.count))),
            }
        }
        sections
    }

    /// The entry of a key.
    pub fn get(&self, section: Section, key: &[u8]) -> Result<Option<TableEntry>, StoreError> {
        let Some(place) = self.block_of(section, key) else {
            return Ok(None);
        };
        let offset = self.blocks[place].offset;
        let (header, plain) = self.read_block(offset, BlockKind::Entries)?;
        find_entry(&plain, header.count, (section, key))
            .map_err(|malformed| self.corrupt(offset, malformed))
    }

    /// The entries of a range of one section, in key order or against it.
    #[must_use]
    pub fn range(self: &Arc<Self>, section: Section, range: KeyRange, reverse: bool) -> TableRange {
        TableRange::new(self.clone(), section, range, reverse)
    }

    /// All entries, in order.
    #[must_use]
    pub fn iter(self: &Arc<Self>) -> TableCursor {
        TableCursor::from_block(self.clone(), 0)
    }

    /// That every block of entries is what was written, by its checksum.
    pub(crate) fn check_blocks(&self) -> Result<(), StoreError> {
        for block in &self.blocks {
            self.read_stored(block.offset, BlockKind::Entries)?;
        }
        Ok(())
    }

    /// Reads every block and hands each entry to `is_right`; tells the blocks that are damaged, or
    /// have an entry that is not.
    pub(crate) fn check(
        &self,
        is_right: &mut dyn FnMut(&TableEntry) -> bool,
    ) -> Result<Vec<DamagedBlock>, StoreError> {
        let mut damaged = Vec::new();
        for (place, block) in self.blocks.iter().enumerate() {
            let what = match self.block(place) {
                Ok(entries) if entries.iter().all(&mut *is_right) => continue,
                Ok(_) => "an entry is later than the table".to_owned(),
                Err(StoreError::Corrupt { what, .. }) => what,
                Err(error) => return Err(error),
            };
            damaged.push(DamagedBlock {
                section: block.section,
                offset: block.offset,
                first_key: block.first_key.clone(),
                count: block.count,
                what,
            });
        }
        Ok(damaged)
    }

    pub(super) fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// The block in which a key of a section would stand: the last that begins at or before it, or
    /// the first of the section; none if the section is not there.
    pub(super) fn block_of(&self, section: Section, key: &[u8]) -> Option<usize> {
        let start = (section, key);
        let is_before = |block: &BlockRef| (block.section, &block.first_key[..]) <= start;
        let after = self.blocks.partition_point(is_before);
        let is_in = |place: &usize| self.blocks[*place].section == section;
        let before = after.checked_sub(1).filter(is_in);
        before.or(Some(after).filter(|place| *place < self.blocks.len() && is_in(place)))
    }

    /// The last block of a section.
    pub(super) fn last_block(&self, section: Section) -> Option<usize> {
        let after = self
            .blocks
            .partition_point(|block| block.section <= section);
        let last = after.checked_sub(1)?;
        (self.blocks[last].section == section).then_some(last)
    }

    /// Section and first key of a block.
    pub(super) fn block_start(&self, place: usize) -> Option<(Section, &[u8])> {
        let block = self.blocks.get(place)?;
        Some((block.section, &block.first_key))
    }

    /// The entries of a block.
    pub(super) fn block(&self, place: usize) -> Result<Vec<TableEntry>, StoreError> {
        let block = &self.blocks[place];
        let (header, plain) = self.read_block(block.offset, BlockKind::Entries)?;
        let located = |malformed| self.corrupt(block.offset, malformed);
        if header.count != block.count {
            return Err(located(Malformed("the index counts other entries")));
        }
        let entries = take_entries(&plain, header.count, block.section).map_err(located)?;
        if entries[0].key != block.first_key {
            return Err(located(Malformed("the index names another first key")));
        }
        let next = self.blocks.get(place + 1);
        let next = next.filter(|next| next.section == block.section);
        if let (Some(next), Some(last)) = (next, entries.last())
            && last.key >= next.first_key
        {
            return Err(located(Malformed("entries out of order")));
        }
        Ok(entries)
    }

    /// Reads the index, and that it fits: blocks follow each other without a gap.
    fn read_index(&self, trailer_at: u64) -> Result<Vec<BlockRef>, StoreError> {
        let mut blocks = Vec::new();
        let mut offset = self.trailer.index_offset;
        while offset < trailer_at {
            let (header, plain) = self.read_block(offset, BlockKind::Index)?;
            let refs = take_refs(&plain, header.count);
            blocks.extend(refs.map_err(|malformed| self.corrupt(offset, malformed))?);
            offset += (BLOCK_HEADER_BYTES + header.stored_bytes) as u64;
        }
        let mut end = EDGE_BYTES as u64;
        let mut count = 0;
        for block in &blocks {
            if block.offset != end {
                return Err(self.corrupt(end, Malformed("a gap between blocks")));
            }
            end += u64::from(block.bytes);
            count += u64::from(block.count);
        }
        let is_ordered =
            blocks.is_sorted_by(|a, b| (a.section, &a.first_key) < (b.section, &b.first_key));
        let fits = offset == trailer_at
            && end == self.trailer.index_offset
            && count == self.trailer.entry_count
            && blocks.len() == self.trailer.block_count as usize;
        match is_ordered && fits {
            true => Ok(blocks),
            false => Err(self.corrupt(trailer_at, Malformed("the index is not of this table"))),
        }
    }

    pub(super) fn read_block(
        &self,
        offset: u64,
        kind: BlockKind,
    ) -> Result<(BlockHeader, Bytes), StoreError> {
        let (header, stored) = self.read_stored(offset, kind)?;
        let plain = header.open(stored);
        let plain = plain.map_err(|malformed| self.corrupt(offset, malformed))?;
        Ok((header, plain))
    }

    /// A block as it is stored; its checksum is right.
    fn read_stored(
        &self,
        offset: u64,
        kind: BlockKind,
    ) -> Result<(BlockHeader, Vec<u8>), StoreError> {
        let located = |malformed| self.corrupt(offset, malformed);
        let mut header = [0; BLOCK_HEADER_BYTES];
        read_exact(&*self.file, &self.path, &mut header, offset)?;
        let header = BlockHeader::decode(&header, offset).map_err(located)?;
        if header.kind != kind as u8 {
            return Err(located(Malformed("a block of another kind")));
        }
        let mut stored = vec![0; header.stored_bytes];
        let at = offset + BLOCK_HEADER_BYTES as u64;
        read_exact(&*self.file, &self.path, &mut stored, at)?;
        header.check(&stored).map_err(located)?;
        Ok((header, stored))
    }

    fn corrupt(&self, offset: u64, malformed: Malformed) -> StoreError {
        StoreError::corrupt(&self.path, offset, malformed.0)
    }
}

fn edge<T>(
    file: &dyn DiskFile,
    path: &Path,
    offset: u64,
    decode: impl FnOnce(&[u8; EDGE_BYTES]) -> Result<T, Malformed>,
) -> Result<T, StoreError> {
    let mut bytes = [0; EDGE_BYTES];
    read_exact(file, path, &mut bytes, offset)?;
    decode(&bytes).map_err(|malformed| StoreError::corrupt(path, offset, malformed.0))
}

/// Fills `buffer`; the end of the file before that is damage.
pub(crate) fn read_exact(
    file: &dyn DiskFile,
    path: &Path,
    buffer: &mut [u8],
    offset: u64,
) -> Result<(), StoreError> {
    file.read_exact_at(buffer, offset)
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                StoreError::corrupt(path, offset, "it is cut short")
            }
            _ => StoreError::io("read", path, error),
        })
}
