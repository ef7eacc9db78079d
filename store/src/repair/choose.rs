//! Of each key the newest value that is known, in key order.

use std::iter::Peekable;

use bytes::Bytes;
use objsync_proto::ids::Revision;
use objsync_proto::patched;

use super::Loss;
use super::runs::{Part, Run, Runs};
use super::tables::{Sound, Tables};
use crate::error::StoreError;
use crate::table::{Section, TableEntry};

type Entries<'a> = Peekable<Box<dyn Iterator<Item = Result<TableEntry, StoreError>> + 'a>>;

/// Walks over snapshots and runs together.
pub(super) struct Choice<'a> {
    snapshots: Vec<(&'a Sound, Entries<'a>)>,
    /// With what its entries say of a key.
    runs: Vec<(Says, Entries<'a>)>,
    /// Told the keys of which a part of the value has changed that is not known any more.
    short: &'a mut Loss,
}

/// What the entries of a table of a run say.
#[derive(Clone, Copy)]
enum Says {
    Put,
    Removed,
    Parts,
}

impl<'a> Choice<'a> {
    pub(super) fn new(tables: &'a Tables, runs: &'a Runs<'_>, short: &'a mut Loss) -> Self {
        let peekable = |entries: Box<dyn Iterator<Item = _> + 'a>| entries.peekable();
        let snapshots = tables.list.iter();
        Self {
            snapshots: snapshots
                .map(|one| (one, peekable(Box::new(one.entries()))))
                .collect(),
            runs: runs
                .list
                .iter()
                .flat_map(|run| {
                    let Run {
                        puts,
                        removals,
                        parts,
                    } = run;
                    [
                        (Says::Put, puts),
                        (Says::Removed, removals),
                        (Says::Parts, parts),
                    ]
                })
                .map(|(says, table)| (says, peekable(Box::new(table.iter()))))
                .collect(),
            short,
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
            let (floor, best) = known;
            let mut found = Found {
                newest: floor,
                best,
                is_short: false,
            };
            for (says, entries) in &mut self.runs {
                let Some(entry) = entries.next_if(is_it).transpose()? else {
                    continue;
                };
                if entry.revision > found.newest {
                    found.go_on(*says, entry);
                }
            }
            if found.is_short {
                self.short.add_key(section.namespace, &key);
            }
            if found.best.is_some() {
                return Ok(found.best);
            }
        }
    }

    fn lowest(&mut self) -> Result<Option<(Section, Bytes)>, StoreError> {
        let snapshots = self.snapshots.iter_mut().map(|(_, entries)| entries);
        let runs = self.runs.iter_mut().map(|(_, entries)| entries);
        let mut lowest: Option<(Section, Bytes)> = None;
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

/// What is known of one key so far.
struct Found {
    newest: Revision,
    /// None for a key that was removed, or that nobody has heard of.
    best: Option<TableEntry>,
    /// Parts changed that could not be applied: what they changed is lost.
    is_short: bool,
}

impl Found {
    fn go_on(&mut self, says: Says, entry: TableEntry) {
        match says {
            Says::Put | Says::Removed => {
                self.newest = entry.revision;
                self.best = matches!(says, Says::Put).then_some(entry);
                self.is_short = false;
            }
            Says::Parts => {
                for part in Part::take_all(&entry.payload).unwrap_or_default() {
                    self.is_short |= part.revision > self.newest && !self.apply(&part);
                }
            }
        }
    }

    /// Applies what changed to the value that it changed; false if that is not the one here.
    fn apply(&mut self, part: &Part) -> bool {
        let Some(best) = self.best.as_mut().filter(|best| best.revision == part.base) else {
            return false;
        };
        let Ok(value) = patched::apply(&best.payload, &part.edits) else {
            return false;
        };
        best.payload = value;
        best.revision = part.revision;
        self.newest = part.revision;
        true
    }
}

impl Iterator for Choice<'_> {
    type Item = Result<TableEntry, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
