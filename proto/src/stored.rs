//! Stored values: a header that says how the payload is packed, and the payload.
//!
//! | byte | what |
//! |---|---|
//! | 0 | suite: 0 = not encrypted |
//! | 1 | codec: 0 = the MessagePack payload itself, 1 = one zstd frame with its content size, 2 = one that was made with a dictionary, which it names |
//! | 2 | count of chunk ids that follow: 0 in this format |
//! | 3.. | the packed payload |
//!
//! How a value is packed stands here and is never guessed from its bytes. The store passes stored
//! values as they are; clients seal and open them.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use zstd::zstd_safe;

use crate::dictionary::{self, Dictionary, DictionaryId};
use crate::limits::VALUE_BYTES_MAX;
use crate::stored_chunks::REFERENCE;

/// Bytes before the packed payload.
pub const HEADER_BYTES: usize = 3;
/// Longest payload: a raw one of this length is a stored value of [`VALUE_BYTES_MAX`].
pub const PAYLOAD_BYTES_MAX: usize = VALUE_BYTES_MAX - HEADER_BYTES;

const SUITE_PLAIN: u8 = 0;
const CODEC_RAW: u8 = 0;
const CODEC_ZSTD: u8 = 1;
const CODEC_DICTIONARY: u8 = 2;

/// Payloads below this are not worth a zstd frame, whose own header takes some ten bytes.
const COMPRESS_BYTES_MIN: usize = 64;
/// The same with a dictionary: what it knows can stand in two or three bytes.
const DICTIONARY_PAYLOAD_BYTES_MIN: usize = 20;
/// Payloads above this find in themselves what a dictionary would tell.
const DICTIONARY_PAYLOAD_BYTES_MAX: usize = 64 << 10;

/// How to pack a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// As it is.
    #[default]
    None,
    /// With zstd at this level, where that makes it smaller.
    Zstd(i32),
}

/// Why a stored value cannot be made or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoredError {
    /// The payload is over the limit.
    #[error("value is {bytes} bytes when encoded; the limit is {PAYLOAD_BYTES_MAX} bytes")]
    TooLarge {
        /// Its length, or the length that a compressed one claims.
        bytes: u64,
    },
    /// The header names something that this program does not know.
    #[error("stored value has {field} {number}, which this version does not know")]
    Unsupported {
        /// Which field of the header.
        field: &'static str,
        /// What stands there.
        number: u8,
    },
    /// The bytes are not a stored value.
    #[error("stored value is malformed: {0}")]
    Malformed(&'static str),
    /// The payload begins with the byte that stands for a reference to chunks, which no MessagePack
    /// does: whoever is to open it would take it for one.
    #[error("stored value has a payload that begins with 0xC1, which is no MessagePack")]
    Reference,
    /// It was packed with a dictionary that is not at hand.
    #[error("stored value needs dictionary {id}, which is not there, or is damaged")]
    NoDictionary {
        /// Which.
        id: DictionaryId,
    },
    /// The compressed payload is damaged, or compressing failed.
    #[error("zstd of a stored value")]
    Zstd(#[source] io::Error),
}

/// Packs a payload, with a dictionary if one is given and it pays.
pub fn seal_with(
    payload: &[u8],
    compression: Compression,
    dictionary: Option<&Dictionary>,
) -> Result<Bytes, StoredError> {
    const BYTES: std::ops::RangeInclusive<usize> =
        DICTIONARY_PAYLOAD_BYTES_MIN..=DICTIONARY_PAYLOAD_BYTES_MAX;
    refuse_reference(payload)?;
    if let (Some(dictionary), Compression::Zstd(level)) = (dictionary, compression)
        && BYTES.contains(&payload.len())
        && let Some(packed) = dictionary.pack(payload, level)
    {
        return Ok(match packed.len() < payload.len() {
            true => with_header(CODEC_DICTIONARY, &packed),
            false => with_header(CODEC_RAW, payload),
        });
    }
    seal(payload, compression)
}

/// Packs a payload.
pub fn seal(payload: &[u8], compression: Compression) -> Result<Bytes, StoredError> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(StoredError::TooLarge {
            bytes: payload.len() as u64,
        });
    }
    refuse_reference(payload)?;
    match compression {
        Compression::Zstd(level) if payload.len() >= COMPRESS_BYTES_MIN => {
            let packed = dictionary::pack_plain(payload, level).map_err(StoredError::Zstd)?;
            if packed.len() < payload.len() {
                return Ok(with_header(CODEC_ZSTD, &packed));
            }
        }
        _ => {}
    }
    Ok(with_header(CODEC_RAW, payload))
}

/// At which level a value that was compressed is compressed again when a part of it changes; the
/// header does not say at which it was.
const REPACK_LEVEL: i32 = 3;

/// Packs a payload in the way in which `before`, of which a part has changed, is packed: raw stays
/// raw, and what was compressed stays so also where that does not pay, so that how often it was
/// packed in between makes no difference. What was packed with a dictionary, which is to be given
/// then, is packed with it again where that pays.
///
/// # Errors
/// The payload is over the limit, or `before` is no stored value.
pub fn repack(
    payload: &[u8],
    before: &Bytes,
    dictionary: Option<&Dictionary>,
) -> Result<Bytes, StoredError> {
    match check(before)? {
        Codec::Zstd { .. } if payload.len() <= PAYLOAD_BYTES_MAX => {}
        Codec::Dictionary { .. } => {
            return seal_with(payload, Compression::Zstd(REPACK_LEVEL), dictionary);
        }
        Codec::Raw | Codec::Zstd { .. } => return seal(payload, Compression::None),
    }
    let packed = dictionary::pack_plain(payload, REPACK_LEVEL).map_err(StoredError::Zstd)?;
    match packed.len() + HEADER_BYTES <= VALUE_BYTES_MAX {
        true => Ok(with_header(CODEC_ZSTD, &packed)),
        false => seal(payload, Compression::None),
    }
}

/// One zstd frame with this content, its size stated, as any zstd reads it: for a file.
pub fn frame(content: &[u8], level: i32) -> Result<Vec<u8>, StoredError> {
    dictionary::pack_plain(content, level).map_err(StoredError::Zstd)
}

/// As [`open_with`], of a value that needs no dictionary.
pub fn open(stored: &Bytes) -> Result<Bytes, StoredError> {
    open_with(stored, |_| None::<&Dictionary>)
}

/// The payload of a stored value; shares its memory when it is not compressed. `find` gives the
/// dictionary that it names, if it names one.
///
/// Cost: none for a raw payload. A compressed one takes memory for the size that its frame
/// states, which is checked against [`PAYLOAD_BYTES_MAX`] first.
pub fn open_with<D: AsRef<Dictionary>>(
    stored: &Bytes,
    find: impl FnOnce(DictionaryId) -> Option<D>,
) -> Result<Bytes, StoredError> {
    let packed = stored.get(HEADER_BYTES..).unwrap_or_default();
    let (unpacked, plain_bytes) = match check(stored)? {
        Codec::Raw => return Ok(stored.slice(HEADER_BYTES..)),
        Codec::Zstd { plain_bytes } => (dictionary::unpack_plain(packed, plain_bytes), plain_bytes),
        Codec::Dictionary { plain_bytes, id } => {
            let dictionary = find(id).ok_or(StoredError::NoDictionary { id })?;
            let dictionary = dictionary.as_ref();
            if dictionary.id() != id {
                return Err(StoredError::NoDictionary { id });
            }
            (dictionary.unpack(packed, plain_bytes), plain_bytes)
        }
    };
    let plain = unpacked.map_err(StoredError::Zstd)?;
    if plain.len() != plain_bytes {
        return Err(StoredError::Malformed("the payload is shorter than stated"));
    }
    refuse_reference(&plain)?;
    Ok(plain.into())
}

/// That nobody takes a payload for a reference to chunks, whose sizes and ids were never checked.
fn refuse_reference(payload: &[u8]) -> Result<(), StoredError> {
    match payload.first() {
        Some(&REFERENCE) => Err(StoredError::Reference),
        _ => Ok(()),
    }
}

/// The dictionary that a stored value names, if it names one. Looks at the first bytes only.
#[must_use]
pub fn dictionary_of(stored: &[u8]) -> Option<DictionaryId> {
    match stored.split_first_chunk::<HEADER_BYTES>() {
        Some((&[SUITE_PLAIN, CODEC_DICTIONARY, _], frame)) => DictionaryId::of_frame(frame),
        _ => None,
    }
}

/// How the payload of a stored value is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// The payload itself.
    Raw,
    /// One zstd frame.
    Zstd {
        /// Length of the payload that the frame states.
        plain_bytes: usize,
    },
    /// One zstd frame that was made with a dictionary.
    Dictionary {
        /// Length of the payload that the frame states.
        plain_bytes: usize,
        /// Which.
        id: DictionaryId,
    },
}

/// Checks header and sizes of a stored value, and that a raw payload is no reference, but does not
/// decompress it.
pub fn check(stored: &[u8]) -> Result<Codec, StoredError> {
    if stored.len() > VALUE_BYTES_MAX {
        let bytes = (stored.len() - HEADER_BYTES) as u64;
        return Err(StoredError::TooLarge { bytes });
    }
    let Some((&[suite, codec, chunks], packed)) = stored.split_first_chunk() else {
        return Err(StoredError::Malformed("it is shorter than its header"));
    };
    if suite != SUITE_PLAIN {
        return Err(StoredError::Unsupported {
            field: "suite",
            number: suite,
        });
    }
    if chunks != 0 {
        return Err(StoredError::Unsupported {
            field: "chunk count",
            number: chunks,
        });
    }
    match codec {
        CODEC_RAW if packed.is_empty() => Err(StoredError::Malformed("it has no payload")),
        CODEC_RAW => refuse_reference(packed).map(|()| Codec::Raw),
        CODEC_ZSTD => match DictionaryId::of_frame(packed) {
            None => check_zstd(packed).map(|plain_bytes| Codec::Zstd { plain_bytes }),
            Some(_) => Err(StoredError::Malformed(
                "its zstd frame names a dictionary, and its codec is the one without",
            )),
        },
        CODEC_DICTIONARY => match DictionaryId::of_frame(packed) {
            Some(id) => check_zstd(packed).map(|plain_bytes| Codec::Dictionary { plain_bytes, id }),
            None => Err(StoredError::Malformed(
                "its zstd frame names no dictionary, and its codec is the one with",
            )),
        },
        number => Err(StoredError::Unsupported {
            field: "codec",
            number,
        }),
    }
}

/// The content size of one whole frame.
fn check_zstd(packed: &[u8]) -> Result<usize, StoredError> {
    match zstd_safe::find_frame_compressed_size(packed) {
        Ok(length) if length == packed.len() => {}
        _ => {
            return Err(StoredError::Malformed(
                "its payload is not one whole zstd frame",
            ));
        }
    }
    let Ok(Some(bytes)) = zstd_safe::get_frame_content_size(packed) else {
        return Err(StoredError::Malformed(
            "its zstd frame does not state the content size",
        ));
    };
    match usize::try_from(bytes) {
        Ok(plain_bytes) if plain_bytes <= PAYLOAD_BYTES_MAX => Ok(plain_bytes),
        _ => Err(StoredError::TooLarge { bytes }),
    }
}

/// A stored value around bytes that are no MessagePack, which the store keeps for itself.
pub(crate) fn seal_own(bytes: &[u8]) -> Bytes {
    with_header(CODEC_RAW, bytes)
}

/// The bytes in what [`seal_own`] made; none in anything else.
pub(crate) fn open_own(stored: &Bytes) -> Option<Bytes> {
    let header = [SUITE_PLAIN, CODEC_RAW, 0];
    let is_own = (HEADER_BYTES + 1..=VALUE_BYTES_MAX).contains(&stored.len());
    (is_own && stored.starts_with(&header)).then(|| stored.slice(HEADER_BYTES..))
}

fn with_header(codec: u8, packed: &[u8]) -> Bytes {
    let mut stored = BytesMut::with_capacity(HEADER_BYTES + packed.len());
    stored.put_slice(&[SUITE_PLAIN, codec, 0]);
    stored.put_slice(packed);
    stored.freeze()
}

#[cfg(test)]
mod tests;
