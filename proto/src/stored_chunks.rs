//! Stored values whose content lies in chunks: the header names them.
//!
//! | byte | what |
//! |---|---|
//! | 0 | suite: 0 = not encrypted |
//! | 1 | codec of the head: 0 = raw |
//! | 2 | count of children, 1 to 64 |
//! | 3 | depth of the tree: 0 = the children are chunks |
//! | 4 | cutter: 0 = fixed, 1 = fastcdc |
//! | 5.. | fixed: bytes of a chunk, u32. fastcdc: variant, then least, average and most bytes, u32 each |
//! | .. | of each child its id (32 bytes) and the bytes of content below it (u64) |
//! | .. | the head |
//!
//! Numbers are little-endian. The head is what the value's MessagePack payload has before the raw
//! content: head and content one after the other are the payload. So the chunks hold raw content
//! alone, and the same content meets wherever it is written. Content over 4 GiB has no MessagePack:
//! its length is written as 2^32 - 1 there, and such a value is only read in pieces.

mod expected;

use bytes::{BufMut, Bytes};

pub use self::expected::{is_expected, is_payload_expected};
use crate::chunk::{CHILD_BYTES, ChunkError, Cutter, Root, put_children, take_children};
use crate::dictionary::Dictionary;
use crate::ids::ChunkId;
use crate::limits::{CHUNK_BYTES_MAX, CHUNK_HEAD_BYTES_MAX, ROOT_CHILDREN_MAX};
use crate::stored::{self, StoredError};

/// What is put before a stored value in chunks where a payload is expected. No payload begins with
/// it: see [`StoredError::Reference`].
pub const REFERENCE: u8 = 0xC1;

const PLAIN_RAW: [u8; 2] = [0, 0];
const FIXED: u8 = 0;
const FASTCDC: u8 = 1;

/// A stored value whose content lies in chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredChunks {
    /// Which chunks.
    pub root: Root,
    /// What stands before the content in the value's payload.
    pub head: Bytes,
}

/// Why a stored value with chunks cannot be made or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoredChunksError {
    /// As with any stored value.
    #[error(transparent)]
    Stored(#[from] StoredError),
    /// What it says of its chunks cannot be.
    #[error(transparent)]
    Chunks(#[from] ChunkError),
}

/// Whether the content of a stored value lies in chunks. Looks at one byte, and checks nothing.
#[must_use]
pub fn is_chunked(stored: &[u8]) -> bool {
    stored.get(2).is_some_and(|count| *count != 0)
}

/// The stored value of a root and a head.
///
/// # Errors
/// If the head does not announce as many bytes as the root has.
pub fn seal(value: &StoredChunks) -> Result<Bytes, StoredChunksError> {
    let StoredChunks { root, head } = value;
    check_cutter(root.cutter())?;
    check_head(head, root.bytes())?;
    let mut stored = Vec::with_capacity(32 + root.children().len() * CHILD_BYTES + head.len());
    stored.put_slice(&PLAIN_RAW);
    #[expect(clippy::cast_possible_truncation, reason = "at most ROOT_CHILDREN_MAX")]
    stored.put_u8(root.children().len() as u8);
    stored.put_u8(root.depth());
    match root.cutter() {
        Cutter::Fixed { bytes } => {
            stored.put_u8(FIXED);
            stored.put_u32_le(bytes);
        }
        Cutter::FastCdc {
            variant,
            bytes_min,
            bytes_average,
            bytes_max,
        } => {
            stored.put_slice(&[FASTCDC, variant]);
            for bytes in [bytes_min, bytes_average, bytes_max] {
                stored.put_u32_le(bytes);
            }
        }
    }
    put_children(root.children(), &mut stored);
    stored.put_slice(head);
    Ok(stored.into())
}

/// Root and head of a stored value; none when its content lies in the value itself.
///
/// Every count and size is checked; whether the chunks are there is not known here.
pub fn open(stored: &Bytes) -> Result<Option<StoredChunks>, StoredChunksError> {
    if !is_chunked(stored) {
        return Ok(None);
    }
    let (root, at) = root_of(stored)?;
    let head = stored.slice(at..);
    check_head(&head, root.bytes())?;
    Ok(Some(StoredChunks { root, head }))
}

/// The payload of a stored value; of one in chunks only its head, which tells the type. `dictionary`
/// is the one that it names, if it names one.
///
/// # Errors
/// As [`stored::open_with`]; what is wrong with a list of chunks is `Malformed`.
pub fn payload_or_head(
    value: &Bytes,
    dictionary: Option<&Dictionary>,
) -> Result<Bytes, StoredError> {
    match open(value) {
        Ok(Some(chunks)) => Ok(chunks.head),
        Ok(None) => stored::open_with(value, |_| dictionary),
        Err(StoredChunksError::Stored(error)) => Err(error),
        Err(StoredChunksError::Chunks(_)) => {
            Err(StoredError::Malformed("its list of chunks cannot be"))
        }
    }
}

/// Checks a stored value of either kind: nothing is unpacked, and no chunk is looked for.
pub fn check(stored: &[u8]) -> Result<(), StoredChunksError> {
    if !is_chunked(stored) {
        stored::check(stored)?;
        return Ok(());
    }
    let (root, at) = root_of(stored)?;
    check_head(&stored[at..], root.bytes())
}

/// The ids that a stored value names; none when its content lies in the value itself, or when it is
/// no stored value.
#[must_use]
pub fn ids(stored: &[u8]) -> Vec<ChunkId> {
    if !is_chunked(stored) {
        return Vec::new();
    }
    let root = root_of(stored).map(|(root, _)| root);
    root.map_or_else(
        |_| Vec::new(),
        |root| root.children().iter().map(|child| child.id).collect(),
    )
}

/// The root in a header, and where the head begins.
fn root_of(stored: &[u8]) -> Result<(Root, usize), StoredChunksError> {
    let short = StoredError::Malformed("its list of chunks is cut off");
    let Some((&[suite, codec, count, depth, cutter], rest)) = stored.split_first_chunk() else {
        return Err(short.into());
    };
    for (field, number) in [("suite", suite), ("codec of a head", codec)] {
        if number != 0 {
            return Err(StoredError::Unsupported { field, number }.into());
        }
    }
    let count = usize::from(count);
    if count > ROOT_CHILDREN_MAX {
        let count_max = ROOT_CHILDREN_MAX;
        return Err(ChunkError::Count { count, count_max }.into());
    }
    let (cutter, rest) = take_cutter(cutter, rest)?;
    let Some((children, head)) = rest.split_at_checked(count * CHILD_BYTES) else {
        return Err(short.into());
    };
    let root = Root::new(cutter, depth, take_children(children))?;
    Ok((root, stored.len() - head.len()))
}

fn take_cutter(number: u8, bytes: &[u8]) -> Result<(Cutter, &[u8]), StoredChunksError> {
    let short = StoredError::Malformed("its cutter is cut off");
    let (cutter, rest) = match number {
        FIXED => {
            let (size, rest) = bytes.split_first_chunk().ok_or(short)?;
            let bytes = u32::from_le_bytes(*size);
            (Cutter::Fixed { bytes }, rest)
        }
        FASTCDC => {
            let (fields, rest) = bytes.split_first_chunk::<13>().ok_or(short)?;
            let size = |at: usize| {
                u32::from_le_bytes([fields[at], fields[at + 1], fields[at + 2], fields[at + 3]])
            };
            let cutter = Cutter::FastCdc {
                variant: fields[0],
                bytes_min: size(1),
                bytes_average: size(5),
                bytes_max: size(9),
            };
            (cutter, rest)
        }
        number => {
            let field = "cutter";
            return Err(StoredError::Unsupported { field, number }.into());
        }
    };
    check_cutter(cutter)?;
    Ok((cutter, rest))
}

fn check_cutter(cutter: Cutter) -> Result<(), StoredChunksError> {
    let is_possible = match cutter {
        Cutter::Fixed { bytes } => (1..=CHUNK_BYTES_MAX).contains(&(bytes as usize)),
        Cutter::FastCdc {
            bytes_min,
            bytes_average,
            bytes_max,
            ..
        } => {
            0 < bytes_min
                && bytes_min <= bytes_average
                && bytes_average <= bytes_max
                && bytes_max as usize <= CHUNK_BYTES_MAX
        }
    };
    match is_possible {
        true => Ok(()),
        false => Err(StoredError::Malformed("its cutter has sizes that cannot be").into()),
    }
}

/// That a head begins a str, a bin or an extension, whose length is that of the rest of the head and
/// the content.
fn check_head(head: &[u8], content_bytes: u64) -> Result<(), StoredChunksError> {
    let malformed = |what| Err(StoredError::Malformed(what).into());
    if head.len() > CHUNK_HEAD_BYTES_MAX {
        return malformed("what stands before its content is too long");
    }
    let Some((stated, at)) = length_stated(head) else {
        return malformed("its head is not that of a str, bytes or an extension");
    };
    let length = (head.len() - at) as u64 + content_bytes;
    if u64::from(stated) != length.min(u64::from(u32::MAX)) {
        return malformed("its head states another length than its chunks have");
    }
    Ok(())
}

/// The length that the MessagePack header of a str, a bin or an extension states, and the bytes of
/// that header; none for anything else.
fn length_stated(head: &[u8]) -> Option<(u32, usize)> {
    let number = |bytes: usize| {
        let field = head.get(1..=bytes)?;
        Some(
            field
                .iter()
                .fold(0, |sum, byte| sum << 8 | u32::from(*byte)),
        )
    };
    let (stated, at) = match *head.first()? {
        0xC4 | 0xD9 => (number(1)?, 2),
        0xC5 | 0xDA => (number(2)?, 3),
        0xC6 | 0xDB => (number(4)?, 5),
        // An extension has a byte for its type behind the length.
        0xC7 => (number(1)?, 3),
        0xC8 => (number(2)?, 4),
        0xC9 => (number(4)?, 6),
        _ => return None,
    };
    (head.len() >= at).then_some((stated, at))
}

#[cfg(test)]
mod tests;
