//! The entries of [`NamespaceId::DICTIONARIES`]: the dictionaries of all the others.
//!
//! They are written by ordinary transactions before any value that needs them, and never removed, so a
//! log, a snapshot, a backup or a copy that has a value has its dictionary. `docs/format.md`
//! "Dictionaries" has the bytes. Nobody reads this namespace as a dictionary of keys and values.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Dictionary, DictionaryError, DictionaryId};
use crate::ids::NamespaceId;
use crate::limits::DICTIONARY_BYTES_MAX;
use crate::stored;
use crate::wire::KeyRange;

const DICTIONARY: u8 = 1;
const PRESENT: u8 = 2;

const VERSION: u8 = 0;
/// Bytes before the dictionary itself: version, and when it was trained.
const HEAD_BYTES: usize = 1 + 8;

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKey {
    /// A dictionary of a namespace; the value is [`Trained`].
    Dictionary(NamespaceId, DictionaryId),
    /// The dictionary that a namespace's new values are packed with; the value is its name.
    Present(NamespaceId),
}

impl EntryKey {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(1 + 4 + 4);
        match self {
            Self::Dictionary(namespace, id) => {
                bytes.put_u8(DICTIONARY);
                bytes.put_u32(namespace.0);
                bytes.put_u32(id.0);
            }
            Self::Present(namespace) => {
                bytes.put_u8(PRESENT);
                bytes.put_u32(namespace.0);
            }
        }
        bytes.freeze()
    }

    /// The keys of all dictionaries of a namespace.
    #[must_use]
    pub fn all_of(namespace: NamespaceId) -> KeyRange {
        let start = prefix(DICTIONARY, namespace);
        let end = match namespace.0.checked_add(1) {
            Some(next) => prefix(DICTIONARY, NamespaceId(next)),
            None => prefix(DICTIONARY + 1, NamespaceId(0)),
        };
        KeyRange {
            start,
            end: Some(end),
        }
    }
}

fn prefix(kind: u8, namespace: NamespaceId) -> Bytes {
    let mut bytes = BytesMut::with_capacity(5);
    bytes.put_u8(kind);
    bytes.put_u32(namespace.0);
    bytes.freeze()
}

/// A dictionary as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trained {
    /// The owner's time when it was added, milliseconds since 1970.
    pub at_ms: u64,
    /// The dictionary, not checked.
    pub bytes: Bytes,
}

impl Trained {
    /// The stored value of its entry.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut payload = BytesMut::with_capacity(HEAD_BYTES + self.bytes.len());
        payload.put_u8(VERSION);
        payload.put_u64(self.at_ms);
        payload.put_slice(&self.bytes);
        stored::seal_own(&payload)
    }

    /// What stands in a stored value; none for what this version does not write.
    #[must_use]
    pub fn decode(stored: &Bytes) -> Option<Self> {
        let payload = stored::open_own(stored)?;
        let (&version, rest) = payload.split_first()?;
        let (at_ms, bytes) = rest.split_first_chunk()?;
        let at_ms = u64::from_be_bytes(*at_ms);
        let is_known = version == VERSION && bytes.len() <= DICTIONARY_BYTES_MAX;
        // Copied, as it lives long and the buffer may be a large one.
        let bytes = Bytes::copy_from_slice(bytes);
        is_known.then_some(Self { at_ms, bytes })
    }

    /// The dictionary, checked, and known to be the one that was asked for.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn open(self, wanted: DictionaryId) -> Result<Dictionary, DictionaryError> {
        let dictionary = Dictionary::new(self.bytes)?;
        match dictionary.id() {
            id if id == wanted => Ok(dictionary),
            found => Err(DictionaryError::Damaged {
                named: wanted,
                found,
            }),
        }
    }
}

impl DictionaryId {
    /// The stored value of [`EntryKey::Present`].
    #[must_use]
    pub fn encode_present(self) -> Bytes {
        stored::seal_own(&self.0.to_be_bytes())
    }

    /// The name that stands in the value of [`EntryKey::Present`]; none for what this version does
    /// not write.
    #[must_use]
    pub fn decode_present(stored: &Bytes) -> Option<Self> {
        let payload = stored::open_own(stored)?;
        let id = payload.as_ref().try_into().ok()?;
        Some(Self(u32::from_be_bytes(id)))
    }
}
