//! What there is to be copied of a store that may be open: which files, and up to where the log.

use std::path::Path;

use objsync_proto::ids::Revision;

use super::refuse_unknown_format;
use crate::check::list_segments;
use crate::core::System;
use crate::disk::{Disk, OpenMode};
use crate::epoch::Epochs;
use crate::error::StoreError;
use crate::log::{
    Place, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentId, SegmentInfo, TailScan, scan_tail,
    segment_path,
};
use crate::manifest::{self, Manifest, manifest_path};
use crate::recovery;
use crate::snapshot::Snapshot;

/// How often the end of a log that grows is looked for: a frame that is half read is no damage.
const SCANS_MAX: u32 = 5;

/// A store as of one revision.
pub(super) struct Source {
    /// What the copy's manifest says: it ends the log.
    pub(super) manifest: Manifest,
    /// Its segments, oldest first.
    pub(super) segments: Vec<(SegmentHeader, SegmentInfo)>,
    /// The last revision in them.
    pub(super) revision: Revision,
    /// Changes of owner up to there.
    pub(super) epochs: Epochs,
}

/// Finds what to copy. All of it is durable when this returns.
pub(super) fn look(disk: &dyn Disk, directory: &Path) -> Result<Source, StoreError> {
    refuse_unknown_format(disk, directory)?;
    let known = read_manifest(disk, directory)?;
    let mut ids = list_segments(disk, directory)?;
    ids.retain(|id| known.names(*id));
    let headers = ids
        .iter()
        .map(|id| open_header(disk, directory, *id, &known))
        .collect::<Result<Vec<_>, _>>()?;
    refuse_gaps(directory, &ids, &known)?;
    let Some(last) = ids.last() else {
        let path = manifest_path(directory);
        return Err(StoreError::corrupt(&path, 0, "it names no segment"));
    };
    let mark = known.clean_end.filter(|end| end.segment == *last);
    let tail = find_end((disk, directory), *last, mark)?;
    sync(disk, directory, *last)?;
    // What the log may use is written down before it is used.
    let later = read_manifest(disk, directory)?;
    let mut infos: Vec<_> = headers
        .windows(2)
        .map(|pair| closed(&pair[0], &pair[1]))
        .collect();
    infos.push(tail.info);
    let epochs = load_epochs((disk, directory), &known, &infos)?;
    let revision = tail.info.last;
    let manifest = Manifest {
        epoch_max: known.epoch_max.max(later.epoch_max),
        revision_max: known.revision_max.max(later.revision_max).max(revision),
        first_segment: ids.first().copied(),
        last_segment: Some(*last),
        clean_end: Some(Place {
            segment: *last,
            offset: tail.info.bytes,
        }),
        ..known
    };
    Ok(Source {
        manifest,
        segments: headers.into_iter().zip(infos).collect(),
        revision,
        epochs,
    })
}

fn read_manifest(disk: &dyn Disk, directory: &Path) -> Result<Manifest, StoreError> {
    let missing = || StoreError::corrupt(&manifest_path(directory), 0, "it is missing");
    manifest::read(disk, directory)?.ok_or_else(missing)
}

fn refuse_gaps(directory: &Path, ids: &[SegmentId], known: &Manifest) -> Result<(), StoreError> {
    let first = known.first_segment.or(ids.first().copied());
    let last = known.last_segment.max(ids.last().copied());
    let (Some(first), Some(last)) = (first, last) else {
        return Ok(());
    };
    let missing = (first.0..=last.0)
        .map(SegmentId)
        .find(|id| ids.binary_search(id).is_err());
    match missing {
        Some(id) => Err(StoreError::corrupt(
            &segment_path(directory, id),
            0,
            "it is missing",
        )),
        None => Ok(()),
    }
}

fn open_header(
    disk: &dyn Disk,
    directory: &Path,
    id: SegmentId,
    known: &Manifest,
) -> Result<SegmentHeader, StoreError> {
    let (header, _) = SegmentHeader::open(disk, directory, id, OpenMode::Read)?;
    if header.store != known.store {
        let what = format!("it belongs to store {}", header.store);
        return Err(StoreError::corrupt(&segment_path(directory, id), 16, what));
    }
    Ok(header)
}

/// Where the last segment ends, while it may grow.
fn find_end(
    (disk, directory): (&dyn Disk, &Path),
    id: SegmentId,
    mark: Option<Place>,
) -> Result<TailScan, StoreError> {
    let mark = mark.map(|end| end.offset);
    let mut scans = 1;
    loop {
        match scan_tail(disk, directory, id, mark) {
            Err(StoreError::Corrupt { .. }) if mark.is_none() && scans < SCANS_MAX => scans += 1,
            Ok(tail) if mark.is_some_and(|end| end != tail.info.bytes) => {
                return Err(StoreError::corrupt(
                    &segment_path(directory, id),
                    tail.info.bytes,
                    "the log ends before its end mark",
                ));
            }
            other => return other,
        }
    }
}

/// What was read may be ahead of its owner's syncs.
fn sync(disk: &dyn Disk, directory: &Path, id: SegmentId) -> Result<(), StoreError> {
    let path = segment_path(directory, id);
    let file = disk.open(&path, OpenMode::Read);
    match file.and_then(|file| file.sync_data()) {
        // There is nothing to sync on a medium that nobody writes.
        Err(error) if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem => Ok(()),
        synced => synced.map_err(|error| StoreError::io("sync", &path, error)),
    }
}

/// A closed segment, by its own header and that of the next.
fn closed(header: &SegmentHeader, next: &SegmentHeader) -> SegmentInfo {
    SegmentInfo {
        id: header.id,
        first_index: header.first_index,
        before: header.before,
        last: next.before,
        bytes: next.previous_bytes.max(SEGMENT_HEADER_BYTES),
        last_time_ms: next.time_ms,
        chunk_bytes: next.previous_chunk_bytes,
    }
}

fn load_epochs(
    (disk, directory): (&dyn Disk, &Path),
    known: &Manifest,
    infos: &[SegmentInfo],
) -> Result<Epochs, StoreError> {
    let newest = known.snapshots.last();
    let newest = newest.map(|revision| Snapshot::open(disk, directory, *revision));
    let newest = newest.transpose()?;
    let mut system = System::default();
    let mut epochs = Epochs::new(known.store);
    recovery::load_system(
        (disk, directory),
        recovery::Known::of_snapshot(directory, newest.as_ref())?,
        infos.to_vec(),
        (&mut system, &mut epochs),
    )?;
    Ok(epochs)
}
