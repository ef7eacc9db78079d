//! How a pack stands on disk: `docs/format.md` "Packs" has the tables.
//!
//! Every header is under a checksum that begins with the pack's random salt, so that content which
//! looks like a record is never taken for one.

use objsync_proto::chunk::ChunkKind;
use objsync_proto::chunk::record::{CODEC_RAW, CODEC_ZSTD, ChunkRecord};
use objsync_proto::ids::{ChunkId, StoreId};
use objsync_proto::limits::{CHUNK_DEPTH_MAX, CONTENT_BYTES_MAX};

use crate::frame::Malformed;

/// Bytes of a pack before its first record.
pub(super) const PACK_HEADER_BYTES: usize = 64;
/// Bytes of a record before its payload.
pub(super) const RECORD_HEADER_BYTES: usize = 80;
/// Records begin at multiples of this.
pub(super) const RECORD_ALIGN_BYTES: u64 = 8;
/// Bytes of an entry of the footer.
pub(super) const FOOTER_ENTRY_BYTES: usize = 72;
/// Bytes at the end of a sealed pack.
pub(super) const TRAILER_BYTES: usize = 32;

const PACK_MAGIC: [u8; 8] = *b"objspack";
const RECORD_MAGIC: [u8; 4] = *b"chnk";
const TRAILER_MAGIC: [u8; 8] = *b"packends";
const VERSION: u32 = 1;
const SUITE_PLAIN: u8 = 0;

/// The number of a pack, and a random number: no two packs of a store have the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PackId {
    pub(super) number: u64,
    pub(super) salt: u64,
}

impl PackId {
    /// The name of its file.
    pub(crate) fn name(self) -> String {
        format!("{:016x}-{:016x}.pack", self.number, self.salt)
    }

    /// The pack of a file's name; none for other files.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let (number, salt) = name.strip_suffix(".pack")?.split_once('-')?;
        let parse = |text: &str| u64::from_str_radix(text, 16).ok();
        let id = Self {
            number: parse(number)?,
            salt: parse(salt)?,
        };
        (id.name() == name).then_some(id)
    }

    /// A checksum of a header of this pack.
    fn crc(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.salt.to_le_bytes()), bytes)
    }

    pub(super) fn header(self, store: StoreId) -> [u8; PACK_HEADER_BYTES] {
        let mut header = [0; PACK_HEADER_BYTES];
        header[..8].copy_from_slice(&PACK_MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[16..32].copy_from_slice(&store.0);
        header[32..40].copy_from_slice(&self.number.to_le_bytes());
        header[40..48].copy_from_slice(&self.salt.to_le_bytes());
        let crc = self.crc(&header[..60]);
        header[60..].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// Checks the header of a pack of this name; gives the store that it belongs to.
    pub(super) fn check_header(
        self,
        header: &[u8; PACK_HEADER_BYTES],
    ) -> Result<StoreId, Malformed> {
        if header[..8] != PACK_MAGIC || header[60..] != self.crc(&header[..60]).to_le_bytes() {
            return Err(Malformed("the header of the pack is damaged"));
        }
        if header[8..12] != VERSION.to_le_bytes() {
            return Err(Malformed("a pack of an unknown version"));
        }
        Ok(StoreId(array(header, 16)))
    }
}

/// What stands before a payload, and in the footer of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) id: ChunkId,
    /// 0 for a chunk, else that of the node.
    pub(super) level: u8,
    pub(super) codec: u8,
    /// Bytes of the payload.
    pub(super) stored_bytes: u64,
    /// Bytes of the payload when unpacked.
    pub(super) plain_bytes: u64,
    /// Bytes of content: of a chunk its plain bytes, of a node what lies below it.
    pub(super) content_bytes: u64,
    pub(super) payload_crc: u32,
}

impl RecordHeader {
    pub(super) fn kind(&self) -> ChunkKind {
        match self.level {
            0 => ChunkKind::Chunk,
            _ => ChunkKind::Node,
        }
    }

    /// Bytes from the beginning of this record to that of the next.
    pub(super) fn whole_bytes(&self) -> u64 {
        (RECORD_HEADER_BYTES as u64 + self.stored_bytes).next_multiple_of(RECORD_ALIGN_BYTES)
    }

    /// The record that it heads.
    pub(super) fn record(&self, payload: bytes::Bytes) -> ChunkRecord {
        ChunkRecord {
            id: self.id,
            kind: self.kind().number(),
            codec: self.codec,
            plain_bytes: u32::try_from(self.plain_bytes).unwrap_or(u32::MAX),
            payload,
        }
    }

    pub(super) fn encode(&self, pack: PackId) -> [u8; RECORD_HEADER_BYTES] {
        let mut header = [0; RECORD_HEADER_BYTES];
        header[..4].copy_from_slice(&RECORD_MAGIC);
        self.put_fields(&mut header[4..72]);
        let crc = pack.crc(&header[..76]);
        header[76..].copy_from_slice(&crc.to_le_bytes());
        header
    }

    pub(super) fn decode(
        header: &[u8; RECORD_HEADER_BYTES],
        pack: PackId,
    ) -> Result<Self, Malformed> {
        if header[..4] != RECORD_MAGIC || header[76..] != pack.crc(&header[..76]).to_le_bytes() {
            return Err(Malformed("the header of a chunk is damaged"));
        }
        Self::take_fields(&header[4..72])
    }

    /// Kind, codec, suite, level; id; stored, plain and content bytes; checksum of the payload.
    fn put_fields(&self, out: &mut [u8]) {
        out[0] = self.kind().number();
        out[1] = self.codec;
        out[2] = SUITE_PLAIN;
        out[3] = self.level;
        out[4..36].copy_from_slice(&self.id.0);
        out[36..44].copy_from_slice(&self.stored_bytes.to_le_bytes());
        out[44..52].copy_from_slice(&self.plain_bytes.to_le_bytes());
        out[52..60].copy_from_slice(&self.content_bytes.to_le_bytes());
        out[60..64].copy_from_slice(&self.payload_crc.to_le_bytes());
    }

    fn take_fields(bytes: &[u8]) -> Result<Self, Malformed> {
        let [kind, codec, suite, level] = array(bytes, 0);
        let header = Self {
            id: ChunkId(array(bytes, 4)),
            level,
            codec,
            stored_bytes: u64::from_le_bytes(array(bytes, 36)),
            plain_bytes: u64::from_le_bytes(array(bytes, 44)),
            content_bytes: u64::from_le_bytes(array(bytes, 52)),
            payload_crc: u32::from_le_bytes(array(bytes, 60)),
        };
        let is_known = suite == SUITE_PLAIN
            && kind == header.kind().number()
            && matches!(codec, CODEC_RAW | CODEC_ZSTD)
            && level <= CHUNK_DEPTH_MAX;
        if !is_known {
            return Err(Malformed("a chunk of an unknown kind"));
        }
        let is_possible = (1..=header.kind().plain_bytes_max() as u64)
            .contains(&header.plain_bytes)
            && (1..=header.plain_bytes).contains(&header.stored_bytes)
            && (1..=CONTENT_BYTES_MAX).contains(&header.content_bytes);
        match is_possible {
            true => Ok(header),
            false => Err(Malformed("a chunk with lengths that cannot be")),
        }
    }
}

/// The footer of a pack whose records end at `end`: an entry for each, and the trailer.
pub(super) fn footer(pack: PackId, end: u64, records: &[(u64, RecordHeader)]) -> Vec<u8> {
    let mut footer = vec![0; records.len() * FOOTER_ENTRY_BYTES];
    for ((offset, header), entry) in records
        .iter()
        .zip(footer.chunks_exact_mut(FOOTER_ENTRY_BYTES))
    {
        header.put_fields(&mut entry[..64]);
        entry[64..].copy_from_slice(&offset.to_le_bytes());
    }
    let entries_crc = crc32c::crc32c(&footer);
    let mut trailer = [0; TRAILER_BYTES];
    trailer[..8].copy_from_slice(&TRAILER_MAGIC);
    trailer[8..16].copy_from_slice(&(records.len() as u64).to_le_bytes());
    trailer[16..24].copy_from_slice(&end.to_le_bytes());
    trailer[24..28].copy_from_slice(&entries_crc.to_le_bytes());
    let crc = pack.crc(&trailer[..28]);
    trailer[28..].copy_from_slice(&crc.to_le_bytes());
    footer.extend_from_slice(&trailer);
    footer
}

/// Where the records of a sealed pack of `file_bytes` end, and the checksum of its footer's
/// entries.
pub(super) fn check_trailer(
    pack: PackId,
    trailer: &[u8; TRAILER_BYTES],
    file_bytes: u64,
) -> Option<(u64, u32)> {
    let is_whole =
        trailer[..8] == TRAILER_MAGIC && trailer[28..] == pack.crc(&trailer[..28]).to_le_bytes();
    let count = u64::from_le_bytes(array(trailer, 8));
    let end = u64::from_le_bytes(array(trailer, 16));
    let entries = count.checked_mul(FOOTER_ENTRY_BYTES as u64)?;
    let whole = end
        .checked_add(entries)?
        .checked_add(TRAILER_BYTES as u64)?;
    let crc = u32::from_le_bytes(array(trailer, 24));
    (is_whole && whole == file_bytes && end >= PACK_HEADER_BYTES as u64).then_some((end, crc))
}

/// The entries of a footer whose records end at `end`.
pub(super) fn footer_entries(
    entries: &[u8],
    end: u64,
) -> Result<Vec<(u64, RecordHeader)>, Malformed> {
    let entry = |bytes: &[u8]| {
        let header = RecordHeader::take_fields(&bytes[..64])?;
        let offset = u64::from_le_bytes(array(bytes, 64));
        let is_inside = offset.is_multiple_of(RECORD_ALIGN_BYTES)
            && offset >= PACK_HEADER_BYTES as u64
            && offset
                .checked_add(header.whole_bytes())
                .is_some_and(|next| next <= end);
        match is_inside {
            true => Ok((offset, header)),
            false => Err(Malformed("a footer that names a place outside of its pack")),
        }
    };
    entries
        .chunks_exact(FOOTER_ENTRY_BYTES)
        .map(entry)
        .collect()
}

/// `N` bytes from `at` on, which are there.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}
