//! Chunks in the store of this process.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use objsync_proto::chunk::Child;
use objsync_proto::chunk::record::{CheckedChunk, Packer, unpack};
use objsync_proto::chunk::tree::TreeBuilder;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::ChunkId;
use objsync_proto::stored_chunks::{self, StoredChunks};
use objsync_proto::wire::ChunkPlace;
use objsync_store::{ChunkHold, ChunkPins, Store};

use super::place::kind_of;
use super::split::{Split, split};
use crate::config::Config;
use crate::core::Core;
use crate::error::{ObjectError, Result};
use crate::owner::OwnerSide;

/// Chunks of a first content that are put together, some 2 MiB.
const FIRST_RECORDS: usize = 32;

/// Keeps chunks that a write is going to name, until it is dropped. At a peer the connection does.
pub(crate) struct Hold {
    core: Arc<Core>,
    pins: OnceLock<ChunkPins>,
}

impl Hold {
    pub(super) fn new(core: &Arc<Core>) -> Self {
        Self {
            core: Arc::clone(core),
            pins: OnceLock::new(),
        }
    }

    /// Which of these are not in the store. Those that are stay there while this lives.
    pub(super) fn missing(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>> {
        let (owner, pins) = self.of_owner()?;
        Ok(owner.store().chunks().missing(pins, ids))
    }

    /// Stores chunks, which stay while this lives. They survive a power cut once the operation that
    /// names them does.
    pub(super) fn put(&self, chunks: &[CheckedChunk]) -> Result<()> {
        let (owner, pins) = self.of_owner()?;
        Ok(owner.store().chunks().put(pins, chunks)?)
    }

    /// Returns when all that was put survives a power cut.
    pub(super) fn sync(&self) -> Result<()> {
        let (owner, _) = self.of_owner()?;
        Ok(owner.store().chunks().sync()?)
    }

    fn of_owner(&self) -> Result<(&OwnerSide, &ChunkPins)> {
        let owner = self.core.owner().ok_or_else(|| self.core.closed_error())?;
        let pins = self.pins.get_or_init(|| owner.store().chunks().pins());
        Ok((owner, pins))
    }
}

/// Of a payload that goes into chunks the stored value, once these are in a store; none for any other.
/// For a store of this process that has no handle yet. Blocks on the disk.
pub(crate) fn store_first(
    config: &Config,
    (store, pins): (&Store, &ChunkPins),
    payload: &Bytes,
) -> Result<Option<Bytes>> {
    let Some(Split { head, content }) = split(config, payload) else {
        return Ok(None);
    };
    let chunking = config.chunking();
    let mut packer = Packer::new(config.packer.compression())?;
    let (mut tree, mut records) = (TreeBuilder::default(), Vec::new());
    let mut rest = content;
    while let Some(length) = chunking.cut(&rest, true) {
        let chunk = packer.chunk(rest.split_to(length))?;
        let child = Child {
            id: chunk.id(),
            bytes: length as u64,
        };
        records.push(chunk);
        tree.push(child, &mut records)?;
        if records.len() >= FIRST_RECORDS {
            store.chunks().put(pins, &std::mem::take(&mut records))?;
        }
    }
    let root = tree.finish(chunking.cutter(), &mut records)?;
    store.chunks().put(pins, &records)?;
    let stored = stored_chunks::seal(&StoredChunks { root, head })?;
    Ok(Some(stored))
}

/// Keeps what can be read now from being collected, where this process owns the store.
pub(super) fn keep(core: &Core) -> Option<ChunkHold> {
    core.owner().map(|owner| owner.store().chunks().hold())
}

/// The content of chunks and nodes, by id; what is not there is left out.
pub(super) fn chunks(core: &Core, places: &[ChunkPlace]) -> Result<HashMap<ChunkId, Bytes>> {
    let owner = core.owner().ok_or_else(|| core.closed_error())?;
    let mut found = HashMap::with_capacity(places.len());
    for place in places {
        let Some(record) = owner.store().chunks().get(place.id)? else {
            continue;
        };
        let plain = unpack(&record)?;
        if kind_of(place).id_of(&plain) != place.id {
            let text = format!(
                "chunk {} in the store has other content than its id says",
                place.id
            );
            return Err(ObjectError::new(ErrorKind::Corrupt, text));
        }
        found.insert(place.id, plain);
    }
    Ok(found)
}
