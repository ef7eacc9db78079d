//! Records of the log in key order: sorted tables of bounded size, in the new directory while it is
//! made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::ids::{Revision, StoreId};

use crate::disk::Disk;
use crate::error::StoreError;
use crate::log::{SegmentId, log_directory};
use crate::table::{Section, Table, TableHead, TableKind, TableWriter};

/// Bytes of keys and values held in memory before they go into tables.
const RUN_BYTES: usize = 64 << 20;
/// What a record takes beside its key and value, about.
const RECORD_BYTES: usize = 128;

/// The newest record of each key, in one table for what was put and one for what was removed.
pub(super) struct Run {
    pub(super) puts: Arc<Table>,
    pub(super) removals: Arc<Table>,
}

/// Sorts records.
pub(super) struct Runs<'a> {
    disk: &'a dyn Disk,
    target: &'a Path,
    store: StoreId,
    pending: BTreeMap<(Section, Bytes), (Revision, Option<Bytes>)>,
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
        let is_newer = |(there, _): &(Revision, _)| *there > revision;
        if self.pending.get(&key).is_some_and(is_newer) {
            return Ok(());
        }
        self.pending_bytes += RECORD_BYTES + key.1.len() + value.map_or(0, <[u8]>::len);
        let value = value.map(Bytes::copy_from_slice);
        self.pending.insert(key, (revision, value));
        match self.pending_bytes > RUN_BYTES {
            true => self.end_run(),
            false => Ok(()),
        }
    }

    /// Writes what is held as a run.
    pub(super) fn end_run(&mut self) -> Result<(), StoreError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let puts = self.write("puts", |value| value.is_some())?;
        let removals = self.write("removals", |value| value.is_none())?;
        self.list.push(Run { puts, removals });
        self.pending.clear();
        self.pending_bytes = 0;
        Ok(())
    }

    fn write(
        &mut self,
        name: &str,
        is_wanted: impl Fn(&Option<Bytes>) -> bool,
    ) -> Result<Arc<Table>, StoreError> {
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
        for ((section, key), (revision, value)) in &self.pending {
            if is_wanted(value) {
                let payload = value.as_deref().unwrap_or_default();
                writer.push(*section, key, *revision, payload)?;
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
