//! A chunk or a node as it is sent and stored: packed, under its id.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use zstd::bulk::Compressor;
use zstd::zstd_safe;

use super::{ChunkError, ChunkKind, Node, chunk_id, node_id};
use crate::ids::ChunkId;
use crate::stored::{Compression, StoredError};

/// The payload is the plain bytes.
pub const CODEC_RAW: u8 = 0;
/// The payload is one zstd frame with its content size.
pub const CODEC_ZSTD: u8 = 1;

/// Shorter content is not compressed.
const COMPRESS_BYTES_MIN: usize = 256;
/// Compressed content is kept if it saves one of so many parts.
const WORTH_SHARE: usize = 16;
/// Content from this size on is compressed only if a sample of it shrinks.
const SAMPLED_BYTES_MIN: usize = 32 << 10;
const SAMPLE_BYTES: usize = 4 << 10;
const SAMPLE_LEVEL: i32 = 1;

/// A chunk or a node as it comes from elsewhere, not checked yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRecord {
    /// The id that it is said to have.
    pub id: ChunkId,
    /// A number of [`ChunkKind`].
    pub kind: u8,
    /// How the payload is packed.
    pub codec: u8,
    /// Bytes of the content.
    pub plain_bytes: u32,
    /// The content, packed.
    pub payload: Bytes,
}

/// A chunk or a node whose content has the hash that its id says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedChunk {
    record: ChunkRecord,
    kind: ChunkKind,
}

impl CheckedChunk {
    /// Takes what came from elsewhere, if it is what its id says: sizes are checked before memory
    /// is taken, then the content is unpacked and hashed; a node is read.
    pub fn check(record: ChunkRecord) -> Result<Self, ChunkError> {
        let kind = kind_of(&record)?;
        let plain = unpack(&record)?;
        let found = kind.id_of(&plain);
        if found != record.id {
            return Err(ChunkError::WrongHash {
                id: record.id,
                found,
            });
        }
        if kind == ChunkKind::Node {
            Node::decode(&plain)?;
        }
        Ok(Self { record, kind })
    }

    /// A node's record.
    #[must_use]
    pub fn node(node: &Node) -> Self {
        let payload = node.encode();
        Self::raw(ChunkKind::Node, node_id(&payload), payload)
    }

    fn raw(kind: ChunkKind, id: ChunkId, payload: Bytes) -> Self {
        Self {
            record: ChunkRecord {
                id,
                kind: kind.number(),
                codec: CODEC_RAW,
                plain_bytes: u32::try_from(payload.len()).unwrap_or(u32::MAX),
                payload,
            },
            kind,
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> ChunkId {
        self.record.id
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> ChunkKind {
        self.kind
    }

    /// As it is sent and stored.
    #[must_use]
    pub fn record(&self) -> &ChunkRecord {
        &self.record
    }

    /// As it is sent and stored.
    #[must_use]
    pub fn into_record(self) -> ChunkRecord {
        self.record
    }

    /// The content; shares the payload's memory where that is raw.
    pub fn plain(&self) -> Result<Bytes, ChunkError> {
        unpack(&self.record)
    }
}

/// Packs content into records; keeps the memory of its compressor from one to the next.
pub struct Packer {
    compressor: Option<(Compressor<'static>, Compressor<'static>)>,
}

impl Packer {
    /// With zstd at a level, where that is worth it, or without.
    pub fn new(compression: Compression) -> Result<Self, StoredError> {
        let compressor = match compression {
            Compression::Zstd(level) => {
                let sample = Compressor::new(SAMPLE_LEVEL).map_err(StoredError::Zstd)?;
                Some((Compressor::new(level).map_err(StoredError::Zstd)?, sample))
            }
            _ => None,
        };
        Ok(Self { compressor })
    }

    /// A chunk of this content, 1 byte to `CHUNK_BYTES_MAX`.
    ///
    /// Cost: one SHA-256, and compressing where a sample of it shrinks.
    pub fn chunk(&mut self, plain: Bytes) -> Result<CheckedChunk, ChunkError> {
        let id = chunk_id(&plain);
        self.known_chunk(id, plain)
    }

    /// As [`Packer::chunk`], of content whose id was made of it by [`chunk_id`] before.
    pub fn known_chunk(&mut self, id: ChunkId, plain: Bytes) -> Result<CheckedChunk, ChunkError> {
        check_plain(ChunkKind::Chunk, plain.len())?;
        let packed = self.compress(&plain);
        let mut chunk = CheckedChunk::raw(ChunkKind::Chunk, id, plain);
        if let Some(packed) = packed {
            chunk.record.codec = CODEC_ZSTD;
            chunk.record.payload = packed.into();
        }
        Ok(chunk)
    }

    /// The content compressed, if that is worth it. A compressor that fails leaves it raw.
    fn compress(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        let (compressor, sampler) = self.compressor.as_mut()?;
        if plain.len() < COMPRESS_BYTES_MIN {
            return None;
        }
        if plain.len() >= SAMPLED_BYTES_MIN {
            let middle = (plain.len() - SAMPLE_BYTES) / 2;
            let sample = &plain[middle..middle + SAMPLE_BYTES];
            let packed = sampler.compress(sample).ok()?;
            is_worth(&packed, sample).then_some(())?;
        }
        let packed = compressor.compress(plain).ok()?;
        is_worth(&packed, plain).then_some(packed)
    }
}

fn is_worth(packed: &[u8], plain: &[u8]) -> bool {
    packed.len() <= plain.len() - plain.len() / WORTH_SHARE
}

fn kind_of(record: &ChunkRecord) -> Result<ChunkKind, ChunkError> {
    ChunkKind::from_number(record.kind).ok_or(ChunkError::Unknown {
        field: "kind of a chunk",
        number: record.kind,
    })
}

fn check_plain(kind: ChunkKind, bytes: usize) -> Result<(), ChunkError> {
    if bytes == 0 || bytes > kind.plain_bytes_max() {
        return Err(ChunkError::Size {
            bytes: bytes as u64,
            bytes_max: kind.plain_bytes_max() as u64,
        });
    }
    Ok(())
}

/// The content of a record, which need not be checked yet.
pub fn unpack(record: &ChunkRecord) -> Result<Bytes, ChunkError> {
    let bytes = record.plain_bytes as usize;
    check_plain(kind_of(record)?, bytes)?;
    match record.codec {
        CODEC_RAW if record.payload.len() == bytes => Ok(record.payload.clone()),
        CODEC_RAW => Err(ChunkError::WrongSize {
            id: record.id,
            stated: u64::from(record.plain_bytes),
            found: record.payload.len() as u64,
        }),
        CODEC_ZSTD => unpack_zstd(&record.payload, bytes),
        number => Err(ChunkError::Unknown {
            field: "codec of a chunk",
            number,
        }),
    }
}

fn unpack_zstd(payload: &[u8], bytes: usize) -> Result<Bytes, ChunkError> {
    let malformed = Err(ChunkError::Malformed(
        "a compressed chunk is not one whole zstd frame of the size stated",
    ));
    if payload.len() > bytes
        || zstd_safe::find_frame_compressed_size(payload) != Ok(payload.len())
        || !matches!(zstd_safe::get_frame_content_size(payload), Ok(Some(size)) if size == bytes as u64)
    {
        return malformed;
    }
    match zstd::bulk::decompress(payload, bytes) {
        Ok(plain) if plain.len() == bytes => Ok(plain.into()),
        _ => malformed,
    }
}
