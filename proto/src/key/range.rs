//! Ranges of encoded keys.

use bytes::Bytes;

use super::{Key, KeyError, KeyWriter, encode, tag};
use crate::wire::KeyRange;

/// All text keys that start with `prefix`.
#[must_use]
pub fn str_prefix(prefix: &str) -> KeyRange {
    string_prefix(tag::STR, prefix.as_bytes())
}

/// All bytes keys that start with `prefix`.
#[must_use]
pub fn bytes_prefix(prefix: &[u8]) -> KeyRange {
    string_prefix(tag::BYTES, prefix)
}

/// All tuple keys whose first elements are these.
///
/// # Errors
/// As [`encode`] for an element.
pub fn tuple_prefix(elements: &[Key]) -> Result<KeyRange, KeyError> {
    let mut writer = KeyWriter::new();
    writer.begin_tuple()?;
    for element in elements {
        writer.key(element)?;
    }
    Ok(starting_with(writer.into_prefix()))
}

/// The keys from `start`, included, to `stop`, not included; a missing bound is no bound.
///
/// # Errors
/// As [`encode`] for a bound.
pub fn between(start: Option<&Key>, stop: Option<&Key>) -> Result<KeyRange, KeyError> {
    let start = start.map(encode).transpose()?;
    let stop = stop.map(encode).transpose()?;
    Ok(KeyRange {
        start: start.map_or_else(Bytes::new, Bytes::from),
        end: stop.map(Bytes::from),
    })
}

/// The lowest bytes above `encoded`: the start of a range after it.
#[must_use]
pub fn successor(encoded: &[u8]) -> Bytes {
    [encoded, &[0]].concat().into()
}

/// The lowest bytes above everything that starts with `prefix`; none if there are none.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|byte| *byte != 0xFF)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

fn string_prefix(tag: u8, prefix: &[u8]) -> KeyRange {
    let mut writer = KeyWriter::new();
    writer.open_string(tag, prefix);
    starting_with(writer.into_prefix())
}

fn starting_with(prefix: Vec<u8>) -> KeyRange {
    let end = prefix_end(&prefix);
    KeyRange {
        start: prefix.into(),
        end,
    }
}
