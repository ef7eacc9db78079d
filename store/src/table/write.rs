//! Writing a table: entries in, in order; a whole file or none out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::ids::Revision;
use objsync_proto::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

use super::block::{BlockEncoder, BlockKind, BlockRef, encode_head, encode_trailer};
use super::block::{put_entry, put_ref};
use super::{BLOCK_BYTES, EDGE_BYTES, Section, TableHead, Trailer};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::StoreError;

/// A table that is being written. Nothing is under its name before [`TableWriter::finish`].
pub struct TableWriter<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
    temporary: PathBuf,
    file: Arc<dyn DiskFile>,
    head: TableHead,
    encoder: BlockEncoder,
    offset: u64,
    block: Vec<u8>,
    /// Section, first key and entries of the block that is being filled.
    pending: Option<(Section, Bytes, u32)>,
    last: Option<(Section, Bytes)>,
    /// Blocks of the index that are full, with their counts, and the one being filled.
    index: Vec<(Vec<u8>, u32)>,
    trailer: Trailer,
    is_finished: bool,
}

impl<'a> TableWriter<'a> {
    /// Begins a table that will be found at `path`.
    pub fn create(disk: &'a dyn Disk, path: &Path, head: TableHead) -> Result<Self, StoreError> {
        let temporary = path.with_added_extension("tmp");
        let failed = |error| StoreError::io("create", &temporary, error);
        let file = disk.open(&temporary, OpenMode::Replace).map_err(failed)?;
        file.write_all_at(&encode_head(&head), 0).map_err(failed)?;
        Ok(Self {
            encoder: BlockEncoder::new().map_err(failed)?,
            disk,
            path: path.to_owned(),
            file,
            head,
            offset: EDGE_BYTES as u64,
            block: Vec::new(),
            pending: None,
            last: None,
            index: vec![(Vec::new(), 0)],
            trailer: Trailer::default(),
            is_finished: false,
            temporary,
        })
    }

    /// Adds an entry behind all before it.
    ///
    /// # Errors
    /// Of the disk; [`StoreError::Corrupt`] for an entry over the limits of a key and a value, which no
    /// reader would take.
    ///
    /// # Panics
    /// If it belongs before one that was added: such a table could not be read.
    pub fn push(
        &mut self,
        section: Section,
        key: &[u8],
        revision: Revision,
        payload: &[u8],
    ) -> Result<(), StoreError> {
        if let Some((last_section, last_key)) = &self.last {
            let is_behind = (*last_section, &last_key[..]) < (section, key);
            assert!(is_behind, "entries of a table come in order");
        }
        if key.len() > KEY_BYTES_MAX || payload.len() > VALUE_BYTES_MAX {
            let (key, bytes) = (key.len(), payload.len());
            let what = format!(
                "an entry of {bytes} bytes under a key of {key} bytes; the limits are \
                 {VALUE_BYTES_MAX} and {KEY_BYTES_MAX} bytes"
            );
            return Err(StoreError::corrupt(&self.path, self.offset, what));
        }
        let is_other = |(pending, _, _): &(Section, Bytes, u32)| *pending != section;
        if self.block.len() >= BLOCK_BYTES || self.pending.as_ref().is_some_and(is_other) {
            self.end_block()?;
        }
        put_entry(&mut self.block, key, revision, payload);
        let key = Bytes::copy_from_slice(key);
        let (_, _, count) = self
            .pending
            .get_or_insert_with(|| (section, key.clone(), 0));
        *count += 1;
        self.trailer.entry_count += 1;
        self.last = Some((section, key));
        Ok(())
    }

    fn end_block(&mut self) -> Result<(), StoreError> {
        let Some((section, first_key, count)) = self.pending.take() else {
            return Ok(());
        };
        let plain = std::mem::take(&mut self.block);
        let offset = self.offset;
        let bytes = self.write_block(BlockKind::Entries, count, &plain)?;
        self.block = plain;
        self.block.clear();
        self.trailer.block_count += 1;
        let block = BlockRef {
            section,
            offset,
            bytes,
            count,
            first_key,
        };
        if self
            .index
            .last()
            .is_some_and(|(full, _)| full.len() >= BLOCK_BYTES)
        {
            self.index.push((Vec::new(), 0));
        }
        if let Some((refs, count)) = self.index.last_mut() {
            put_ref(refs, &block);
            *count += 1;
        }
        Ok(())
    }

    fn write_block(
        &mut self,
        kind: BlockKind,
        count: u32,
        plain: &[u8],
    ) -> Result<u32, StoreError> {
        let failed = |error| StoreError::io("write", &self.temporary, error);
        let block = self
            .encoder
            .encode(kind, count, plain, self.offset)
            .map_err(failed)?;
        self.file.write_all_at(block, self.offset).map_err(failed)?;
        self.offset += block.len() as u64;
        Ok(u32::try_from(block.len()).unwrap_or(u32::MAX))
    }

    /// Makes the table found under its name, synced. Tells its bytes.
    pub fn finish(mut self) -> Result<u64, StoreError> {
        self.end_block()?;
        self.trailer.index_offset = self.offset;
        for (refs, count) in std::mem::take(&mut self.index) {
            if count > 0 {
                self.write_block(BlockKind::Index, count, &refs)?;
            }
        }
        let trailer = encode_trailer(&self.trailer, &self.head);
        let directory = self.path.parent().unwrap_or(Path::new("."));
        self.file
            .write_all_at(&trailer, self.offset)
            .and_then(|()| self.file.sync_data())
            .and_then(|()| self.disk.rename(&self.temporary, &self.path))
            .map_err(|error| StoreError::io("write", &self.path, error))?;
        self.is_finished = true;
        self.disk
            .sync_dir(directory)
            .map_err(|error| StoreError::io("sync", directory, error))?;
        Ok(self.offset + EDGE_BYTES as u64)
    }
}

impl Drop for TableWriter<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            // The disk may be full: make room. What is left is removed by the next open.
            let _ = self.disk.remove(&self.temporary);
        }
    }
}
