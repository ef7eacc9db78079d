//! In which memory changes are kept: ring and recent map hold them for long, and count their bytes.

use bytes::Bytes;
use objsync_proto::effect::{Change, KeyPatch};
use objsync_proto::ids::NamespaceId;

/// Changes up to this size are kept in memory of their own, wherever they come from.
const COMPACT_BYTES_MAX: usize = 8 << 10;

/// What memory changes come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Of this process, which made each value by itself.
    Own,
    /// Buffers of the network or of a log, with much else in them.
    Shared,
}

/// A change can be a piece of a large buffer, which it would keep alive for as long as ring and
/// recent map hold it, and count as its own bytes alone. A value that was made here is in no such
/// buffer.
fn compact(
    (namespace, change): (NamespaceId, Change),
    is_made_here: bool,
    memory: Memory,
) -> (NamespaceId, Change) {
    let key_bytes = change.key.len();
    let bytes = key_bytes + change.value.as_ref().map_or(0, Bytes::len);
    if bytes > COMPACT_BYTES_MAX {
        if memory == Memory::Own {
            return (namespace, change);
        }
        let own = |value: Bytes| match is_made_here {
            true => value,
            false => Bytes::copy_from_slice(&value),
        };
        let change = Change {
            key: Bytes::copy_from_slice(&change.key),
            value: change.value.map(own),
        };
        return (namespace, change);
    }
    let mut own = Vec::with_capacity(bytes);
    own.extend_from_slice(&change.key);
    own.extend_from_slice(change.value.as_deref().unwrap_or_default());
    let own = Bytes::from(own);
    let change = Change {
        value: change.value.map(|_| own.slice(key_bytes..)),
        key: own.slice(..key_bytes),
    };
    (namespace, change)
}

/// Each change as [`compact`], and what else names its key.
pub(crate) fn compact_all(
    changes: Vec<(NamespaceId, Change)>,
    mut patches: Vec<Option<KeyPatch>>,
    memory: Memory,
) -> (Vec<(NamespaceId, Change)>, Vec<Option<KeyPatch>>) {
    let changes = changes.into_iter().enumerate();
    let is_made_here = |place: usize| patches.get(place).is_some_and(Option::is_some);
    let changes: Vec<_> = changes
        .map(|(place, change)| compact(change, is_made_here(place), memory))
        .collect();
    for (patch, (_, change)) in patches.iter_mut().zip(&changes) {
        if let Some(patch) = patch {
            patch.key = change.key.clone();
        }
    }
    (changes, patches)
}
