//! Changes of a part of a value: the rest is never sent, and never lost.

use bytes::Bytes;

use super::{Decided, Decision, Place, decided, invalid, unreadable};
use crate::effect::Cause;
use crate::error::Failure;
use crate::key;
use crate::operation::{Outcome, Patch};
use crate::patch;
use crate::stored::{self, Codec, Compression};

/// The level at which a value that was compressed is compressed again; the header does not say at
/// which it was.
const ZSTD_LEVEL: i32 = 3;

/// The time that the key stays is not touched.
pub(super) fn patch<E>(key: &Bytes, patch: &Patch, place: &Place<'_, E>) -> Result<Decision, E> {
    let present = place.view.get(place.namespace, key)?;
    let written = present.as_ref().map(|present| present.revision);
    if patch.revision.is_some() && patch.revision != written {
        let (key, revision) = (key.clone(), written.unwrap_or(place.view.last()));
        return Ok(decided(Outcome::Conflict { key, revision }, Vec::new()));
    }
    let present = present.map(|present| present.value);
    Ok(
        patched(key, patch, present.as_ref()).map(|(number, value)| Decided {
            outcome: Outcome::Number(number),
            cause: Cause::Patch,
            changes: value
                .map(|value| place.put(key, &value))
                .into_iter()
                .collect(),
        }),
    )
}

fn patched(
    key: &Bytes,
    patch: &Patch,
    present: Option<&Bytes>,
) -> Result<(i64, Option<Bytes>), Failure> {
    let payload = match present {
        Some(value) => Some(stored::open(value).map_err(|error| unreadable(key, &error))?),
        None => None,
    };
    let applied = patch::apply(payload.as_deref(), patch).map_err(|error| error.failure(key))?;
    let compression = match present.map(|value| stored::check(value)) {
        Some(Ok(Codec::Zstd { .. })) => Compression::Zstd(ZSTD_LEVEL),
        _ => Compression::None,
    };
    let sealed = applied
        .payload
        .map(|payload| stored::seal(&payload, compression));
    let sealed = sealed.transpose().map_err(|error| {
        let name = key::describe(key);
        invalid(format!(
            "value of key {name}: {error}; use one key per item"
        ))
    })?;
    Ok((applied.number, sealed))
}
