//! Copies of packs: for a backup as they are, for a repair what is sound of them.

use std::path::{Path, PathBuf};

use objsync_proto::chunk::record::CheckedChunk;

use super::index::PackIndex;
use super::scan::{each_record, list};
use super::{PackOptions, Packs, pack_directory};
use crate::disk::Disk;
use crate::error::StoreError;

/// The packs of a store, oldest first.
pub(crate) fn pack_paths(disk: &dyn Disk, directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let packs = pack_directory(directory);
    let ids = list(disk, directory)?;
    Ok(ids.iter().map(|id| packs.join(id.name())).collect())
}

/// Copies what is sound of the packs in `source` into new packs of the store that `options` say.
/// Calls `lost` with each place where something is damaged.
pub(crate) fn save_sound(
    (disk, source): (&dyn Disk, &Path),
    options: PackOptions,
    lost: &mut dyn FnMut(&Path, u64, String),
) -> Result<(), StoreError> {
    let packs = Packs::open(options)?;
    for id in list(disk, source)? {
        let path = pack_directory(source).join(id.name());
        each_record((disk, &path), id, &mut |offset, read| {
            let checked = read.and_then(|(header, record)| match CheckedChunk::check(record) {
                Ok(chunk) => Ok((header, chunk)),
                Err(error) => Err(error.to_string()),
            });
            match checked {
                Err(what) => lost(&path, offset, what),
                Ok((header, _)) if packs.index().has(&header.id) => {}
                Ok((header, chunk)) => {
                    let mut writing = packs.writing();
                    let entry = packs.append(&mut writing, &header, &chunk.record().payload)?;
                    let index: &mut PackIndex = &mut packs.index_mut();
                    index.insert(header.id, entry);
                }
            }
            Ok(())
        })?;
    }
    packs.close()
}
