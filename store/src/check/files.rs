//! What files there are, and what the manifest says there must be.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use objsync_proto::ids::{Revision, StoreId};

use super::{CheckReport, Problem};
use crate::disk::{Disk, OpenMode, RealDisk};
use crate::error::StoreError;
use crate::footer::footer_path;
use crate::log::{
    SEGMENT_HEADER_BYTES, SegmentHeader, SegmentId, SegmentInfo, log_directory, scan_tail,
    segment_of_name, segment_path,
};
use crate::manifest::{Manifest, ManifestFile};
use crate::snapshot::snapshot_path;

/// The files of a store, as far as they say what they are.
pub(super) struct Files {
    pub(super) directory: PathBuf,
    pub(super) store: Option<StoreId>,
    /// Segments that can be read, oldest first.
    pub(super) segments: Vec<SegmentInfo>,
    /// Those of them that are closed and have a footer.
    pub(super) footers: Vec<SegmentInfo>,
    /// Snapshots that the manifest names, oldest first.
    pub(super) snapshots: Vec<Revision>,
    pub(super) total_bytes: u64,
}

impl Files {
    pub(super) fn find(directory: &Path, report: &mut CheckReport) -> Result<Self, StoreError> {
        let manifest = read_manifest(directory, report)?;
        let ids = list(directory)?;
        report_missing(directory, &ids, manifest.as_ref(), report);
        let segments = read_segments(directory, &ids, manifest.as_ref(), report)?;
        let mut files = Self {
            directory: directory.to_owned(),
            store: manifest.as_ref().map(|manifest| manifest.store),
            footers: Vec::new(),
            segments,
            snapshots: manifest.map_or(Vec::new(), |manifest| manifest.snapshots),
            total_bytes: 0,
        };
        files.find_footers()?;
        files.total_bytes = files.sum_bytes();
        report.store = files.store;
        Ok(files)
    }

    fn find_footers(&mut self) -> Result<(), StoreError> {
        for info in &self.segments {
            let path = footer_path(&self.directory, info.id);
            let exists = RealDisk.exists(&path);
            if exists.map_err(|error| StoreError::io("open", &path, error))? {
                self.footers.push(*info);
            }
        }
        Ok(())
    }

    fn sum_bytes(&self) -> u64 {
        let footers = self
            .footers
            .iter()
            .map(|info| footer_path(&self.directory, info.id));
        let snapshots = self
            .snapshots
            .iter()
            .map(|at| snapshot_path(&self.directory, *at));
        let tables: u64 = footers.chain(snapshots).map(|path| file_bytes(&path)).sum();
        tables + self.segments.iter().map(|info| info.bytes).sum::<u64>()
    }
}

/// Bytes of a file; 0 if it cannot be asked.
pub(super) fn file_bytes(path: &Path) -> u64 {
    let file = RealDisk.open(path, OpenMode::Read);
    file.and_then(|file| file.bytes()).unwrap_or(0)
}

fn read_manifest(
    directory: &Path,
    report: &mut CheckReport,
) -> Result<Option<Manifest>, StoreError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    match ManifestFile::read(&disk, directory) {
        Ok(Some(file)) => {
            let manifest = file.get();
            report.was_closed = manifest.clean_end.is_some();
            return Ok(Some(manifest));
        }
        Ok(None) => {
            let path = directory.join("MANIFEST");
            report
                .problems
                .push(Problem::new(&path, 0, "it is missing"));
        }
        Err(error) => report.problems.push(Problem::of(error)?),
    }
    Ok(None)
}

fn list(directory: &Path) -> Result<Vec<SegmentId>, StoreError> {
    let log = log_directory(directory);
    let names = match RealDisk.list(&log) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(StoreError::io("list", &log, error)),
    };
    let mut ids: Vec<_> = names
        .iter()
        .filter_map(|name| segment_of_name(name))
        .collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Segments between the first and the last one that must be there.
fn report_missing(
    directory: &Path,
    ids: &[SegmentId],
    manifest: Option<&Manifest>,
    report: &mut CheckReport,
) {
    let named = |pick: fn(&Manifest) -> Option<SegmentId>| manifest.and_then(pick);
    let first = ids.first().copied();
    let first = first.or(named(|manifest| manifest.first_segment));
    let last = ids
        .last()
        .copied()
        .max(named(|manifest| manifest.last_segment));
    let (Some(first), Some(last)) = (first, last) else {
        return;
    };
    let mut next = first.0;
    // Names may lie far apart: a gap is one problem.
    for id in ids.iter().map(|id| id.0).chain([last.0.saturating_add(1)]) {
        if id > next {
            let path = segment_path(directory, SegmentId(next));
            let what = match id - next {
                1 => String::from("it is missing"),
                count => format!("it is missing, and {} segments after it", count - 1),
            };
            report.problems.push(Problem::new(&path, 0, what));
        }
        next = id.saturating_add(1);
    }
}

/// The segments whose headers can be read; a closed one ends where the next one says.
fn read_segments(
    directory: &Path,
    ids: &[SegmentId],
    manifest: Option<&Manifest>,
    report: &mut CheckReport,
) -> Result<Vec<SegmentInfo>, StoreError> {
    let mut headers = Vec::new();
    for id in ids {
        match SegmentHeader::open(&RealDisk, directory, *id, OpenMode::Read) {
            Ok((header, _)) => headers.push(header),
            Err(error) => report.problems.push(Problem::of(error)?),
        }
    }
    let mut infos = Vec::new();
    for (place, header) in headers.iter().enumerate() {
        if manifest.is_some_and(|manifest| manifest.store != header.store) {
            let path = segment_path(directory, header.id);
            let what = format!("it belongs to store {}", header.store);
            report.problems.push(Problem::new(&path, 16, what));
            continue;
        }
        match headers.get(place + 1) {
            Some(next) if next.id == header.id.next() => infos.push(closed(header, next)),
            _ => match scan_last(directory, header.id, manifest) {
                Ok(info) => infos.push(info),
                Err(error) => report.problems.push(Problem::of(error)?),
            },
        }
    }
    Ok(infos)
}

fn closed(header: &SegmentHeader, next: &SegmentHeader) -> SegmentInfo {
    SegmentInfo {
        id: header.id,
        first_index: header.first_index,
        before: header.before,
        last: next.before,
        bytes: next.previous_bytes.max(SEGMENT_HEADER_BYTES),
        last_time_ms: next.time_ms,
    }
}

/// The last segment; where the store was closed, it must end there.
fn scan_last(
    directory: &Path,
    id: SegmentId,
    manifest: Option<&Manifest>,
) -> Result<SegmentInfo, StoreError> {
    let mark = manifest.and_then(|manifest| manifest.clean_end);
    let mark = mark.filter(|end| end.segment == id).map(|end| end.offset);
    let tail = scan_tail(&RealDisk, directory, id, mark)?;
    match mark {
        Some(end) if tail.info.bytes != end || !tail.ends_with_mark => Err(StoreError::corrupt(
            &segment_path(directory, id),
            tail.info.bytes,
            format!("the store was closed at byte {end}, and the log ends before"),
        )),
        _ => Ok(tail.info),
    }
}
