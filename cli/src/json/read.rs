//! Values and keys from JSON.

use data_encoding::BASE64;
use objsync::key::Key;
use objsync::limits::VALUE_DEPTH_MAX;
use objsync::value::Value;
use serde_json::{Number, Value as Json};

use super::moment::{self, DAY_US};

/// A value from JSON, or what is wrong with it. `depth` counts the containers around it.
pub(super) fn value(json: &Json, depth: usize) -> Result<Value, String> {
    if depth > VALUE_DEPTH_MAX {
        return Err(format!("value is nested over {VALUE_DEPTH_MAX} deep"));
    }
    Ok(match json {
        Json::Null => Value::None,
        Json::Bool(yes) => Value::Bool(*yes),
        Json::Number(number) => number_value(number)?,
        Json::String(text) => Value::Str(text.clone()),
        Json::Array(items) => Value::List(values(items, depth)?),
        Json::Object(object) => match object.iter().next() {
            Some((name, content)) if object.len() == 1 && name.starts_with('$') => {
                special(name, content, depth)?
            }
            _ => Value::Dict(
                object
                    .iter()
                    .map(|(name, item)| Ok((Value::Str(name.clone()), value(item, depth + 1)?)))
                    .collect::<Result<_, String>>()?,
            ),
        },
    })
}

fn special(name: &str, content: &Json, depth: usize) -> Result<Value, String> {
    let items = || values(array(name, content)?, depth);
    Ok(match name {
        "$tuple" => Value::Tuple(items()?),
        "$set" => Value::Set(items()?),
        "$frozenset" => Value::FrozenSet(items()?),
        "$dict" => Value::Dict(pairs(name, content, depth)?),
        "$bytes" => Value::Bytes(bytes(name, content)?.into()),
        "$float" => Value::Float(special_float(name, content)?),
        "$complex" => complex(name, content)?,
        "$decimal" => Value::Decimal(decimal(name, content)?),
        "$datetime" => datetime(name, content)?,
        "$date" => Value::Date(date(name, content)?),
        "$time" => time(name, content)?,
        "$timedelta" => timedelta(name, content)?,
        "$uuid" => Value::Uuid(uuid(name, content)?),
        _ => return Err(format!("{name:?} is no type known here; docs/cli.md lists them")),
    })
}

/// A key from JSON, or what is wrong with it.
pub(super) fn key(json: &Json) -> Result<Key, String> {
    Ok(match json {
        Json::Null => Key::None,
        Json::Bool(yes) => Key::Int(i128::from(*yes)),
        Json::Number(number) => match number_value(number)? {
            Value::Float(number) => Key::Float(number),
            Value::Int(number) => Key::Int(number.into()),
            _ => big_key(number)?,
        },
        Json::String(text) => Key::Str(text.clone()),
        Json::Object(object) => match object.iter().next() {
            Some((name, content)) if object.len() == 1 => special_key(name, content)?,
            _ => return Err(String::from("a dict is no key")),
        },
        Json::Array(_) => return Err(String::from("a list is no key; {\"$tuple\": [..]} is one")),
    })
}

fn special_key(name: &str, content: &Json) -> Result<Key, String> {
    Ok(match name {
        "$tuple" => {
            let items = array(name, content)?;
            Key::Tuple(items.iter().map(key).collect::<Result<_, _>>()?)
        }
        "$bytes" => Key::Bytes(bytes(name, content)?.into()),
        "$float" => Key::Float(special_float(name, content)?),
        "$uuid" => Key::Uuid(uuid(name, content)?),
        "$datetime" => {
            let (days, micros, offset) =
                moment::parts(text(name, content)?).ok_or_else(|| wrong(name, content))?;
            let local = i64::from(days) * DAY_US + micros;
            match offset {
                None => Key::DateTimeNaive(local),
                Some(offset) => Key::DateTimeAware(local - offset),
            }
        }
        _ => return Err(format!("{name:?} is no type of key; docs/cli.md lists them")),
    })
}

fn wrong(name: &str, content: &Json) -> String {
    format!("{name:?} does not take {content:.60}")
}

fn array<'a>(name: &str, content: &'a Json) -> Result<&'a [Json], String> {
    content.as_array().map(Vec::as_slice).ok_or_else(|| wrong(name, content))
}

fn text<'a>(name: &str, content: &'a Json) -> Result<&'a str, String> {
    content.as_str().ok_or_else(|| wrong(name, content))
}

fn values(items: &[Json], depth: usize) -> Result<Vec<Value>, String> {
    items.iter().map(|item| value(item, depth + 1)).collect()
}

fn pairs(name: &str, content: &Json, depth: usize) -> Result<Vec<(Value, Value)>, String> {
    let pair = |item: &Json| match item.as_array().map(Vec::as_slice) {
        Some([key, item]) => Ok((value(key, depth + 1)?, value(item, depth + 1)?)),
        _ => Err(wrong(name, item)),
    };
    array(name, content)?.iter().map(pair).collect()
}

fn bytes(name: &str, content: &Json) -> Result<Vec<u8>, String> {
    BASE64.decode(text(name, content)?.as_bytes()).map_err(|_| wrong(name, content))
}

fn special_float(name: &str, content: &Json) -> Result<f64, String> {
    match content.as_str() {
        Some("nan") => Ok(f64::NAN),
        Some("inf") => Ok(f64::INFINITY),
        Some("-inf") => Ok(f64::NEG_INFINITY),
        _ => Err(wrong(name, content)),
    }
}

/// A part of a complex number: a number, or a special float.
fn part(name: &str, content: &Json) -> Result<f64, String> {
    if let Some(special) = content.get("$float") {
        return special_float(name, special);
    }
    content.as_f64().ok_or_else(|| wrong(name, content))
}

fn uuid<T: std::str::FromStr>(name: &str, content: &Json) -> Result<T, String> {
    text(name, content)?.parse().map_err(|_| wrong(name, content))
}

fn date(name: &str, content: &Json) -> Result<i32, String> {
    moment::date_days(text(name, content)?).ok_or_else(|| wrong(name, content))
}

fn is_integer(number: &Number) -> bool {
    !number.as_str().contains(['.', 'e', 'E'])
}
