//! What peers say to each other about chunks of large values.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::chunk::record::ChunkRecord;
use crate::ids::ChunkId;

/// Where in the tree of a value a chunk or a node stands. Who may read the value may have what
/// stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkPlace {
    /// Its id.
    pub id: ChunkId,
    /// How far above the chunks; 0 for a chunk.
    pub level: u8,
    /// Where in the content of the value its own content begins.
    pub offset: u64,
}

/// From a client to the owner, on a one-way stream that the client opens for each upload.
///
/// The variants' order is their type byte: append only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upload {
    /// First frame of every such stream.
    Start {
        /// Chosen by the client, not in use on this connection.
        upload: u64,
    },
    /// Chunks and nodes; a node stands behind what it lists, here or in an earlier upload.
    Chunks(Vec<ChunkRecord>),
}

/// The bytes that a record takes in a frame, about.
#[must_use]
pub fn record_bytes(payload: &Bytes) -> usize {
    payload.len() + 64
}
