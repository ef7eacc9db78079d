//! Keys and values as JSON, and back: `docs/cli.md` "Values" has the table.
//!
//! What JSON has goes as itself. The rest goes as an object with one key that starts with `$`, and
//! a dict that looks like one, or has keys that are not text, goes as `$dict`. So every value has
//! one JSON form, and comes back from it as the same value.

mod moment;
mod read;
mod stream;
mod write;

pub(crate) use moment::instant_text;
use objsync::Bytes;
use objsync::key;
use objsync::limits::VALUE_DEPTH_MAX;
use objsync::value;
use serde::Deserialize;
use serde_json::Value as Json;
pub(crate) use stream::write_entry_line;

use crate::exit::Failure;
use crate::input;

/// Levels of JSON that one level of a value can take: `{"$dict": [[key, value]]}`.
const JSON_LEVELS_MAX: usize = 3 * VALUE_DEPTH_MAX + 3;

/// Reads JSON as deep as a value may be; serde_json's own bound is below that.
pub(crate) fn parse(text: &[u8]) -> Result<Json, String> {
    if levels(text) > JSON_LEVELS_MAX {
        return Err(format!("it is nested over {JSON_LEVELS_MAX} deep"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    deserializer.disable_recursion_limit();
    let json = Json::deserialize(&mut deserializer).map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    Ok(json)
}

/// The deepest level of brackets outside of strings, so that a reader that recurses is safe.
fn levels(text: &[u8]) -> usize {
    let (mut level, mut deepest) = (0_usize, 0);
    let mut in_string = false;
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => {
                bytes.next();
            }
            b'[' | b'{' if !in_string => {
                level += 1;
                deepest = deepest.max(level);
            }
            b']' | b'}' if !in_string => level = level.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The payload of a value given as JSON.
pub(crate) fn value_from_json(json: &Json) -> Result<Bytes, Failure> {
    let value = read::value(json, 0).map_err(Failure::Usage)?;
    match value::encode(&value) {
        Ok(payload) => Ok(payload),
        // Bytes and text of any length go into chunks.
        Err(error) => match value::content_payload(&value) {
            Some(payload) => Ok(payload.into()),
            None => Err(Failure::Usage(error.to_string())),
        },
    }
}

/// The encoded key of a key given as JSON.
pub(crate) fn key_from_json(json: &Json) -> Result<Bytes, Failure> {
    input::encode(&read::key(json).map_err(Failure::Usage)?)
}

/// A payload as JSON.
pub(crate) fn value_to_json(payload: &[u8]) -> Result<Json, Failure> {
    let value = value::decode(payload).map_err(damaged)?;
    Ok(write::value(&value))
}

/// An encoded key as JSON.
pub(crate) fn key_to_json(encoded: &[u8]) -> Result<Json, Failure> {
    Ok(write::key(&key::decode(encoded).map_err(damaged)?))
}

/// A value for people: text bare, unless `quoted`, and all else as JSON.
pub(crate) fn shown_value(payload: &[u8], quoted: bool) -> Result<String, Failure> {
    Ok(shown(value_to_json(payload)?, quoted))
}

/// A key for people: as [`shown_value`].
pub(crate) fn shown_key(encoded: &[u8], quoted: bool) -> Result<String, Failure> {
    Ok(shown(key_to_json(encoded)?, quoted))
}

fn shown(json: Json, quoted: bool) -> String {
    match json {
        Json::String(text) if !quoted => text,
        json => json.to_string(),
    }
}

/// The line of an entry, or of its key alone.
pub(crate) fn entry_line(encoded: &[u8], payload: Option<&[u8]>) -> Result<String, Failure> {
    let key = key_to_json(encoded)?;
    Ok(match payload {
        Some(payload) => format!("{{\"key\":{key},\"value\":{}}}", value_to_json(payload)?),
        None => format!("{{\"key\":{key}}}"),
    })
}

/// The encoded key and the payload on a line, or what is wrong with it.
pub(crate) fn entry_from_line(line: &[u8]) -> Result<(Bytes, Bytes), String> {
    let json = parse(line)?;
    let Json::Object(entry) = &json else {
        return Err(String::from("it is no object with key and value"));
    };
    let field = |name: &str| entry.get(name).ok_or_else(|| format!("it has no {name:?}"));
    if let Some(name) = entry
        .keys()
        .find(|name| !["key", "value"].contains(&name.as_str()))
    {
        return Err(format!("it has {name:?}, and only key and value are known"));
    }
    let said = |failure: Failure| failure.message();
    let key = key_from_json(field("key")?).map_err(said)?;
    let value = value_from_json(field("value")?).map_err(said)?;
    Ok((key, value))
}

/// What the store holds does not read: it was written by something else, or is damaged.
fn damaged(error: impl std::fmt::Display) -> Failure {
    Failure::Object {
        error: objsync::Failure::new(objsync::ErrorKind::Corrupt, error.to_string()).into(),
        hint: None,
    }
}

#[cfg(test)]
mod tests;
