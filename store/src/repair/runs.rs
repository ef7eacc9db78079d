//! Records of the log in key order: sorted tables of bounded size, in the new directory while it is
//! made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::ids::{Revision, StoreId};
use objsync_proto::limits::VALUE_BYTES_MAX;

use crate::dict::Logged;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::frame::{BytesReader, Malformed, put_varint, varint_bytes};
use crate::log::{SegmentId, log_directory};
use crate::table::{Section, Table, TableHead, TableKind, TableWriter};

/// Bytes of keys and values held in memory before they go into tables.
const RUN_BYTES: usize = 64 << 20;
/// What a record takes beside its key and value, about.
const RECORD_BYTES: usize = 128;

/// The newest record of each key, in one table for what was put, one for what was removed, and one
/// for the parts of values that changed after that.
pub(super) struct Run {
    pub(super) puts: Arc<Table>,
    pub(super) removals: Arc<Table>,
    pub(super) parts: Arc<Table>,
}

/// Changes of parts of a value, in order, up to one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// When the last of them was made,
    pub(super) revision: Revision,
    /// and on the entry of which revision the first.
    pub(super) base: Revision,
    pub(super) edits: Vec<Bytes>,
}

/// What is known of one key.
#[derive(Default)]
struct Records {
    /// A value, or that it was removed.
    whole: Option<(Revision, Option<Bytes>)>,
    /// What came after that, the oldest first.
    parts: Vec<Part>,
    /// Bytes of these in an entry of a table.
    parts_bytes: usize,
}

/// A change as the log has it, with where it belongs and when it was made.
pub(super) type Record = (Section, Revision, Logged);

/// What a table has of a key, made in the buffer if need be; none for nothing.
type EntryOf<'a> = dyn Fn(&Records, &mut Vec<u8>) -> Option<(Revision, Bytes)> + 'a;

/// Bytes of parts of one key held in memory: they are one entry of a table.
const PARTS_BYTES: usize = 4 << 20;

/// Sorts records.
pub(super) struct Runs<'a> {
    disk: &'a dyn Disk,
    target: &'a Path,
    store: StoreId,
    pending: BTreeMap<(Section, Bytes), Records>,
    pending_bytes: usize,
    paths: Vec<PathBuf>,
    pub(super) list: Vec<Run>,
}

impl<'a> Runs<'a> {
    pub(super) fn new((disk, target): (&'a dyn Disk, &'a Path), store: StoreId) -> Self {
        Self {
            disk,
            target,
            store,
            pending: BTreeMap::new(),
            pending_bytes: 0,
            paths: Vec::new(),
            list: Vec::new(),
        }
    }

    /// Adds a record. Its bytes are copied: pieces would keep whole frames in memory.
    pub(super) fn add(
        &mut self,
        (section, key): (Section, &[u8]),
        revision: Revision,
        value: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        let key = (section, Bytes::copy_from_slice(key));
        self.pending_bytes += RECORD_BYTES + key.1.len() + value.map_or(0, <[u8]>::len);
        let records = self.pending.entry(key).or_default();
        if records.last().is_some_and(|last| last > revision) {
            return Ok(());
        }
        records.whole = Some((revision, value.map(Bytes::copy_from_slice)));
        records.parts.clear();
        records.parts_bytes = 0;
        self.end_run_if(self.pending_bytes > RUN_BYTES)
    }

    /// Adds a change of the log; tells what is wrong if it cannot be kept.
    pub(super) fn add_logged(
        &mut self,
        (section, revision, change): &Record,
    ) -> Result<Option<&'static str>, StoreError> {
        let key = (*section, &change.key()[..]);
        let is_kept = match change {
            Logged::Whole(change) => {
                self.add(key, *revision, change.value.as_deref())?;
                true
            }
            Logged::Patch(patch) => {
                let part = Part {
                    revision: *revision,
                    base: patch.base,
                    edits: vec![Bytes::copy_from_slice(&patch.edit)],
                };
                self.add_part(key, part)?
            }
        };
        Ok((!is_kept).then_some("a change of a part that is longer than a value may be"))
    }

    /// Adds a change of a part of a value; false if it is longer than a table can hold of a key.
    pub(super) fn add_part(
        &mut self,
        (section, key): (Section, &[u8]),
        part: Part,
    ) -> Result<bool, StoreError> {
        if part.entry_bytes() > VALUE_BYTES_MAX {
            return Ok(false);
        }
        let key = (section, Bytes::copy_from_slice(key));
        let records = self.pending.entry(key.clone()).or_default();
        if records.last().is_some_and(|last| last >= part.revision) {
            return Ok(true);
        }
        if records.parts_bytes + part.entry_bytes() > VALUE_BYTES_MAX {
            self.end_run()?;
        }
        self.pending_bytes += RECORD_BYTES + key.1.len() + part.bytes();
        let records = self.pending.entry(key).or_default();
        records.parts_bytes += part.entry_bytes();
        records.parts.push(part);
        let is_full = records.parts_bytes > PARTS_BYTES || self.pending_bytes > RUN_BYTES;
        self.end_run_if(is_full).map(|()| true)
    }

    fn end_run_if(&mut self, is_full: bool) -> Result<(), StoreError> {
        match is_full {
            true => self.end_run(),
            false => Ok(()),
        }
    }

    /// Writes what is held as a run.
    pub(super) fn end_run(&mut self) -> Result<(), StoreError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let puts = self.write("puts", &|records, _| match &records.whole {
            Some((revision, Some(value))) => Some((*revision, value.clone())),
            _ => None,
        })?;
        let removals = self.write("removals", &|records, _| match records.whole {
            Some((revision, None)) => Some((revision, Bytes::new())),
            _ => None,
        })?;
        let parts = self.write("parts", &|records, buffer| {
            let last = records.parts.last()?.revision;
            records.parts.iter().for_each(|part| part.put(buffer));
            Some((last, Bytes::copy_from_slice(buffer)))
        })?;
        self.list.push(Run {
            puts,
            removals,
            parts,
        });
        self.pending.clear();
        self.pending_bytes = 0;
        Ok(())
    }

    fn write(&mut self, name: &str, entry_of: &EntryOf<'_>) -> Result<Arc<Table>, StoreError> {
        // A file that is left is taken for a footer of no segment, and removed.
        let name = format!("run-{}-{name}.keys", self.list.len());
        let path = log_directory(self.target).join(name);
        self.paths.push(path.clone());
        let head = TableHead {
            kind: TableKind::Footer,
            store: self.store,
            revision: Revision(0),
            segment: SegmentId(0),
        };
        let mut writer = TableWriter::create(self.disk, &path, head)?;
        let mut buffer = Vec::new();
        for ((section, key), records) in &self.pending {
            buffer.clear();
            if let Some((revision, payload)) = entry_of(records, &mut buffer) {
                writer.push(*section, key, revision, &payload)?;
            }
        }
        writer.finish()?;
        Table::open(self.disk, &path, TableKind::Footer).map(Arc::new)
    }

    /// Removes the tables.
    pub(super) fn remove(self) -> Result<(), StoreError> {
        for path in &self.paths {
            let removed = self.disk.remove(path);
            removed.map_err(|error| StoreError::io("remove", path, error))?;
        }
        Ok(())
    }
}

impl Records {
    /// The revision of the newest.
    fn last(&self) -> Option<Revision> {
        let part = self.parts.last().map(|part| part.revision);
        part.or(self.whole.as_ref().map(|(revision, _)| *revision))
    }
}

impl Part {
    fn bytes(&self) -> usize {
        let edits: usize = self.edits.iter().map(|edit| 10 + edit.len()).sum();
        30 + edits
    }

    /// Bytes that [`Part::put`] adds.
    fn entry_bytes(&self) -> usize {
        let edits = self.edits.iter().map(Bytes::len);
        let edits: usize = edits.map(|bytes| varint_bytes(bytes as u64) + bytes).sum();
        let head = [self.revision.0, self.base.0, self.edits.len() as u64];
        head.map(varint_bytes).iter().sum::<usize>() + edits
    }

    fn put(&self, buffer: &mut Vec<u8>) {
        put_varint(buffer, self.revision.0);
        put_varint(buffer, self.base.0);
        put_varint(buffer, self.edits.len() as u64);
        for edit in &self.edits {
            put_varint(buffer, edit.len() as u64);
            buffer.extend_from_slice(edit);
        }
    }

    /// The parts in an entry of a run.
    pub(super) fn take_all(payload: &Bytes) -> Result<Vec<Self>, Malformed> {
        let mut reader = BytesReader::new(payload);
        let mut parts = Vec::new();
        while reader.remaining() > 0 {
            let revision = Revision(reader.varint()?);
            let base = Revision(reader.varint()?);
            let count = reader.number::<usize>()?;
            let edits = (0..count).map(|_| reader.sized());
            parts.push(Self {
                revision,
                base,
                edits: edits.collect::<Result<_, _>>()?,
            });
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use objsync_proto::ids::NamespaceId;

    use super::*;
    use crate::disk::RealDisk;

    const SECTION: Section = Section::dict(NamespaceId(1));

    fn part(revision: u64, edit_bytes: usize, count: usize) -> Part {
        Part {
            revision: Revision(revision),
            base: Revision(revision - 1),
            edits: vec![Bytes::from(vec![7; edit_bytes]); count],
        }
    }

    /// Ten thousand edits of 1 KiB of one key in a segment, as a footer tells them.
    #[test]
    fn parts_of_a_key_that_no_table_can_hold_are_refused_and_others_take_more_than_one() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(log_directory(folder.path())).unwrap();
        let mut runs = Runs::new((&RealDisk, folder.path()), StoreId([1; 16]));
        let key = (SECTION, &b"key"[..]);
        assert!(!runs.add_part(key, part(2, 1 << 10, 10_000)).unwrap());
        let parts = [
            part(3, 3 << 20, 1),
            part(4, 6 << 20, 1),
            part(5, 1 << 20, 7),
            part(6, VALUE_BYTES_MAX - 7, 1),
        ];
        for part in &parts {
            assert!(
                runs.add_part(key, part.clone()).unwrap(),
                "{}",
                part.revision
            );
        }
        assert_eq!(parts[3].entry_bytes(), VALUE_BYTES_MAX, "as long as may be");
        runs.end_run().unwrap();
        let mut found = Vec::new();
        for run in &runs.list {
            for entry in run.parts.iter() {
                found.extend(Part::take_all(&entry.unwrap().payload).unwrap());
            }
        }
        assert!(found == parts, "all of it, in order");
        runs.remove().unwrap();
    }
}
