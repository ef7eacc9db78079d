//! Reads every byte of a closed store and says what is damaged, and what that hits.
//!
//! `FORMAT`, `MANIFEST`, segments, footers, snapshots and packs are read whole, and what they say of each
//! other is compared. Each byte is under a checksum, or known: padding is zero, and behind the ends
//! of a closed store's segments lies nothing. The index is compared entry by entry
//! with what snapshot and log say; if it differs, it is made again at the next open. For that it is
//! opened, which may write to it. No other file is changed.
//!
//! Not here: putting things right.

mod bases;
mod content;
mod files;
mod index;
mod log;
mod packs;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::ids::{NamespaceId, Revision, StoreId};

use crate::backup::check_record;
use crate::disk::{Disk, RealDisk, Tolerant, Unreadable};
use crate::error::StoreError;
use crate::format::check_format;
use crate::lock::Lock;
use crate::manifest::Manifest;
use crate::recovery::log_state;

use files::Files;
pub(crate) use files::list_segments;

/// Most keys that a problem names.
pub const PROBLEM_KEYS_MAX: usize = 100;

/// How far a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckProgress {
    /// What is being read.
    pub part: CheckPart,
    /// Bytes of files read so far, of all parts.
    pub done_bytes: u64,
    /// Bytes of files to read.
    pub total_bytes: u64,
}

/// A part of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckPart {
    /// The segments of the log.
    Log,
    /// Their footers.
    Footers,
    /// The snapshots.
    Snapshots,
    /// The packs of chunks.
    Packs,
    /// The index.
    Index,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Which store it is, if that could be read.
    pub store: Option<StoreId>,
    /// Whether it was closed. If not, the end of its log may be torn, which is no damage.
    pub was_closed: bool,
    /// The last revision in the log.
    pub revision: Revision,
    /// Files read.
    pub file_count: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Frames of the log.
    pub frame_count: u64,
    /// Entries of snapshots and footers.
    pub entry_count: u64,
    /// Entries of the index that were compared.
    pub index_entry_count: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// In which file, or directory for the index.
    pub file: PathBuf,
    /// At which byte of it.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
    /// Nothing is lost: the store makes this again from other files, or does not need it.
    pub is_cache: bool,
    /// The first and last revision that may be hit, if known.
    pub revisions: Option<(Revision, Revision)>,
    /// Keys that are hit, as far as they could be found; at most [`PROBLEM_KEYS_MAX`].
    pub keys: Vec<(NamespaceId, Bytes)>,
    /// How many keys are hit, as far as they could be found.
    pub key_count: u64,
}

impl CheckReport {
    /// Whether every byte is as it was written.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.problems.is_empty()
    }

    /// Whether nothing is lost: what is wrong, if anything, the store makes again by itself.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.iter().all(|problem| problem.is_cache)
    }
}

impl Problem {
    /// Something wrong at a place, which hits nothing that is known.
    #[must_use]
    pub fn new(file: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            offset,
            what: what.into(),
            is_cache: false,
            revisions: None,
            keys: Vec::new(),
            key_count: 0,
        }
    }

    /// Damage that a call met.
    ///
    /// # Errors
    /// Anything else goes on as it was.
    fn of(error: StoreError) -> Result<Self, StoreError> {
        match error {
            StoreError::Corrupt { path, offset, what } => Ok(Self::new(&path, offset, what)),
            StoreError::Io { path, source, .. }
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(Self::new(&path, 0, "it is missing"))
            }
            other => Err(other),
        }
    }

    fn unreadable((file, bytes): (PathBuf, Range<u64>)) -> Self {
        let count = bytes.end - bytes.start;
        let what = format!("{count} bytes from here on cannot be read: the disk gives an error");
        Self {
            // A footer is made again.
            is_cache: file.extension().is_some_and(|name| name == "keys"),
            ..Self::new(&file, bytes.start, what)
        }
    }

    fn add_key(&mut self, namespace: NamespaceId, key: &Bytes) {
        self.key_count += 1;
        if self.keys.len() < PROBLEM_KEYS_MAX {
            self.keys.push((namespace, key.clone()));
        }
    }
}

/// Checks the store in `directory`, which nobody may have open. Calls `progress` now and then.
///
/// # Errors
/// [`StoreError::NotFound`], [`StoreError::Locked`], [`StoreError::Unsupported`], or the disk
/// refused a call. Damage is no error here, but a problem in the report.
pub fn check(
    directory: &Path,
    progress: &mut dyn FnMut(CheckProgress),
) -> Result<CheckReport, StoreError> {
    check_on(Arc::new(RealDisk), directory, progress)
}

/// Checks a store on a disk of which a part may not be readable.
pub(crate) fn check_on(
    disk: Arc<dyn Disk>,
    directory: &Path,
    progress: &mut dyn FnMut(CheckProgress),
) -> Result<CheckReport, StoreError> {
    let disk = Tolerant::new(disk);
    let unreadable = disk.unreadable();
    let mut report = CheckReport::default();
    match check_format(&disk, directory, false) {
        Ok(true) => {}
        Ok(false) => {
            let directory = directory.to_owned();
            return Err(StoreError::NotFound { directory });
        }
        Err(error) => report.problems.push(Problem::of(error)?),
    }
    let _lock = Lock::take_unwritten(directory)?;
    let others = [
        check_record(&disk, directory),
        log_state::check(&disk, directory),
    ];
    for error in others.into_iter().filter_map(Result::err) {
        report.problems.push(Problem::of(error)?);
    }
    let how = (None, Some(&unreadable));
    check_files((&disk, directory), how, &mut report, progress)?;
    Ok(report)
}

/// Checks the files of a store that nobody else can open, with this manifest in place of its own.
pub(crate) fn check_as(
    (disk, directory): (&dyn Disk, &Path),
    manifest: &Manifest,
    progress: &mut dyn FnMut(CheckProgress),
) -> Result<CheckReport, StoreError> {
    let mut report = CheckReport::default();
    let how = (Some(manifest), None);
    check_files((disk, directory), how, &mut report, progress)?;
    Ok(report)
}

/// Reads all files, tells of what could not be read, and then compares the index.
fn check_files(
    (disk, directory): (&dyn Disk, &Path),
    (manifest, unreadable): (Option<&Manifest>, Option<&Unreadable>),
    report: &mut CheckReport,
    progress: &mut dyn FnMut(CheckProgress),
) -> Result<(), StoreError> {
    let files = Files::find(disk, directory, manifest, report)?;
    let mut meter = Meter {
        progress,
        done_bytes: 0,
        total_bytes: files.total_bytes,
    };
    log::check(&files, report, &mut meter)?;
    content::check_footers(&files, report, &mut meter)?;
    content::check_snapshots(&files, report, &mut meter)?;
    packs::check(&files, report, &mut meter)?;
    let unreadable = unreadable.map_or(Vec::new(), Unreadable::list);
    let problems = unreadable.into_iter().map(Problem::unreadable);
    report.problems.extend(problems);
    // The index is opened by writing to it, so only where that is allowed.
    let may_write = check_format(disk, directory, true).is_ok();
    if report.is_sound() && may_write {
        index::check(&files, report, &mut meter)?;
    }
    Ok(())
}

/// Tells how far it is.
struct Meter<'a> {
    progress: &'a mut dyn FnMut(CheckProgress),
    done_bytes: u64,
    total_bytes: u64,
}

impl Meter<'_> {
    fn add(&mut self, part: CheckPart, bytes: u64) {
        self.done_bytes += bytes;
        (self.progress)(CheckProgress {
            part,
            done_bytes: self.done_bytes,
            total_bytes: self.total_bytes,
        });
    }
}
