//! Salvages what is sound of a damaged store into a new one, and lists what is lost.
//!
//! Trail: [`repair`] -> `origin::find` (what there is) -> `tables` (sound blocks of snapshots) ->
//! `log` (sound frames; footers for what is behind damaged ones) -> `choose` (of each key the
//! newest that is known) -> `result` (one snapshot, a fresh segment, `MANIFEST`) -> `check`.
//!
//! Invariants
//! * The original is only read; its lock is held by a descriptor that cannot write.
//! * Of a key, the newest snapshot that is sound where the key belongs decides, its absence there
//!   too; then the newest sound record of the log after it. So what was deleted stays deleted
//!   wherever its delete, or any later snapshot, can be read.
//! * Memory does not grow with the store: the log goes through sorted tables of bounded size.
//! * Where something may be lost, no older position is on the result's history from there on, so
//!   peers that hold what was lost start anew; grants go if one that was taken back might return.
//! * What the disk cannot read is damage, and never a torn tail.
//!
//! On a crash: the new directory has no `FORMAT` and is no store.

mod choose;
mod log;
mod origin;
mod result;
mod runs;
mod tables;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{NamespaceId, Revision, StoreId};

use crate::check::{CheckReport, PROBLEM_KEYS_MAX, check};
use crate::clock::{Entropy, RealEntropy};
use crate::disk::{Disk, RealDisk, Tolerant, Unreadable};
use crate::error::StoreError;
use crate::lock::Lock;
use crate::options::StoreLimits;
use crate::packs::{self, PackOptions};

use log::LogReading;
use origin::Origin;
use tables::Tables;

/// How far a repair is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepairProgress {
    /// What is being done.
    pub part: RepairPart,
    /// Bytes of that part so far.
    pub done_bytes: u64,
    /// Bytes of that part, as far as they are known.
    pub total_bytes: u64,
}

/// A part of a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepairPart {
    /// The original is read.
    Read,
    /// What is sound of it is written.
    Write,
    /// The new store is checked.
    Verify,
}

/// What was saved, and what was not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Which store it is.
    pub store: Option<StoreId>,
    /// The last revision that is known of.
    pub revision: Revision,
    /// Frames of the log that are sound.
    pub frame_count: u64,
    /// Keys that the new store has, of all its dictionaries.
    pub entry_count: u64,
    /// Links that the new store knows.
    pub grant_count: u64,
    /// What is damaged.
    pub losses: Vec<Loss>,
    /// What a check of the new store found.
    pub check: CheckReport,
}

/// A damaged part of the original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// In which file.
    pub file: PathBuf,
    /// From which byte
    pub start: u64,
    /// to before which.
    pub end: u64,
    /// What is wrong there.
    pub what: String,
    /// The first and last revision that may be hit, if known.
    pub revisions: Option<(Revision, Revision)>,
    /// Keys that are hit, as far as they are known; at most [`PROBLEM_KEYS_MAX`].
    pub keys: Vec<(NamespaceId, Bytes)>,
    /// How many keys are hit, as far as they are known.
    pub key_count: u64,
    /// No other key is hit.
    pub are_keys_known: bool,
    /// Nothing is lost by it: other files had all of it.
    pub is_made_good: bool,
}

impl RepairReport {
    /// Whether the new store has all that the old one had.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.losses.iter().all(|loss| loss.is_made_good)
    }
}

impl Loss {
    /// Damage of a part of a file, which may hit any key.
    #[must_use]
    pub fn new(file: &Path, bytes: std::ops::Range<u64>, what: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            start: bytes.start,
            end: bytes.end,
            what: what.into(),
            revisions: None,
            keys: Vec::new(),
            key_count: 0,
            are_keys_known: false,
            is_made_good: false,
        }
    }

    /// Of one key's change, which nothing else is hit by.
    fn of_key(
        file: &Path,
        bytes: std::ops::Range<u64>,
        what: &str,
        (section, revision, change): &runs::Record,
    ) -> Self {
        let mut loss = Self {
            revisions: Some((*revision, *revision)),
            are_keys_known: true,
            ..Self::new(file, bytes, what)
        };
        loss.add_key(section.namespace, change.key());
        loss
    }

    fn add_key(&mut self, namespace: NamespaceId, key: &Bytes) {
        self.key_count += 1;
        if self.keys.len() < PROBLEM_KEYS_MAX {
            self.keys.push((namespace, key.clone()));
        }
    }
}

/// Saves what is sound of the store in `source`, which nobody may have open, into `target`, which
/// is empty or not there. Files beside the store named in `beside` are copied as they are. Calls
/// `progress` now and then.
///
/// # Errors
/// [`StoreError::Refused`] if `target` is not empty, [`StoreError::Locked`],
/// [`StoreError::NotFound`], [`StoreError::Unsupported`], or the disk refused a call. Damage is no
/// error here.
pub fn repair(
    source: &Path,
    target: &Path,
    beside: &[&str],
    progress: &mut dyn FnMut(RepairProgress),
) -> Result<RepairReport, StoreError> {
    repair_on(&Arc::new(RealDisk), (source, target), beside, progress)
}

/// Repairs a store on a disk of which a part may not be readable.
pub(crate) fn repair_on(
    whole: &Arc<impl Disk>,
    (source, target): (&Path, &Path),
    beside: &[&str],
    progress: &mut dyn FnMut(RepairProgress),
) -> Result<RepairReport, StoreError> {
    let tolerant = Tolerant::new(whole.clone());
    let unreadable = tolerant.unreadable();
    let disk: &dyn Disk = &tolerant;
    if !source.is_dir() {
        let directory = source.to_owned();
        return Err(StoreError::NotFound { directory });
    }
    let _lock = Lock::take_unwritten(source)?;
    let mut report = RepairReport::default();
    let origin = origin::find(disk, source, &mut report.losses)?;
    refuse_unless_empty(disk, source, target)?;
    let made = disk.create_dir(&crate::log::log_directory(target));
    made.map_err(|error| StoreError::io("create", target, error))?;
    let mut meter = Meter {
        progress,
        part: RepairPart::Read,
        done_bytes: 0,
        total_bytes: origin.total_bytes,
    };
    let tables = tables::open(disk, &origin, &mut report.losses, &mut meter)?;
    let mut reading = LogReading::new((disk, target), &origin, &tables, unreadable.clone())?;
    reading.run(&tables, &mut report.losses, &mut meter)?;
    report.frame_count = reading.frame_count;
    judge(&mut report.losses, &origin, &tables, &reading);
    note_unreadable(&mut report.losses, &unreadable);
    report.store = Some(origin.store);
    let drawn = || {
        let mut bytes = [0; 16];
        let drawn = RealEntropy.fill(&mut bytes);
        drawn.map_err(|error| StoreError::io("draw random bytes for", target, error))?;
        Ok(bytes)
    };
    meter.part = RepairPart::Write;
    let packs = PackOptions {
        disk: whole.clone(),
        directory: target.to_owned(),
        store: origin.store,
        entropy: Arc::new(RealEntropy),
        pack_bytes: StoreLimits::default().pack_bytes,
        readonly: false,
    };
    packs::save_sound((disk, source), packs, &mut |path, offset, what| {
        report.losses.push(Loss::new(path, offset..offset, what));
    })?;
    result::write(
        (&**whole, target),
        (&origin, beside, &drawn),
        (tables, reading),
        (&mut report, &mut meter),
    )?;
    report.check = check(target, &mut |at| {
        (meter.progress)(RepairProgress {
            part: RepairPart::Verify,
            done_bytes: at.done_bytes,
            total_bytes: at.total_bytes,
        });
    })?;
    Ok(report)
}

/// Says of each damaged part whether other files had all of it.
fn judge(losses: &mut [Loss], origin: &Origin, tables: &Tables, reading: &LogReading<'_>) {
    // From this state on the log decides.
    let base = tables.base(origin);
    let has_all = |loss: &Loss| loss.are_keys_known && loss.key_count == 0;
    let is_log_sound = |from: Revision, to: Revision| {
        let is_hit = |gap: &log::Gap| {
            gap.first <= to
                && gap.last.is_none_or(|last| last > from)
                && !has_all(&losses[gap.loss])
        };
        let begins = origin.first().is_some_and(|first| first.before <= from);
        begins && !reading.gaps.iter().any(is_hit)
    };
    let mut made_good = Vec::new();
    for gap in &reading.gaps {
        let is_covered = base.is_some_and(|base| gap.last.is_some_and(|last| last <= base));
        if is_covered || (has_all(&losses[gap.loss]) && base.is_some()) {
            made_good.push(gap.loss);
        }
    }
    for (revision, places) in &tables.losses {
        let is_older = base.is_some_and(|base| *revision <= base);
        let is_reached = base.is_some_and(|base| is_log_sound(base, *revision));
        if is_older || is_reached {
            made_good.extend(places);
        }
        made_good.extend(places.iter().filter(|place| has_all(&losses[**place])));
    }
    for place in made_good {
        losses[place].is_made_good = true;
        losses[place].keys.clear();
        losses[place].key_count = 0;
    }
}

/// Says of each damaged part whether the disk gave it at all.
fn note_unreadable(losses: &mut [Loss], unreadable: &Unreadable) {
    for loss in losses {
        // Of a small file all is damaged.
        let bytes = match loss.start == loss.end {
            true => 0..u64::MAX,
            false => loss.start..loss.end,
        };
        if unreadable.touches(&loss.file, &bytes) {
            loss.what
                .push_str("; the disk gives an error where it is read");
        }
    }
}

fn refuse_unless_empty(disk: &dyn Disk, source: &Path, target: &Path) -> Result<(), StoreError> {
    crate::backup::refuse_if_inside(source, target)?;
    match disk.list(target) {
        Ok(names) if names.is_empty() => Ok(()),
        Ok(_) => {
            let text = format!(
                "{} is not empty; repair makes a new store",
                target.display()
            );
            Err(Failure::new(ErrorKind::Invalid, text).into())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(StoreError::io("list", target, error)),
    }
}

/// Tells how far it is.
struct Meter<'a> {
    progress: &'a mut dyn FnMut(RepairProgress),
    part: RepairPart,
    done_bytes: u64,
    total_bytes: u64,
}

impl Meter<'_> {
    fn add(&mut self, bytes: u64) {
        self.done_bytes += bytes;
        (self.progress)(RepairProgress {
            part: self.part,
            done_bytes: self.done_bytes,
            total_bytes: self.total_bytes.max(self.done_bytes),
        });
    }
}
