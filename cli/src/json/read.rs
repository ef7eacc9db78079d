//! Values and keys from JSON.

use data_encoding::BASE64;
use objsync::bigint::BigInt;
use objsync::key::Key;
use objsync::limits::VALUE_DEPTH_MAX;
use objsync::value::{Date, DateTime, Decimal, Time, TimeDelta, Value, Zone, object as object_of};
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
    let moment = || clock_text(name, content);
    Ok(match name {
        "$tuple" => Value::Tuple(items()?),
        "$set" => Value::Set(hashable(items()?)?),
        "$frozenset" => Value::FrozenSet(hashable(items()?)?),
        "$dict" => Value::Dict(pairs(name, content, depth)?),
        "$bytes" => Value::Bytes(bytes(name, content)?.into()),
        "$float" => Value::Float(special_float(name, content)?),
        "$complex" => complex(name, content)?,
        "$decimal" => Value::Decimal(parsed::<Decimal>(name, content)?),
        "$datetime" => datetime(moment()?, false).ok_or_else(|| wrong(name, content))?,
        "$datetime_fold" => datetime(moment()?, true).ok_or_else(|| wrong(name, content))?,
        "$date" => Value::Date(Date {
            days: date(name, content)?,
        }),
        "$time" => time(moment()?, false).ok_or_else(|| wrong(name, content))?,
        "$time_fold" => time(moment()?, true).ok_or_else(|| wrong(name, content))?,
        "$timedelta" => timedelta(content).ok_or_else(|| wrong(name, content))?,
        "$uuid" => Value::Uuid(parsed(name, content)?),
        "$ext" => extension(name, content)?,
        "$object" => object(name, content, depth)?,
        _ => {
            return Err(format!(
                "{name:?} is no type known here; docs/cli.md lists them"
            ));
        }
    })
}

/// A key from JSON, or what is wrong with it.
pub(super) fn key(json: &Json) -> Result<Key, String> {
    Ok(match json {
        Json::Null => Key::None,
        Json::Bool(yes) => Key::Int(i128::from(*yes)),
        Json::Number(number) => match number_value(number)? {
            Value::Float(number) => Key::Float(number),
            Value::Int(number) => Key::Int(number),
            Value::BigInt(number) => Key::BigInt(number),
            _ => return Err(format!("number {number} is no key")),
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
        "$uuid" => Key::Uuid(parsed(name, content)?),
        "$datetime" => {
            let (days, micros, offset) =
                moment::parts(text(name, content)?).ok_or_else(|| wrong(name, content))?;
            let local = i64::from(days) * DAY_US + micros;
            match offset {
                None => Key::DateTimeNaive(local),
                Some(offset) => Key::DateTimeAware(local - offset),
            }
        }
        _ => {
            return Err(format!(
                "{name:?} is no type of key; docs/cli.md lists them"
            ));
        }
    })
}

fn wrong(name: &str, content: &Json) -> String {
    format!("{name:?} does not take {content:.60}")
}

fn array<'a>(name: &str, content: &'a Json) -> Result<&'a [Json], String> {
    content
        .as_array()
        .map(Vec::as_slice)
        .ok_or_else(|| wrong(name, content))
}

fn text<'a>(name: &str, content: &'a Json) -> Result<&'a str, String> {
    content.as_str().ok_or_else(|| wrong(name, content))
}

fn values(items: &[Json], depth: usize) -> Result<Vec<Value>, String> {
    items.iter().map(|item| value(item, depth + 1)).collect()
}

fn pairs(name: &str, content: &Json, depth: usize) -> Result<Vec<(Value, Value)>, String> {
    let pair = |item: &Json| match item.as_array().map(Vec::as_slice) {
        Some([key, item]) => {
            let key = hashable(vec![value(key, depth + 1)?])?.remove(0);
            Ok((key, value(item, depth + 1)?))
        }
        _ => Err(wrong(name, item)),
    };
    array(name, content)?.iter().map(pair).collect()
}

fn bytes(name: &str, content: &Json) -> Result<Vec<u8>, String> {
    BASE64
        .decode(text(name, content)?.as_bytes())
        .map_err(|_| wrong(name, content))
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

fn parsed<T: std::str::FromStr>(name: &str, content: &Json) -> Result<T, String> {
    text(name, content)?
        .parse()
        .map_err(|_| wrong(name, content))
}

fn date(name: &str, content: &Json) -> Result<i32, String> {
    moment::date_days(text(name, content)?).ok_or_else(|| wrong(name, content))
}

fn number_value(number: &Number) -> Result<Value, String> {
    let text = number.as_str();
    if text.contains(['.', 'e', 'E']) {
        let float = number.as_f64().filter(|float| float.is_finite());
        return float
            .map(Value::Float)
            .ok_or_else(|| format!("number {text:.60} is too large"));
    }
    match text.parse() {
        Ok(small) => Ok(Value::Int(small)),
        Err(_) => text
            .parse::<BigInt>()
            .map(Value::BigInt)
            .map_err(|error| error.to_string()),
    }
}

/// What Python would not take as an element of a set or a key of a dict is refused here already.
fn hashable(items: Vec<Value>) -> Result<Vec<Value>, String> {
    fn is_hashable(item: &Value) -> bool {
        match item {
            Value::List(_) | Value::Dict(_) | Value::Set(_) => false,
            Value::Tuple(items) => items.iter().all(is_hashable),
            _ => true,
        }
    }
    if items.iter().all(is_hashable) {
        Ok(items)
    } else {
        Err(String::from(
            "a list, dict or set can be no element of a set and no key of a dict",
        ))
    }
}

fn complex(name: &str, content: &Json) -> Result<Value, String> {
    let [re, im] = array(name, content)? else {
        return Err(wrong(name, content));
    };
    Ok(Value::Complex {
        re: part(name, re)?,
        im: part(name, im)?,
    })
}

fn extension(name: &str, content: &Json) -> Result<Value, String> {
    let [number, body] = array(name, content)? else {
        return Err(wrong(name, content));
    };
    let number = number.as_i64().and_then(|number| i8::try_from(number).ok());
    Ok(Value::Ext(
        number.ok_or_else(|| wrong(name, content))?,
        bytes(name, body)?.into(),
    ))
}

/// An object of a class: the class's name and the content.
fn object(name: &str, content: &Json, depth: usize) -> Result<Value, String> {
    let [class, inner] = array(name, content)? else {
        return Err(wrong(name, content));
    };
    let inner = value(inner, depth + 1)?;
    object_of(text(name, class)?, &inner).map_err(|error| error.to_string())
}

/// A text of a date or time, and the name of its zone behind it in brackets.
fn clock_text<'a>(name: &str, content: &'a Json) -> Result<(&'a str, Option<&'a str>), String> {
    let text = text(name, content)?;
    match text.strip_suffix(']') {
        Some(rest) => rest.split_once('[').map(|(text, zone)| (text, Some(zone))),
        None => Some((text, None)),
    }
    .ok_or_else(|| wrong(name, content))
}

/// A zone's name says nothing without an offset: names change their offsets.
fn zone(offset_us: Option<i64>, name: Option<&str>) -> Option<Option<Zone>> {
    match (offset_us, name) {
        (None, Some(_)) => None,
        (None, None) => Some(None),
        (Some(offset_us), name) => Some(Some(Zone {
            offset_us,
            name: name.map(String::from),
        })),
    }
}

fn datetime((text, name): (&str, Option<&str>), fold: bool) -> Option<Value> {
    let (days, micros, offset) = moment::parts(text)?;
    let micros = i64::from(days) * DAY_US + micros;
    Some(Value::DateTime(DateTime {
        micros,
        zone: zone(offset, name)?,
        fold,
    }))
}

fn time((text, name): (&str, Option<&str>), fold: bool) -> Option<Value> {
    let (text, offset) = moment::split_offset(text)?;
    let micros = moment::time_micros(text)?;
    Some(Value::Time(Time {
        micros,
        zone: zone(offset, name)?,
        fold,
    }))
}

fn timedelta(content: &Json) -> Option<Value> {
    let part = |item: &Json| item.as_i64().and_then(|number| i32::try_from(number).ok());
    let [days, seconds, micros] = content.as_array()?.as_slice() else {
        return None;
    };
    let delta = TimeDelta {
        days: part(days)?,
        seconds: part(seconds)?,
        micros: part(micros)?,
    };
    let in_day = (0..86_400).contains(&delta.seconds) && (0..1_000_000).contains(&delta.micros);
    in_day.then_some(Value::TimeDelta(delta))
}
