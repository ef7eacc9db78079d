//! Dictionaries for zstd: what the values of one namespace have in common, so that small ones
//! shrink too.
//!
//! | file | what |
//! |---|---|
//! | `contexts.rs` | zstd's working memory, one per thread |
//! | `entry.rs` | how dictionaries stand in the store |
//! | `train.rs` | making one from samples, and whether it pays |
//!
//! A dictionary is named by its content: [`DictionaryId`] is taken from the SHA-256 of its bytes, and
//! stands in its own header and in the header of each frame made with it. So a damaged dictionary
//! is not taken for the right one, and every value remembers which one it needs.

mod contexts;
mod entry;
mod train;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use zstd::zstd_safe::{self, CDict, DDict};

use crate::limits::{DICTIONARY_BYTES_MAX, DICTIONARY_BYTES_MIN};

pub use entry::{EntryKey, Trained};
pub use train::{SAMPLE_COUNT_MIN, train};

/// Bytes of a dictionary before what its name is taken from: zstd's magic number, and the name.
const HEAD_BYTES: usize = 8;
/// Names below this, and those with the highest bit, are set aside by zstd for its registrar.
const ID_MIN: u32 = 1 << 15;
const ID_END: u32 = 1 << 31;
/// Levels whose tables are kept for one dictionary: a process rarely uses more than one.
const PACKERS_MAX: usize = 4;

/// The name of a dictionary, as zstd's frames carry it. Unique within a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DictionaryId(pub u32);

impl DictionaryId {
    /// The name that a frame carries; none if it was made without a dictionary. Reads the frame's
    /// header only.
    #[must_use]
    pub fn of_frame(frame: &[u8]) -> Option<Self> {
        zstd_safe::get_dict_id_from_frame(frame).map(|id| Self(id.get()))
    }
}

impl fmt::Display for DictionaryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why bytes are no dictionary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DictionaryError {
    /// It is outside of the limits.
    #[error(
        "dictionary is {bytes} bytes; the limits are {DICTIONARY_BYTES_MIN} and \
         {DICTIONARY_BYTES_MAX} bytes"
    )]
    Length {
        /// Its length.
        bytes: usize,
    },
    /// The name in its header is not that of its content: it is damaged.
    #[error("dictionary is damaged: its header names {named}, and its content is that of {found}")]
    Damaged {
        /// What its header says.
        named: DictionaryId,
        /// What its content comes to.
        found: DictionaryId,
    },
    /// It is not one of zstd's.
    #[error("dictionary is malformed: {0}")]
    Malformed(&'static str),
}

/// A dictionary, ready for use. Its tables are made once: some 100 us for opening, and some ms for
/// each level of packing when that is first used. Takes about three times its length in
/// memory, and at high levels up to some MiB more.
pub struct Dictionary {
    id: DictionaryId,
    bytes: Bytes,
    opener: DDict<'static>,
    packers: Mutex<Vec<(i32, Arc<CDict<'static>>)>>,
}

impl Dictionary {
    /// Checks the bytes of a dictionary from wherever they come.
    ///
    /// # Errors
    /// When they are too long, damaged, or none of zstd's.
    pub fn new(bytes: Bytes) -> Result<Self, DictionaryError> {
        let length = bytes.len();
        if !(DICTIONARY_BYTES_MIN..=DICTIONARY_BYTES_MAX).contains(&length) {
            return Err(DictionaryError::Length { bytes: length });
        }
        let named = zstd_safe::get_dict_id_from_dict(&bytes).map(NonZeroU32::get);
        let named = named.ok_or(DictionaryError::Malformed("it has no name"))?;
        let (id, found) = (DictionaryId(named), id_of(&bytes[HEAD_BYTES..]));
        if id != found {
            return Err(DictionaryError::Damaged { named: id, found });
        }
        let opener = DDict::try_create(&bytes);
        let opener = opener.ok_or(DictionaryError::Malformed("zstd cannot load it"))?;
        let packers = Mutex::default();
        Ok(Self {
            id,
            bytes,
            opener,
            packers,
        })
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> DictionaryId {
        self.id
    }

    /// Its bytes, as any zstd reads them.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// One frame with this payload, which names this dictionary; none if zstd fails.
    pub(crate) fn pack(&self, payload: &[u8], level: i32) -> Option<Vec<u8>> {
        contexts::pack_with(payload, &*self.packer(level)?).ok()
    }

    /// The payload of a frame that was made with this dictionary.
    pub(crate) fn unpack(&self, frame: &[u8], plain_bytes: usize) -> std::io::Result<Vec<u8>> {
        contexts::unpack(frame, plain_bytes, Some(&self.opener))
    }

    fn packer(&self, level: i32) -> Option<Arc<CDict<'static>>> {
        let mut packers = self.packers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, packer)) = packers.iter().find(|(of, _)| *of == level) {
            return Some(Arc::clone(packer));
        }
        let packer = Arc::new(CDict::try_create(&self.bytes, level)?);
        if packers.len() >= PACKERS_MAX {
            packers.remove(0);
        }
        packers.push((level, Arc::clone(&packer)));
        Some(packer)
    }
}

impl AsRef<Self> for Dictionary {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dictionary")
            .field("id", &self.id)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// One frame with this payload.
pub(crate) fn pack_plain(payload: &[u8], level: i32) -> std::io::Result<Vec<u8>> {
    contexts::pack(payload, level)
}

/// The payload of a frame that was made without a dictionary.
pub(crate) fn unpack_plain(frame: &[u8], plain_bytes: usize) -> std::io::Result<Vec<u8>> {
    contexts::unpack(frame, plain_bytes, None)
}

/// The name of a dictionary with this content.
fn id_of(content: &[u8]) -> DictionaryId {
    let hash = Sha256::digest(content);
    let number = u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]]);
    DictionaryId(ID_MIN + number % (ID_END - ID_MIN))
}

#[cfg(test)]
pub(crate) mod tests;
