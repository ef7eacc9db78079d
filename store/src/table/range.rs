//! Walking over the part of a table that lies in a range of one section, in either direction.

use std::sync::Arc;

use objsync_proto::wire::KeyRange;

use super::{Section, Table, TableEntry};
use crate::error::StoreError;

/// The entries of a range, one block in memory at a time. Ends after an error.
pub struct TableRange {
    table: Arc<Table>,
    section: Section,
    range: KeyRange,
    reverse: bool,
    /// The block that is read next.
    next_block: Option<usize>,
    entries: std::vec::IntoIter<TableEntry>,
}

impl TableRange {
    pub(super) fn new(table: Arc<Table>, section: Section, range: KeyRange, reverse: bool) -> Self {
        let next_block = match (reverse, &range.end) {
            (false, _) => table.block_of(section, &range.start),
            (true, Some(end)) => table.block_of(section, end),
            (true, None) => table.last_block(section),
        };
        Self {
            table,
            section,
            range,
            reverse,
            next_block,
            entries: Vec::new().into_iter(),
        }
    }

    /// Takes the entries of the next block; false at the end.
    fn read_block(&mut self) -> Result<bool, StoreError> {
        let Some(place) = self.next_block.take() else {
            return Ok(false);
        };
        let Some((section, first_key)) = self.table.block_start(place) else {
            return Ok(false);
        };
        let is_past = |end: &bytes::Bytes| !self.reverse && first_key >= &end[..];
        if section != self.section || self.range.end.as_ref().is_some_and(is_past) {
            return Ok(false);
        }
        let goes_on = !self.reverse || first_key > &self.range.start[..];
        let next = match self.reverse {
            true => place.checked_sub(1),
            false => Some(place + 1),
        };
        let mut entries = self.table.block(place)?;
        entries.retain(|entry| self.range.contains(&entry.key));
        if self.reverse {
            entries.reverse();
        }
        self.entries = entries.into_iter();
        self.next_block = next.filter(|_| goes_on);
        Ok(true)
    }
}

impl Iterator for TableRange {
    type Item = Result<TableEntry, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.entries.next() {
                return Some(Ok(entry));
            }
            match self.read_block() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
