//! Every frame of every segment.

use std::path::Path;

use objsync_proto::effect::{Change, Effect};
use objsync_proto::ids::{Revision, SurfaceId};

use super::files::Files;
use super::{CheckPart, CheckReport, Meter, Problem};
use crate::dict::decode_change;
use crate::disk::OpenMode;
use crate::error::StoreError;
use crate::footer::Footer;
use crate::frame::{Frame, FrameKind, Malformed};
use crate::log::{LogReader, SegmentInfo, segment_path};
use crate::table::TableEntry;

/// Bytes read at once behind the end of a segment.
const WINDOW_BYTES: usize = 64 << 10;

/// Most bytes looked through there: a whole segment may be written ahead.
const BEHIND_BYTES_MAX: u64 = 64 << 20;

/// Reads the log, and compares what segments say of each other.
pub(super) fn check(
    files: &Files<'_>,
    report: &mut CheckReport,
    meter: &mut Meter<'_>,
) -> Result<(), StoreError> {
    let mut before: Option<&SegmentInfo> = None;
    for info in &files.segments {
        if let Some(before) = before.filter(|before| before.id.next() == info.id)
            && before.last != info.before
        {
            let path = segment_path(&files.directory, info.id);
            let what = format!("it begins after revision {}", info.before);
            report.problems.push(Problem::new(&path, 72, what));
        }
        check_segment(files, *info, report)?;
        meter.add(CheckPart::Log, info.bytes);
        before = Some(info);
    }
    Ok(())
}

fn check_segment(
    files: &Files<'_>,
    info: SegmentInfo,
    report: &mut CheckReport,
) -> Result<(), StoreError> {
    report.file_count += 1;
    report.bytes += info.bytes;
    let path = segment_path(&files.directory, info.id);
    let mut last = info.before;
    for read in LogReader::segment(files.disk, &files.directory, info)? {
        let problem = match read {
            Ok((place, frame)) => match check_frame(files, (&path, place.offset), &frame, last) {
                Ok(()) => {
                    report.frame_count += 1;
                    last = last.max(frame.last());
                    continue;
                }
                Err(malformed) => Problem::new(&path, place.offset, malformed.0),
            },
            Err(error) => Problem::of(error)?,
        };
        report
            .problems
            .push(with_keys_hit(files, info, problem, last));
        return Ok(());
    }
    report.revision = report.revision.max(last);
    if last != info.last {
        let what = format!(
            "it ends at revision {last}, and the next begins after {}",
            info.last
        );
        report.problems.push(Problem::new(&path, info.bytes, what));
    }
    match report.was_closed {
        true => check_behind(files, info, report),
        // What a crash tore is cut by the next owner.
        false => Ok(()),
    }
}

/// That nothing but zeros lies behind the end of a segment.
fn check_behind(
    files: &Files<'_>,
    info: SegmentInfo,
    report: &mut CheckReport,
) -> Result<(), StoreError> {
    let path = segment_path(&files.directory, info.id);
    let failed = |error| StoreError::io("read", &path, error);
    let file = files.disk.open(&path, OpenMode::Read).map_err(failed)?;
    let mut window = vec![0; WINDOW_BYTES];
    let mut offset = info.bytes;
    loop {
        let count = file.read_at(&mut window, offset).map_err(failed)?;
        if let Some(place) = window[..count].iter().position(|byte| *byte != 0) {
            let what = "a byte behind the end of the log, which counts for nothing";
            let problem = Problem::new(&path, offset + place as u64, what);
            let is_cache = true;
            report.problems.push(Problem {
                is_cache,
                ..problem
            });
            return Ok(());
        }
        if count == 0 {
            return Ok(());
        }
        offset += count as u64;
        if offset - info.bytes > BEHIND_BYTES_MAX {
            let what = "more lies behind the end of the log than is ever written ahead";
            let problem = Problem::new(&path, info.bytes, what);
            report.problems.push(Problem {
                is_cache: true,
                ..problem
            });
            return Ok(());
        }
    }
}

/// That a frame makes sense behind what came before it.
fn check_frame(
    files: &Files<'_>,
    (path, offset): (&Path, u64),
    frame: &Frame,
    last: Revision,
) -> Result<(), Malformed> {
    if frame.header.kind == FrameKind::Transactions && frame.header.first <= last {
        return Err(Malformed("revisions go back"));
    }
    for logged in frame.transactions()? {
        let revision = logged.transaction.revision;
        for effect in &logged.transaction.effects {
            let change = check_effect(effect)?;
            let needs = Some(&effect.chunks[..]);
            let place = (path, offset, revision);
            files.named.add((effect.namespace, &change), place, needs)?;
        }
    }
    Ok(())
}

fn check_effect(effect: &Effect) -> Result<Change, Malformed> {
    match effect.surface {
        SurfaceId::DICT => decode_change(&effect.body),
        _ => Err(Malformed("an effect of an unknown surface")),
    }
}

/// Adds what a problem in a segment hits: all revisions behind the last good one, and, if there
/// is a footer, the keys that they wrote.
fn with_keys_hit(
    files: &Files<'_>,
    info: SegmentInfo,
    mut problem: Problem,
    last_good: Revision,
) -> Problem {
    problem.revisions = (last_good < info.last).then(|| (last_good.next(), info.last));
    if let Ok(footer) = Footer::open(files.disk, &files.directory, info) {
        let entries = footer.table.iter().map_while(Result::ok);
        for TableEntry { section, key, .. } in entries.filter(|entry| entry.revision > last_good) {
            problem.add_key(section.namespace, &key);
        }
    }
    problem
}
