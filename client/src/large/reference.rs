//! A value that lies in chunks, as handles pass it on: where it is, not what it is.
//!
//! Wherever a payload is passed on, the payload of a large value is a reference: the byte 0xC1, with
//! which no MessagePack begins, the revision that wrote it (u64), the length of its key (u16), the key,
//! and the stored value; numbers are big-endian. Nothing of it is ever stored or sent as it is.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use objsync_proto::chunk::Root;
use objsync_proto::chunk::tree::root_of;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::Revision;
use objsync_proto::limits::{KEY_BYTES_MAX, PAYLOAD_BYTES_WHOLE_MAX};
use objsync_proto::stored_chunks::{self, StoredChunks};
use objsync_proto::value;

use super::split::{Split, split};
use crate::config::Config;
use crate::error::{ObjectError, Result};

/// The first byte of a reference, which begins no payload.
const MARKER: u8 = stored_chunks::REFERENCE;
/// Bytes of the marker, the revision and the length of the key.
const FIXED_BYTES: usize = 1 + 8 + 2;

/// A large value that was found and not yet fetched: its size and type are known, its content lies in
/// chunks. See [`crate::Dict::open_read`] and [`crate::Dict::load`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LargeValue {
    pub(crate) key: Bytes,
    pub(crate) revision: Revision,
    pub(crate) root: Root,
    head: Bytes,
}

impl LargeValue {
    /// Whether a payload is the reference of a large value. Looks at one byte.
    #[inline]
    #[must_use]
    pub fn is_reference(payload: &[u8]) -> bool {
        payload.first() == Some(&MARKER)
    }

    /// The large value that a payload refers to; none for any other payload.
    ///
    /// # Errors
    /// `Corrupt` when the stored value is no sound list of chunks.
    pub fn of(payload: &Bytes) -> Result<Option<Self>> {
        if !Self::is_reference(payload) {
            return Ok(None);
        }
        let (key, revision, stored) = parts(payload)?;
        match stored_chunks::open(&stored)? {
            Some(StoredChunks { root, head }) => Ok(Some(Self {
                key,
                revision,
                root,
                head,
            })),
            None => Err(malformed()),
        }
    }

    /// Bytes of its content.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        self.root.bytes()
    }

    /// What stands before the content in its payload: a MessagePack header, and for an array what is
    /// needed to read the elements.
    #[must_use]
    pub fn head(&self) -> &Bytes {
        &self.head
    }

    /// What Python calls its type.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        value::type_name(&self.head)
    }

    /// Bytes of its whole payload.
    ///
    /// # Errors
    /// `Invalid` when that is more than one payload can be: it can only be read in pieces.
    pub fn payload_bytes(&self) -> Result<usize> {
        let bytes = self.content_bytes() + self.head.len() as u64;
        match usize::try_from(bytes) {
            Ok(whole) if bytes <= PAYLOAD_BYTES_WHOLE_MAX => Ok(whole),
            _ => Err(ObjectError::new(
                ErrorKind::Invalid,
                format!(
                    "value of key {} is {bytes} bytes; the limit for reading it as one value is \
                     {PAYLOAD_BYTES_WHOLE_MAX} bytes: read it in pieces (open)",
                    objsync_proto::key::describe(&self.key)
                ),
            )),
        }
    }
}

/// The reference of a stored value in chunks.
pub(crate) fn reference(key: &[u8], revision: Revision, stored: &[u8]) -> Bytes {
    let mut payload = BytesMut::with_capacity(FIXED_BYTES + key.len() + stored.len());
    payload.put_u8(MARKER);
    payload.put_u64(revision.0);
    // Keys are far shorter: a longer one was never stored.
    payload.put_u16(u16::try_from(key.len()).unwrap_or(u16::MAX));
    payload.put_slice(key);
    payload.put_slice(stored);
    payload.freeze()
}

/// The stored value that a reference is of.
pub(crate) fn stored_of(payload: &Bytes) -> Result<Bytes> {
    parts(payload).map(|(_, _, stored)| stored)
}

/// What is sent for an owner to compare a value with: a payload, or where that would go into chunks the
/// stored value behind 0xC1. Whether the owner's value lies in chunks makes no difference to it.
pub(crate) fn expected(config: &Config, payload: Bytes) -> Result<Bytes> {
    let stored = match split(config, &payload) {
        Some(Split { head, content }) => {
            let root = root_of(config.chunking(), &content)?;
            stored_chunks::seal(&StoredChunks { root, head })?
        }
        None if LargeValue::is_reference(&payload) => stored_of(&payload)?,
        None => return Ok(payload),
    };
    let mut expected = BytesMut::with_capacity(1 + stored.len());
    expected.put_u8(MARKER);
    expected.put_slice(&stored);
    Ok(expected.freeze())
}

fn parts(payload: &Bytes) -> Result<(Bytes, Revision, Bytes)> {
    let mut rest = payload.clone();
    if rest.len() < FIXED_BYTES {
        return Err(malformed());
    }
    rest.advance(1);
    let revision = Revision(rest.get_u64());
    let key_bytes = usize::from(rest.get_u16());
    if key_bytes > KEY_BYTES_MAX || rest.len() < key_bytes {
        return Err(malformed());
    }
    let key = rest.split_to(key_bytes);
    Ok((key, revision, rest))
}

fn malformed() -> ObjectError {
    let text = "a payload that begins with 0xC1 is no reference of a large value";
    ObjectError::new(ErrorKind::Invalid, text)
}
