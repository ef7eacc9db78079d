//! The dictionary as a surface: how its effects stand in the log.
//!
//! The body of an effect is one kind byte, the key's length as a varint, the key, and up to the
//! body's end: for a put the stored value; for a patch the revision of the entry that it changes,
//! as a varint, and what was done.

use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::effect::{Change, Effect, KeyPatch};
use objsync_proto::ids::{ChunkId, Revision, SurfaceId};
use objsync_proto::limits::{KEY_BYTES_MAX, ROOT_CHILDREN_MAX, VALUE_BYTES_MAX};
use objsync_proto::stored_chunks;

use crate::error::StoreError;
use crate::frame::{BytesReader, Malformed, put_varint, varint_bytes};
use crate::state::DictState;
use crate::surfaces::{Surface, SurfaceBounds};

/// What an effect of the dictionary may be.
pub const DICT_BOUNDS: SurfaceBounds = SurfaceBounds {
    effect_bytes_max: 1 + 10 + KEY_BYTES_MAX + VALUE_BYTES_MAX,
    chunk_count_max: ROOT_CHILDREN_MAX,
};

/// The number of the dictionary's section in a snapshot.
pub const DICT_SECTION: u16 = SurfaceId::DICT.0;

/// The dictionary, as the store routes effects to it.
pub struct DictSurface {
    state: Arc<DictState>,
}

impl DictSurface {
    /// Over its state.
    #[must_use]
    pub fn new(state: Arc<DictState>) -> Self {
        Self { state }
    }
}

impl Surface for DictSurface {
    fn id(&self) -> SurfaceId {
        SurfaceId::DICT
    }

    fn bounds(&self) -> SurfaceBounds {
        DICT_BOUNDS
    }

    fn snapshot_section(&self) -> u16 {
        DICT_SECTION
    }

    fn apply(&self, revision: Revision, effect: &Effect) -> Result<(), StoreError> {
        if revision > self.mark() {
            let change = decode(&effect.body)?;
            self.state
                .apply_logged(revision, vec![(effect.namespace, change)])?;
        }
        Ok(())
    }

    fn publish(&self, committed: Revision) {
        self.state.publish(committed);
    }

    fn mark(&self) -> Revision {
        self.state.committed()
    }

    fn walk_roots(&self, _visit: &mut dyn FnMut(ChunkId)) -> Result<(), StoreError> {
        // The present state stands whole in log and snapshots, which are walked by themselves.
        Ok(())
    }
}

/// What footers and snapshots keep of an effect of the dictionary.
pub(crate) fn record(effect: &Effect) -> Result<Option<Logged>, Malformed> {
    decode(&effect.body).map(Some)
}

/// A change of the dictionary as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Logged {
    /// A new value, or that the key is removed.
    Whole(Change),
    /// The part of a value that changed.
    Patch(KeyPatch),
}

impl Logged {
    /// The encoded key.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Whole(change) => &change.key,
            Self::Patch(patch) => &patch.key,
        }
    }
}

/// The key is removed.
const DELETE: u8 = 0;
/// The key has a new value.
const PUT: u8 = 1;
/// A part of the key's value has changed.
const PATCH: u8 = 2;

fn head_bytes(key: &Bytes) -> usize {
    1 + varint_bytes(key.len() as u64) + key.len()
}

fn put_head(kind: u8, key: &Bytes, buffer: &mut Vec<u8>) {
    buffer.push(kind);
    put_varint(buffer, key.len() as u64);
    buffer.extend_from_slice(key);
}

/// Bytes of a change as the body of an effect; with its patch, if it is told by that.
#[must_use]
pub fn change_bytes(change: &Change, patch: Option<&KeyPatch>) -> usize {
    head_bytes(&change.key)
        + match patch {
            Some(patch) => varint_bytes(patch.base.0) + patch.edit.len(),
            None => change.value.as_ref().map_or(0, Bytes::len),
        }
}

/// Appends a change as the body of an effect; by its patch, if it is told by that.
pub fn encode_change(change: &Change, patch: Option<&KeyPatch>, buffer: &mut Vec<u8>) {
    if let Some(patch) = patch {
        put_head(PATCH, &change.key, buffer);
        put_varint(buffer, patch.base.0);
        return buffer.extend_from_slice(&patch.edit);
    }
    let kind = if change.value.is_some() { PUT } else { DELETE };
    put_head(kind, &change.key, buffer);
    buffer.extend_from_slice(change.value.as_deref().unwrap_or_default());
}

/// The chunks that a change names.
#[must_use]
pub fn chunks(change: &Change) -> Vec<ChunkId> {
    let value = change.value.as_deref();
    value.map_or(Vec::new(), stored_chunks::ids)
}

/// The change in the body of a dictionary effect. Key, value and edit share the body's memory.
pub fn decode(body: &Bytes) -> Result<Logged, Malformed> {
    let mut reader = BytesReader::new(body);
    let kind = reader.byte()?;
    let key = reader.sized()?;
    if key.len() > KEY_BYTES_MAX {
        return Err(Malformed("a key over the limit"));
    }
    if kind == PATCH {
        let base = Revision(reader.varint()?);
        let edit = reader.rest();
        return match edit.len() {
            0 => Err(Malformed("a patch that does nothing")),
            _ => Ok(Logged::Patch(KeyPatch { key, base, edit })),
        };
    }
    let value = reader.rest();
    let value = match kind {
        PUT if value.len() > VALUE_BYTES_MAX => return Err(Malformed("a value over the limit")),
        PUT => Some(value),
        DELETE if value.is_empty() => None,
        DELETE => return Err(Malformed("a removal with a value")),
        _ => return Err(Malformed("a change of an unknown kind")),
    };
    Ok(Logged::Whole(Change { key, value }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_comes_back_as_it_was_encoded() {
        for value in [None, Some(Bytes::new()), Some(Bytes::from_static(b"value"))] {
            let key = Bytes::from(vec![7; 300]);
            let change = Change { key, value };
            let mut body = Vec::new();
            encode_change(&change, None, &mut body);
            assert_eq!(body.len(), change_bytes(&change, None));
            assert_eq!(decode(&Bytes::from(body)), Ok(Logged::Whole(change)));
        }
    }

    #[test]
    fn patch_comes_back_without_the_value_it_led_to() {
        let key = Bytes::from(vec![7; 300]);
        let patch = KeyPatch {
            key: key.clone(),
            base: Revision(1 << 40),
            edit: Bytes::from_static(b"edit"),
        };
        let value = Some(Bytes::from(vec![8; 100_000]));
        let change = Change { key, value };
        let mut body = Vec::new();
        encode_change(&change, Some(&patch), &mut body);
        assert_eq!(body.len(), change_bytes(&change, Some(&patch)));
        assert!(body.len() < 320, "{}", body.len());
        assert_eq!(decode(&Bytes::from(body)), Ok(Logged::Patch(patch)));
    }

    #[test]
    fn change_that_makes_no_sense_is_refused() {
        for body in [
            &b""[..],
            b"\x01",
            b"\x01\x05abc",
            b"\x02\x01a",
            b"\x02\x01a\x07",
            b"\x02\x01a\xff",
            b"\x03\x01a",
            b"\x00\x01avalue",
        ] {
            assert!(decode(&Bytes::from_static(body)).is_err(), "{body:?}");
        }
    }
}
