//! Records of the log in key order: sorted tables of bounded size, in the new directory while it is
//! made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::ids::{Revision, StoreId};

use crate::disk::Disk;
use crate::error::StoreError;
use crate::frame::{BytesReader, Malformed, put_varint};
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
}

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
        self.end_run_if(self.pending_bytes > RUN_BYTES)
    }

    /// Adds a change of a part of a value.
    pub(super) fn add_part(
        &mut self,
        (section, key): (Section, &[u8]),
        part: Part,
    ) -> Result<(), StoreError> {
        let key = (section, Bytes::copy_from_slice(key));
        self.pending_bytes += RECORD_BYTES + key.1.len() + part.bytes();
        let records = self.pending.entry(key).or_default();
        if records.last().is_some_and(|last| last >= part.revision) {
            return Ok(());
        }
        records.parts.push(part);
        let of_key: usize = records.parts.iter().map(Part::bytes).sum();
        self.end_run_if(of_key > PARTS_BYTES || self.pending_bytes > RUN_BYTES)
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
