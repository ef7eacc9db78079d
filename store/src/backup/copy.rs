//! Copying what is new, and removing what is no longer named.
//!
//! Files that are there whole are synced under another name and renamed. Only the segment in which
//! the backup before ended grows in place: behind that end nothing counted.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::source::Source;
use super::{BackupPart, BackupProgress, BackupReport, refused};
use crate::disk::{Disk, DiskFile, OpenMode, read_file};
use crate::error::StoreError;
use crate::footer::{Footer, footer_path};
use crate::log::{SegmentHeader, SegmentInfo, cut, log_directory, segment_path};
use crate::packs::{pack_directory, pack_paths};
use crate::snapshot::{Snapshot, snapshot_directory, snapshot_path};

/// Files beside those of the format which belong to a store: its key, and the public half of it.
pub const BESIDE: [&str; 2] = ["key", "key.pub"];
const SMALL_BYTES_MAX: u64 = 64 << 10;
/// Bytes copied at once.
const PIECE_BYTES: usize = 1 << 20;

/// A copy that is being made.
pub(super) struct Copying<'a> {
    disk: &'a dyn Disk,
    source: &'a Path,
    target: &'a Path,
    found: &'a Source,
    progress: &'a mut dyn FnMut(BackupProgress),
    total_bytes: u64,
    report: BackupReport,
}

impl<'a> Copying<'a> {
    pub(super) fn new(
        disk: &'a dyn Disk,
        (source, target): (&'a Path, &'a Path),
        found: &'a Source,
        progress: &'a mut dyn FnMut(BackupProgress),
    ) -> Self {
        Self {
            disk,
            source,
            target,
            found,
            progress,
            total_bytes: 0,
            report: BackupReport {
                store: found.manifest.store,
                revision: found.revision,
                file_count: 0,
                bytes: 0,
                copied_bytes: 0,
                reused_bytes: 0,
            },
        }
    }

    pub(super) fn report(self) -> BackupReport {
        self.report
    }

    /// Copies what is not there yet, durable when this returns. Nothing that `before` names is
    /// changed.
    pub(super) fn run(&mut self, before: Option<&Source>) -> Result<(), StoreError> {
        for directory in [log_directory(self.target), snapshot_directory(self.target)] {
            super::create(self.disk, &directory)?;
        }
        let snapshots = &self.found.manifest.snapshots;
        let snapshots: Vec<_> = snapshots
            .iter()
            .map(|revision| snapshot_path(self.source, *revision))
            .collect();
        let segments = self.found.segments.iter().map(|(_, info)| info.bytes);
        self.total_bytes = segments.sum();
        for path in &snapshots {
            self.total_bytes += self.bytes_of(path)?;
        }
        // Before what names them: where chunks have gone meanwhile, so has some of that.
        self.packs()?;
        // Oldest first: these are what the owner may remove.
        for revision in &self.found.manifest.snapshots {
            let is_named = before.is_some_and(|one| one.manifest.snapshots.contains(revision));
            self.snapshot(*revision, is_named)?;
        }
        for (header, info) in &self.found.segments {
            self.segment(header, info, before)?;
        }
        for name in BESIDE {
            let (from, to) = (self.source.join(name), self.target.join(name));
            match small_file(self.disk, &from, &to) {
                Err(error) if is_missing(&error) => {}
                copied => {
                    let bytes = copied?;
                    self.count(bytes, false);
                }
            }
        }
        for directory in [
            log_directory(self.target),
            snapshot_directory(self.target),
            self.target.to_owned(),
        ] {
            let synced = self.disk.sync_dir(&directory);
            synced.map_err(|error| StoreError::io("sync", &directory, error))?;
        }
        Ok(())
    }

    /// Copies the packs that are there. What lives of one that goes meanwhile is in a later one.
    fn packs(&mut self) -> Result<(), StoreError> {
        let ours = pack_directory(self.target);
        let mut copied: Vec<PathBuf> = Vec::new();
        loop {
            let there = pack_paths(self.disk, self.source)?;
            let new: Vec<_> = there.iter().filter(|path| !copied.contains(path)).collect();
            if new.is_empty() {
                break;
            }
            super::create(self.disk, &ours)?;
            for from in new {
                let bytes = self.bytes_of(from)?;
                let to = ours.join(from.file_name().unwrap_or_default());
                // A pack has its name to itself, and grows until it is sealed.
                match self.bytes_of(&to) {
                    Ok(held) if held == bytes => self.count(bytes, true),
                    _ => self.whole(from, &to, bytes)?,
                }
            }
            copied.extend(there);
        }
        if copied.is_empty() {
            return Ok(());
        }
        let synced = self.disk.sync_dir(&ours);
        synced.map_err(|error| StoreError::io("sync", &ours, error))
    }

    fn snapshot(
        &mut self,
        revision: objsync_proto::ids::Revision,
        is_named: bool,
    ) -> Result<(), StoreError> {
        let from = snapshot_path(self.source, revision);
        let to = snapshot_path(self.target, revision);
        let theirs = Snapshot::open(self.disk, self.source, revision)?;
        match Snapshot::open(self.disk, self.target, revision) {
            Ok(ours) if ours.info() == theirs.info() => {
                self.count(ours.bytes(), true);
                return Ok(());
            }
            Ok(_) if is_named => return Err(self.other_file(&to)),
            _ => {}
        }
        self.whole(&from, &to, theirs.bytes())
    }

    fn segment(
        &mut self,
        header: &SegmentHeader,
        info: &SegmentInfo,
        before: Option<&Source>,
    ) -> Result<(), StoreError> {
        let from = segment_path(self.source, info.id);
        let to = segment_path(self.target, info.id);
        let there = SegmentHeader::open(self.disk, self.target, info.id, OpenMode::Read);
        let there = there.ok().filter(|(ours, _)| ours == header);
        // Up to where the backup before has it.
        let named = before.and_then(|one| {
            let mut segments = one.segments.iter();
            segments.find(|(_, ours)| ours.id == info.id)
        });
        match (there, named) {
            (None, Some(_)) => return Err(self.other_file(&to)),
            (Some(_), Some((_, ours))) if ours.bytes >= info.bytes => self.count(info.bytes, true),
            (Some(_), Some((_, ours))) => {
                self.extend((&from, &to), ours.bytes, info.bytes)?;
                self.count(ours.bytes, true);
            }
            // Left whole by a run that was cut short.
            (Some((_, file)), None) if file.bytes().is_ok_and(|bytes| bytes == info.bytes) => {
                self.count(info.bytes, true);
            }
            (_, None) => self.whole(&from, &to, info.bytes)?,
        }
        self.footer(info)
    }

    /// A footer is a help: one that is not there, or no use, is left out.
    fn footer(&mut self, info: &SegmentInfo) -> Result<(), StoreError> {
        let is_last = self.found.manifest.last_segment == Some(info.id);
        if is_last || Footer::open(self.disk, self.source, *info).is_err() {
            return Ok(());
        }
        let from = footer_path(self.source, info.id);
        let to = footer_path(self.target, info.id);
        let bytes = self.bytes_of(&from)?;
        match Footer::open(self.disk, self.target, *info) {
            Ok(_) => {
                self.count(bytes, true);
                Ok(())
            }
            Err(_) => self.whole(&from, &to, bytes),
        }
    }

    /// Copies the first `bytes` bytes of a file as a file of its own.
    fn whole(&mut self, from: &Path, to: &Path, bytes: u64) -> Result<(), StoreError> {
        let temporary = to.with_added_extension("tmp");
        let failed = |error| StoreError::io("write", &temporary, error);
        let file = self
            .disk
            .open(&temporary, OpenMode::Replace)
            .map_err(failed)?;
        self.pieces((from, &*file, &temporary), 0, bytes)?;
        file.sync_data()
            .and_then(|()| self.disk.rename(&temporary, to))
            .map_err(failed)?;
        self.report.file_count += 1;
        Ok(())
    }

    /// Copies what a file has behind what was copied before.
    fn extend(
        &mut self,
        (from, to): (&Path, &Path),
        start: u64,
        end: u64,
    ) -> Result<(), StoreError> {
        let failed = |error| StoreError::io("write", to, error);
        let file = self.disk.open(to, OpenMode::Write).map_err(failed)?;
        self.pieces((from, &*file, to), start, end)?;
        file.sync_data().map_err(failed)
    }

    fn pieces(
        &mut self,
        (from, file, to): (&Path, &dyn DiskFile, &Path),
        start: u64,
        end: u64,
    ) -> Result<(), StoreError> {
        let source = self.disk.open(from, OpenMode::Read);
        let source = source.map_err(|error| StoreError::io("open", from, error))?;
        let mut piece = vec![0; PIECE_BYTES];
        let mut offset = start;
        while offset < end {
            let count = (end - offset).min(PIECE_BYTES as u64);
            let piece = &mut piece[..usize::try_from(count).unwrap_or(PIECE_BYTES)];
            crate::table::read_exact(&*source, from, piece, offset)?;
            let written = file.write_all_at(piece, offset);
            written.map_err(|error| StoreError::io("write", to, error))?;
            offset += count;
            self.report.copied_bytes += count;
            self.report.bytes += count;
            self.tell();
        }
        Ok(())
    }

    /// So many bytes more are there.
    fn count(&mut self, bytes: u64, is_reused: bool) {
        self.report.bytes += bytes;
        self.report.file_count += 1;
        match is_reused {
            true => self.report.reused_bytes += bytes,
            false => self.report.copied_bytes += bytes,
        }
        self.tell();
    }

    fn tell(&mut self) {
        let done_bytes = self.report.bytes;
        (self.progress)(BackupProgress {
            part: BackupPart::Copy,
            done_bytes,
            total_bytes: self.total_bytes.max(done_bytes),
        });
    }

    fn bytes_of(&self, path: &Path) -> Result<u64, StoreError> {
        let file = self.disk.open(path, OpenMode::Read);
        let bytes = file.and_then(|file| file.bytes());
        bytes.map_err(|error| StoreError::io("open", path, error))
    }

    fn other_file(&self, path: &Path) -> StoreError {
        let what = format!("has another {}; take another directory", path.display());
        refused(self.target, &what)
    }
}

/// That the backup before has no other key. A key and its public half could not be replaced at
/// once, nor together with the manifest: between, no key would fit the backup.
pub(super) fn refuse_other_key(
    disk: &dyn Disk,
    source: &Path,
    target: &Path,
) -> Result<(), StoreError> {
    for name in BESIDE {
        let read = |directory: &Path| read_file(disk, &directory.join(name), SMALL_BYTES_MAX);
        match (read(source), read(target)) {
            (Ok(ours), Ok(theirs)) if ours != theirs => {
                let what = format!(
                    "has a file {name} that differs from the store's; take another directory"
                );
                return Err(refused(target, &what));
            }
            // What cannot be read is told by who copies it.
            _ => {}
        }
    }
    Ok(())
}

/// Copies a small file, unless it is there with this content. Tells its bytes.
pub(super) fn small_file(disk: &dyn Disk, from: &Path, to: &Path) -> Result<u64, StoreError> {
    let content = read_file(disk, from, SMALL_BYTES_MAX);
    let content = content.map_err(|error| StoreError::io("read", from, error))?;
    let there = read_file(disk, to, SMALL_BYTES_MAX);
    if !there.is_ok_and(|there| there == content) {
        super::put(disk, to, &content)?;
    }
    Ok(content.len() as u64)
}

/// Removes what a backup no longer names, and cuts segments that are longer than it says.
pub(super) fn remove_unnamed(
    disk: &dyn Disk,
    (source, target): (&Path, &Path),
    found: &Source,
) -> Result<(), StoreError> {
    let mut named = HashSet::new();
    for (_, info) in &found.segments {
        let path = segment_path(target, info.id);
        let opened = disk.open(&path, OpenMode::Write);
        opened
            .and_then(|file| cut(&*file, info.bytes))
            .map_err(|error| StoreError::io("cut", &path, error))?;
        named.insert(path);
        named.insert(footer_path(target, info.id));
    }
    if let Some(last) = found.manifest.last_segment {
        named.remove(&footer_path(target, last));
    }
    let snapshots = found.manifest.snapshots.iter();
    named.extend(snapshots.map(|revision| snapshot_path(target, *revision)));
    for directory in [log_directory(target), snapshot_directory(target)] {
        remove_others(disk, &directory, &named)?;
    }
    remove_old_packs(disk, (source, target))
}

/// Removes packs that the store has no more. What was alive of them is in packs that were copied.
fn remove_old_packs(disk: &dyn Disk, (source, target): (&Path, &Path)) -> Result<(), StoreError> {
    let ours = pack_paths(disk, target)?;
    if ours.is_empty() {
        return Ok(());
    }
    // The live parts of one that has gone since may have been copied to one that came since.
    let theirs = pack_paths(disk, source)?;
    let name = |path: &PathBuf| path.file_name().map(std::ffi::OsStr::to_owned);
    let (theirs, held): (HashSet<_>, HashSet<_>) = (
        theirs.iter().map(name).collect(),
        ours.iter().map(name).collect(),
    );
    if !theirs.is_subset(&held) {
        return Ok(());
    }
    let named = theirs.into_iter().flatten();
    let directory = pack_directory(target);
    let named = named.map(|name| directory.join(name)).collect();
    remove_others(disk, &directory, &named)
}

fn remove_others(
    disk: &dyn Disk,
    directory: &Path,
    named: &HashSet<PathBuf>,
) -> Result<(), StoreError> {
    let failed = |error| StoreError::io("clean", directory, error);
    for name in disk.list(directory).map_err(failed)? {
        let path = directory.join(name);
        if !named.contains(&path) {
            disk.remove(&path).map_err(failed)?;
        }
    }
    disk.sync_dir(directory).map_err(failed)
}

fn is_missing(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}
