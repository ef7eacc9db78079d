//! The snapshots of the original: which blocks of them are sound, and what the store kept of
//! itself.

use std::path::Path;
use std::sync::Arc;

use objsync_proto::ids::Revision;

use super::origin::Origin;
use super::{Loss, Meter};
use crate::core::System;
use crate::disk::{Disk, OpenMode};
use crate::epoch::Epochs;
use crate::error::StoreError;
use crate::log::{SegmentHeader, SegmentId};
use crate::recovery;
use crate::snapshot::snapshot_path;
use crate::table::{Hole, Section, SoundEntries, Table, TableHead, TableKind};

/// A snapshot, as far as it can be read.
pub(super) struct Sound {
    pub(super) table: Arc<Table>,
    pub(super) revision: Revision,
    /// What cannot be read of it, in order.
    pub(super) holes: Vec<Hole>,
}

/// All snapshots, oldest first.
pub(super) struct Tables {
    pub(super) list: Vec<Sound>,
    /// For each damaged snapshot, which losses are its own.
    pub(super) losses: Vec<(Revision, Vec<usize>)>,
}

pub(super) fn open(
    disk: &dyn Disk,
    origin: &Origin,
    losses: &mut Vec<Loss>,
    meter: &mut Meter<'_>,
) -> Result<Tables, StoreError> {
    let mut tables = Tables {
        list: Vec::new(),
        losses: Vec::new(),
    };
    for revision in &origin.snapshots {
        let before = losses.len();
        if let Some(sound) = open_one(disk, origin, *revision, losses)? {
            meter.add(sound.table.bytes());
            tables.list.push(sound);
        }
        if losses.len() > before {
            for loss in &mut losses[before..] {
                loss.revisions = Some((Revision(1), *revision));
            }
            let places = (before..losses.len()).collect();
            tables.losses.push((*revision, places));
        }
    }
    Ok(tables)
}

fn open_one(
    disk: &dyn Disk,
    origin: &Origin,
    revision: Revision,
    losses: &mut Vec<Loss>,
) -> Result<Option<Sound>, StoreError> {
    let path = snapshot_path(&origin.directory, revision);
    let head = TableHead {
        kind: TableKind::Snapshot,
        store: origin.store,
        revision,
        segment: SegmentId(0),
    };
    let table = match Table::open(disk, &path, TableKind::Snapshot) {
        Ok(table) if table.head().store == origin.store && table.head().revision == revision => {
            table
        }
        Ok(_) => {
            let what = "it belongs to another store or revision";
            losses.push(Loss::new(&path, 0..file_bytes(disk, &path), what));
            return Ok(None);
        }
        Err(StoreError::Corrupt { offset, what, .. }) => {
            let end = file_bytes(disk, &path);
            match Table::open_by_blocks(disk, &path, head) {
                Ok(table) => {
                    // Its blocks tell the rest.
                    losses.push(Loss {
                        are_keys_known: true,
                        ..Loss::new(&path, offset..end.min(offset + 64), what)
                    });
                    table
                }
                Err(_) => {
                    losses.push(Loss::new(&path, offset..end, what));
                    return Ok(None);
                }
            }
        }
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            losses.push(Loss::new(&path, 0..0, "it is missing"));
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let holes = table.holes()?;
    for hole in &holes {
        let mut loss = Loss::new(&path, hole.bytes.clone(), hole.what.clone());
        if let Some(count) = hole.count {
            loss.add_key(hole.start.0.namespace, &hole.start.1);
            loss.key_count = u64::from(count);
        }
        losses.push(loss);
    }
    Ok(Some(Sound {
        table: Arc::new(table),
        revision,
        holes,
    }))
}

fn file_bytes(disk: &dyn Disk, path: &Path) -> u64 {
    let file = disk.open(path, OpenMode::Read);
    file.and_then(|file| file.bytes()).unwrap_or(0)
}

impl Sound {
    /// Whether the log from this segment on follows what it has, or what its holes are losses of.
    pub(super) fn reaches(&self, first: &SegmentHeader) -> bool {
        match self.table.head().segment {
            // Its head is lost, and with it which segment it goes up to.
            SegmentId(0) => self.revision >= first.before,
            SegmentId(last) => last.saturating_add(1) >= first.id.0,
        }
    }

    /// Whether its key, or that it has none, is known.
    pub(super) fn covers(&self, section: Section, key: &[u8]) -> bool {
        !self.holes.iter().any(|hole| hole.may_hold(section, key))
    }

    /// Its entries but those of the store itself.
    pub(super) fn entries(
        &self,
    ) -> impl Iterator<Item = Result<crate::table::TableEntry, StoreError>> {
        SoundEntries::new(self.table.clone())
            .filter(|entry| !matches!(entry, Ok(entry) if entry.section == Section::SYSTEM))
    }

    /// Sessions, grants and epochs, if all of that part is sound.
    fn system(&self, store: objsync_proto::ids::StoreId) -> Option<(System, Epochs)> {
        let is_hit = |hole: &Hole| hole.start.0 <= Section::SYSTEM;
        if self.holes.iter().any(is_hit) || self.table.head().segment == SegmentId(0) {
            return None;
        }
        let mut section = Vec::new();
        for entry in SoundEntries::new(self.table.clone()) {
            let entry = entry.ok()?;
            if entry.section != Section::SYSTEM {
                break;
            }
            section.extend_from_slice(&entry.payload);
        }
        let mut system = System::default();
        let mut epochs = Epochs::new(store);
        recovery::take_section(section.into(), &mut system, &mut epochs).ok()?;
        Some((system, epochs))
    }
}

impl Tables {
    /// The newest state that is known whole, and on which the log builds.
    pub(super) fn base(&self, origin: &Origin) -> Option<Revision> {
        let sound = self.list.iter().rfind(|one| one.holes.is_empty());
        let empty = origin.begins_at_first().then_some(Revision(0));
        sound.map(|one| one.revision).or(empty)
    }

    /// The newest state of the store itself that is known, and the segment up to which it goes.
    pub(super) fn system(&self, origin: &Origin) -> (System, Epochs, Option<SegmentId>) {
        for one in self.list.iter().rev() {
            if let Some((system, epochs)) = one.system(origin.store) {
                return (system, epochs, Some(one.table.head().segment));
            }
        }
        let empty = origin.begins_at_first().then_some(SegmentId(0));
        (System::default(), Epochs::new(origin.store), empty)
    }
}
