//! Every block of footers and snapshots, and every value that a footer points at.

use std::path::Path;
use std::sync::Arc;

use objsync_proto::effect::Change;
use objsync_proto::ids::{Revision, StoreId, SurfaceId};

use super::files::Files;
use super::{CheckPart, CheckReport, Meter, Problem};
use crate::error::StoreError;
use crate::footer::{Footer, footer_path};
use crate::log::SegmentInfo;
use crate::snapshot::{Snapshot, snapshot_path};
use crate::table::{Table, TableEntry};

/// Footers can be made again: what is wrong with them is a problem of a cache.
pub(super) fn check_footers(
    files: &Files<'_>,
    report: &mut CheckReport,
    meter: &mut Meter<'_>,
) -> Result<(), StoreError> {
    for info in &files.footers {
        let path = footer_path(&files.directory, info.id);
        let bytes = files.file_bytes(&path);
        report.file_count += 1;
        report.bytes += bytes;
        if let Err(error) = check_footer(files, *info, report) {
            let mut problem = Problem::of(error)?;
            // A value that is wrong was found in its segment by now.
            problem.is_cache = problem.file == path;
            report.problems.push(problem);
        }
        meter.add(CheckPart::Footers, bytes);
    }
    Ok(())
}

fn check_footer(
    files: &Files<'_>,
    info: SegmentInfo,
    report: &mut CheckReport,
) -> Result<(), StoreError> {
    let footer = Footer::open(files.disk, &files.directory, info)?;
    let path = footer_path(&files.directory, info.id);
    check_owner(&footer.table, &path, files.store)?;
    for entry in footer.table.iter() {
        footer.value(&entry?.payload)?;
        report.entry_count += 1;
    }
    Ok(())
}

/// The snapshots that the manifest names.
pub(super) fn check_snapshots(
    files: &Files<'_>,
    report: &mut CheckReport,
    meter: &mut Meter<'_>,
) -> Result<(), StoreError> {
    for revision in &files.snapshots {
        let bytes = files.file_bytes(&snapshot_path(&files.directory, *revision));
        report.file_count += 1;
        report.bytes += bytes;
        if let Err(error) = check_snapshot(files, *revision, report) {
            let mut problem = Problem::of(error)?;
            problem.revisions = Some((Revision(1), *revision));
            report.problems.push(problem);
        }
        meter.add(CheckPart::Snapshots, bytes);
    }
    Ok(())
}

fn check_snapshot(
    files: &Files<'_>,
    revision: Revision,
    report: &mut CheckReport,
) -> Result<(), StoreError> {
    let snapshot = Snapshot::open(files.disk, &files.directory, revision)?;
    let path = snapshot_path(&files.directory, revision);
    check_owner(snapshot.table(), &path, files.store)?;
    let damaged = snapshot.table().check(&mut |entry: &TableEntry| {
        report.entry_count += 1;
        let change = Change {
            key: entry.key.clone(),
            value: Some(entry.payload.clone()),
        };
        let place = (&*path, 0, entry.revision);
        let is_dict = entry.section.surface == SurfaceId::DICT;
        let named = (entry.section.namespace, &change);
        let is_sound = !is_dict || files.named.add(named, place, None).is_ok();
        is_sound && entry.revision <= revision
    })?;
    for block in damaged {
        let mut problem = Problem::new(&path, block.offset, block.what);
        problem.revisions = Some((Revision(1), revision));
        problem.add_key(block.section.namespace, &block.first_key);
        problem.key_count = u64::from(block.count);
        report.problems.push(problem);
    }
    Ok(())
}

fn check_owner(table: &Arc<Table>, path: &Path, store: Option<StoreId>) -> Result<(), StoreError> {
    match store {
        Some(store) if table.head().store != store => {
            let what = format!("it belongs to store {}", table.head().store);
            Err(StoreError::corrupt(path, 16, what))
        }
        _ => Ok(()),
    }
}
