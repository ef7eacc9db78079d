//! Every frame of every segment.

use objsync_proto::effect::Effect;
use objsync_proto::ids::{Revision, SurfaceId};

use super::files::Files;
use super::{CheckPart, CheckReport, Meter, Problem};
use crate::dict::decode_change;
use crate::disk::RealDisk;
use crate::error::StoreError;
use crate::footer::Footer;
use crate::frame::{Frame, FrameKind, Malformed};
use crate::log::{LogReader, SegmentInfo, segment_path};
use crate::table::TableEntry;

/// Reads the log, and compares what segments say of each other.
pub(super) fn check(
    files: &Files,
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
    files: &Files,
    info: SegmentInfo,
    report: &mut CheckReport,
) -> Result<(), StoreError> {
    report.file_count += 1;
    report.bytes += info.bytes;
    let path = segment_path(&files.directory, info.id);
    let mut last = info.before;
    for read in LogReader::segment(&RealDisk, &files.directory, info)? {
        let problem = match read {
            Ok((place, frame)) => match check_frame(&frame, last) {
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
    Ok(())
}

/// That a frame makes sense behind what came before it.
fn check_frame(frame: &Frame, last: Revision) -> Result<(), Malformed> {
    if frame.header.kind == FrameKind::Transactions && frame.header.first <= last {
        return Err(Malformed("revisions go back"));
    }
    for logged in frame.transactions()? {
        for effect in &logged.transaction.effects {
            check_effect(effect)?;
        }
    }
    Ok(())
}

fn check_effect(effect: &Effect) -> Result<(), Malformed> {
    match effect.surface {
        SurfaceId::DICT => decode_change(&effect.body).map(drop),
        _ => Err(Malformed("an effect of an unknown surface")),
    }
}

/// Adds what a problem in a segment hits: all revisions behind the last good one, and, if there
/// is a footer, the keys that they wrote.
fn with_keys_hit(
    files: &Files,
    info: SegmentInfo,
    mut problem: Problem,
    last_good: Revision,
) -> Problem {
    problem.revisions = (last_good < info.last).then(|| (last_good.next(), info.last));
    if let Ok(footer) = Footer::open(&RealDisk, &files.directory, info) {
        let entries = footer.table.iter().map_while(Result::ok);
        for TableEntry { section, key, .. } in entries.filter(|entry| entry.revision > last_good) {
            problem.add_key(section.namespace, &key);
        }
    }
    problem
}
