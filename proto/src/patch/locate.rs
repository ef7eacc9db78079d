//! The way from a value to one of its parts.

use std::fmt::Write;
use std::ops::Range;

use bytes::Bytes;
use rmp::decode as read;

use super::error::PatchError;
use crate::operation::Step;
use crate::value::elements::{self, Identity};
use crate::value::{Value, decode, type_name};

/// Texts over this many characters are cut when a step is shown.
const SHOWN_CHARS_MAX: usize = 100;

/// What lies at the end of a path.
pub(super) enum Place<'a> {
    /// The part, at these bytes.
    There(Range<usize>),
    /// A dict at these bytes, without this field.
    NoField(Range<usize>, &'a Bytes),
    /// No value at all, and the path asks for none of its parts.
    NoValue,
}

/// Finds the part of a payload at the end of a path.
pub(super) fn locate<'a>(
    payload: Option<&[u8]>,
    path: &'a [Step],
) -> Result<Place<'a>, PatchError> {
    let Some(payload) = payload else {
        return match path {
            [] => Ok(Place::NoValue),
            _ => Err(PatchError::NotFound {
                path: String::new(),
            }),
        };
    };
    let mut part = 0..payload.len();
    for (depth, step) in path.iter().enumerate() {
        let inner = match step {
            Step::Field { key } => field(&payload[part.clone()], key, depth),
            Step::Index { index } => element(&payload[part.clone()], *index, depth),
        };
        let not_there = || PatchError::NotFound {
            path: describe(&path[..=depth]),
        };
        part = match (inner, step) {
            (Inside::There(inner), _) => part.start + inner.start..part.start + inner.end,
            (Inside::Nothing, Step::Field { key }) if depth + 1 == path.len() => {
                return Ok(Place::NoField(part, key));
            }
            (Inside::Nothing, _) => return Err(not_there()),
            (Inside::OtherType, step) => {
                return Err(PatchError::WrongType {
                    path: describe(&path[..depth]),
                    found: type_name(&payload[part]),
                    needed: match step {
                        Step::Field { .. } => "the path needs a dict there",
                        Step::Index { .. } => "the path needs a list there",
                    },
                });
            }
        };
    }
    Ok(Place::There(part))
}

enum Inside {
    There(Range<usize>),
    Nothing,
    /// Not of the type that has such parts, or cut.
    OtherType,
}

fn field(dict: &[u8], key: &[u8], depth: usize) -> Inside {
    let Some(count) = elements::dict_len(dict) else {
        return Inside::OtherType;
    };
    let mut rest = dict;
    // The header was read just now.
    let _ = read::read_map_len(&mut rest);
    let wanted = Identity::of(key);
    for _ in 0..count {
        let Some(found) = elements::next(&mut rest, depth + 1) else {
            return Inside::OtherType;
        };
        let start = dict.len() - rest.len();
        if elements::next(&mut rest, depth + 1).is_none() {
            return Inside::OtherType;
        }
        if Identity::of(found) == wanted {
            return Inside::There(start..dict.len() - rest.len());
        }
    }
    Inside::Nothing
}

fn element(list: &[u8], index: u32, depth: usize) -> Inside {
    let Some((count, mut rest)) = elements::list(list) else {
        return Inside::OtherType;
    };
    if index >= count {
        return Inside::Nothing;
    }
    for _ in 0..index {
        if elements::next(&mut rest, depth + 1).is_none() {
            return Inside::OtherType;
        }
    }
    let start = list.len() - rest.len();
    match elements::next(&mut rest, depth + 1) {
        Some(_) => Inside::There(start..list.len() - rest.len()),
        None => Inside::OtherType,
    }
}

/// A path as Python writes it: `["a"][3]`; empty for no steps.
#[must_use]
pub fn describe(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        let shown = match step {
            Step::Index { index } => index.to_string(),
            Step::Field { key } => match decode(key) {
                Ok(Value::Str(name)) => {
                    format!(
                        "{:?}",
                        name.chars().take(SHOWN_CHARS_MAX).collect::<String>()
                    )
                }
                Ok(Value::Int(number)) => number.to_string(),
                Ok(Value::Bool(true)) => "True".to_owned(),
                Ok(Value::Bool(false)) => "False".to_owned(),
                _ => format!("a {}", type_name(key)),
            },
        };
        write!(text, "[{shown}]").expect("memory takes every write");
    }
    text
}
