//! The index against what snapshot and log say.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use objsync_proto::ids::{Revision, StoreId};

use super::files::Files;
use super::{CheckPart, CheckReport, Meter, Problem};
use crate::error::StoreError;
use crate::footer::Footer;
use crate::history::take_mark;
use crate::index::{Difference, Index, IndexHome, LayeredIndex, SledHome, compare};
use crate::log::SegmentInfo;
use crate::snapshot::Snapshot;

/// What sled may hold in memory while it is compared.
const CACHE_BYTES: u64 = 64 << 20;

/// Free bytes without which sled may not open.
const OPEN_BYTES_MIN: u64 = 1 << 20;

/// Compares the index with snapshot and log as of its mark. Everything else was found sound.
pub(super) fn check(
    files: &Files<'_>,
    report: &mut CheckReport,
    meter: &mut Meter<'_>,
) -> Result<(), StoreError> {
    let directory = files.directory.join("index");
    let home = SledHome::new(directory.clone(), CACHE_BYTES);
    let before = report.problems.len();
    let compared = match home.reuse() {
        Ok(None) => return Ok(()),
        // sled writes when it opens; where that cannot be, the index is not looked at.
        Err(StoreError::Io { .. }) => return Ok(()),
        Err(error) if error.is_unwritable() => return Ok(()),
        Err(StoreError::Index { .. }) if is_full(&files.directory) => return Ok(()),
        Ok(Some(reused)) => compare_all(files, &*reused.index, report),
        Err(error) => Err(error),
    };
    if let Err(StoreError::Index { what }) = compared {
        report.problems.push(index_problem(&directory, what));
    } else {
        compared?;
    }
    meter.add(CheckPart::Index, 0);
    // An index that differs is not proven, so the next open compares it too and makes it again.
    match report.problems.len() > before {
        true => Ok(()),
        false => home.closed(),
    }
}

/// Whether the disk has no room in which sled could open an index.
fn is_full(directory: &Path) -> bool {
    let disk = rustix::fs::statvfs(directory);
    disk.is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < OPEN_BYTES_MIN)
}

fn index_problem(directory: &Path, what: String) -> Problem {
    Problem {
        is_cache: true,
        ..Problem::new(directory, 0, what)
    }
}

fn compare_all(
    files: &Files<'_>,
    index: &dyn Index,
    report: &mut CheckReport,
) -> Result<(), StoreError> {
    let directory = files.directory.join("index");
    let no_mark = || StoreError::Index {
        what: "it has no mark of this log".to_owned(),
    };
    let Some(mark) = index.mark()? else {
        // It was not whole yet when its owner ended: the next one makes it again.
        return Ok(());
    };
    let mark = take_mark(&mark).map_err(|_| no_mark())?;
    let at = mark.revision;
    let then = layered_at(files, at)?.ok_or_else(no_mark)?;
    let now = layered_at(files, Revision(u64::MAX))?.ok_or_else(no_mark)?;
    let what = "entries differ from snapshot and log".to_owned();
    let mut differing = index_problem(&directory, what);
    let mut problems = Vec::new();
    let seen = compare(index, (&then, &now), &|| false, &mut |difference| {
        match difference {
            Difference::Key(namespace, key) => differing.add_key(namespace, &key),
            Difference::Count { .. } => {
                problems.push(index_problem(&directory, difference.to_string()));
            }
        }
        ControlFlow::Continue(())
    })?;
    report.index_entry_count += seen;
    report.problems.extend(problems);
    if differing.key_count > 0 {
        report.problems.push(differing);
    }
    Ok(())
}

/// Everything as of a revision; none if snapshots and log do not reach back to it.
pub(super) fn layered_at(
    files: &Files<'_>,
    revision: Revision,
) -> Result<Option<LayeredIndex>, StoreError> {
    let snapshot = files.snapshots.iter().rfind(|at| **at <= revision);
    let snapshot = snapshot
        .map(|at| Snapshot::open(files.disk, &files.directory, *at))
        .transpose()?;
    let covered = snapshot.as_ref().map(Snapshot::segment);
    let mut segments = files.segments.iter().filter(|info| Some(info.id) > covered);
    let first = segments.clone().next();
    if covered.is_none() && first.is_some_and(|first| first.before > Revision(0)) {
        return Ok(None);
    }
    let layers = segments
        .by_ref()
        .take_while(|info| info.before < revision)
        .map(|info| layer(files, *info, revision))
        .collect::<Result<_, _>>()?;
    Ok(Some(LayeredIndex::new(snapshot, layers, revision)))
}

fn layer(files: &Files<'_>, info: SegmentInfo, to: Revision) -> Result<Arc<Footer>, StoreError> {
    let is_whole = info.last <= to;
    if is_whole && let Ok(footer) = Footer::open(files.disk, &files.directory, info) {
        return Ok(Arc::new(footer));
    }
    let store = files.store.unwrap_or(StoreId([0; 16]));
    Footer::in_memory(files.disk, &files.directory, store, (info, to)).map(Arc::new)
}
