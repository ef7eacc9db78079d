//! Walking over a table from a block on, one block in memory at a time.

use std::sync::Arc;

use super::{Table, TableEntry};
use crate::error::StoreError;

/// The entries of a table from some block on, in order. Ends after an error.
pub struct TableCursor {
    table: Arc<Table>,
    next_block: usize,
    entries: std::vec::IntoIter<TableEntry>,
}

impl TableCursor {
    pub(super) fn from_block(table: Arc<Table>, block: usize) -> Self {
        Self {
            table,
            next_block: block,
            entries: Vec::new().into_iter(),
        }
    }
}

impl Iterator for TableCursor {
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
                Err(error) => {
                    self.next_block = usize::MAX;
                    return Some(Err(error));
                }
            }
            self.next_block += 1;
        }
    }
}
