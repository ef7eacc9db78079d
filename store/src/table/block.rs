//! Blocks, and the header and trailer around them, as bytes.

use bytes::Bytes;
use objsync_proto::ids::{NamespaceId, Revision, StoreId, SurfaceId};
use objsync_proto::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

use super::{BLOCK_BYTES_MAX, EDGE_BYTES, Section, TableEntry, TableHead, TableKind, Trailer};
use crate::frame::{BytesReader, Malformed, put_varint};
use crate::log::SegmentId;

pub(super) const BLOCK_HEADER_BYTES: usize = 32;

const HEAD_MAGIC: &[u8; 8] = b"objsytab";
const TRAILER_MAGIC: &[u8; 8] = b"objsyend";
const BLOCK_MAGIC: u8 = 0xf6;
const VERSION: u8 = 0;
const RAW: u8 = 0;
const ZSTD: u8 = 1;
const ZSTD_LEVEL: i32 = 1;

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockKind {
    Entries = 1,
    Index = 2,
}

/// A block's header, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockHeader {
    pub(super) kind: u8,
    codec: u8,
    pub(super) stored_bytes: usize,
    plain_bytes: usize,
    pub(super) count: u32,
    crc: u32,
}

/// A block of entries, as the index knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockRef {
    pub(super) section: Section,
    pub(super) offset: u64,
    /// Header included.
    pub(super) bytes: u32,
    pub(super) count: u32,
    pub(super) first_key: Bytes,
}

/// Compresses blocks, with memory that is used again.
pub(super) struct BlockEncoder {
    zstd: zstd::bulk::Compressor<'static>,
    buffer: Vec<u8>,
}

impl BlockEncoder {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            zstd: zstd::bulk::Compressor::new(ZSTD_LEVEL)?,
            buffer: Vec::new(),
        })
    }

    /// The block for `plain`, which will stand at `offset`.
    pub(super) fn encode(
        &mut self,
        kind: BlockKind,
        count: u32,
        plain: &[u8],
        offset: u64,
    ) -> std::io::Result<&[u8]> {
        assert!(plain.len() <= BLOCK_BYTES_MAX, "blocks are closed in time");
        let packed = self.zstd.compress(plain)?;
        let (codec, stored) = match packed.len() < plain.len() {
            true => (ZSTD, &packed[..]),
            false => (RAW, plain),
        };
        let mut header = [0; BLOCK_HEADER_BYTES];
        header[0] = BLOCK_MAGIC;
        header[1] = kind as u8;
        header[2] = codec;
        header[4..8].copy_from_slice(&length(stored).to_le_bytes());
        header[8..12].copy_from_slice(&length(plain).to_le_bytes());
        header[12..16].copy_from_slice(&count.to_le_bytes());
        header[16..24].copy_from_slice(&offset.to_le_bytes());
        header[24..28].copy_from_slice(&crc32c::crc32c(stored).to_le_bytes());
        let crc = crc32c::crc32c(&header[..28]);
        header[28..].copy_from_slice(&crc.to_le_bytes());
        self.buffer.clear();
        self.buffer.extend_from_slice(&header);
        self.buffer.extend_from_slice(stored);
        Ok(&self.buffer)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a block is far below 4 GiB"
)]
fn length(bytes: &[u8]) -> u32 {
    bytes.len() as u32
}

impl BlockHeader {
    /// The header in `bytes`, of a block at `offset`.
    pub(super) fn decode(bytes: &[u8; BLOCK_HEADER_BYTES], offset: u64) -> Result<Self, Malformed> {
        let crc = crc32c::crc32c(&bytes[..28]);
        if bytes[0] != BLOCK_MAGIC || bytes[28..] != crc.to_le_bytes() {
            return Err(Malformed("no valid block header"));
        }
        if u64_at(bytes, 16) != offset {
            return Err(Malformed("a block that belongs elsewhere"));
        }
        let header = Self {
            kind: bytes[1],
            codec: bytes[2],
            stored_bytes: u32_at(bytes, 4) as usize,
            plain_bytes: u32_at(bytes, 8) as usize,
            count: u32_at(bytes, 12),
            crc: u32_at(bytes, 24),
        };
        if header.stored_bytes > BLOCK_BYTES_MAX || header.plain_bytes > BLOCK_BYTES_MAX {
            return Err(Malformed("a block over the limit"));
        }
        Ok(header)
    }

    /// That the stored bytes are those the header is of.
    pub(super) fn check(&self, stored: &[u8]) -> Result<(), Malformed> {
        match crc32c::crc32c(stored) == self.crc {
            true => Ok(()),
            false => Err(Malformed("the block's checksum is wrong")),
        }
    }

    /// The plain bytes of a block, which was checked.
    pub(super) fn open(&self, stored: Vec<u8>) -> Result<Bytes, Malformed> {
        let plain = match self.codec {
            RAW => stored,
            ZSTD => zstd::bulk::decompress(&stored, self.plain_bytes)
                .map_err(|_| Malformed("the block does not decompress"))?,
            _ => return Err(Malformed("a block of an unknown codec")),
        };
        if plain.len() != self.plain_bytes {
            return Err(Malformed("the block is of another length"));
        }
        Ok(plain.into())
    }
}

pub(super) fn put_entry(buffer: &mut Vec<u8>, key: &[u8], revision: Revision, payload: &[u8]) {
    put_varint(buffer, key.len() as u64);
    buffer.extend_from_slice(key);
    put_varint(buffer, revision.0);
    put_varint(buffer, payload.len() as u64);
    buffer.extend_from_slice(payload);
}

/// The entries of a block; they share its memory.
pub(super) fn take_entries(
    plain: &Bytes,
    count: u32,
    section: Section,
) -> Result<Vec<TableEntry>, Malformed> {
    let mut reader = BytesReader::new(plain);
    // An entry takes 3 bytes at least, whatever the header says.
    let mut entries = Vec::with_capacity((count as usize).min(plain.len() / 3));
    for _ in 0..count {
        let key = reader.sized()?;
        let revision = Revision(reader.varint()?);
        let payload = reader.sized()?;
        if key.len() > KEY_BYTES_MAX || payload.len() > VALUE_BYTES_MAX {
            return Err(Malformed("an entry over the limit"));
        }
        entries.push(TableEntry {
            section,
            key,
            revision,
            payload,
        });
    }
    reader.finish()?;
    match entries.is_sorted_by(|a, b| a.key < b.key) && !entries.is_empty() {
        true => Ok(entries),
        false => Err(Malformed("entries out of order")),
    }
}

/// The entry of a key among those of a block.
pub(super) fn find_entry(
    plain: &Bytes,
    count: u32,
    (section, key): (Section, &[u8]),
) -> Result<Option<TableEntry>, Malformed> {
    let mut reader = BytesReader::new(plain);
    for _ in 0..count {
        let found = reader.sized_slice()?;
        let revision = Revision(reader.varint()?);
        let payload = reader.sized_slice()?;
        if found < key {
            continue;
        }
        return Ok((found == key).then(|| TableEntry {
            section,
            key: plain.slice_ref(found),
            revision,
            payload: plain.slice_ref(payload),
        }));
    }
    Ok(None)
}

pub(super) fn put_ref(buffer: &mut Vec<u8>, block: &BlockRef) {
    put_varint(buffer, u64::from(block.section.surface.0));
    put_varint(buffer, u64::from(block.section.namespace.0));
    put_varint(buffer, block.offset);
    put_varint(buffer, u64::from(block.bytes));
    put_varint(buffer, u64::from(block.count));
    put_varint(buffer, block.first_key.len() as u64);
    buffer.extend_from_slice(&block.first_key);
}

/// The references in a block of the index.
pub(super) fn take_refs(plain: &Bytes, count: u32) -> Result<Vec<BlockRef>, Malformed> {
    let mut reader = BytesReader::new(plain);
    let mut refs = Vec::with_capacity((count as usize).min(plain.len() / 6));
    for _ in 0..count {
        refs.push(BlockRef {
            section: Section {
                surface: SurfaceId(reader.number()?),
                namespace: NamespaceId(reader.number()?),
            },
            offset: reader.varint()?,
            bytes: reader.number()?,
            count: reader.number()?,
            // A copy: one small piece would keep the whole block in memory.
            first_key: Bytes::copy_from_slice(&reader.sized()?),
        });
    }
    reader.finish()?;
    Ok(refs)
}

pub(super) fn encode_head(head: &TableHead) -> [u8; EDGE_BYTES] {
    let mut bytes = [0; EDGE_BYTES];
    bytes[0..8].copy_from_slice(HEAD_MAGIC);
    bytes[8] = VERSION;
    bytes[9] = head.kind.number();
    bytes[16..32].copy_from_slice(&head.store.0);
    bytes[32..40].copy_from_slice(&head.revision.0.to_le_bytes());
    bytes[40..48].copy_from_slice(&head.segment.0.to_le_bytes());
    seal_edge(&mut bytes);
    bytes
}

pub(super) fn decode_head(bytes: &[u8; EDGE_BYTES]) -> Result<TableHead, Malformed> {
    if !is_edge(bytes, HEAD_MAGIC) {
        return Err(Malformed("the header's checksum is wrong"));
    }
    if bytes[8] != VERSION {
        return Err(Malformed("a table of a later version"));
    }
    let mut store = [0; 16];
    store.copy_from_slice(&bytes[16..32]);
    Ok(TableHead {
        kind: TableKind::from_number(bytes[9]).ok_or(Malformed("an unknown kind of table"))?,
        store: StoreId(store),
        revision: Revision(u64_at(bytes, 32)),
        segment: SegmentId(u64_at(bytes, 40)),
    })
}

pub(super) fn encode_trailer(trailer: &Trailer, head: &TableHead) -> [u8; EDGE_BYTES] {
    let mut bytes = [0; EDGE_BYTES];
    bytes[0..8].copy_from_slice(TRAILER_MAGIC);
    bytes[8..16].copy_from_slice(&trailer.index_offset.to_le_bytes());
    bytes[16..24].copy_from_slice(&trailer.entry_count.to_le_bytes());
    bytes[24..28].copy_from_slice(&trailer.block_count.to_le_bytes());
    // Ties the end to the beginning.
    bytes[32..40].copy_from_slice(&head.revision.0.to_le_bytes());
    seal_edge(&mut bytes);
    bytes
}

pub(super) fn decode_trailer(
    bytes: &[u8; EDGE_BYTES],
    head: &TableHead,
) -> Result<Trailer, Malformed> {
    if !is_edge(bytes, TRAILER_MAGIC) || u64_at(bytes, 32) != head.revision.0 {
        return Err(Malformed("the trailer's checksum is wrong"));
    }
    Ok(Trailer {
        index_offset: u64_at(bytes, 8),
        entry_count: u64_at(bytes, 16),
        block_count: u32_at(bytes, 24),
    })
}

fn seal_edge(bytes: &mut [u8; EDGE_BYTES]) {
    let crc = crc32c::crc32c(&bytes[..EDGE_BYTES - 4]);
    bytes[EDGE_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
}

fn is_edge(bytes: &[u8; EDGE_BYTES], magic: &[u8; 8]) -> bool {
    let crc = crc32c::crc32c(&bytes[..EDGE_BYTES - 4]);
    bytes.starts_with(magic) && bytes[EDGE_BYTES - 4..] == crc.to_le_bytes()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}
