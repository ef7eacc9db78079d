//! A copy becomes a store of its own.

use std::path::Path;
use std::sync::Arc;

use super::install;
use crate::authority::AuthorityKind;
use crate::disk::{Disk, RealDisk};
use crate::error::StoreError;
use crate::format::check_format;
use crate::lock::Lock;
use crate::manifest::ManifestFile;

/// Makes a copy, which nobody may have open, a store of its own: whoever opens it next begins a
/// new epoch there, with a number above any that the copy has seen and a name that nobody else has.
/// What the source wrote since, and still writes, is another history from here on.
///
/// # Errors
/// [`StoreError::NotFound`], [`StoreError::Locked`], [`StoreError::NotACopy`] when it is a store of
/// its own already, or the disk refused a call. Then it is as it was.
pub fn promote(directory: &Path, force_network_fs: bool) -> Result<(), StoreError> {
    promote_on(
        &(Arc::new(RealDisk) as Arc<dyn Disk>),
        directory,
        force_network_fs,
    )
}

/// As [`promote`], on another disk.
pub(crate) fn promote_on(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    force_network_fs: bool,
) -> Result<(), StoreError> {
    let not_found = || StoreError::NotFound {
        directory: directory.to_owned(),
    };
    if !check_format(&**disk, directory, true)? {
        return Err(not_found());
    }
    let _lock = Lock::take(directory, force_network_fs)?;
    install::finish(&**disk, directory)?;
    let manifest = ManifestFile::read(disk, directory)?.ok_or_else(not_found)?;
    if manifest.get().authority != AuthorityKind::Follower {
        return Err(StoreError::NotACopy {
            directory: directory.to_owned(),
            what: String::from("it is a store of its own already"),
        });
    }
    manifest.update(|manifest| manifest.authority = AuthorityKind::Alone)
}
