//! What a patch did, as bytes that log and feed pass on without looking into them.

use bytes::{Bytes, BytesMut};

use super::fields::{Field, Reader};
use crate::operation::Patch;
use crate::patched::PatchedError;

/// The bytes of a decided patch: its conditions held, and are left out.
#[must_use]
pub fn encode(patch: &Patch) -> Bytes {
    let mut out = BytesMut::new();
    let decided = Patch {
        revision: None,
        ..patch.clone()
    };
    decided.put(&mut out);
    out.freeze()
}

/// What [`encode`] wrote.
///
/// # Errors
/// [`PatchedError::Malformed`].
pub fn decode(edit: &Bytes) -> Result<Patch, PatchedError> {
    let mut reader = Reader::new(edit.clone());
    let read = Patch::take(&mut reader).and_then(|patch| reader.end().map(|()| patch));
    read.map_err(|malformed| PatchedError::Malformed {
        offset: malformed.offset,
        reason: malformed.reason,
    })
}
