//! Patches: what a change of a part of a value makes of its payload.
//!
//! Pure, and the same wherever it runs: the owner decides with it, and who has the value before and
//! the patch gets the value after. Payloads are taken apart only as far as the way to the part
//! leads; what else they hold is copied, not decoded. They come from disk and from peers, so
//! nothing in them is believed.
//!
//! | file | what |
//! |---|---|
//! | `locate.rs` | the way to the part |
//! | `list.rs`, `set.rs`, `dict.rs` | what happens to it |
//!
//! Not here: whether the patch's revision still stands (`evaluate/patch.rs`).

mod dict;
mod error;
mod list;
mod locate;
mod set;

use bytes::Bytes;
use rmp::decode as read;

use crate::limits::CONTAINER_BYTES_MAX;
use crate::operation::{Edit, Patch};
use crate::value::int_payload;

pub use error::PatchError;
use locate::Place;
pub use locate::describe;

/// What a patch comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// What the caller is answered: see [`Edit`].
    pub number: i64,
    /// The payload of the whole value after it; none when nothing changes.
    pub payload: Option<Vec<u8>>,
}

/// Applies a patch to the plain payload of a value; none for a key that is not there.
///
/// The same arguments give the same bytes, everywhere. Cost: one copy of the payload, and a look at
/// each item of the containers on the way to the part.
///
/// # Errors
/// [`PatchError`]; nothing is to be changed then.
pub fn apply(payload: Option<&[u8]>, patch: &Patch) -> Result<Applied, PatchError> {
    let create = patch.create && patch.edit.creates();
    let whole = payload.unwrap_or_default();
    let (number, new) = match (payload, locate::locate(payload, &patch.path)?) {
        (Some(whole), Place::There(part)) => {
            let (number, new) = edited(Some(&whole[part.clone()]), patch)?;
            (number, new.map(|new| spliced(whole, part, &new)))
        }
        (_, Place::NoField(parent, field)) if create => {
            let (number, new) = edited(None, patch)?;
            let put = |new: Vec<u8>| {
                let fields = [(field.clone(), Bytes::from(new))];
                let (_, changed) = dict::merge(&whole[parent.clone()], &fields)?;
                changed.map(|changed| spliced(whole, parent.clone(), &changed))
            };
            match new {
                Some(new) => (number, Some(put(new).ok_or(PatchError::Malformed)?)),
                None => (number, None),
            }
        }
        (None, Place::NoValue) if create => edited(None, patch)?,
        _ => {
            let path = locate::describe(&patch.path);
            return Err(PatchError::NotFound { path });
        }
    };
    if let Some(new) = &new
        && new.len() > CONTAINER_BYTES_MAX.max(whole.len())
    {
        return Err(PatchError::TooLarge {
            bytes: new.len() as u64,
        });
    }
    let payload = new.filter(|new| new[..] != *whole || payload.is_none());
    Ok(Applied { number, payload })
}

/// The number that an edit comes to, and the part after it, if that changes.
type Edited = (i64, Option<Vec<u8>>);

fn edited(part: Option<&[u8]>, patch: &Patch) -> Result<Edited, PatchError> {
    let done = match &patch.edit {
        Edit::Append { items } => list::append(part, items),
        Edit::Remove { item } => part.and_then(|part| list::remove(part, item)),
        Edit::Splice {
            start,
            delete_count,
            items,
        } => part.and_then(|part| list::splice(part, (*start, *delete_count), items)),
        Edit::Add { items } => set::add(part, items),
        Edit::Discard { items } => set::discard(part, items),
        Edit::SetField { field, value } => {
            part.and_then(|part| dict::merge(part, &[(field.clone(), value.clone())]))
        }
        Edit::DeleteField { field } => part.and_then(|part| dict::delete(part, field)),
        Edit::Merge { fields } => dict::merge(part.unwrap_or(dict::EMPTY), fields),
        Edit::Clear => part.and_then(clear),
        Edit::AddNumber { by } => return add(part, *by, patch),
        Edit::Replace { value } => Some((0, Some(value.to_vec()))),
    };
    done.ok_or_else(|| error::wrong_type(part.unwrap_or_default(), patch))
}

/// Some edits of a part of an edit's own kind only; none stands for another kind.
fn clear(part: &[u8]) -> Option<Edited> {
    dict::clear(part)
        .or_else(|| set::clear(part))
        .or_else(|| list::clear(part))
}

fn add(part: Option<&[u8]>, by: i64, patch: &Patch) -> Result<Edited, PatchError> {
    let present = match part {
        None => 0,
        Some(part) => {
            let mut rest = part;
            read::read_int(&mut rest)
                .ok()
                .filter(|_: &i64| rest.is_empty())
                .ok_or_else(|| error::wrong_type(part, patch))?
        }
    };
    let number = present.checked_add(by);
    let number = number.ok_or_else(|| PatchError::Overflow {
        path: locate::describe(&patch.path),
        present,
        by,
    })?;
    Ok((number, Some(int_payload(number))))
}

fn spliced(whole: &[u8], part: std::ops::Range<usize>, new: &[u8]) -> Vec<u8> {
    [&whole[..part.start], new, &whole[part.end..]].concat()
}

/// A count that a caller is answered; every count is below that of a value's bytes.
fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
