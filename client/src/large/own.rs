//! Chunks in the store of this process.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use objsync_proto::chunk::record::{CheckedChunk, unpack};
use objsync_proto::ids::ChunkId;
use objsync_proto::wire::ChunkPlace;
use objsync_store::{ChunkHold, ChunkPins};

use super::place::kind_of;
use crate::core::Core;
use crate::error::{ObjectError, Result};
use crate::owner::OwnerSide;
use objsync_proto::error::ErrorKind;

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
