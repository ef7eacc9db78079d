//! What there is of the original, with or without a manifest that says so.

use std::path::{Path, PathBuf};

use objsync_proto::ids::{Revision, StoreId};

use super::Loss;
use crate::check::list_segments;
use crate::disk::{Disk, OpenMode};
use crate::error::StoreError;
use crate::format::{check_format, format_path};
use crate::log::{SegmentHeader, SegmentId, segment_path};
use crate::manifest::{self, Manifest, manifest_path};
use crate::snapshot::{snapshot_directory, snapshot_path};
use crate::table::{Table, TableKind};

/// The files of the original.
pub(super) struct Origin {
    pub(super) directory: PathBuf,
    pub(super) store: StoreId,
    pub(super) manifest: Option<Manifest>,
    /// Which segments there are or must be, with their headers or what is wrong with these.
    pub(super) segments: Vec<(SegmentId, Result<SegmentHeader, String>)>,
    /// Snapshots there are or must be, oldest first.
    pub(super) snapshots: Vec<Revision>,
    pub(super) total_bytes: u64,
    /// Where in the list of losses that of the manifest stands.
    pub(super) manifest_loss: Option<usize>,
}

pub(super) fn find(
    disk: &dyn Disk,
    directory: &Path,
    losses: &mut Vec<Loss>,
) -> Result<Origin, StoreError> {
    let mut ids = list_segments(disk, directory)?;
    let mut snapshots = list_snapshots(disk, directory)?;
    check_format_of(disk, directory, (&ids, &snapshots), losses)?;
    let manifest = read_manifest(disk, directory, losses)?;
    let manifest_loss = manifest.is_none().then(|| losses.len() - 1);
    if let Some(manifest) = &manifest {
        ids.retain(|id| manifest.names(*id));
        snapshots.clone_from(&manifest.snapshots);
    }
    let headers: Vec<_> = all_of(&ids, manifest.as_ref())
        .into_iter()
        .map(|id| Ok((id, header(disk, directory, id)?)))
        .collect::<Result<_, StoreError>>()?;
    let store = match &manifest {
        Some(manifest) => manifest.store,
        None => store_of((disk, directory), &headers, &snapshots)?,
    };
    let segments: Vec<_> = headers
        .into_iter()
        .map(|(id, header)| (id, header.and_then(|header| own(header, store))))
        .collect();
    let bytes_of = |path: &Path| {
        let file = disk.open(path, OpenMode::Read);
        file.and_then(|file| file.bytes()).unwrap_or(0)
    };
    let segment_paths = segments.iter().map(|(id, _)| segment_path(directory, *id));
    let snapshot_paths = snapshots.iter().map(|at| snapshot_path(directory, *at));
    let total_bytes = segment_paths
        .chain(snapshot_paths)
        .map(|path| bytes_of(&path))
        .sum();
    Ok(Origin {
        directory: directory.to_owned(),
        store,
        manifest,
        segments,
        snapshots,
        total_bytes,
        manifest_loss,
    })
}

impl Origin {
    /// Whether the log is there from the first segment a store ever has.
    pub(super) fn begins_at_first(&self) -> bool {
        self.segments
            .first()
            .is_some_and(|(id, _)| *id == SegmentId::FIRST)
    }

    /// The first segment that can be read.
    pub(super) fn first(&self) -> Option<&SegmentHeader> {
        let headers = self.segments.iter().map(|(_, header)| header.as_ref());
        headers.flatten().next()
    }

    /// The next segment that can be read behind a place in the list.
    pub(super) fn next(&self, place: usize) -> Option<&SegmentHeader> {
        let (id, _) = self.segments.get(place)?;
        let (next, header) = self.segments.get(place + 1)?;
        let is_next = id.0.checked_add(1) == Some(next.0);
        header.as_ref().ok().filter(|_| is_next)
    }
}

/// Damage of `FORMAT` costs nothing; a later format is for a later program.
fn check_format_of(
    disk: &dyn Disk,
    directory: &Path,
    (ids, snapshots): (&[SegmentId], &[Revision]),
    losses: &mut Vec<Loss>,
) -> Result<(), StoreError> {
    let what = match check_format(disk, directory, true) {
        Ok(true) => return Ok(()),
        Ok(false) | Err(StoreError::NotAStore { .. }) if ids.is_empty() && snapshots.is_empty() => {
            let directory = directory.to_owned();
            return Err(StoreError::NotFound { directory });
        }
        Ok(false) | Err(StoreError::NotAStore { .. }) => "it is missing".to_owned(),
        Err(StoreError::Corrupt { what, .. }) => what,
        Err(error) => return Err(error),
    };
    losses.push(Loss {
        is_made_good: true,
        are_keys_known: true,
        ..Loss::new(&format_path(directory), 0..0, what)
    });
    Ok(())
}

fn read_manifest(
    disk: &dyn Disk,
    directory: &Path,
    losses: &mut Vec<Loss>,
) -> Result<Option<Manifest>, StoreError> {
    let what = match manifest::read(disk, directory) {
        Ok(Some(manifest)) => return Ok(Some(manifest)),
        Ok(None) => "it is missing".to_owned(),
        Err(StoreError::Corrupt { what, .. }) => what,
        Err(error) => return Err(error),
    };
    losses.push(Loss::new(&manifest_path(directory), 0..0, what));
    Ok(None)
}

/// Those that are there, and those that must be between and around them.
fn all_of(ids: &[SegmentId], manifest: Option<&Manifest>) -> Vec<SegmentId> {
    let named = |pick: fn(&Manifest) -> Option<SegmentId>| manifest.and_then(pick);
    let first = named(|manifest| manifest.first_segment).or(ids.first().copied());
    let last = ids.last().copied();
    let last = last.max(named(|manifest| manifest.last_segment));
    let (Some(first), Some(last)) = (first, last) else {
        return Vec::new();
    };
    // A hostile manifest may name any number: what is not there is listed only near what is.
    let nearest = ids.first().copied().unwrap_or(last);
    let first = first
        .min(nearest)
        .max(SegmentId(nearest.0.saturating_sub(LISTED_MAX)));
    let newest = ids.last().copied().unwrap_or(first);
    let last = last.min(SegmentId(newest.0.saturating_add(LISTED_MAX)));
    // A file may have any name: none is behind the last number.
    let behind = |id: SegmentId| SegmentId(id.0.saturating_add(1));
    let is_there = |id: &SegmentId| ids.binary_search(id).is_ok();
    let gap_max = usize::try_from(LISTED_MAX).unwrap_or(usize::MAX);
    let mut listed = Vec::new();
    let mut missing = 0;
    let mut next = first;
    while next <= last {
        missing = if is_there(&next) { 0 } else { missing + 1 };
        listed.push(next);
        if next == last {
            break;
        }
        next = behind(next);
        if missing >= gap_max {
            let place = ids.partition_point(|id| *id < next);
            next = ids.get(place).copied().unwrap_or(last);
            missing = 0;
        }
    }
    listed
}

/// Most missing segments that are listed one by one, between two that are there.
const LISTED_MAX: u64 = 4096;

fn header(
    disk: &dyn Disk,
    directory: &Path,
    id: SegmentId,
) -> Result<Result<SegmentHeader, String>, StoreError> {
    match SegmentHeader::open(disk, directory, id, OpenMode::Read) {
        Ok((header, _)) => Ok(Ok(header)),
        Err(StoreError::Corrupt { what, .. }) => Ok(Err(what)),
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Ok(Err("it is missing".to_owned()))
        }
        Err(error) => Err(error),
    }
}

fn own(header: SegmentHeader, store: StoreId) -> Result<SegmentHeader, String> {
    match header.store == store {
        true => Ok(header),
        false => Err(format!("it belongs to store {}", header.store)),
    }
}

/// Whose files they are, by the first that says so.
fn store_of(
    (disk, directory): (&dyn Disk, &Path),
    headers: &[(SegmentId, Result<SegmentHeader, String>)],
    snapshots: &[Revision],
) -> Result<StoreId, StoreError> {
    let of_log = headers.iter().find_map(|(_, header)| header.as_ref().ok());
    if let Some(header) = of_log {
        return Ok(header.store);
    }
    let tables = snapshots.iter().rev().filter_map(|at| {
        let path = snapshot_path(directory, *at);
        Table::open(disk, &path, TableKind::Snapshot).ok()
    });
    let store = tables.map(|table| table.head().store).next();
    let nothing = || StoreError::corrupt(directory, 0, "no file of it says whose it is");
    store.ok_or_else(nothing)
}

fn list_snapshots(disk: &dyn Disk, directory: &Path) -> Result<Vec<Revision>, StoreError> {
    let directory = snapshot_directory(directory);
    let names = match disk.list(&directory) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(StoreError::io("list", &directory, error)),
    };
    let revision = |name: &String| {
        let digits = name
            .strip_suffix(".snap")
            .filter(|digits| digits.len() == 16)?;
        u64::from_str_radix(digits, 16).ok().map(Revision)
    };
    let mut found: Vec<_> = names.iter().filter_map(revision).collect();
    found.sort_unstable();
    Ok(found)
}
