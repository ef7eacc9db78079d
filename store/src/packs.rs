//! Packs: where the chunks of large values lie, each stored once.
//!
//! Trail of a chunk: [`Chunks::put`] -> `Packs::append` (open pack) -> [`Chunks::sync`] -> the write that
//! names it is admitted by `Packs::admit` and logged -> [`Chunks::get`].
//!
//! | module | what it knows |
//! |---|---|
//! | `layout` | the bytes of a pack |
//! | `index` | where each chunk lies |
//! | `scan` | from files to the index, and what a power cut left |
//! | `writing` | the open pack: append, sync, seal |
//! | `reading` | a chunk from its pack, and a part of a value from its chunks |
//! | `pins` | uploads and readers |
//! | `saving` | what backup and repair take |
//! | `counts` | what is put and let go, from one opening to the next |
//! | `collect`, `compact` | which chunks are dead, and how their space comes back |
//!
//! Invariants
//! * A frame that names a chunk is logged after the chunk is on disk.
//! * Where a node is there, all that it lists is there, with the sizes that it says.
//! * Only the open pack is written to. A pack is removed when what lives of it is on disk elsewhere.
//! * Locks are taken in this order: the writer's role, `writing`, that of a pack's sync, `index`;
//!   nothing waits for the disk under `index`.
//!
//! On a crash: chunks that no frame names are there or not; the next collection finds them.

mod collect;
mod compact;
mod counts;
mod index;
mod layout;
mod pins;
mod reading;
mod saving;
mod scan;
mod writing;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use objsync_proto::chunk::Root;
use objsync_proto::chunk::record::{CheckedChunk, ChunkRecord};
use objsync_proto::ids::{ChunkId, StoreId};

use crate::clock::Entropy;
use crate::core::Core;
use crate::disk::{Disk, DiskFile};
use crate::error::StoreError;
use crate::options::StoreOptions;

use index::PackIndex;
use layout::PackId;
use pins::PinTable;
use writing::Writing;

pub use collect::Collected;
use collect::Named;
pub use pins::{ChunkHold, ChunkPins};
pub use reading::EachPiece;
pub(crate) use saving::{pack_paths, save_sound};
pub(crate) use scan::check_pack;

/// The directory of the packs of a store.
pub(crate) fn pack_directory(directory: &Path) -> PathBuf {
    directory.join("packs")
}

/// What packs are opened with.
pub(crate) struct PackOptions {
    pub(crate) disk: Arc<dyn Disk>,
    /// Of the store.
    pub(crate) directory: PathBuf,
    pub(crate) store: StoreId,
    pub(crate) entropy: Arc<dyn Entropy>,
    /// Bytes after which a pack is sealed.
    pub(crate) pack_bytes: u64,
    pub(crate) readonly: bool,
}

impl PackOptions {
    /// Of the store in a directory.
    pub(crate) fn new(directory: &Path, options: &StoreOptions, store: StoreId) -> Self {
        Self {
            disk: options.disk.clone(),
            directory: directory.to_owned(),
            store,
            entropy: options.entropy.clone(),
            pack_bytes: options.limits.pack_bytes,
            readonly: options.readonly,
        }
    }
}

/// All packs of a store.
pub(crate) struct Packs {
    options: PackOptions,
    index: RwLock<PackIndex>,
    writing: Mutex<Writing>,
    /// Files that were read last, by slot.
    files: Mutex<HashMap<u32, Arc<dyn DiskFile>>>,
    pins: Arc<PinTable>,
    /// What writes have named since a collection began.
    named: Named,
    /// Locked by who collects.
    collecting: Mutex<()>,
    /// Bytes that removed segments of the log kept, since the last collection.
    trimmed_bytes: AtomicU64,
    /// Bytes put that no frame of the log has counted yet.
    unlogged_bytes: Arc<AtomicU64>,
}

/// How the packs of a store are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChunkStatus {
    /// Chunks and nodes.
    pub chunk_count: u64,
    /// Files.
    pub pack_count: u64,
    /// Bytes of these files.
    pub pack_bytes: u64,
    /// Of them, those of chunks that were alive when it was last looked.
    pub live_bytes: u64,
    /// Nodes that the last collection found alive and could not read: what may lie below them is kept.
    /// A value whose node it is cannot be read; `check` names it, and writing it again heals it.
    pub unread_node_count: u64,
}

/// The chunks of an open store.
#[derive(Clone, Copy)]
pub struct Chunks<'a> {
    pub(crate) core: &'a Core,
}

impl Chunks<'_> {
    /// Somebody who uploads: what is put or asked for under it stays while it lives.
    #[must_use]
    pub fn pins(&self) -> ChunkPins {
        ChunkPins::new(&self.core.packs.pins)
    }

    /// Keeps all that can be read now, for as long as it lives.
    #[must_use]
    pub fn hold(&self) -> ChunkHold {
        ChunkHold::new(&self.core.packs.pins)
    }

    /// Those of `ids` that are not there, in their order. The others are kept by `pins`; for those that
    /// are not there it takes no memory.
    #[must_use]
    pub fn missing(&self, pins: &ChunkPins, ids: &[ChunkId]) -> Vec<ChunkId> {
        self.core.packs.missing_and_keep(ids, pins)
    }

    /// Stores chunks and nodes that are not there yet, and keeps all of them by `pins`. A node comes
    /// after what it lists. They are on disk after [`Chunks::sync`].
    ///
    /// # Errors
    /// Of kind `Invalid` for a node that lists what is not there or has another size; or the disk
    /// refused a call: then nothing that was synced before is lost.
    pub fn put(&self, pins: &ChunkPins, chunks: &[CheckedChunk]) -> Result<(), StoreError> {
        self.core.refuse_if_closed()?;
        pins.add(chunks.iter().map(CheckedChunk::id));
        self.core.packs.put(chunks)
    }

    /// Lets go of what a value names, which was logged: of its chunks and all nodes above them.
    ///
    /// Cost: a read of each node, however often it is listed.
    pub fn release(&self, pins: &ChunkPins, root: &Root) -> Result<(), StoreError> {
        // Its nodes are read after they were let go.
        let _hold = self.hold();
        self.core.packs.each_list(root, &mut |children| {
            pins.release(children.iter().map(|child| child.id));
            true
        })
    }

    /// Returns when all that was put survives a power cut.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.core.refuse_if_closed()?;
        self.core.packs.sync()
    }

    /// A chunk or a node; none if it is not there. Its checksum was compared; its hash is to be by
    /// who gives it on (`CheckedChunk::check`).
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] with file and offset; it then counts as missing.
    pub fn get(&self, id: ChunkId) -> Result<Option<ChunkRecord>, StoreError> {
        self.core.refuse_if_closed()?;
        self.core.packs.get(id)
    }

    /// How they are.
    #[must_use]
    pub fn status(&self) -> ChunkStatus {
        self.core.packs.status()
    }
}

impl Packs {
    /// Finds what is there. Packs that a crash left open are sealed.
    pub(crate) fn open(options: PackOptions) -> Result<Self, StoreError> {
        let mut index = PackIndex::default();
        let found = scan::find(&options, &mut index)?;
        Ok(Self {
            options,
            index: RwLock::new(index),
            writing: Mutex::new(Writing::new(found)),
            files: Mutex::default(),
            pins: Arc::default(),
            named: Named::default(),
            collecting: Mutex::default(),
            trimmed_bytes: AtomicU64::new(0),
            unlogged_bytes: Arc::new(AtomicU64::new(found.unsealed_bytes)),
        })
    }

    pub(crate) fn status(&self) -> ChunkStatus {
        let index = self.index();
        let (pack_bytes, live_bytes) = index.bytes();
        ChunkStatus {
            chunk_count: index.count(),
            pack_count: index.packs().count() as u64,
            pack_bytes,
            live_bytes,
            unread_node_count: index.unread_count(),
        }
    }

    fn path(&self, pack: PackId) -> PathBuf {
        pack_directory(&self.options.directory).join(pack.name())
    }

    fn index(&self) -> RwLockReadGuard<'_, PackIndex> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn index_mut(&self) -> RwLockWriteGuard<'_, PackIndex> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn files(&self) -> MutexGuard<'_, HashMap<u32, Arc<dyn DiskFile>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
