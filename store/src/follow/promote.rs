//! A copy becomes a store of its own.

use std::path::Path;
use std::sync::Arc;

use objsync_proto::ids::Revision;
use objsync_proto::limits::PROMOTED_REVISION_STEP;

use super::install;
use crate::authority::AuthorityKind;
use crate::backup;
use crate::disk::{Disk, RealDisk};
use crate::error::StoreError;
use crate::format::check_format;
use crate::lock::Lock;
use crate::manifest::ManifestFile;
use crate::options::StoreOptions;
use crate::recovery;

/// Makes a copy, which nobody may have open, a store of its own: whoever opens it next begins a
/// new epoch there, with a number that its source does not come to and a name that nobody else has,
/// and revisions go on `limits::PROMOTED_REVISION_STEP` further. What the source wrote since, and
/// still writes, is another history from here on, and no revision is of both. Reads the log after
/// the newest snapshot.
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
    let options = StoreOptions {
        follow: true,
        disk: disk.clone(),
        ..StoreOptions::default()
    };
    let (epoch, last) = recovery::end_of(directory, &options, &manifest)?;
    let step = backup::draw_epoch_step(directory)?;
    manifest.update(|manifest| {
        manifest.epoch_max = manifest.epoch_max.max(epoch).saturating_add(step);
        let last = manifest.revision_max.max(last);
        manifest.revision_max = Revision(last.0.saturating_add(PROMOTED_REVISION_STEP));
        manifest.authority = AuthorityKind::Alone;
    })
}
