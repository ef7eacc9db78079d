//! Patches that were decided, as log and feed have them, and what they make of a value.
//!
//! An edit is the bytes of a [`Patch`] without its conditions. It means something on one entry
//! only, the one of [`KeyPatch::base`]: whoever applies it has compared revisions first.
//!
//! Invariants
//! * The same edits on the same value give the same bytes, one by one or several at once, so that
//!   a log that is read in other steps comes to the same values.
//! * Values are opened and packed in one place: [`apply`].
//! * How far the log may go on in parts until it has the value whole again is said in one place,
//!   [`Chain`], by what applying them costs.

mod chain;

use bytes::Bytes;

use crate::effect::KeyPatch;
use crate::ids::Revision;
use crate::operation::{Edit, Patch};
use crate::patch;
use crate::stored::{self, StoredError};
use crate::wire::edit;

pub use chain::Chain;

/// Bytes that a patch takes in the log beside key and edit, at most: the revision of its base.
const BASE_BYTES: usize = 10;

/// Why an edit makes nothing of a value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PatchedError {
    /// The edit's bytes are no edit.
    #[error("edit is malformed at byte {offset}: {reason}")]
    Malformed {
        /// Where in it.
        offset: usize,
        /// What was wrong there.
        reason: &'static str,
    },
    /// The value cannot be opened, or the new one not be packed.
    #[error("value of an edit")]
    Stored(#[from] StoredError),
    /// The value is nothing that the edit can change.
    #[error("edit does not fit the value: {0}")]
    Unfit(String),
}

/// A decided patch of `before`, which revision `base` wrote, as log and feed tell it, if that is
/// shorter than the value it led to; else they tell the value.
#[must_use]
pub fn told(
    key: &Bytes,
    patch: &Patch,
    (base, before): (Revision, &Bytes),
    value: &Bytes,
) -> Option<KeyPatch> {
    // Who applies it has the entry and nothing else: log, footers and replicas look no dictionary
    // up. So what becomes of a value that was packed with one is always told whole.
    if stored::dictionary_of(before).is_some() {
        return None;
    }
    let edit = edit::encode(patch);
    (edit.len() + BASE_BYTES < value.len()).then(|| KeyPatch {
        key: key.clone(),
        base,
        edit,
    })
}

/// The stored value that edits make of one, in order.
///
/// Cost: opens and packs the value once, and copies it for each step. Edits of one part that follow each
/// other are one step if all append to a list, add to a set, discard from one, put fields into a
/// dict, or add to a number.
///
/// # Errors
/// One of them cannot be applied: they were decided on another value, or the bytes are damaged.
pub fn apply(value: &Bytes, edits: &[Bytes]) -> Result<Bytes, PatchedError> {
    let mut payload = stored::open(value)?;
    let mut pending: Option<Patch> = None;
    for edit in edits {
        let next = edit::decode(edit)?;
        let is_joined = pending.as_mut().is_some_and(|last| join(last, &next));
        if !is_joined && let Some(patch) = pending.replace(next) {
            payload = applied(payload, &patch)?;
        }
    }
    if let Some(patch) = pending {
        payload = applied(payload, &patch)?;
    }
    Ok(stored::repack(&payload, value, None)?)
}

fn applied(payload: Bytes, patch: &Patch) -> Result<Bytes, PatchedError> {
    match patch::apply(Some(&payload), patch) {
        Ok(applied) => Ok(applied.payload.map_or(payload, Bytes::from)),
        // A key is told by who knows it.
        Err(error) => Err(PatchedError::Unfit(error.failure(&[]).message)),
    }
}

/// Makes one patch of two that follow each other, where that comes to the same.
fn join(first: &mut Patch, second: &Patch) -> bool {
    if first.path != second.path {
        return false;
    }
    if let Edit::SetField { field, value } = &first.edit
        && matches!(second.edit, Edit::SetField { .. } | Edit::Merge { .. })
    {
        let fields = vec![(field.clone(), value.clone())];
        first.edit = Edit::Merge { fields };
    }
    match (&mut first.edit, &second.edit) {
        (Edit::Append { items }, Edit::Append { items: more })
        | (Edit::Add { items }, Edit::Add { items: more })
        | (Edit::Discard { items }, Edit::Discard { items: more }) => {
            items.extend_from_slice(more);
        }
        (Edit::Merge { fields }, Edit::SetField { field, value }) => {
            fields.push((field.clone(), value.clone()));
        }
        (Edit::Merge { fields }, Edit::Merge { fields: more }) => fields.extend_from_slice(more),
        (Edit::AddNumber { by }, Edit::AddNumber { by: more }) => match by.checked_add(*more) {
            Some(sum) => *by = sum,
            None => return false,
        },
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests;
