//! What files there are, and what the manifest says there must be.

use std::path::{Path, PathBuf};

use objsync_proto::ids::{Revision, StoreId};

use super::packs::Named;
use super::{CheckReport, Problem};
use crate::disk::{Disk, OpenMode};
use crate::error::StoreError;
use crate::footer::footer_path;
use crate::frame::FRAME_ALIGN_BYTES;
use crate::log::{
    SEGMENT_HEADER_BYTES, SegmentHeader, SegmentId, SegmentInfo, SegmentReader, Step,
    log_directory, scan_tail, segment_of_name, segment_path,
};
use crate::manifest::{self, Manifest};
use crate::packs::pack_paths;
use crate::snapshot::snapshot_path;

/// The files of a store, as far as they say what they are.
pub(super) struct Files<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) directory: PathBuf,
    pub(super) store: Option<StoreId>,
    /// Segments that can be read, oldest first.
    pub(super) segments: Vec<SegmentInfo>,
    /// Those of them that are closed and have a footer.
    pub(super) footers: Vec<SegmentInfo>,
    /// Snapshots that the manifest names, oldest first.
    pub(super) snapshots: Vec<Revision>,
    pub(super) total_bytes: u64,
    /// The chunks that values name, as they are read.
    pub(super) named: Named,
}

impl<'a> Files<'a> {
    /// Finds them by their manifest, or by one that is to take its place.
    pub(super) fn find(
        disk: &'a dyn Disk,
        directory: &Path,
        manifest: Option<&Manifest>,
        report: &mut CheckReport,
    ) -> Result<Self, StoreError> {
        let manifest = match manifest {
            Some(manifest) => Some(manifest.clone()),
            None => read_manifest(disk, directory, report)?,
        };
        let mut ids = list_segments(disk, directory)?;
        if let Some(manifest) = &manifest {
            ids.retain(|id| manifest.names(*id));
        }
        report_missing(directory, &ids, manifest.as_ref(), report);
        let segments = read_segments((disk, directory), &ids, manifest.as_ref(), report)?;
        let mut files = Self {
            disk,
            directory: directory.to_owned(),
            store: manifest.as_ref().map(|manifest| manifest.store),
            footers: Vec::new(),
            segments,
            snapshots: manifest.map_or(Vec::new(), |manifest| manifest.snapshots),
            total_bytes: 0,
            named: Named::default(),
        };
        files.find_footers()?;
        let packs = pack_paths(disk, directory)?;
        let packs: u64 = packs.iter().map(|path| files.file_bytes(path)).sum();
        files.total_bytes = files.sum_bytes() + packs;
        report.store = files.store;
        Ok(files)
    }

    fn find_footers(&mut self) -> Result<(), StoreError> {
        for info in &self.segments {
            let path = footer_path(&self.directory, info.id);
            let exists = self.disk.exists(&path);
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
        let tables = footers.chain(snapshots);
        let tables: u64 = tables.map(|path| self.file_bytes(&path)).sum();
        tables + self.segments.iter().map(|info| info.bytes).sum::<u64>()
    }

    /// Bytes of a file; 0 if it cannot be asked.
    pub(super) fn file_bytes(&self, path: &Path) -> u64 {
        let file = self.disk.open(path, OpenMode::Read);
        file.and_then(|file| file.bytes()).unwrap_or(0)
    }
}

fn read_manifest(
    disk: &dyn Disk,
    directory: &Path,
    report: &mut CheckReport,
) -> Result<Option<Manifest>, StoreError> {
    match manifest::read(disk, directory) {
        Ok(Some(manifest)) => return Ok(Some(manifest)),
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

/// The segments in a store's directory, in order.
pub(crate) fn list_segments(
    disk: &dyn Disk,
    directory: &Path,
) -> Result<Vec<SegmentId>, StoreError> {
    let log = log_directory(directory);
    let names = match disk.list(&log) {
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
    // The manifest first, then the files: what goes is never named any more.
    let first = named(|manifest| manifest.first_segment);
    let first = first.or(ids.first().copied());
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
    (disk, directory): (&dyn Disk, &Path),
    ids: &[SegmentId],
    manifest: Option<&Manifest>,
    report: &mut CheckReport,
) -> Result<Vec<SegmentInfo>, StoreError> {
    let mut headers = Vec::new();
    for id in ids {
        match SegmentHeader::open(disk, directory, *id, OpenMode::Read) {
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
            _ => match scan_last((disk, directory), header.id, manifest) {
                Ok((info, was_closed)) => {
                    report.was_closed = was_closed;
                    infos.push(info);
                }
                Err(error) => {
                    let mut problem = Problem::of(error)?;
                    problem.revisions = hit((disk, directory), header)?;
                    report.problems.push(problem);
                }
            },
        }
    }
    Ok(infos)
}

/// The revisions of what is damaged in the last segment, as far as what follows tells.
fn hit(
    (disk, directory): (&dyn Disk, &Path),
    header: &SegmentHeader,
) -> Result<Option<(Revision, Revision)>, StoreError> {
    let mut reader = match SegmentReader::open(disk, directory, header.id, None) {
        // It is longer than a segment may be, and its damage is told already.
        Err(StoreError::Corrupt { .. }) => return Ok(None),
        opened => opened?,
    };
    let mut last = header.before;
    while let Step::Frame(_, frame) = reader.step()? {
        last = last.max(frame.last());
    }
    let offset = reader.offset();
    let own = reader.header_at(offset)?.map(|own| own.last());
    let behind = offset + FRAME_ALIGN_BYTES as u64;
    let next = reader.find_header(behind, |header| header.before() >= last)?;
    let upper = next.map(|(_, next)| next.before()).or(own);
    let upper = upper.unwrap_or(last.next());
    Ok((upper > last).then(|| (last.next(), upper)))
}

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

/// The last segment, which must end where the manifest says so, and whether the store was closed
/// there.
fn scan_last(
    (disk, directory): (&dyn Disk, &Path),
    id: SegmentId,
    manifest: Option<&Manifest>,
) -> Result<(SegmentInfo, bool), StoreError> {
    let mark = manifest.and_then(|manifest| manifest.clean_end);
    let mark = mark.filter(|end| end.segment == id).map(|end| end.offset);
    let tail = scan_tail(disk, directory, id, mark)?;
    match mark {
        Some(end) if tail.info.bytes != end => Err(StoreError::corrupt(
            &segment_path(directory, id),
            tail.info.bytes,
            format!("the log was ended at byte {end}, and ends before"),
        )),
        _ => Ok((tail.info, mark.is_some() && tail.ends_with_mark)),
    }
}
