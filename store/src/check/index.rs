//! The index against what snapshot and log say.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::ControlFlow;
use std::path::PathBuf;

use bytes::Bytes;
use objsync_proto::ids::{NamespaceId, Revision, SurfaceId};
use objsync_proto::wire::KeyRange;

use super::files::Files;
use super::{CheckPart, CheckReport, Meter, Problem};
use crate::disk::RealDisk;
use crate::error::StoreError;
use crate::history::{dict_changes, take_mark};
use crate::index::{Index, SledIndex};
use crate::log::LogReader;
use crate::snapshot::Snapshot;
use crate::state::home;
use crate::table::{TableCursor, TableEntry};

/// What an entry must be, without its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Expected {
    revision: Revision,
    value_crc: u32,
}

/// Keys that the log changed after the snapshot; none if it removed them.
type Changed = BTreeMap<(NamespaceId, Bytes), Option<Expected>>;

/// Compares the index with snapshot and log as of its mark. Everything else was found sound.
pub(super) fn check(
    files: &Files,
    report: &mut CheckReport,
    meter: &mut Meter<'_>,
) -> Result<(), StoreError> {
    let directory = files.directory.join("index");
    // sled writes when it opens; where that cannot be, the index is not looked at.
    let is_there = directory.exists();
    if !is_there || !home::is_trusted(&directory) || home::begin(&directory).is_err() {
        return Ok(());
    }
    let before = report.problems.len();
    let compared = compare(files, report);
    if let Err(StoreError::Index { what }) = compared {
        report.problems.push(index_problem(&directory, what));
    } else {
        compared?;
    }
    meter.add(CheckPart::Index, 0);
    match report.problems.len() > before {
        true => home::distrust(&directory),
        false => home::end(&directory),
    }
}

fn index_problem(directory: &std::path::Path, what: String) -> Problem {
    Problem {
        is_cache: true,
        ..Problem::new(directory, 0, what)
    }
}

fn compare(files: &Files, report: &mut CheckReport) -> Result<(), StoreError> {
    let directory = files.directory.join("index");
    let index = SledIndex::open(&directory)?;
    let snapshot = match files.snapshots.last() {
        Some(revision) => Some(Snapshot::open(&RealDisk, &files.directory, *revision)?),
        None => None,
    };
    let first = snapshot.as_ref().map_or(Revision(0), Snapshot::revision);
    let mark = index.mark()?.and_then(|mark| take_mark(&mark).ok());
    let Some(at) = mark.map(|mark| mark.revision).filter(|at| *at >= first) else {
        let what = "it has no mark of this log";
        report
            .problems
            .push(index_problem(&directory, what.to_owned()));
        return Ok(());
    };
    let changed = read_changed(files, snapshot.as_ref(), at)?;
    let snapshot = snapshot.map(|snapshot| snapshot.table().iter());
    let mut walk = Walk {
        snapshot: snapshot.into_iter().flatten().peekable(),
        changed: changed.into_iter().peekable(),
    };
    compare_entries(&index, &mut walk, (directory, report))
}

/// The last change of each key in the log after the snapshot, up to a revision.
fn read_changed(
    files: &Files,
    snapshot: Option<&Snapshot>,
    at: Revision,
) -> Result<Changed, StoreError> {
    let mut changed = Changed::new();
    let after = snapshot.map(Snapshot::segment);
    let segments = files.segments.iter().filter(|info| Some(info.id) > after);
    let segments = segments.copied().collect();
    for read in LogReader::new(&RealDisk, &files.directory, segments, None) {
        let (_, frame) = read?;
        for logged in frame.transactions()? {
            let revision = logged.transaction.revision;
            if revision > at {
                return Ok(changed);
            }
            for (namespace, change) in dict_changes(&logged.transaction.effects)? {
                let expected = change.value.map(|value| Expected {
                    revision,
                    value_crc: crc32c::crc32c(&value),
                });
                // A copy: a piece would keep the frame in memory.
                let key = Bytes::copy_from_slice(&change.key);
                changed.insert((namespace, key), expected);
            }
        }
    }
    Ok(changed)
}

/// Snapshot and log together, in order.
struct Walk {
    snapshot: Peekable<std::iter::Flatten<std::option::IntoIter<TableCursor>>>,
    changed:
        Peekable<std::collections::btree_map::IntoIter<(NamespaceId, Bytes), Option<Expected>>>,
}

impl Walk {
    fn next(&mut self) -> Result<Option<(NamespaceId, Bytes, Expected)>, StoreError> {
        loop {
            let is_dict = |entry: &TableEntry| entry.section.surface == SurfaceId::DICT;
            while let Some(Ok(_)) = self
                .snapshot
                .next_if(|entry| entry.as_ref().is_ok_and(|entry| !is_dict(entry)))
            {}
            let old = match self.snapshot.peek() {
                Some(Ok(entry)) => Some((entry.section.namespace, entry.key.clone())),
                Some(Err(error)) => return Err(error.clone()),
                None => None,
            };
            let new = self.changed.peek().map(|(key, _)| key.clone());
            let (Some(key), takes_old) = (match (&old, &new) {
                (Some(old), Some(new)) if old <= new => (Some(old.clone()), true),
                (Some(old), None) => (Some(old.clone()), true),
                (_, new) => (new.clone(), false),
            }) else {
                return Ok(None);
            };
            let from_snapshot = if takes_old {
                self.snapshot.next()
            } else {
                None
            };
            let found = match self.changed.next_if(|(changed, _)| *changed == key) {
                Some((_, expected)) => expected,
                None => from_snapshot.transpose()?.map(|entry| Expected {
                    revision: entry.revision,
                    value_crc: crc32c::crc32c(&entry.payload),
                }),
            };
            if let Some(expected) = found {
                return Ok(Some((key.0, key.1, expected)));
            }
        }
    }
}

fn compare_entries(
    index: &SledIndex,
    walk: &mut Walk,
    (directory, report): (PathBuf, &mut CheckReport),
) -> Result<(), StoreError> {
    let mut problem = index_problem(
        &directory,
        "entries differ from snapshot and log".to_owned(),
    );
    let mut next = walk.next()?;
    let mut namespaces: Vec<_> = index.counts()?;
    namespaces.sort_unstable();
    for (namespace, count) in namespaces {
        let mut seen = 0;
        let mut failure = None;
        index.scan(namespace, &KeyRange::default(), false, &mut |key, entry| {
            seen += 1;
            let found = Expected {
                revision: entry.revision,
                value_crc: crc32c::crc32c(&entry.value),
            };
            match meet(&mut next, walk, (namespace, key, found), &mut problem) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        report.index_entry_count += seen;
        if seen != count {
            let what = format!(
                "namespace {} has {seen} keys and counts {count}",
                namespace.0
            );
            report.problems.push(index_problem(&directory, what));
        }
    }
    while let Some((namespace, key, _)) = next {
        problem.add_key(namespace, &key);
        next = walk.next()?;
    }
    if problem.key_count > 0 {
        report.problems.push(problem);
    }
    Ok(())
}

/// Moves the walk up to an entry of the index, and notes each difference on the way.
fn meet(
    next: &mut Option<(NamespaceId, Bytes, Expected)>,
    walk: &mut Walk,
    (namespace, key, found): (NamespaceId, Bytes, Expected),
    problem: &mut Problem,
) -> Result<(), StoreError> {
    while let Some((at, missing, expected)) = next.take() {
        match (at, &missing).cmp(&(namespace, &key)) {
            std::cmp::Ordering::Less => problem.add_key(at, &missing),
            std::cmp::Ordering::Equal => {
                if expected != found {
                    problem.add_key(namespace, &key);
                }
                *next = walk.next()?;
                return Ok(());
            }
            std::cmp::Ordering::Greater => {
                *next = Some((at, missing, expected));
                break;
            }
        }
        *next = walk.next()?;
    }
    problem.add_key(namespace, &key);
    Ok(())
}
