//! Snapshots: the whole state as of the end of a segment, in one file.
//!
//! A snapshot is the merge of the one before and the footers of the segments since, so it is
//! exact whatever is written meanwhile, and memory does not grow with its size. It holds a section
//! per namespace of each surface, and the store's own: sessions, grants and epochs.
//!
//! The table of bytes is in docs/format.md, "Snapshots".

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use objsync_proto::ids::{Revision, StoreId};
use objsync_proto::wire::KeyRange;

use crate::disk::Disk;
use crate::error::StoreError;
use crate::footer::Footer;
use crate::log::SegmentId;
use crate::merge::{Merge, Source};
use crate::table::{Section, Table, TableHead, TableKind, TableWriter};

/// The system section is cut into entries of this many bytes.
pub(crate) const SYSTEM_PIECE_BYTES: usize = 1 << 20;

/// Entries between two questions whether to stop.
const STOP_CHECK_COUNT: usize = 1024;

/// A snapshot that is there.
#[derive(Clone)]
pub struct Snapshot {
    table: Arc<Table>,
}

/// A durable snapshot that the manifest names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The last revision in it.
    pub revision: Revision,
    /// The last segment in it.
    pub segment: SegmentId,
    /// Bytes of its file.
    pub bytes: u64,
}

/// What a new snapshot is made of.
pub struct SnapshotPlan<'a> {
    /// Where files are.
    pub disk: &'a dyn Disk,
    /// The store's directory.
    pub directory: &'a Path,
    /// Whose it is.
    pub store: StoreId,
    /// The newest snapshot that is there.
    pub previous: Option<&'a Snapshot>,
    /// The footers of the closed segments since, oldest first; at least one.
    pub footers: &'a [Arc<Footer>],
    /// Sessions, grants and epochs as of the end of the last of these segments.
    pub system: &'a [u8],
    /// Asked now and then: the store is closing, and the snapshot has time until it is opened.
    pub is_stopped: &'a dyn Fn() -> bool,
}

/// The directory of the snapshots in a store's directory.
#[must_use]
pub fn snapshot_directory(directory: &Path) -> PathBuf {
    directory.join("snapshots")
}

/// The file of the snapshot as of a revision.
#[must_use]
pub fn snapshot_path(directory: &Path, revision: Revision) -> PathBuf {
    snapshot_directory(directory).join(format!("{:016x}.snap", revision.0))
}

/// Makes a snapshot. It is durable, and not yet named in the manifest, when this returns.
pub fn write(plan: &SnapshotPlan<'_>) -> Result<Snapshot, StoreError> {
    let Some(last) = plan.footers.last().map(|footer| footer.table.head()) else {
        return Err(StoreError::corrupt(
            plan.directory,
            0,
            "no segment to make a snapshot of",
        ));
    };
    let path = snapshot_path(plan.directory, last.revision);
    let head = TableHead {
        kind: TableKind::Snapshot,
        store: plan.store,
        ..*last
    };
    let directory = snapshot_directory(plan.directory);
    plan.disk
        .create_dir(&directory)
        .and_then(|()| plan.disk.sync_dir(plan.directory))
        .map_err(|error| StoreError::io("create", &directory, error))?;
    let mut writer = TableWriter::create(plan.disk, &path, head)?;
    for (index, piece) in (0_u32..).zip(plan.system.chunks(SYSTEM_PIECE_BYTES)) {
        writer.push(Section::SYSTEM, &index.to_be_bytes(), head.revision, piece)?;
    }
    let previous = plan.previous.iter();
    let previous = previous.map(|snapshot| Source::snapshot(snapshot.table.iter()));
    let footers = plan.footers.iter();
    let footers = footers.map(|footer| Source::footer(footer, footer.table.iter()));
    let merge = Merge::new(previous.chain(footers).collect(), false)?;
    for (count, merged) in merge.enumerate() {
        if count % STOP_CHECK_COUNT == 0 && (plan.is_stopped)() {
            return Err(StoreError::Closed);
        }
        if let Some(entry) = merged?.resolve()? {
            writer.push(entry.section, &entry.key, entry.revision, &entry.payload)?;
        }
    }
    writer.finish()?;
    Snapshot::open(plan.disk, plan.directory, head.revision)
}

impl Snapshot {
    /// Opens the snapshot as of a revision.
    pub fn open(disk: &dyn Disk, directory: &Path, revision: Revision) -> Result<Self, StoreError> {
        let path = snapshot_path(directory, revision);
        let table = Table::open(disk, &path, TableKind::Snapshot)?;
        if table.head().revision != revision {
            return Err(StoreError::corrupt(&path, 32, "it is of another revision"));
        }
        Ok(Self {
            table: Arc::new(table),
        })
    }

    /// Opens the snapshot in a file that has not got its name yet.
    pub(crate) fn open_at(disk: &dyn Disk, path: &Path) -> Result<Self, StoreError> {
        let table = Table::open(disk, path, TableKind::Snapshot)?;
        Ok(Self {
            table: Arc::new(table),
        })
    }

    /// The last revision in it.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.table.head().revision
    }

    /// The last segment in it: the log after it begins with the next.
    #[must_use]
    pub fn segment(&self) -> SegmentId {
        self.table.head().segment
    }

    /// Bytes of the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.table.bytes()
    }

    /// What there is to know of it without reading it.
    #[must_use]
    pub fn info(&self) -> SnapshotInfo {
        SnapshotInfo {
            revision: self.revision(),
            segment: self.segment(),
            bytes: self.bytes(),
        }
    }

    /// The table it is: values by section and key, in order.
    #[must_use]
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Sessions, grants and epochs.
    pub fn system(&self) -> Result<Bytes, StoreError> {
        let mut system = BytesMut::new();
        for piece in self
            .table
            .range(Section::SYSTEM, KeyRange::default(), false)
        {
            system.extend_from_slice(&piece?.payload);
        }
        Ok(system.freeze())
    }
}

/// The snapshots of an open store. They are opened when they are read: the block index of a large
/// one takes memory that an idle store should not.
pub struct Snapshots {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    /// Oldest first.
    list: Mutex<Vec<SnapshotInfo>>,
}

impl Snapshots {
    /// Those that the manifest names; each must be there.
    pub fn find(
        disk: Arc<dyn Disk>,
        directory: &Path,
        revisions: &[Revision],
    ) -> Result<Self, StoreError> {
        let info = |revision: &Revision| {
            Snapshot::open(&*disk, directory, *revision).map(|snapshot| snapshot.info())
        };
        let list = revisions.iter().map(info).collect::<Result<_, _>>()?;
        Ok(Self {
            directory: directory.to_owned(),
            list: Mutex::new(list),
            disk,
        })
    }

    /// All of them, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<SnapshotInfo> {
        self.lock().clone()
    }

    /// Opens the newest.
    pub fn newest(&self) -> Result<Option<Snapshot>, StoreError> {
        self.newest_at(Revision(u64::MAX))
    }

    /// Opens the newest that is not later than a revision.
    pub fn newest_at(&self, revision: Revision) -> Result<Option<Snapshot>, StoreError> {
        let list = self.list();
        let newest = list.iter().rfind(|info| info.revision <= revision);
        newest
            .map(|info| Snapshot::open(&*self.disk, &self.directory, info.revision))
            .transpose()
    }

    /// Bytes of all of them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.lock().iter().map(|info| info.bytes).sum()
    }

    /// Adds one that the manifest names now.
    pub(crate) fn push(&self, info: SnapshotInfo) {
        self.lock().push(info);
    }

    /// Forgets one that the manifest no longer names.
    pub(crate) fn forget(&self, revision: Revision) {
        self.lock().retain(|info| info.revision != revision);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SnapshotInfo>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
