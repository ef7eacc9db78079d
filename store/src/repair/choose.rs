//! Of each key the newest value that is known, in key order.

use std::iter::Peekable;

use objsync_proto::ids::Revision;

use super::runs::Runs;
use super::tables::{Sound, Tables};
use crate::error::StoreError;
use crate::table::{Section, TableEntry};

type Entries<'a> = Peekable<Box<dyn Iterator<Item = Result<TableEntry, StoreError>> + 'a>>;

/// Walks over snapshots and runs together.
pub(super) struct Choice<'a> {
    snapshots: Vec<(&'a Sound, Entries<'a>)>,
    /// With whether its entries say that a key was removed.
    runs: Vec<(bool, Entries<'a>)>,
}

impl<'a> Choice<'a> {
    pub(super) fn new(tables: &'a Tables, runs: &'a Runs<'_>) -> Self {
        let peekable = |entries: Box<dyn Iterator<Item = _> + 'a>| entries.peekable();
        let snapshots = tables.list.iter();
        Self {
            snapshots: snapshots
                .map(|one| (one, peekable(Box::new(one.entries()))))
                .collect(),
            runs: runs
                .list
                .iter()
                .flat_map(|run| [(false, &run.puts), (true, &run.removals)])
                .map(|(is_removal, table)| (is_removal, peekable(Box::new(table.iter()))))
                .collect(),
        }
    }

    /// The next key that has a value.
    fn step(&mut self) -> Result<Option<TableEntry>, StoreError> {
        loop {
            let Some((section, key)) = self.lowest()? else {
                return Ok(None);
            };
            let is_it = |entry: &Result<TableEntry, StoreError>| {
                let entry = entry.as_ref().ok();
                entry.is_some_and(|entry| entry.section == section && entry.key == key)
            };
            // The newest snapshot that is sound here decides, also by not having it.
            let mut known: (Revision, Option<TableEntry>) = (Revision(0), None);
            for (sound, entries) in &mut self.snapshots {
                let entry = entries.next_if(is_it).transpose()?;
                if sound.covers(section, &key) {
                    known = (sound.revision, entry);
                }
            }
            let (floor, mut best) = known;
            let mut newest = floor;
            for (is_removal, entries) in &mut self.runs {
                let Some(entry) = entries.next_if(is_it).transpose()? else {
                    continue;
                };
                if entry.revision > newest {
                    newest = entry.revision;
                    best = (!*is_removal).then_some(entry);
                }
            }
            if best.is_some() {
                return Ok(best);
            }
        }
    }

    fn lowest(&mut self) -> Result<Option<(Section, bytes::Bytes)>, StoreError> {
        let snapshots = self.snapshots.iter_mut().map(|(_, entries)| entries);
        let runs = self.runs.iter_mut().map(|(_, entries)| entries);
        let mut lowest: Option<(Section, bytes::Bytes)> = None;
        for entries in snapshots.chain(runs) {
            match entries.peek() {
                Some(Ok(entry)) => {
                    let key = (entry.section, &entry.key);
                    if lowest
                        .as_ref()
                        .is_none_or(|(section, lowest)| key < (*section, lowest))
                    {
                        lowest = Some((entry.section, entry.key.clone()));
                    }
                }
                Some(Err(error)) => return Err(error.clone()),
                None => {}
            }
        }
        Ok(lowest)
    }
}

impl Iterator for Choice<'_> {
    type Item = Result<TableEntry, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
