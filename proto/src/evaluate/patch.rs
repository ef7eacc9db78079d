//! Lists and sets, of which a part changes: the rest is never sent, and never lost.

use std::collections::HashSet;

use bytes::Bytes;

use super::{Decided, Decision, Place, Present, invalid, unreadable};
use crate::effect::Cause;
use crate::key;
use crate::operation::{Outcome, Patch};
use crate::patched;
use crate::stored::{self, Compression};
use crate::value::{self, elements};

/// What a patch comes to on a payload.
pub(crate) struct Patched {
    /// What the caller is answered.
    pub(crate) number: i64,
    /// The new payload, if it changes anything.
    pub(crate) payload: Option<Vec<u8>>,
}

/// The time that the key stays is not touched.
pub(super) fn patch<E>(key: &Bytes, patch: &Patch, place: &Place<'_, E>) -> Result<Decision, E> {
    let present = place.present(key)?;
    Ok(patched(key, patch, present.as_ref(), place))
}

fn patched<E>(
    key: &Bytes,
    patch: &Patch,
    present: Option<&Present>,
    place: &Place<'_, E>,
) -> Decision {
    let payload = match present {
        Some(there) => Some(stored::open(&there.value).map_err(|error| unreadable(key, &error))?),
        None => None,
    };
    let applied = apply(payload.as_ref(), patch);
    let name = || key::describe(key);
    let Patched { number, payload } =
        applied.map_err(|what| invalid(format!("value of key {} is {what}", name())))?;
    let packed = payload.map(|payload| match present {
        Some(there) => stored::repack(&payload, &there.value),
        None => stored::seal(&payload, Compression::None),
    });
    let value = packed.transpose().map_err(|error| {
        let text = format!("value of key {}: {error}; use one key per item", name());
        invalid(text)
    })?;
    let told = value
        .as_ref()
        .zip(present)
        .map(|(value, there)| patched::told(key, patch, there.revision, value));
    Ok(Decided {
        outcome: Outcome::Number(number),
        cause: Cause::Patch,
        changes: value
            .map(|value| place.put(key, &value))
            .into_iter()
            .collect(),
        patches: told.into_iter().collect(),
    })
}

/// What a patch makes of a payload; of a missing key's there is none. Else what the payload is,
/// and what was needed.
pub(crate) fn apply(payload: Option<&Bytes>, patch: &Patch) -> Result<Patched, String> {
    let applied = match patch {
        Patch::Append { items } => append(payload, items),
        Patch::Add { items } => add(payload, items),
        Patch::Discard { items } => discard(payload, items),
    };
    let Some((number, payload)) = applied else {
        let of = value::type_name(payload.map_or(&[], |payload| payload));
        let needed = match patch {
            Patch::Append { .. } => "appending needs a list",
            Patch::Add { .. } | Patch::Discard { .. } => "adding and discarding need a set",
        };
        return Err(format!("{of}; {needed}"));
    };
    // It is bounded by the length of a value.
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    Ok(Patched { number, payload })
}

/// Makes one patch of two that follow each other, where that comes to the same.
pub(crate) fn join(first: &mut Patch, second: &Patch) -> bool {
    match (first, second) {
        (Patch::Append { items }, Patch::Append { items: more }) => {
            items.extend_from_slice(more);
            true
        }
        _ => false,
    }
}

/// A count, and the new payload if it changes anything.
type Counted = (usize, Option<Vec<u8>>);

fn append(payload: Option<&Bytes>, items: &[Bytes]) -> Option<Counted> {
    let payload = payload.map_or(elements::EMPTY_LIST, |payload| payload);
    let (count, head) = elements::list(payload)?;
    let length = count as usize + items.len();
    if items.is_empty() {
        return Some((length, None));
    }
    Some((length, Some(elements::list_payload((count, head), items)?)))
}

fn add(payload: Option<&Bytes>, items: &[Bytes]) -> Option<Counted> {
    let mut all = set(payload)?;
    let before = all.len();
    let mut known: HashSet<Bytes> = all.iter().map(|item| elements::identity(item)).collect();
    all.extend(
        items
            .iter()
            .filter(|item| known.insert(elements::identity(item)))
            .map(|item| &item[..]),
    );
    match all.len() - before {
        0 => Some((0, None)),
        added => Some((added, Some(elements::set_payload(all)?))),
    }
}

fn discard(payload: Option<&Bytes>, items: &[Bytes]) -> Option<Counted> {
    let mut all = set(payload)?;
    let before = all.len();
    let unwanted: HashSet<Bytes> = items.iter().map(|item| elements::identity(item)).collect();
    all.retain(|item| !unwanted.contains(&elements::identity(item)));
    match before - all.len() {
        0 => Some((0, None)),
        removed => Some((removed, Some(elements::set_payload(all)?))),
    }
}

/// The elements of a set; of a missing key there are none.
fn set(payload: Option<&Bytes>) -> Option<Vec<&[u8]>> {
    payload.map_or(Some(Vec::new()), |payload| elements::set(payload))
}
