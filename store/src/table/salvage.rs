//! What can still be read of a damaged table: the blocks that are sound, and which keys those that
//! are not may have held.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::ids::{NamespaceId, SurfaceId};

use super::block::{BLOCK_HEADER_BYTES, BlockHeader, BlockKind, BlockRef, take_refs};
use super::{EDGE_BYTES, Section, Table, TableEntry, TableHead, Trailer, read_exact};
use crate::disk::{Disk, OpenMode};
use crate::error::StoreError;

/// First byte of each block.
const BLOCK_MAGIC: u8 = 0xf6;
/// Bytes looked through at once for blocks.
const WINDOW_BYTES: usize = 256 << 10;

/// Where a key stands in the order of a table.
pub(crate) type TableKey = (Section, Bytes);

/// A part of a table that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hole {
    /// The first key that may have stood in it,
    pub(crate) start: TableKey,
    /// and the first behind it; none if it goes on to the end.
    pub(crate) end: Option<TableKey>,
    /// Its place in the file.
    pub(crate) bytes: std::ops::Range<u64>,
    /// How many entries it held, where the index tells.
    pub(crate) count: Option<u32>,
    /// What is wrong.
    pub(crate) what: String,
}

impl Hole {
    /// Whether a key may have stood in it.
    pub(crate) fn may_hold(&self, section: Section, key: &[u8]) -> bool {
        let key = (section, key);
        let start = (self.start.0, &self.start.1[..]);
        let is_before = |(section, end): &TableKey| key < (*section, &end[..]);
        key >= start && self.end.as_ref().is_none_or(is_before)
    }
}

impl Table {
    /// Opens a table whose header or trailer is damaged, by the blocks of its index that are found
    /// in it. Its header is given.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if nothing of its index is found.
    pub(crate) fn open_by_blocks(
        disk: &dyn Disk,
        path: &Path,
        head: TableHead,
    ) -> Result<Self, StoreError> {
        let failed = |error| StoreError::io("open", path, error);
        let file = disk.open(path, OpenMode::Read).map_err(failed)?;
        let bytes = file.bytes().map_err(failed)?;
        let mut table = Self {
            path: path.to_owned(),
            file,
            head,
            trailer: Trailer::default(),
            blocks: Vec::new(),
            bytes,
        };
        let mut blocks: Vec<BlockRef> = Vec::new();
        for offset in table.find_index_blocks()? {
            let Ok((header, plain)) = table.read_block(offset, BlockKind::Index) else {
                continue;
            };
            let first = table.trailer.index_offset;
            table.trailer.index_offset = if first == 0 { offset } else { first };
            for block in take_refs(&plain, header.count).unwrap_or_default() {
                let is_behind = |last: &BlockRef| {
                    (last.offset, last.section, &last.first_key)
                        < (block.offset, block.section, &block.first_key)
                };
                if blocks.last().is_none_or(is_behind) {
                    blocks.push(block);
                }
            }
        }
        table.blocks = blocks;
        match table.trailer.index_offset {
            0 => Err(StoreError::corrupt(path, 0, "nothing of its index is left")),
            _ => Ok(table),
        }
    }

    /// Where valid headers of blocks of the index stand. A header tells its own offset, so bytes
    /// that only look like one are none.
    fn find_index_blocks(&self) -> Result<Vec<u64>, StoreError> {
        let mut found = Vec::new();
        let mut start = EDGE_BYTES as u64;
        while start + (BLOCK_HEADER_BYTES as u64) <= self.bytes {
            let count = (self.bytes - start).min(WINDOW_BYTES as u64);
            let mut window = vec![0; usize::try_from(count).unwrap_or(WINDOW_BYTES)];
            read_exact(&*self.file, &self.path, &mut window, start)?;
            for (place, bytes) in window.windows(BLOCK_HEADER_BYTES).enumerate() {
                let offset = start + place as u64;
                if bytes[0] == BLOCK_MAGIC
                    && let Some(bytes) = bytes.first_chunk()
                    && BlockHeader::decode(bytes, offset)
                        .is_ok_and(|header| header.kind == BlockKind::Index as u8)
                {
                    found.push(offset);
                }
            }
            // The next window begins before this one ends: a header may lie across.
            start += (window.len() - (BLOCK_HEADER_BYTES - 1)) as u64;
        }
        Ok(found)
    }

    /// Reads every block, and tells what cannot be read.
    pub(crate) fn holes(&self) -> Result<Vec<Hole>, StoreError> {
        let lowest = Section {
            surface: SurfaceId(0),
            namespace: NamespaceId(0),
        };
        let mut holes: Vec<Hole> = Vec::new();
        let mut end = EDGE_BYTES as u64;
        // The first key that can stand behind what was read.
        let mut behind: TableKey = (lowest, Bytes::new());
        for (place, block) in self.blocks.iter().enumerate() {
            let start: TableKey = (block.section, block.first_key.clone());
            if block.offset != end {
                let what = "its index does not tell what stands here".to_owned();
                holes.push(Hole {
                    start: behind,
                    end: Some(start.clone()),
                    bytes: end..block.offset,
                    count: None,
                    what,
                });
            }
            end = block.offset + u64::from(block.bytes);
            match self.block(place) {
                Ok(entries) => {
                    let last = entries.last().map(|entry| entry.key.clone());
                    let mut last = last.unwrap_or_default().to_vec();
                    last.push(0);
                    behind = (block.section, last.into());
                }
                Err(StoreError::Corrupt { what, .. }) => {
                    let next = self.blocks.get(place + 1);
                    let next = next.map(|next| (next.section, next.first_key.clone()));
                    holes.push(Hole {
                        start: start.clone(),
                        end: next,
                        bytes: block.offset..end,
                        count: Some(block.count),
                        what,
                    });
                    behind = start;
                }
                Err(error) => return Err(error),
            }
        }
        if end != self.trailer.index_offset {
            holes.push(Hole {
                start: behind,
                end: None,
                bytes: end..self.trailer.index_offset.max(end),
                count: None,
                what: "its index does not tell what stands here".to_owned(),
            });
        }
        Ok(holes)
    }
}

/// The entries of the sound blocks of a table, in order.
pub(crate) struct SoundEntries {
    table: Arc<Table>,
    next_block: usize,
    entries: std::vec::IntoIter<TableEntry>,
}

impl SoundEntries {
    pub(crate) fn new(table: Arc<Table>) -> Self {
        Self {
            table,
            next_block: 0,
            entries: Vec::new().into_iter(),
        }
    }
}

impl Iterator for SoundEntries {
    type Item = Result<TableEntry, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.entries.next() {
                return Some(Ok(entry));
            }
            if self.next_block >= self.table.block_count() {
                return None;
            }
            match self.table.block(self.next_block) {
                Ok(entries) => self.entries = entries.into_iter(),
                // A hole, which was told.
                Err(StoreError::Corrupt { .. }) => {}
                Err(error) => {
                    self.next_block = usize::MAX;
                    return Some(Err(error));
                }
            }
            self.next_block += 1;
        }
    }
}
