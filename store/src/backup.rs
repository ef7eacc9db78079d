//! Backups: a store's files as of one revision, copied while its owner writes on, and put back.
//!
//! Trail: [`backup`] -> `source::look` (which files, up to where) -> `copy` (what is new) ->
//! `check` (every byte, as it lies there) -> `MANIFEST`, which makes it the backup.
//!
//! A backup is a store's directory itself: segments, footers, snapshots, key, `FORMAT`, and a
//! `MANIFEST` that ends the log where the copy ends. A file `BACKUP` says that it is one.
//!
//! Invariants
//! * The owner is not asked. What it does not change any more is copied; of the segment that it
//!   appends to, a prefix up to the end of a frame, synced before it is taken.
//! * Until the new `MANIFEST` is there, the old one and all that it names are; a log ends where its
//!   `MANIFEST` says, so what the next backup puts behind that counts for nothing. What the new one
//!   does not name goes last.
//! * A backup goes on with a backup of the same history, and with nothing else.
//!
//! On a crash: the directory holds the backup before or the new one. One that was never finished
//! is no store, and the next run finishes it.

mod copy;
mod record;
mod source;

use std::path::{Path, PathBuf};

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{Position, Revision, StoreId};

use crate::check::{CheckReport, check_as};
use crate::clock::{Entropy, RealEntropy};
use crate::disk::{Disk, replace_file};
use crate::error::StoreError;
use crate::format::{check_format, format_path};
use crate::lock::{Lock, lock_path};
use crate::manifest::{Manifest, manifest_path};

pub use copy::BESIDE;
use copy::Copying;
use record::Record;
use source::Source;

/// The owner may remove files while they are copied; it is begun anew with what is there then.
const TRIES_MAX: u32 = 10;

/// How far a backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupProgress {
    /// What is being done.
    pub part: BackupPart,
    /// Bytes of that part so far.
    pub done_bytes: u64,
    /// Bytes of that part.
    pub total_bytes: u64,
}

/// A part of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackupPart {
    /// What is new is copied.
    Copy,
    /// All of it is read back.
    Verify,
}

/// A backup that was made, or a store that was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupReport {
    /// Which store it is.
    pub store: StoreId,
    /// The revision as of which it is.
    pub revision: Revision,
    /// Files it has.
    pub file_count: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes that were copied.
    pub copied_bytes: u64,
    /// Bytes that were there already.
    pub reused_bytes: u64,
}

/// Backs the store in `source` up into `target`, which is empty or holds an earlier backup of it.
/// The store may be open, and written, by any process. Calls `progress` now and then.
///
/// # Errors
/// [`StoreError::Refused`] if `target` holds anything else, [`StoreError::Locked`] if another
/// backup goes there, [`StoreError::Corrupt`] if the store is damaged or the copy was not read back
/// as it was written. The backup before is left as it was.
pub fn backup(
    disk: &dyn Disk,
    source: &Path,
    target: &Path,
    progress: &mut dyn FnMut(BackupProgress),
) -> Result<BackupReport, StoreError> {
    refuse_if_inside(source, target)?;
    create(disk, target)?;
    // The lock writes a file: never into what is no backup.
    read_record(disk, target)?;
    let _lock = Lock::take(target, true)?;
    let before = Before::find(disk, target)?;
    let mut tries = 1;
    loop {
        let made = try_backup(disk, (source, target), &before, progress);
        match made {
            Err(error) if tries < TRIES_MAX && may_have_moved(&error, source) => tries += 1,
            other => return other,
        }
    }
}

/// Makes a store of the backup in `source` in the directory `target`, which is empty or not there.
/// Whoever opens it begins a new epoch, so that nobody takes it for the store it came from.
///
/// # Errors
/// As [`backup`].
pub fn restore(
    disk: &dyn Disk,
    source: &Path,
    target: &Path,
    progress: &mut dyn FnMut(BackupProgress),
) -> Result<BackupReport, StoreError> {
    refuse_if_inside(source, target)?;
    let _reading = Lock::take_unwritten(source)?;
    if record::read(disk, source)?.is_none() {
        return Err(refused(source, "is no backup: it has no file BACKUP"));
    }
    create(disk, target)?;
    let names = disk.list(target);
    let names = names.map_err(|error| StoreError::io("list", target, error))?;
    if !names.is_empty() {
        return Err(refused(target, "is not empty; restore makes a new store"));
    }
    let _lock = Lock::take(target, true)?;
    let mut found = source::look(disk, source)?;
    set_apart(&mut found.manifest, target)?;
    let mut copying = Copying::new(disk, (source, target), &found, progress);
    copying.run(None)?;
    let report = copying.report();
    verify(disk, target, &found.manifest, progress)?;
    let manifest = found.manifest.encode();
    put(disk, &manifest_path(target), &manifest)?;
    copy::small_file(disk, &format_path(source), &format_path(target))?;
    Ok(report)
}

/// What lies in the target before a backup.
struct Before {
    record: Option<Record>,
    /// The backup that is there, and its manifest's checksum.
    found: Option<(Source, u32)>,
}

impl Before {
    fn find(disk: &dyn Disk, target: &Path) -> Result<Self, StoreError> {
        let record = read_record(disk, target)?;
        let Some(known) = &record else {
            return Ok(Self {
                record,
                found: None,
            });
        };
        let Some(crc) = record::manifest_crc(disk, target)? else {
            return Ok(Self {
                record,
                found: None,
            });
        };
        if !known.manifests.contains(&crc) {
            let what = "is a backup that was opened as a store since; take another directory";
            return Err(refused(target, what));
        }
        let found = source::look(disk, target)?;
        Ok(Self {
            record,
            found: Some((found, crc)),
        })
    }

    /// That a backup of `next` may go on from here.
    fn refuse_other_history(&self, next: &Source, target: &Path) -> Result<(), StoreError> {
        let store = next.manifest.store;
        if let Some(record) = self.record.as_ref().filter(|record| record.store != store) {
            let what = format!("holds a backup of store {}, not of {store}", record.store);
            return Err(refused(target, &what));
        }
        let Some((found, _)) = &self.found else {
            return Ok(());
        };
        let position = found.epochs.current().map(|epoch| Position {
            store,
            epoch,
            revision: found.revision,
        });
        let is_held = |position| next.epochs.holds(&position, next.revision);
        match position.is_none_or(is_held) {
            true => Ok(()),
            false => {
                let revision = found.revision;
                let what = format!(
                    "holds a backup at revision {revision} of another history of this store; take \
                     another directory"
                );
                Err(refused(target, &what))
            }
        }
    }
}

/// What makes the target a backup; none if nothing lies there.
fn read_record(disk: &dyn Disk, target: &Path) -> Result<Option<Record>, StoreError> {
    if let Some(record) = record::read(disk, target)? {
        return Ok(Some(record));
    }
    let names = disk.list(target);
    let names = names.map_err(|error| StoreError::io("list", target, error))?;
    // A first run that was cut short at once leaves these.
    let lock = lock_path(target);
    let draft = record::record_path(target).with_added_extension("tmp");
    let is_foreign = |name: &&String| !lock.ends_with(name) && !draft.ends_with(name);
    match names.iter().find(is_foreign) {
        Some(name) => {
            let what = format!("is no backup: it holds {name:?} and no file BACKUP");
            Err(refused(target, &what))
        }
        None => Ok(None),
    }
}

fn try_backup(
    disk: &dyn Disk,
    (source, target): (&Path, &Path),
    before: &Before,
    progress: &mut dyn FnMut(BackupProgress),
) -> Result<BackupReport, StoreError> {
    let mut found = source::look(disk, source)?;
    before.refuse_other_history(&found, target)?;
    if before.found.is_some() {
        copy::refuse_other_key(disk, source, target)?;
    }
    set_apart(&mut found.manifest, target)?;
    let mut record = Record {
        store: found.manifest.store,
        manifests: before.found.iter().map(|(_, crc)| *crc).collect(),
    };
    record::write(disk, target, &record)?;
    let mut copying = Copying::new(disk, (source, target), &found, progress);
    copying.run(before.found.as_ref().map(|(found, _)| found))?;
    let report = copying.report();
    verify(disk, target, &found.manifest, progress)?;
    let manifest = found.manifest.encode();
    record.manifests.extend(record::crc_of(&manifest));
    record::write(disk, target, &record)?;
    copy::small_file(disk, &format_path(source), &format_path(target))?;
    put(disk, &manifest_path(target), &manifest)?;
    if let Err(error) = copy::remove_unnamed(disk, (source, target), &found) {
        // The backup is whole; the next one comes here again.
        tracing::warn!(%error, "a backup keeps files that it does not need");
    }
    Ok(report)
}

/// Has a copy begin with an epoch number that the original does not come to, nor another copy.
fn set_apart(manifest: &mut Manifest, target: &Path) -> Result<(), StoreError> {
    let step = draw_epoch_step(target)?;
    manifest.epoch_max = manifest.epoch_max.saturating_add(step);
    Ok(())
}

/// A step of epoch numbers for the copy in `target`: see [`epoch_step`].
pub(crate) fn draw_epoch_step(target: &Path) -> Result<u64, StoreError> {
    let mut chance = [0; 16];
    let drawn = RealEntropy.fill(&mut chance);
    drawn.map_err(|error| StoreError::io("draw random bytes for", target, error))?;
    Ok(epoch_step(chance))
}

/// How far a copy's epoch numbers are from the original's: 1 to 2^32. A session is known by the
/// number of its epoch and of a frame, and must not be taken for one of the original, which would
/// be answered writes that this store never did.
pub(crate) fn epoch_step(chance: [u8; 16]) -> u64 {
    let [a, b, c, d, ..] = chance;
    u64::from(u32::from_le_bytes([a, b, c, d])) + 1
}

/// Reads all of a copy back, as what its manifest will make of it.
fn verify(
    disk: &dyn Disk,
    target: &Path,
    manifest: &Manifest,
    progress: &mut dyn FnMut(BackupProgress),
) -> Result<(), StoreError> {
    let CheckReport { problems, .. } = check_as((disk, target), manifest, &mut |at| {
        progress(BackupProgress {
            part: BackupPart::Verify,
            done_bytes: at.done_bytes,
            total_bytes: at.total_bytes,
        });
    })?;
    for problem in problems {
        if !problem.is_cache {
            let (path, offset) = (&problem.file, problem.offset);
            return Err(StoreError::corrupt(path, offset, problem.what));
        }
        // Bytes behind the end of a segment are cut off once the manifest is there.
        if problem.file.extension().is_some_and(|name| name == "keys") {
            // As damaged as it was in the store; who opens the copy makes it again.
            let removed = disk.remove(&problem.file);
            removed.map_err(|error| StoreError::io("remove", &problem.file, error))?;
        }
    }
    Ok(())
}

/// Whether an error may come from an owner that removes files while they are copied.
fn may_have_moved(error: &StoreError, source: &Path) -> bool {
    match error {
        StoreError::Corrupt { path, .. } => path.starts_with(source),
        StoreError::Io {
            path,
            source: cause,
            ..
        } => cause.kind() == std::io::ErrorKind::NotFound && path.starts_with(source),
        _ => false,
    }
}

pub(crate) fn refuse_if_inside(source: &Path, target: &Path) -> Result<(), StoreError> {
    match whole_path(target).starts_with(whole_path(source)) {
        true => Err(refused(
            target,
            "lies in the directory it would be a copy of",
        )),
        false => Ok(()),
    }
}

/// A path from the root, without links as far as it is there.
fn whole_path(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = path.ancestors().find_map(|part| {
        let rest = path.strip_prefix(part).ok()?;
        Some(part.canonicalize().ok()?.join(rest))
    });
    there.unwrap_or(path)
}

/// Copies files beside a store that are there.
pub(crate) fn copy_beside(
    disk: &dyn Disk,
    source: &Path,
    target: &Path,
    names: &[&str],
) -> Result<u64, StoreError> {
    let mut bytes = 0;
    for name in names {
        let copied = copy::small_file(disk, &source.join(name), &target.join(name));
        match copied {
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            }
            copied => bytes += copied?,
        }
    }
    Ok(bytes)
}

/// What is wrong with the file that makes a directory a backup, if it is one.
pub(crate) fn check_record(disk: &dyn Disk, directory: &Path) -> Result<(), StoreError> {
    record::read(disk, directory).map(drop)
}

fn create(disk: &dyn Disk, directory: &Path) -> Result<(), StoreError> {
    let created = disk.create_dir(directory);
    created.map_err(|error| StoreError::io("create", directory, error))
}

fn put(disk: &dyn Disk, path: &Path, content: &[u8]) -> Result<(), StoreError> {
    replace_file(disk, path, content).map_err(|error| StoreError::io("write", path, error))
}

fn refused(path: &Path, what: &str) -> StoreError {
    let text = format!("{} {what}", path.display());
    Failure::new(ErrorKind::Invalid, text).into()
}

/// That there is a store whose features all are known: what is not known is not copied.
fn refuse_unknown_format(disk: &dyn Disk, directory: &Path) -> Result<(), StoreError> {
    match check_format(disk, directory, true)? {
        true => Ok(()),
        false => Err(StoreError::NotFound {
            directory: directory.to_owned(),
        }),
    }
}
