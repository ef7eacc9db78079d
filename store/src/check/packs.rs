//! Every chunk of every pack, and that what values name is there, with all that lies below.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use objsync_proto::chunk::{Child, Node};
use objsync_proto::effect::Change;
use objsync_proto::ids::{ChunkId, NamespaceId, Revision};
use objsync_proto::stored_chunks;

use super::files::Files;
use super::{CheckPart, CheckReport, Meter, Problem};
use crate::error::StoreError;
use crate::frame::Malformed;
use crate::packs::{check_pack, pack_directory, pack_paths};

/// Most values of which it is said that their chunks are missing.
const MISSING_COUNT_MAX: usize = 1_000;

/// What values name: each chunk with the level at which it stands, its size, and one of the places
/// that name it.
#[derive(Default)]
pub(super) struct Named(RefCell<HashMap<(ChunkId, u8, u64), Place>>);

#[derive(Clone)]
struct Place {
    path: PathBuf,
    offset: u64,
    revision: Revision,
    namespace: NamespaceId,
    key: Bytes,
}

impl Named {
    /// Notes the chunks of a change that was read at a place, and compares them with what its frame
    /// says that it needs, where there is one.
    pub(super) fn add(
        &self,
        (namespace, change): (NamespaceId, &Change),
        (path, offset, revision): (&Path, u64, Revision),
        needs: Option<&[ChunkId]>,
    ) -> Result<(), Malformed> {
        let value = change.value.as_ref();
        let opened = value.map(stored_chunks::open).transpose();
        let opened = opened.map_err(|_| Malformed("a value whose list of chunks is damaged"))?;
        let Some(opened) = opened.flatten() else {
            return match needs.is_none_or(<[_]>::is_empty) {
                true => Ok(()),
                false => Err(Malformed(
                    "an effect needs chunks that its value does not name",
                )),
            };
        };
        let children = opened.root.children();
        let ids = || children.iter().map(|child| child.id);
        if needs.is_some_and(|needs| !needs.iter().copied().eq(ids())) {
            return Err(Malformed(
                "an effect needs other chunks than its value names",
            ));
        }
        let mut named = self.0.borrow_mut();
        for child in children {
            let what = (child.id, opened.root.depth(), child.bytes);
            named.entry(what).or_insert_with(|| Place {
                path: path.to_owned(),
                offset,
                revision,
                namespace,
                key: change.key.clone(),
            });
        }
        Ok(())
    }
}

/// A chunk that is whole.
struct Sound {
    level: u8,
    bytes: u64,
    children: Vec<Child>,
}

/// Reads all packs, and then looks for what is named.
pub(super) fn check(
    files: &Files<'_>,
    report: &mut CheckReport,
    meter: &mut Meter<'_>,
) -> Result<(), StoreError> {
    let mut sound: HashMap<ChunkId, Sound> = HashMap::new();
    for path in pack_paths(files.disk, &files.directory)? {
        let bytes = files.file_bytes(&path);
        report.file_count += 1;
        report.bytes += bytes;
        let problems = check_pack(
            (files.disk, &path),
            (files.store, report.was_closed),
            &mut |chunk| {
                let node = chunk.plain().ok().and_then(|plain| match chunk.kind() {
                    objsync_proto::chunk::ChunkKind::Chunk => None,
                    objsync_proto::chunk::ChunkKind::Node => Node::decode(&plain).ok(),
                });
                let found = Sound {
                    level: node.as_ref().map_or(0, Node::level),
                    bytes: node
                        .as_ref()
                        .map_or_else(|| u64::from(chunk.record().plain_bytes), Node::bytes),
                    children: node.map_or(Vec::new(), |node| node.children().to_vec()),
                };
                sound.insert(chunk.id(), found);
            },
        )?;
        for found in problems {
            let mut problem = Problem::new(&path, found.offset, found.what);
            problem.is_cache = found.is_cache;
            report.problems.push(problem);
        }
        meter.add(CheckPart::Packs, bytes);
    }
    look_for_named(files, &sound, report);
    Ok(())
}

fn look_for_named(files: &Files<'_>, sound: &HashMap<ChunkId, Sound>, report: &mut CheckReport) {
    let directory = pack_directory(&files.directory);
    let mut whole = HashSet::new();
    let mut count = 0;
    for ((id, level, bytes), place) in files.named.0.borrow().iter() {
        let child = Child {
            id: *id,
            bytes: *bytes,
        };
        let Some(lost) = first_lost(child, *level, sound, &mut whole) else {
            continue;
        };
        count += 1;
        if count > MISSING_COUNT_MAX {
            continue;
        }
        let (at, offset) = (place.path.display(), place.offset);
        let what = format!("chunk {lost} is not there as a value names it, in {at} at {offset}");
        let mut problem = Problem::new(&directory, 0, what);
        problem.revisions = Some((place.revision, place.revision));
        problem.add_key(place.namespace, &place.key);
        report.problems.push(problem);
    }
}

/// The first chunk that is not there as it is named, of this one and all below it. What was found
/// whole is not looked at again.
fn first_lost(
    child: Child,
    level: u8,
    sound: &HashMap<ChunkId, Sound>,
    whole: &mut HashSet<ChunkId>,
) -> Option<ChunkId> {
    let found = sound.get(&child.id);
    let Some(found) = found.filter(|found| found.level == level && found.bytes == child.bytes)
    else {
        return Some(child.id);
    };
    if level == 0 || whole.contains(&child.id) {
        return None;
    }
    // A node's level is above that of what it lists: this ends.
    let mut below = found.children.iter();
    let lost = below.find_map(|below| first_lost(*below, level - 1, sound, whole));
    if lost.is_none() {
        whole.insert(child.id);
    }
    lost
}
