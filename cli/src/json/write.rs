//! Values and keys to JSON.

use data_encoding::BASE64;
use objsync::bigint::BigInt;
use objsync::key::Key;
use objsync::value::{DateTime, Time, Value, Zone, object_parts};
use serde_json::{Map, Number, Value as Json, json};

use super::moment::{self, DAY_US};

/// A value as JSON.
pub(super) fn value(value: &Value) -> Json {
    match value {
        Value::None => Json::Null,
        Value::Bool(yes) => Json::Bool(*yes),
        Value::Int(number) => integer(&number.to_string()),
        Value::BigInt(number) => big(number),
        Value::Float(number) => float(*number),
        Value::Str(text) => Json::String(text.clone()),
        Value::Bytes(bytes) => json!({ "$bytes": BASE64.encode(bytes) }),
        Value::List(items) => list(items),
        Value::Tuple(items) => json!({ "$tuple": list(items) }),
        Value::Set(items) => json!({ "$set": list(items) }),
        Value::FrozenSet(items) => json!({ "$frozenset": list(items) }),
        Value::Dict(pairs) => dict(pairs),
        Value::Complex { re, im } => json!({ "$complex": [float(*re), float(*im)] }),
        Value::Decimal(number) => json!({ "$decimal": number.as_str() }),
        Value::DateTime(moment) => datetime(moment),
        Value::Date(date) => json!({ "$date": self::date(date.days) }),
        Value::Time(time) => time_of_day(time),
        Value::TimeDelta(delta) => {
            json!({ "$timedelta": [delta.days, delta.seconds, delta.micros] })
        }
        Value::Uuid(uuid) => json!({ "$uuid": uuid.to_string() }),
        Value::Ext(number, body) => match object_parts(value) {
            Some((name, content)) => json!({ "$object": [name, self::value(&content)] }),
            None => json!({ "$ext": [number, BASE64.encode(body)] }),
        },
    }
}

fn datetime(moment: &DateTime) -> Json {
    let text = format!(
        "{}{}",
        local(moment.micros),
        zone_text(moment.zone.as_ref())
    );
    if moment.fold {
        json!({ "$datetime_fold": text })
    } else {
        json!({ "$datetime": text })
    }
}

fn time_of_day(time: &Time) -> Json {
    let text = format!(
        "{}{}",
        moment::time_text(time.micros),
        zone_text(time.zone.as_ref())
    );
    if time.fold {
        json!({ "$time_fold": text })
    } else {
        json!({ "$time": text })
    }
}

/// `+01:00`, `+01:00[Europe/Berlin]`, or nothing.
fn zone_text(zone: Option<&Zone>) -> String {
    let Some(zone) = zone else {
        return String::new();
    };
    let name = zone
        .name
        .as_ref()
        .map(|name| format!("[{name}]"))
        .unwrap_or_default();
    format!("{}{name}", moment::offset_text(zone.offset_us))
}

/// A key as JSON.
pub(super) fn key(key: &Key) -> Json {
    match key {
        Key::None => Json::Null,
        Key::Int(number) => integer(&number.to_string()),
        Key::BigInt(number) => big(number),
        Key::Float(number) => float(*number),
        Key::Str(text) => Json::String(text.clone()),
        Key::Bytes(bytes) => json!({ "$bytes": BASE64.encode(bytes) }),
        Key::DateTimeNaive(micros) => json!({ "$datetime": local(*micros) }),
        Key::DateTimeAware(micros) => json!({ "$datetime": format!("{}+00:00", local(*micros)) }),
        Key::Uuid(uuid) => json!({ "$uuid": uuid.to_string() }),
        Key::Tuple(items) => {
            json!({ "$tuple": Json::Array(items.iter().map(self::key).collect()) })
        }
    }
}

fn list(items: &[Value]) -> Json {
    Json::Array(items.iter().map(value).collect())
}

fn dict(pairs: &[(Value, Value)]) -> Json {
    let mut object = Map::new();
    for (name, item) in pairs {
        let Value::Str(name) = name else {
            return dict_of_pairs(pairs);
        };
        object.insert(name.clone(), value(item));
    }
    let looks_special = object.len() == 1 && object.keys().all(|name| name.starts_with('$'));
    if looks_special {
        dict_of_pairs(pairs)
    } else {
        Json::Object(object)
    }
}

fn dict_of_pairs(pairs: &[(Value, Value)]) -> Json {
    let pairs = pairs
        .iter()
        .map(|(name, item)| json!([value(name), value(item)]));
    json!({ "$dict": Json::Array(pairs.collect()) })
}

fn float(number: f64) -> Json {
    let special = if number.is_nan() {
        "nan"
    } else if number == f64::INFINITY {
        "inf"
    } else if number == f64::NEG_INFINITY {
        "-inf"
    } else {
        // Finite floats are numbers of JSON, and are written with a point or an exponent.
        return Number::from_f64(number).map_or(Json::Null, Json::Number);
    };
    json!({ "$float": special })
}

fn big(number: &BigInt) -> Json {
    integer(&number.to_string())
}

fn integer(digits: &str) -> Json {
    let number: Result<Number, _> = digits.parse();
    Json::Number(number.expect("digits are a number of JSON, which has no bound here"))
}

/// The date and time of microseconds since 1970.
fn local(micros: i64) -> String {
    let days = i32::try_from(micros.div_euclid(DAY_US)).unwrap_or(i32::MAX);
    format!(
        "{}T{}",
        date(days),
        moment::time_text(micros.rem_euclid(DAY_US))
    )
}

/// A day that no calendar of ours has is written as its number, which is refused when read.
fn date(days: i32) -> String {
    moment::date_text(days).unwrap_or_else(|| days.to_string())
}
