//! Which segments there are, and where the last one ends.

use std::path::Path;

use crate::disk::OpenMode;
use crate::error::StoreError;
use crate::log::{
    Place, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentId, SegmentInfo, TailScan, cut,
    log_directory, scan_tail, segment_of_name, segment_path,
};
use crate::manifest::{Manifest, ManifestFile};
use crate::options::StoreOptions;

/// The log as it was found.
pub(super) struct Layout {
    /// Every segment but the last, oldest first.
    pub(super) closed: Vec<SegmentInfo>,
    /// The last segment.
    pub(super) tail: TailScan,
    /// The store was closed there.
    pub(super) is_clean: bool,
}

/// Finds the segments; makes the first one in a new store.
pub(super) fn find(
    directory: &Path,
    options: &StoreOptions,
    manifest: &ManifestFile,
) -> Result<Layout, StoreError> {
    let known = manifest.get();
    let mut ids = list(directory, options)?;
    remove_unnamed(directory, options, &known, &mut ids)?;
    let is_new = ids.is_empty() && known.last_segment.is_none();
    if is_new {
        create_first(directory, options, &known)?;
        ids.push(SegmentId::FIRST);
    }
    ids.drain(..left_over_count(&ids));
    refuse_gaps(directory, &ids, &known)?;
    let headers = ids
        .iter()
        .map(|id| open_header(directory, options, *id, &known))
        .collect::<Result<Vec<_>, _>>()?;
    let closed = headers
        .windows(2)
        .map(|pair| info(&pair[0], &pair[1]))
        .collect();
    let last = *ids.last().expect("there is one segment at least");
    let mark = known.clean_end.filter(|end| end.segment == last);
    let mut tail = scan_tail(&*options.disk, directory, last, mark.map(|end| end.offset))?;
    let is_clean = is_new || check_mark(directory, &tail, mark)?;
    tail.info.chunk_bytes = known.chunks.open_bytes;
    Ok(Layout {
        closed,
        tail,
        is_clean,
    })
}

/// A log that no manifest describes is not ours to write on.
pub(super) fn refuse_log_without_manifest(
    directory: &Path,
    options: &StoreOptions,
) -> Result<(), StoreError> {
    if options.readonly || !list(directory, options)?.is_empty() {
        let path = directory.join("MANIFEST");
        return Err(StoreError::corrupt(&path, 0, "it is missing"));
    }
    Ok(())
}

/// The segments in the directory, in order. Files of a creation that was cut short are removed.
fn list(directory: &Path, options: &StoreOptions) -> Result<Vec<SegmentId>, StoreError> {
    let log = log_directory(directory);
    let failed = |op| move |error| StoreError::io(op, &log_directory(directory), error);
    let disk = &*options.disk;
    if !options.readonly {
        disk.create_dir(&log).map_err(failed("create"))?;
        disk.sync_dir(directory).map_err(failed("create"))?;
    }
    let mut ids = Vec::new();
    for name in disk.list(&log).map_err(failed("list"))? {
        match segment_of_name(&name) {
            Some(id) => ids.push(id),
            None if name.ends_with(".seg.tmp") && !options.readonly => {
                disk.remove(&log.join(name)).map_err(failed("clean"))?;
            }
            None => {}
        }
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Forgets what the manifest does not name, and removes it before the manifest lets go of the end
/// of the log: segments before its oldest and behind that end, and what the last one has behind it.
fn remove_unnamed(
    directory: &Path,
    options: &StoreOptions,
    known: &Manifest,
    ids: &mut Vec<SegmentId>,
) -> Result<(), StoreError> {
    let unnamed: Vec<_> = ids.extract_if(.., |id| !known.names(*id)).collect();
    if options.readonly {
        return Ok(());
    }
    if let Some(end) = known.clean_end {
        let path = segment_path(directory, end.segment);
        match options.disk.open(&path, OpenMode::Write) {
            // Said by whoever misses it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            opened => opened
                .and_then(|file| cut(&*file, end.offset))
                .map_err(|error| StoreError::io("cut", &path, error))?,
        }
    }
    if unnamed.is_empty() {
        return Ok(());
    }
    for id in &unnamed {
        let path = segment_path(directory, *id);
        let removed = options.disk.remove(&path);
        removed.map_err(|error| StoreError::io("remove", &path, error))?;
    }
    let log = log_directory(directory);
    let synced = options.disk.sync_dir(&log);
    synced.map_err(|error| StoreError::io("sync", &log, error))
}

fn create_first(
    directory: &Path,
    options: &StoreOptions,
    known: &Manifest,
) -> Result<(), StoreError> {
    let header = SegmentHeader {
        store: known.store,
        id: SegmentId::FIRST,
        salt: super::draw(directory, options)?,
        previous_bytes: 0,
        previous_chunk_bytes: 0,
        first_index: objsync_proto::ids::FrameIndex(0),
        before: objsync_proto::ids::Revision(0),
        time_ms: options.clock.now_ms(),
    };
    header.create(&*options.disk, directory, &[])?;
    Ok(())
}

/// How many of the oldest segments are left over from a removal: those before a gap. A power cut
/// can bring back any of what was removed.
fn left_over_count(ids: &[SegmentId]) -> usize {
    let has_gap = |pair: &[SegmentId]| pair[0].next() != pair[1];
    ids.windows(2).rposition(has_gap).map_or(0, |gap| gap + 1)
}

/// That every segment which the manifest names is there, of those that follow each other.
fn refuse_gaps(directory: &Path, ids: &[SegmentId], known: &Manifest) -> Result<(), StoreError> {
    let missing =
        |id: SegmentId| StoreError::corrupt(&segment_path(directory, id), 0, "it is missing");
    let first = known.first_segment.unwrap_or(SegmentId::FIRST);
    let (Some(oldest), Some(newest)) = (ids.first(), ids.last()) else {
        return Err(missing(first));
    };
    if known.last_segment.is_some_and(|last| last > *newest) {
        return Err(missing(newest.next()));
    }
    match *oldest > first {
        true => Err(missing(SegmentId(oldest.0 - 1))),
        false => Ok(()),
    }
}

fn open_header(
    directory: &Path,
    options: &StoreOptions,
    id: SegmentId,
    known: &Manifest,
) -> Result<SegmentHeader, StoreError> {
    let (header, _) = SegmentHeader::open(&*options.disk, directory, id, OpenMode::Read)?;
    if header.store != known.store {
        let what = format!("it belongs to store {}", header.store);
        return Err(StoreError::corrupt(&segment_path(directory, id), 16, what));
    }
    Ok(header)
}

/// A closed segment, by its own header and that of the next.
fn info(header: &SegmentHeader, next: &SegmentHeader) -> SegmentInfo {
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

/// Whether the store was closed. Where the manifest ends the log, it must end there; a backup ends
/// it without a mark.
fn check_mark(directory: &Path, tail: &TailScan, mark: Option<Place>) -> Result<bool, StoreError> {
    let Some(mark) = mark else {
        return Ok(false);
    };
    if tail.info.bytes == mark.offset {
        return Ok(tail.ends_with_mark);
    }
    let path = segment_path(directory, tail.info.id);
    let what = format!("the log was ended at byte {}, and ends before", mark.offset);
    Err(StoreError::corrupt(&path, tail.info.bytes, what))
}
