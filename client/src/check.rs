//! Reading every byte of a store that nobody has open.

use std::path::Path;

use objsync_proto::ids::StoreId;
use objsync_server::{ServerError, identity};
use objsync_store::check::{self as store, CheckProgress, CheckReport, Problem};
use objsync_store::disk::{RealDisk, is_unreadable};
use objsync_store::manifest;

use crate::error::Result;

/// Checks the store in a directory: every byte of its files against its checksum, the files
/// against each other, its key against the public half, the index against all. Calls `progress` now
/// and then. Changes nothing but the index, a cache: to be compared it is opened, and what it keeps
/// for itself may be written; `index.state` is renewed.
///
/// # Errors
/// `NotFound` when there is no store, `Unavailable` when a process has it open, `Unsupported` for
/// a newer format. Damage is no error here, nor is what the disk cannot read: the report says what
/// and where.
pub fn check(
    directory: impl AsRef<Path>,
    mut progress: impl FnMut(CheckProgress),
) -> Result<CheckReport> {
    let directory = directory.as_ref();
    let mut report = store::check(directory, &mut progress)?;
    report.problems.extend(key_problem(directory)?);
    Ok(report)
}

/// Which store lies in a directory; none if there is none, or nothing says which.
#[must_use]
pub fn store_of(directory: impl AsRef<Path>) -> Option<StoreId> {
    let manifest = manifest::read(&RealDisk, directory.as_ref()).ok()?;
    manifest.map(|manifest| manifest.store)
}

/// What is wrong with the key of the store in a directory, if anything.
pub(crate) fn key_problem(directory: &Path) -> Result<Option<Problem>> {
    let (path, what) = match identity::verify(directory) {
        Ok(_) => return Ok(None),
        Err(ServerError::KeyMissing { path }) => (path, "it is missing, and key.pub is there"),
        Err(ServerError::KeyMalformed { path, .. }) => (path, "it is no Ed25519 key in PKCS#8"),
        Err(ServerError::KeyChanged { path }) => (path, "it does not give the key in key.pub"),
        Err(ServerError::PublicKeyDamaged { path }) => (path, "its checksum is wrong"),
        Err(ServerError::Io { path, source, .. }) if is_unreadable(&source) => {
            (path, "it cannot be read: the disk gives an error")
        }
        Err(error) => return Err(error.into()),
    };
    let is_cache = path.ends_with(identity::PUBLIC_KEY_FILE);
    Ok(Some(Problem {
        is_cache,
        ..Problem::new(&path, 0, what)
    }))
}
