//! Changes that are told by the part that changed: what becomes of the values that are held.
//!
//! A part is applied to the very entry on which it was decided. Where that is not held, nothing
//! is guessed: who holds everything, or has to tell somebody, asks for whole values; who holds a
//! part lets go of the entry.

use std::slice::from_ref;

use bytes::Bytes;

use super::error::ReplicaError;
use super::{Holding, Replica, Sink};
use crate::effect::{Change, KeyPatch};
use crate::ids::Revision;
use crate::key;
use crate::limits::TRANSACTION_BYTES_MAX;
use crate::patched;

/// What the patches of an event come to.
#[derive(Default)]
pub(super) struct Patched {
    pub(super) changes: Vec<Change>,
    /// Keys that have become something that is not known here.
    pub(super) unknown: Vec<Bytes>,
}

impl Replica {
    /// What patches come to, before any of them is applied.
    pub(super) fn patched(
        &self,
        patches: &[KeyPatch],
        revision: Revision,
        sink: &dyn Sink,
    ) -> Result<Patched, ReplicaError> {
        let mut patched = Patched::default();
        let mut bytes = 0;
        for patch in patches {
            let value = self.patch(patch, revision).and_then(|value| {
                bytes += value.len();
                check_bytes(bytes).map(|()| value)
            });
            match value {
                Ok(value) => patched.changes.push(Change {
                    key: patch.key.clone(),
                    value: Some(value),
                }),
                Err(_) if self.is_partial() && !sink.is_watched(&patch.key) => {
                    patched.unknown.push(patch.key.clone());
                }
                Err(what) => {
                    return Err(ReplicaError::Unpatchable {
                        key: key::describe(&patch.key),
                        revision,
                        what,
                    });
                }
            }
        }
        Ok(patched)
    }

    /// The value that a patch leads to, or why it is not known.
    fn patch(&self, patch: &KeyPatch, revision: Revision) -> Result<Bytes, String> {
        let base = match &self.holding {
            Holding::Whole(ordered) => ordered
                .get(&patch.key)
                .filter(|held| held.revision() == patch.base)
                .map(super::ordered::Packed::value),
            Holding::Part(cache) => {
                // An answer of the owner can be ahead of its feed.
                if let Some(value) = cache.value_of(&patch.key, revision) {
                    return Ok(value);
                }
                cache.value_of(&patch.key, patch.base)
            }
        };
        let base =
            base.ok_or_else(|| format!("the entry of revision {} is not held", patch.base))?;
        patched::apply(&base, from_ref(&patch.edit)).map_err(|error| error.to_string())
    }

    /// Lets go of keys that have become something else at a revision.
    pub(super) fn forget(&mut self, keys: &[Bytes], revision: Revision, sink: &mut dyn Sink) {
        let Holding::Part(cache) = &mut self.holding else {
            return;
        };
        for key in keys {
            cache.forget(key, revision);
            sink.touched(key);
        }
    }
}

/// All of a transaction's values are held until they are applied, and no owner's are so many.
fn check_bytes(bytes: usize) -> Result<(), String> {
    match bytes <= TRANSACTION_BYTES_MAX {
        true => Ok(()),
        false => Err(format!(
            "its transaction's values are {bytes} bytes; the limit is {TRANSACTION_BYTES_MAX} bytes"
        )),
    }
}
