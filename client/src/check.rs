//! Reading every byte of a store that nobody has open.

use std::path::Path;

use objsync_store::check::{self as store, CheckProgress, CheckReport};

use crate::error::{ObjectError, Result};

/// Checks the store in a directory: every byte of its files against its checksum, the files
/// against each other, the index against both. Changes nothing. Calls `progress` now and then.
///
/// # Errors
/// `NotFound` when there is no store, `Unavailable` when a process has it open, `Unsupported` for
/// a newer format. Damage is no error here: the report says what and where.
pub fn check(
    directory: impl AsRef<Path>,
    mut progress: impl FnMut(CheckProgress),
) -> Result<CheckReport> {
    store::check(directory.as_ref(), &mut progress).map_err(ObjectError::from)
}
