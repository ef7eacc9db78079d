//! Chunks on their way into a copy: they come before the frames and the snapshot that name them.

use std::path::Path;

use objsync_proto::chunk::record::CheckedChunk;
use objsync_proto::ids::{ChunkId, StoreId, SurfaceId};
use objsync_proto::stored_chunks;

use super::install::Stage;
use super::{Shipped, malformed_frame};
use crate::error::StoreError;
use crate::options::StoreOptions;
use crate::packs::{ChunkPins, PackOptions, Packs};
use crate::store::Store;

/// Where a copy keeps chunks: in the store that is open, or in a directory that is to become one,
/// whose lock a [`Stage`] holds.
pub struct ChunkSink(Kind);

enum Kind {
    Open(Store, ChunkPins),
    Beside(Box<Packs>),
}

impl ChunkSink {
    /// Of an open copy. What is put is not collected while this lives.
    #[must_use]
    pub fn of(store: &Store) -> Self {
        Self(Kind::Open(store.clone(), store.chunks().pins()))
    }

    /// Of a directory that nobody has open.
    pub fn beside(
        directory: &Path,
        options: &StoreOptions,
        store: StoreId,
    ) -> Result<Self, StoreError> {
        let packs = Packs::open(PackOptions::new(directory, options, store))?;
        Ok(Self(Kind::Beside(Box::new(packs))))
    }

    /// Those of `ids` that are not there.
    #[must_use]
    pub fn missing(&self, ids: &[ChunkId]) -> Vec<ChunkId> {
        match &self.0 {
            Kind::Open(store, pins) => store.chunks().missing(pins, ids),
            Kind::Beside(packs) => packs.missing(ids),
        }
    }

    /// As `Chunks::put`.
    pub fn put(&self, chunks: &[CheckedChunk]) -> Result<(), StoreError> {
        match &self.0 {
            Kind::Open(store, pins) => store.chunks().put(pins, chunks),
            Kind::Beside(packs) => packs.put(chunks),
        }
    }

    /// All of it is on disk when this returns, and an open copy collects nothing of it any more: it
    /// is about to be replaced by what names it.
    pub fn settle(self) -> Result<(), StoreError> {
        match self.0 {
            Kind::Open(store, pins) => {
                store.chunks().sync()?;
                pins.keep_to_the_end();
                Ok(())
            }
            Kind::Beside(packs) => packs.close(),
        }
    }
}

impl Shipped {
    /// The chunks that its transactions name.
    ///
    /// # Errors
    /// Of kind `Corrupt` when it makes no sense.
    pub fn chunks(&self) -> Result<Vec<ChunkId>, StoreError> {
        let transactions = self.0.transactions();
        let transactions = transactions.map_err(|error| malformed_frame(&self.0, error.0))?;
        let effects = transactions
            .into_iter()
            .flat_map(|logged| logged.transaction.effects);
        Ok(effects.flat_map(|effect| effect.chunks).collect())
    }
}

impl Stage {
    /// The chunks that the snapshot names and that are not in `sink`. For a snapshot that is whole.
    pub fn missing_chunks(&self, sink: &ChunkSink) -> Result<Vec<ChunkId>, StoreError> {
        let Some(snapshot) = self.snapshot()? else {
            return Ok(Vec::new());
        };
        let mut missing = Vec::new();
        for entry in snapshot.table().iter() {
            let entry = entry?;
            if entry.section.surface == SurfaceId::DICT {
                missing.extend(sink.missing(&stored_chunks::ids(&entry.payload)));
            }
        }
        Ok(missing)
    }
}
