//! What can be told of a payload without decoding it.

use rmp::Marker;
use rmp::decode as read;

use super::{ValueError, ext};
use crate::limits::{CLASS_NAME_BYTES_MAX, VALUE_DEPTH_MAX};

/// The payload of an integer.
#[must_use]
pub fn int_payload(number: i64) -> Vec<u8> {
    let mut payload = Vec::with_capacity(9);
    rmp::encode::write_sint(&mut payload, number).expect("memory takes every write");
    payload
}

/// What Python calls the type of a payload, by its first bytes.
#[must_use]
pub fn type_name(payload: &[u8]) -> &'static str {
    let Some(first) = payload.first() else {
        return "nothing";
    };
    match Marker::from_u8(*first) {
        Marker::Null => "None",
        Marker::True | Marker::False => "bool",
        Marker::FixPos(_) | Marker::FixNeg(_) => "int",
        Marker::U8 | Marker::U16 | Marker::U32 | Marker::U64 => "int",
        Marker::I8 | Marker::I16 | Marker::I32 | Marker::I64 => "int",
        Marker::F32 | Marker::F64 => "float",
        Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => "str",
        Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => "bytes",
        Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => "list",
        Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => "dict",
        Marker::Reserved => "nothing",
        _ => ext_name(payload),
    }
}

fn ext_name(payload: &[u8]) -> &'static str {
    let mut rest = payload;
    read::read_ext_meta(&mut rest)
        .ok()
        .and_then(|meta| ext::name(meta.typeid))
        .unwrap_or("an unknown type")
}

/// Checks that a payload is one whole value within the limit of nesting. Text and what
/// extensions hold are not looked into, except for containers and objects of classes.
///
/// # Errors
/// [`ValueError::Malformed`], [`ValueError::TooDeep`].
pub fn check(payload: &[u8]) -> Result<(), ValueError> {
    let mut rest = payload;
    skip(&mut rest, 0).map_err(|fault| fault.at(payload.len() - rest.len()))?;
    if rest.is_empty() {
        Ok(())
    } else {
        Err(Fault::Malformed("bytes after the value").at(payload.len() - rest.len()))
    }
}

/// As [`check`], of a payload that is to stand so many containers deep in a value.
///
/// # Errors
/// [`ValueError::Malformed`], [`ValueError::TooDeep`].
pub fn check_element(payload: &[u8], depth: usize) -> Result<(), ValueError> {
    let mut rest = payload;
    skip(&mut rest, depth).map_err(|fault| fault.at(payload.len() - rest.len()))?;
    match rest {
        [] => Ok(()),
        _ => Err(Fault::Malformed("bytes after the value").at(payload.len() - rest.len())),
    }
}

/// As [`check`], of a payload that an encoder has just made.
pub(super) fn check_depth(payload: &[u8]) -> Result<(), ValueError> {
    // As many bytes as levels at least: most values end here.
    if payload.len() <= VALUE_DEPTH_MAX {
        Ok(())
    } else {
        check(payload)
    }
}

pub(super) enum Fault {
    TooDeep,
    Malformed(&'static str),
}

impl Fault {
    fn at(self, offset: usize) -> ValueError {
        match self {
            Self::TooDeep => ValueError::TooDeep,
            Self::Malformed(reason) => ValueError::Malformed { offset, reason },
        }
    }
}

const CUT: Fault = Fault::Malformed("the value is cut");

/// Skips one value.
pub(super) fn skip(rest: &mut &[u8], depth: usize) -> Result<(), Fault> {
    let first = *rest.first().ok_or(CUT)?;
    match Marker::from_u8(first) {
        Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => {
            let count = read::read_array_len(rest).map_err(|_| CUT)?;
            skip_several(rest, count.into(), depth)
        }
        Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => {
            let count = read::read_map_len(rest).map_err(|_| CUT)?;
            skip_several(rest, u64::from(count) * 2, depth)
        }
        Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
            let length = read::read_str_len(rest).map_err(|_| CUT)?;
            skip_bytes(rest, length).map(drop)
        }
        Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => {
            let length = read::read_bin_len(rest).map_err(|_| CUT)?;
            skip_bytes(rest, length).map(drop)
        }
        Marker::Null | Marker::True | Marker::False | Marker::FixPos(_) | Marker::FixNeg(_) => {
            skip_bytes(rest, 1).map(drop)
        }
        Marker::U8 | Marker::I8 => skip_bytes(rest, 2).map(drop),
        Marker::U16 | Marker::I16 => skip_bytes(rest, 3).map(drop),
        Marker::U32 | Marker::I32 | Marker::F32 => skip_bytes(rest, 5).map(drop),
        Marker::U64 | Marker::I64 | Marker::F64 => skip_bytes(rest, 9).map(drop),
        Marker::Reserved => Err(Fault::Malformed("a byte that starts nothing")),
        _ => skip_ext(rest, depth),
    }
}

fn skip_several(rest: &mut &[u8], count: u64, depth: usize) -> Result<(), Fault> {
    if depth >= VALUE_DEPTH_MAX {
        return Err(Fault::TooDeep);
    }
    (0..count).try_for_each(|_| skip(rest, depth + 1))
}

fn skip_ext(rest: &mut &[u8], depth: usize) -> Result<(), Fault> {
    let meta = read::read_ext_meta(rest).map_err(|_| CUT)?;
    let mut body = skip_bytes(rest, meta.size)?;
    if meta.typeid == ext::OBJECT {
        return skip_object(body, depth);
    }
    if !matches!(meta.typeid, ext::TUPLE | ext::SET | ext::FROZENSET) {
        return Ok(());
    }
    skip(&mut body, depth)?;
    if body.is_empty() {
        Ok(())
    } else {
        Err(Fault::Malformed("bytes after the elements"))
    }
}

/// The name of a class, then what was stored of its object: one level deeper.
fn skip_object(mut body: &[u8], depth: usize) -> Result<(), Fault> {
    let no_name = Fault::Malformed("an object without the name of its class");
    let Ok(length) = read::read_str_len(&mut body) else {
        return Err(no_name);
    };
    if length as usize > CLASS_NAME_BYTES_MAX {
        return Err(Fault::Malformed("the name of a class is too long"));
    }
    if depth >= VALUE_DEPTH_MAX {
        return Err(Fault::TooDeep);
    }
    skip_bytes(&mut body, length)?;
    skip(&mut body, depth + 1)?;
    if body.is_empty() {
        Ok(())
    } else {
        Err(Fault::Malformed("bytes after the content of an object"))
    }
}

fn skip_bytes<'a>(rest: &mut &'a [u8], length: u32) -> Result<&'a [u8], Fault> {
    let (bytes, after) = rest.split_at_checked(length as usize).ok_or(CUT)?;
    *rest = after;
    Ok(bytes)
}
