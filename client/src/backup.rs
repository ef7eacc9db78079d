//! Backing a store up, putting it back, and saving what is sound of a damaged one.

use std::path::Path;

use objsync_server::identity::{KEY_FILE, PUBLIC_KEY_FILE};
use objsync_store::StoreError;
use objsync_store::backup::{self as store, BackupProgress, BackupReport};
use objsync_store::disk::RealDisk;
use objsync_store::repair::{self, Loss, RepairProgress, RepairReport};

use crate::check::key_problem;
use crate::error::Result;

/// Backs the store in the directory `source` up into the directory `target`, as of one revision,
/// while its owner writes on. What an earlier backup left in `target` is used again; a target that
/// holds anything else is refused. All of it is read back. Calls `progress` now and then.
///
/// Whenever it is cut short, `target` holds the backup before or the new one, whole.
///
/// # Errors
/// `Invalid` for a target that holds something else, another history, or another key; `Unavailable`
/// when another backup goes there; `Corrupt` when the store or its key is damaged.
pub fn backup(
    source: impl AsRef<Path>,
    target: impl AsRef<Path>,
    mut progress: impl FnMut(BackupProgress),
) -> Result<BackupReport> {
    let (source, target) = (source.as_ref(), target.as_ref());
    refuse_damaged_key(source)?;
    Ok(store::backup(&RealDisk, source, target, &mut progress)?)
}

/// Makes a store of the backup in the directory `source` in the directory `target`, which is empty
/// or not there, and reads it back. Whoever opens it begins a history of its own: peers of the
/// store that was backed up keep no value that only that one had. Calls `progress` now and then.
///
/// # Errors
/// `Invalid` when `source` is no backup or `target` is not empty; `Corrupt` when it is damaged.
pub fn restore(
    source: impl AsRef<Path>,
    target: impl AsRef<Path>,
    mut progress: impl FnMut(BackupProgress),
) -> Result<BackupReport> {
    let (source, target) = (source.as_ref(), target.as_ref());
    refuse_damaged_key(source)?;
    Ok(store::restore(&RealDisk, source, target, &mut progress)?)
}

/// A copy with a damaged key, or public half, is a store that nobody can serve.
fn refuse_damaged_key(source: &Path) -> Result<()> {
    let problem = match source.is_dir() {
        true => key_problem(source)?,
        false => None,
    };
    match problem {
        Some(problem) => Err(StoreError::corrupt(&problem.file, 0, problem.what).into()),
        None => Ok(()),
    }
}

/// Saves what is sound of the store in the directory `source` as a new store in the directory
/// `target`, which is empty or not there, and lists what is lost. The original is only read. Calls
/// `progress` now and then.
///
/// # Errors
/// `NotFound` when there is no store, `Unavailable` when a process has it open, `Invalid` when
/// `target` is not empty, `Unsupported` for a newer format. Damage is no error here.
pub fn repair(
    source: impl AsRef<Path>,
    target: impl AsRef<Path>,
    mut progress: impl FnMut(RepairProgress),
) -> Result<RepairReport> {
    let (source, target) = (source.as_ref(), target.as_ref());
    // A damaged key is another key: with none, the store gets one that is whole.
    let damaged = match source.is_dir() {
        true => key_problem(source)?,
        false => None,
    };
    let beside: &[&str] = match &damaged {
        Some(problem) if !problem.is_cache => &[],
        Some(_) => &[KEY_FILE],
        None => &[KEY_FILE, PUBLIC_KEY_FILE],
    };
    let mut report = repair::repair(source, target, beside, &mut progress)?;
    if let Some(problem) = damaged {
        let what = match problem.is_cache {
            true => problem.what,
            false => format!(
                "{}; the new store gets another key, which no link knows",
                problem.what
            ),
        };
        report.losses.push(Loss {
            are_keys_known: true,
            is_made_good: problem.is_cache,
            ..Loss::new(&problem.file, 0..0, what)
        });
    }
    Ok(report)
}
