//! The dictionary as a surface: how its effects stand in the log.
//!
//! The body of an effect is one kind byte, the key's length as a varint, the key, and for a put the
//! stored value up to the body's end.

use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::effect::{Change, Effect};
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
            let change = decode_change(&effect.body)?;
            self.state
                .apply(revision, effect.namespace, &change.key, change.value);
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
pub(crate) fn record(effect: &Effect) -> Result<Option<Change>, Malformed> {
    decode_change(&effect.body).map(Some)
}

/// The key is removed.
const DELETE: u8 = 0;
/// The key has a new value. (2 is set aside for a patch with its outcome.)
const PUT: u8 = 1;

/// Bytes of a change as the body of an effect.
#[must_use]
pub fn change_bytes(change: &Change) -> usize {
    let key = change.key.len();
    1 + varint_bytes(key as u64) + key + change.value.as_ref().map_or(0, Bytes::len)
}

/// Appends a change as the body of an effect.
pub fn encode_change(change: &Change, buffer: &mut Vec<u8>) {
    buffer.push(match change.value {
        Some(_) => PUT,
        None => DELETE,
    });
    put_varint(buffer, change.key.len() as u64);
    buffer.extend_from_slice(&change.key);
    if let Some(value) = &change.value {
        buffer.extend_from_slice(value);
    }
}

/// The chunks that a change names.
#[must_use]
pub fn chunks(change: &Change) -> Vec<ChunkId> {
    let value = change.value.as_deref();
    value.map_or(Vec::new(), stored_chunks::ids)
}

/// The change in the body of a dictionary effect. Key and value share the body's memory.
pub fn decode_change(body: &Bytes) -> Result<Change, Malformed> {
    let mut reader = BytesReader::new(body);
    let kind = reader.byte()?;
    let key = reader.sized()?;
    if key.len() > KEY_BYTES_MAX {
        return Err(Malformed("a key over the limit"));
    }
    let value = reader.rest();
    let value = match kind {
        PUT if value.len() > VALUE_BYTES_MAX => return Err(Malformed("a value over the limit")),
        PUT => Some(value),
        DELETE if value.is_empty() => None,
        DELETE => return Err(Malformed("a removal with a value")),
        _ => return Err(Malformed("a change of an unknown kind")),
    };
    Ok(Change { key, value })
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
            encode_change(&change, &mut body);
            assert_eq!(body.len(), change_bytes(&change));
            assert_eq!(decode_change(&Bytes::from(body)), Ok(change));
        }
    }

    #[test]
    fn change_that_makes_no_sense_is_refused() {
        for body in [
            &b""[..],
            b"\x01",
            b"\x01\x05abc",
            b"\x02\x01a",
            b"\x00\x01avalue",
        ] {
            assert!(
                decode_change(&Bytes::from_static(body)).is_err(),
                "{body:?}"
            );
        }
    }
}
