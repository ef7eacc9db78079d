//! Lists and sets, of which a part changes: the rest is never sent, and never lost.

use std::collections::HashSet;

use bytes::Bytes;

use super::{Decided, Decision, Place, invalid, unreadable};
use crate::dictionary::Dictionary;
use crate::effect::Cause;
use crate::error::Failure;
use crate::key;
use crate::operation::{Outcome, Patch};
use crate::stored::{self, Codec, Compression};
use crate::value::{self, elements};

/// The level at which a value that was compressed is compressed again; the header does not say at
/// which it was.
const ZSTD_LEVEL: i32 = 3;

/// The number that a patch comes to, and the new payload if it changes anything.
type Patched = (usize, Option<Vec<u8>>);

/// The time that the key stays is not touched.
pub(super) fn patch<E>(key: &Bytes, patch: &Patch, place: &Place<'_, E>) -> Result<Decision, E> {
    let present = place.get(key)?;
    let dictionary = place.dictionary_of(present.as_ref())?;
    Ok(
        patched(key, patch, (present.as_ref(), dictionary.as_deref())).map(|(number, value)| {
            Decided {
                outcome: Outcome::Number(number),
                cause: Cause::Patch,
                changes: value
                    .map(|value| place.put(key, &value))
                    .into_iter()
                    .collect(),
            }
        }),
    )
}

fn patched(
    key: &Bytes,
    patch: &Patch,
    (present, dictionary): (Option<&Bytes>, Option<&Dictionary>),
) -> Result<(i64, Option<Bytes>), Failure> {
    let payload = match present {
        Some(value) => {
            let opened = stored::open_with(value, |_| dictionary);
            Some(opened.map_err(|error| unreadable(key, &error))?)
        }
        None => None,
    };
    let applied = match patch {
        Patch::Append { items } => append(payload.as_ref(), items),
        Patch::Add { items } => add(payload.as_ref(), items),
        Patch::Discard { items } => discard(payload.as_ref(), items),
    };
    let Some((number, new)) = applied else {
        let (name, of) = (
            key::describe(key),
            value::type_name(&payload.unwrap_or_default()),
        );
        let needed = match patch {
            Patch::Append { .. } => "appending needs a list",
            Patch::Add { .. } | Patch::Discard { .. } => "adding and discarding need a set",
        };
        return Err(invalid(format!("value of key {name} is {of}; {needed}")));
    };
    let compression = match present.map(|value| stored::check(value)) {
        Some(Ok(Codec::Zstd { .. } | Codec::Dictionary { .. })) => Compression::Zstd(ZSTD_LEVEL),
        _ => Compression::None,
    };
    let sealed = new.map(|payload| stored::seal_with(&payload, compression, dictionary));
    let sealed = sealed.transpose().map_err(|error| {
        let name = key::describe(key);
        invalid(format!(
            "value of key {name}: {error}; use one key per item"
        ))
    })?;
    // Both are bounded by the length of a value.
    Ok((i64::try_from(number).unwrap_or(i64::MAX), sealed))
}

fn append(payload: Option<&Bytes>, items: &[Bytes]) -> Option<Patched> {
    let payload = payload.map_or(elements::EMPTY_LIST, |payload| payload);
    let (count, head) = elements::list(payload)?;
    let length = count as usize + items.len();
    if items.is_empty() {
        return Some((length, None));
    }
    Some((length, Some(elements::list_payload((count, head), items)?)))
}

fn add(payload: Option<&Bytes>, items: &[Bytes]) -> Option<Patched> {
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

fn discard(payload: Option<&Bytes>, items: &[Bytes]) -> Option<Patched> {
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
