//! Changes of a part of a value: the rest is never sent, and never lost.

use bytes::Bytes;

use super::{Decided, Decision, Place, Present, decided, invalid, unreadable};
use crate::dictionary::Dictionary;
use crate::effect::Cause;
use crate::key;
use crate::operation::{Outcome, Patch};
use crate::stored::{self, Compression};
use crate::{patch, patched, stored_chunks};

/// The time that the key stays is not touched.
pub(super) fn patch<E>(key: &Bytes, patch: &Patch, place: &Place<'_, E>) -> Result<Decision, E> {
    let present = place.view.get(place.namespace, key)?;
    let written = present.as_ref().map(|present| present.revision);
    if patch.revision.is_some() && patch.revision != written {
        let (key, revision) = (key.clone(), written.unwrap_or(place.view.last()));
        return Ok(decided(Outcome::Conflict { key, revision }, Vec::new()));
    }
    let dictionary = place.dictionary_of(present.as_ref().map(|present| &present.value))?;
    let there = (present.as_ref(), dictionary.as_deref());
    Ok(patched(key, patch, there, place))
}

fn patched<E>(
    key: &Bytes,
    patch: &Patch,
    (present, dictionary): (Option<&Present>, Option<&Dictionary>),
    place: &Place<'_, E>,
) -> Decision {
    let payload = match present {
        Some(there) => {
            let opened = stored_chunks::payload_or_head(&there.value, dictionary);
            Some(opened.map_err(|error| unreadable(key, &error))?)
        }
        None => None,
    };
    let applied = patch::apply(payload.as_deref(), patch).map_err(|error| error.failure(key))?;
    let packed = applied.payload.map(|payload| match present {
        Some(there) => stored::repack(&payload, &there.value, dictionary),
        None => stored::seal(&payload, Compression::None),
    });
    let value = packed.transpose().map_err(|error| {
        let name = key::describe(key);
        invalid(format!(
            "value of key {name}: {error}; use one key per item"
        ))
    })?;
    let changed = value.as_ref().zip(present);
    let told = changed.map(|(value, there)| {
        let base = (there.revision, &there.value);
        patched::told(key, patch, base, value)
    });
    Ok(Decided {
        outcome: Outcome::Number(applied.number),
        cause: Cause::Patch,
        changes: value
            .map(|value| place.put(key, &value))
            .into_iter()
            .collect(),
        patches: told.into_iter().collect(),
    })
}
