//! Values to payloads, through serde and `rmp_serde`.

use bytes::Bytes;
use serde::ser::{Error as _, SerializeMap};
use serde::{Serialize, Serializer};

use super::{Value, ValueError, ext, inspect};
use crate::bigint::BigInt;
use crate::stored::PAYLOAD_BYTES_MAX;

/// The payload of a value.
///
/// # Errors
/// [`ValueError::TooLarge`], [`ValueError::TooDeep`], and [`ValueError::Encode`] for a date or
/// time out of its bounds.
///
/// # Examples
/// ```
/// use objsync_proto::value::{self, Value};
///
/// let payload = value::encode(&Value::Tuple(vec![1.into(), "a".into()]))?;
/// assert_eq!(value::decode(&payload)?, Value::Tuple(vec![1.into(), "a".into()]));
/// # Ok::<(), value::ValueError>(())
/// ```
pub fn encode(value: &Value) -> Result<Bytes, ValueError> {
    to_payload(value)
}

/// The payload of anything that serde can write; structs become dicts by field name.
///
/// # Errors
/// [`ValueError::TooLarge`], [`ValueError::TooDeep`], and [`ValueError::Encode`] when the type's
/// own serde code refuses.
pub fn to_payload<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, ValueError> {
    let payload = rmp_serde::to_vec_named(value).map_err(ValueError::Encode)?;
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(ValueError::TooLarge {
            bytes: payload.len(),
        });
    }
    // Nobody could read it back.
    inspect::check_depth(&payload)?;
    Ok(payload.into())
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_unit(),
            Self::Bool(truth) => serializer.serialize_bool(*truth),
            Self::Int(number) => serialize_int(*number, serializer),
            Self::BigInt(number) => number.serialize(serializer),
            Self::Float(number) => serializer.serialize_f64(*number),
            Self::Str(text) => serializer.serialize_str(text),
            Self::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Self::List(elements) => elements.serialize(serializer),
            Self::Dict(pairs) => {
                let mut map = serializer.serialize_map(Some(pairs.len()))?;
                for (key, value) in pairs {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
            other => {
                let (number, body) = body(other).map_err(S::Error::custom)?;
                serialize_ext(number, &body, serializer)
            }
        }
    }
}

/// An integer that MessagePack has no form for is an extension.
impl Serialize for BigInt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.to_i128() {
            Some(number) if is_native(number) => serialize_int(number, serializer),
            _ => serialize_ext(ext::BIG_INT, &big_body(self), serializer),
        }
    }
}

fn is_native(number: i128) -> bool {
    i64::try_from(number).is_ok() || u64::try_from(number).is_ok()
}

fn serialize_int<S: Serializer>(number: i128, serializer: S) -> Result<S::Ok, S::Error> {
    if let Ok(number) = i64::try_from(number) {
        serializer.serialize_i64(number)
    } else if let Ok(number) = u64::try_from(number) {
        serializer.serialize_u64(number)
    } else {
        serialize_ext(ext::BIG_INT, &big_body(&BigInt::from(number)), serializer)
    }
}

fn serialize_ext<S: Serializer>(number: i8, body: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let fields = (number, serde_bytes::Bytes::new(body));
    serializer.serialize_newtype_struct(rmp_serde::MSGPACK_EXT_STRUCT_NAME, &fields)
}

/// Number and body of a value that is an extension.
fn body(value: &Value) -> Result<(i8, Vec<u8>), ValueError> {
    Ok(match value {
        Value::Tuple(elements) => (ext::TUPLE, array_body(&encode_each(elements)?)),
        Value::Set(elements) => (ext::SET, array_body(&distinct(elements)?)),
        Value::FrozenSet(elements) => (ext::FROZENSET, array_body(&distinct(elements)?)),
        Value::DateTime(moment) => (ext::DATETIME, moment.to_body()?),
        Value::Date(date) => (ext::DATE, date.to_body()?.to_vec()),
        Value::Time(time) => (ext::TIME, time.to_body()?),
        Value::TimeDelta(delta) => (ext::TIMEDELTA, delta.to_body()?.to_vec()),
        Value::Uuid(uuid) => (ext::UUID, uuid.as_bytes().to_vec()),
        Value::Decimal(decimal) => (ext::DECIMAL, decimal.as_str().as_bytes().to_vec()),
        Value::Complex { re, im } => (ext::COMPLEX, [re.to_be_bytes(), im.to_be_bytes()].concat()),
        Value::Ext(number, body) => (*number, body.to_vec()),
        _ => unreachable!("the others are native to MessagePack"),
    })
}

fn big_body(number: &BigInt) -> Vec<u8> {
    [&[u8::from(number.is_negative())], number.magnitude()].concat()
}

fn encode_each(elements: &[Value]) -> Result<Vec<Vec<u8>>, ValueError> {
    elements
        .iter()
        .map(|e| rmp_serde::to_vec_named(e).map_err(ValueError::Encode))
        .collect()
}

/// Encoded elements in the order of their bytes, each once: equal sets are equal bytes.
fn distinct(elements: &[Value]) -> Result<Vec<Vec<u8>>, ValueError> {
    let mut encoded = encode_each(elements)?;
    encoded.sort_unstable();
    encoded.dedup();
    Ok(encoded)
}

fn array_body(encoded: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::with_capacity(5 + encoded.iter().map(Vec::len).sum::<usize>());
    let count = u32::try_from(encoded.len()).expect("a value holds fewer elements");
    rmp::encode::write_array_len(&mut body, count).expect("memory takes every write");
    encoded
        .iter()
        .for_each(|element| body.extend_from_slice(element));
    body
}
