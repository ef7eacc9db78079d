//! The 64 bytes before a body.

use objsync_proto::ids::{FrameIndex, Revision};

use super::{FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES, FrameHeader, FrameKind};

/// First byte of each header: a quick no for what is none.
const MAGIC: u8 = 0xf5;
/// The version of what a header and its body mean.
const VERSION: u8 = 0;
/// Flag: a program that does not know the kind may pass over it.
const SKIPPABLE: u8 = 1;

/// What the checksum of a segment's headers begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderSeed(u32);

impl HeaderSeed {
    /// The seed of a segment with this salt.
    #[must_use]
    pub fn new(salt: [u8; 16]) -> Self {
        Self(crc32c::crc32c(&salt))
    }

    /// Writes a header over `bytes`.
    pub fn encode(self, header: &FrameHeader, bytes: &mut [u8; FRAME_HEADER_BYTES]) {
        debug_assert!(header.body_bytes as usize <= FRAME_BODY_BYTES_MAX);
        bytes[0] = MAGIC;
        bytes[1] = header.kind.number();
        bytes[2] = if header.skippable { SKIPPABLE } else { 0 };
        bytes[3] = VERSION;
        bytes[4..8].copy_from_slice(&header.body_bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&header.index.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&header.epoch.to_le_bytes());
        bytes[24..32].copy_from_slice(&header.first.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&header.time_ms.to_le_bytes());
        bytes[40..48].copy_from_slice(&header.synced_to.to_le_bytes());
        bytes[48..52].copy_from_slice(&header.count.to_le_bytes());
        bytes[52..56].copy_from_slice(&header.body_crc.to_le_bytes());
        bytes[56..60].fill(0);
        let crc = crc32c::crc32c_append(self.0, &bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
    }

    /// The header in `bytes`; none if this is no header of this segment.
    ///
    /// A version that is not known here comes back as kind `Other`, which the store refuses.
    #[must_use]
    pub fn decode(self, bytes: &[u8; FRAME_HEADER_BYTES]) -> Option<FrameHeader> {
        if bytes[0] != MAGIC || u32_at(bytes, 60) != crc32c::crc32c_append(self.0, &bytes[..60]) {
            return None;
        }
        let body_bytes = u32_at(bytes, 4);
        if body_bytes as usize > FRAME_BODY_BYTES_MAX {
            return None;
        }
        let kind = match bytes[3] {
            VERSION => FrameKind::from_number(bytes[1]),
            _ => FrameKind::Other(u8::MAX),
        };
        Some(FrameHeader {
            kind,
            skippable: bytes[2] & SKIPPABLE != 0,
            index: FrameIndex(u64_at(bytes, 8)),
            epoch: u64_at(bytes, 16),
            first: Revision(u64_at(bytes, 24)),
            count: u32_at(bytes, 48),
            time_ms: u64_at(bytes, 32),
            synced_to: u64_at(bytes, 40),
            body_bytes,
            body_crc: u32_at(bytes, 52),
        })
    }
}

fn u32_at(bytes: &[u8; FRAME_HEADER_BYTES], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

fn u64_at(bytes: &[u8; FRAME_HEADER_BYTES], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}
