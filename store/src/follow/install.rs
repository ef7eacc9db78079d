//! Replacing all that a copy holds, at once: by a snapshot of its source, or by nothing.
//!
//! A [`Stage`] gathers the new files beside the old ones, under names that nobody reads. Once they
//! are checked and durable, the file `INSTALL` says so; it holds the manifest to be. Whoever opens
//! the copy next, this process or another, first finishes what it finds there: old files go, new
//! ones get their names, then the manifest is replaced, then `INSTALL` goes. Each step can be done
//! again, so whenever the power goes, the copy is the old one or the new one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use objsync_proto::ids::{FrameIndex, Revision};
use objsync_proto::wire::{InstallStart, PartialSnapshot};

use super::Shipped;
use super::ship::head_crc;
use crate::authority::AuthorityKind;
use crate::clock::Entropy;
use crate::core::System;
use crate::disk::{Disk, DiskFile, OpenMode, replace_file};
use crate::epoch::Epochs;
use crate::error::StoreError;
use crate::format::{check_format, write_format};
use crate::frame::{BatchBuilder, FrameKind};
use crate::history::located;
use crate::lock::Lock;
use crate::log::{
    FrameStart, Place, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentId, log_directory, segment_path,
};
use crate::manifest::{self, ChunkCounts, Manifest};
use crate::options::StoreOptions;
use crate::recovery;
use crate::snapshot::{Snapshot, snapshot_directory, snapshot_path};

/// What is to be done, if it is there.
const INSTALL_FILE: &str = "INSTALL";
/// Ends the names of files that nobody reads yet.
const STAGED: &str = "new";

/// The files that are to take the place of what a copy holds.
pub struct Stage {
    disk: Arc<dyn Disk>,
    entropy: Arc<dyn Entropy>,
    directory: PathBuf,
    start: InstallStart,
    file: Option<Arc<dyn DiskFile>>,
    written: u64,
    /// Of a directory that is no store yet.
    _lock: Option<Lock>,
}

impl Stage {
    /// Begins to gather what `start` announces, in a directory that this process has open as a
    /// copy, or that holds nothing yet. What is there of the same snapshot is kept.
    ///
    /// # Errors
    /// [`StoreError::NotACopy`] when something else lies there; [`StoreError::Locked`]; or the
    /// disk refused a call.
    pub fn begin(
        directory: &Path,
        options: &StoreOptions,
        start: InstallStart,
        is_open: bool,
    ) -> Result<Self, StoreError> {
        let disk = Arc::clone(&options.disk);
        let failed = |error| StoreError::io("create", directory, error);
        disk.create_dir(directory).map_err(failed)?;
        let lock = match is_open {
            true => None,
            false => Some(Lock::take(directory, options.force_network_fs)?),
        };
        if !check_format(&*disk, directory, true)? {
            write_format(&*disk, directory)?;
        }
        refuse_other(&*disk, directory, &start)?;
        let snapshots = snapshot_directory(directory);
        for folder in [&log_directory(directory), &snapshots] {
            disk.create_dir(folder).map_err(failed)?;
        }
        disk.sync_dir(directory).map_err(failed)?;
        let file = match start.total_bytes {
            0 => None,
            _ => Some(open_staged(&*disk, directory, &start)?),
        };
        Ok(Self {
            disk,
            entropy: Arc::clone(&options.entropy),
            directory: directory.to_owned(),
            written: start.start,
            start,
            file,
            _lock: lock,
        })
    }

    /// The next bytes of the snapshot's file.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when there are more than were announced; or of the disk.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let path = staged(&snapshot_path(&self.directory, self.revision()));
        let end = self.written + bytes.len() as u64;
        let Some(file) = self.file.as_ref().filter(|_| end <= self.start.total_bytes) else {
            return Err(StoreError::corrupt(
                &path,
                end,
                "it is longer than announced",
            ));
        };
        let written = file.write_all_at(bytes, self.written);
        written.map_err(|error| StoreError::io("write", &path, error))?;
        self.written = end;
        Ok(())
    }

    /// Whether all of the snapshot is there.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.written == self.start.total_bytes
    }

    /// The snapshot as it was gathered; none for a copy that begins without one.
    pub(super) fn snapshot(&self) -> Result<Option<Snapshot>, StoreError> {
        if self.file.is_none() {
            return Ok(None);
        }
        let path = staged(&snapshot_path(&self.directory, self.revision()));
        Snapshot::open_at(&*self.disk, &path).map(Some)
    }

    /// Checks all of it, and makes it what the copy is from its next opening on. `first` is the
    /// first frame of the log, for a copy that begins without a snapshot.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it is not what was announced, which then is thrown away; or of
    /// the disk. The copy is as it was.
    pub fn finish(self, first: Option<&Shipped>) -> Result<(), StoreError> {
        if let Err(error) = self.check() {
            if matches!(error, StoreError::Corrupt { .. }) {
                let path = staged(&snapshot_path(&self.directory, self.revision()));
                // Nothing of it may be taken for a part that is good.
                let _ = self.disk.remove(&path);
            }
            return Err(error);
        }
        let content_bytes = self.write_segment(first)?;
        let disk = &*self.disk;
        let manifest = self.manifest(content_bytes);
        let path = self.directory.join(INSTALL_FILE);
        replace_file(disk, &path, &manifest.encode())
            .map_err(|error| StoreError::io("write", &path, error))
    }

    fn revision(&self) -> Revision {
        self.start.position.revision
    }

    /// That the snapshot is whole and sound, and the one that was announced.
    fn check(&self) -> Result<(), StoreError> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let path = staged(&snapshot_path(&self.directory, self.revision()));
        let wrong = |what: &str| Err(StoreError::corrupt(&path, 0, what));
        if !self.is_whole() {
            return wrong("it is shorter than announced");
        }
        let failed = |error| StoreError::io("sync", &path, error);
        file.sync_data().map_err(failed)?;
        let folder = snapshot_directory(&self.directory);
        self.disk.sync_dir(&folder).map_err(failed)?;
        let snapshot = Snapshot::open_at(&*self.disk, &path)?;
        let head = snapshot.table().head();
        let found = (head.store, head.revision, head.segment.0);
        let start = &self.start;
        if found != (start.position.store, self.revision(), start.segment) {
            return wrong("it is another one than announced");
        }
        snapshot.table().check_blocks()?;
        let (mut system, mut epochs) = (System::default(), Epochs::new(head.store));
        let taken = recovery::take_section(snapshot.system()?, &mut system, &mut epochs);
        located(taken, &path, 0)?;
        match epochs.current() {
            Some(_) => Ok(()),
            None => wrong("it has no epoch"),
        }
    }

    /// Writes the segment that the copy's log begins with; gives the bytes of the frames in it.
    fn write_segment(&self, first: Option<&Shipped>) -> Result<u64, StoreError> {
        let id = self.first_segment();
        let path = staged(&segment_path(&self.directory, id));
        let failed = |error| StoreError::io("create", &path, error);
        let mut salt = [0; 16];
        self.entropy.fill(&mut salt).map_err(failed)?;
        let header = SegmentHeader {
            store: self.start.position.store,
            id,
            salt,
            previous_bytes: 0,
            previous_chunk_bytes: 0,
            first_index: self.start.next,
            before: self.revision(),
            time_ms: first.map_or(0, |first| first.0.header.time_ms),
        };
        let content = match (&self.file, first) {
            (Some(_), _) => Vec::new(),
            (None, Some(first)) if is_first(first) => sealed(first, &header),
            (None, _) => {
                let what = "the log does not begin with an epoch";
                return Err(StoreError::corrupt(&path, 0, what));
            }
        };
        let written = header.write_to(&*self.disk, &path, &content);
        written.map_err(failed)?;
        let folder = log_directory(&self.directory);
        self.disk.sync_dir(&folder).map_err(failed)?;
        Ok(content.len() as u64)
    }

    fn first_segment(&self) -> SegmentId {
        SegmentId(self.start.segment).next()
    }

    fn manifest(&self, content_bytes: u64) -> Manifest {
        let segment = self.first_segment();
        let snapshots = self.file.iter().map(|_| self.revision()).collect();
        Manifest {
            epoch_max: self.start.position.epoch.number,
            revision_max: self.revision(),
            first_segment: Some(segment),
            last_segment: Some(segment),
            snapshots,
            clean_end: Some(Place {
                segment,
                offset: SEGMENT_HEADER_BYTES + content_bytes,
            }),
            // What an earlier state of the copy named may be dead: the first look finds it.
            chunks: ChunkCounts {
                put_bytes: u64::MAX / 2,
                ..ChunkCounts::default()
            },
            ..Manifest::new(self.start.position.store, AuthorityKind::Follower)
        }
    }
}

/// Whether a log can begin with this frame.
fn is_first(frame: &Shipped) -> bool {
    let header = &frame.0.header;
    header.index == FrameIndex(0)
        && header.kind == FrameKind::Epoch
        && super::piece::event_of(&frame.0).is_ok()
}

/// The frame, under the checksum of its segment.
fn sealed(frame: &Shipped, segment: &SegmentHeader) -> Vec<u8> {
    let header = &frame.0.header;
    let start = FrameStart {
        kind: header.kind,
        skippable: header.skippable,
        epoch: header.epoch,
        first: header.first,
        time_ms: header.time_ms,
    };
    let mut builder = BatchBuilder::default();
    builder.shipped(&frame.0.body, header.count);
    let header = start.header(header.index, SEGMENT_HEADER_BYTES);
    builder.seal(header, segment.seed()).to_vec()
}

/// What is there of a snapshot whose transfer broke off, in a directory that nobody else has open.
#[must_use]
pub fn partial_snapshot(directory: &Path, disk: &dyn Disk) -> Option<PartialSnapshot> {
    let folder = snapshot_directory(directory);
    let names = disk.list(&folder).ok()?;
    names.iter().find_map(|name| {
        let path = folder.join(name);
        let digits = name.strip_suffix(&format!(".snap.{STAGED}"))?;
        let revision = Revision(u64::from_str_radix(digits, 16).ok()?);
        let file = disk.open(&path, OpenMode::Read).ok()?;
        let note = disk.open(&note_path(&path), OpenMode::Read).ok()?;
        let mut total = [0; 8];
        note.read_exact_at(&mut total, 0).ok()?;
        let held_bytes = file.bytes().ok()?;
        let total_bytes = u64::from_le_bytes(total);
        Some(PartialSnapshot {
            revision,
            total_bytes,
            head_crc: head_crc(&*file, total_bytes).ok()?,
            held_bytes,
        })
    })
}

/// Removes what is there of a snapshot whose transfer broke off: the log does without.
///
/// # Errors
/// Of the disk.
pub fn discard_partial(directory: &Path, disk: &dyn Disk) -> Result<(), StoreError> {
    match partial_snapshot(directory, disk) {
        None => Ok(()),
        Some(_) => remove_others(disk, &snapshot_directory(directory), &|name| {
            is_staged(Path::new(name))
        }),
    }
}

/// Whether a path is that of a file which nobody reads yet.
pub(crate) fn is_staged(path: &Path) -> bool {
    path.extension()
        .is_some_and(|name| name == STAGED || name == "total")
}

fn staged(path: &Path) -> PathBuf {
    path.with_added_extension(STAGED)
}

/// Where it stands how many bytes a snapshot is to have.
fn note_path(staged: &Path) -> PathBuf {
    staged.with_added_extension("total")
}

/// The file that the snapshot is gathered in; what others left is removed.
fn open_staged(
    disk: &dyn Disk,
    directory: &Path,
    start: &InstallStart,
) -> Result<Arc<dyn DiskFile>, StoreError> {
    let path = staged(&snapshot_path(directory, start.position.revision));
    let failed = |error| StoreError::io("create", &path, error);
    if start.start > 0 {
        return disk.open(&path, OpenMode::Write).map_err(failed);
    }
    let note = note_path(&path);
    remove_others(disk, &snapshot_directory(directory), &|name| {
        is_staged(Path::new(name))
    })?;
    let file = disk.open(&path, OpenMode::Replace).map_err(failed)?;
    let written = disk.open(&note, OpenMode::Replace);
    written
        .and_then(|note| note.write_all_at(&start.total_bytes.to_le_bytes(), 0))
        .map_err(failed)?;
    Ok(file)
}

/// A directory that holds anything but a copy of this very store stays as it is.
fn refuse_other(disk: &dyn Disk, directory: &Path, start: &InstallStart) -> Result<(), StoreError> {
    let Some(known) = manifest::read(disk, directory)? else {
        return Ok(());
    };
    let what = if known.authority != AuthorityKind::Follower {
        String::from("it is a store of its own")
    } else if known.store != start.position.store {
        format!(
            "it is a copy of store {}, and the source is store {}",
            known.store, start.position.store
        )
    } else {
        return Ok(());
    };
    let directory = directory.to_owned();
    Err(StoreError::NotACopy { directory, what })
}

/// Finishes what a [`Stage`] has made ready, if anything. For who has the lock, before the manifest
/// is read.
pub(crate) fn finish(disk: &dyn Disk, directory: &Path) -> Result<(), StoreError> {
    let path = directory.join(INSTALL_FILE);
    let Some(next) = manifest::read_at(disk, path.clone())? else {
        return Ok(());
    };
    let segment = next.first_segment.unwrap_or(SegmentId::FIRST);
    put(disk, &segment_path(directory, segment))?;
    match next.snapshots.first() {
        Some(revision) => put(disk, &snapshot_path(directory, *revision))?,
        None => remove_others(disk, &snapshot_directory(directory), &|_| true)?,
    }
    let failed = |error| StoreError::io("install", directory, error);
    replace_file(disk, &manifest::manifest_path(directory), &next.encode()).map_err(failed)?;
    disk.remove(&path).map_err(failed)?;
    disk.sync_dir(directory).map_err(failed)
}

/// Gives a staged file its name, in place of all others of its directory; does nothing where that
/// is done.
fn put(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    let staged = staged(path);
    let failed = |error| StoreError::io("install", path, error);
    if !disk.exists(&staged).map_err(failed)? {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(path);
    let kept = staged.file_name().map(|name| name.to_string_lossy());
    remove_others(disk, folder, &|name| kept.as_deref() != Some(name))?;
    disk.rename(&staged, path).map_err(failed)?;
    disk.sync_dir(folder).map_err(failed)
}

/// Removes the files of a directory that are `unwanted`, durably.
fn remove_others(
    disk: &dyn Disk,
    folder: &Path,
    unwanted: &dyn Fn(&str) -> bool,
) -> Result<(), StoreError> {
    let failed = |error| StoreError::io("clean", folder, error);
    for name in disk.list(folder).map_err(failed)? {
        if unwanted(&name) {
            disk.remove(&folder.join(name)).map_err(failed)?;
        }
    }
    disk.sync_dir(folder).map_err(failed)
}
