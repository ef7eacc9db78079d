//! Payloads to values. A payload may come from anybody.

use std::fmt;

use bytes::Bytes;
use rmp::Marker;
use rmp::decode as read;
use serde::de::{DeserializeOwned, Error as _, MapAccess, SeqAccess};
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use super::{Date, DateTime, Time, TimeDelta, Value, ValueError, ext};
use crate::bigint::BigInt;
use crate::limits::VALUE_DEPTH_MAX;

/// The value of a payload.
///
/// # Errors
/// [`ValueError::Malformed`], [`ValueError::TooDeep`].
pub fn decode(payload: &[u8]) -> Result<Value, ValueError> {
    let mut reader = Reader { payload, offset: 0 };
    let value = reader.value(0)?;
    reader.end()?;
    Ok(value)
}

/// The value of a payload as a type that serde can read.
///
/// # Errors
/// [`ValueError::Decode`] when it is of another type, or nested deeper than any value may be.
pub fn from_payload<T: DeserializeOwned>(payload: &[u8]) -> Result<T, ValueError> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(payload);
    // It fails when the count reaches zero, so one more than the levels that are allowed.
    deserializer.set_max_depth(VALUE_DEPTH_MAX + 1);
    T::deserialize(&mut deserializer).map_err(ValueError::Decode)
}

struct Reader<'a> {
    payload: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn malformed<T>(&self, reason: &'static str) -> Result<T, ValueError> {
        Err(ValueError::Malformed {
            offset: self.offset,
            reason,
        })
    }

    fn end(&self) -> Result<(), ValueError> {
        if self.offset == self.payload.len() {
            Ok(())
        } else {
            self.malformed("bytes after the value")
        }
    }

    /// Reads one thing with a function of `rmp`.
    fn read<T, E>(
        &mut self,
        read: impl FnOnce(&mut &'a [u8]) -> Result<T, E>,
    ) -> Result<T, ValueError> {
        let mut rest = &self.payload[self.offset..];
        match read(&mut rest) {
            Ok(value) => {
                self.offset = self.payload.len() - rest.len();
                Ok(value)
            }
            Err(_) => self.malformed("the value is cut"),
        }
    }

    fn slice(&mut self, length: u32) -> Result<&'a [u8], ValueError> {
        match self.payload[self.offset..].get(..length as usize) {
            Some(slice) => {
                self.offset += slice.len();
                Ok(slice)
            }
            None => self.malformed("a length beyond the end of the value"),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, ValueError> {
        let Some(first) = self.payload.get(self.offset) else {
            return self.malformed("the value is cut");
        };
        Ok(match Marker::from_u8(*first) {
            Marker::Null => {
                self.read(read::read_nil)?;
                Value::None
            }
            Marker::True | Marker::False => Value::Bool(self.read(read::read_bool)?),
            Marker::FixPos(_) | Marker::FixNeg(_) => self.int()?,
            Marker::U8 | Marker::U16 | Marker::U32 | Marker::U64 => self.int()?,
            Marker::I8 | Marker::I16 | Marker::I32 | Marker::I64 => self.int()?,
            Marker::F32 => Value::Float(self.read(read::read_f32)?.into()),
            Marker::F64 => Value::Float(self.read(read::read_f64)?),
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => self.text()?,
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => {
                let length = self.read(read::read_bin_len)?;
                Value::Bytes(Bytes::copy_from_slice(self.slice(length)?))
            }
            Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => {
                Value::List(self.array(depth)?)
            }
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => self.map(depth)?,
            Marker::Reserved => return self.malformed("a byte that starts nothing"),
            _ => self.ext(depth)?,
        })
    }

    fn int(&mut self) -> Result<Value, ValueError> {
        let number: i128 = match self.read(read::read_int::<i64, _>) {
            Ok(number) => number.into(),
            Err(_) => self.read(read::read_int::<u64, _>)?.into(),
        };
        Ok(Value::Int(number))
    }

    fn text(&mut self) -> Result<Value, ValueError> {
        let length = self.read(read::read_str_len)?;
        match std::str::from_utf8(self.slice(length)?) {
            Ok(text) => Ok(Value::Str(text.to_owned())),
            Err(_) => self.malformed("a str is not UTF-8"),
        }
    }

    /// How many elements to expect: no more than there are bytes for.
    fn room(&self, count: u32) -> usize {
        let sure = (self.payload.len() - self.offset) / size_of::<Value>();
        sure.min(count as usize)
    }

    fn array(&mut self, depth: usize) -> Result<Vec<Value>, ValueError> {
        let depth = deeper(depth)?;
        let count = self.read(read::read_array_len)?;
        let mut elements = Vec::with_capacity(self.room(count));
        for _ in 0..count {
            elements.push(self.value(depth)?);
        }
        Ok(elements)
    }

    fn map(&mut self, depth: usize) -> Result<Value, ValueError> {
        let depth = deeper(depth)?;
        let count = self.read(read::read_map_len)?;
        let mut pairs = Vec::with_capacity(self.room(count));
        for _ in 0..count {
            pairs.push((self.value(depth)?, self.value(depth)?));
        }
        Ok(Value::Dict(pairs))
    }

    fn ext(&mut self, depth: usize) -> Result<Value, ValueError> {
        let meta = self.read(read::read_ext_meta)?;
        let start = self.offset;
        let body = self.slice(meta.size)?;
        ext_value(meta.typeid, body, depth).map_err(|error| match error {
            ValueError::Malformed { offset, reason } => ValueError::Malformed {
                offset: start + offset,
                reason,
            },
            other => other,
        })
    }
}

fn deeper(depth: usize) -> Result<usize, ValueError> {
    if depth < VALUE_DEPTH_MAX {
        Ok(depth + 1)
    } else {
        Err(ValueError::TooDeep)
    }
}

fn ext_value(number: i8, body: &[u8], depth: usize) -> Result<Value, ValueError> {
    Ok(match number {
        ext::TUPLE => Value::Tuple(elements(body, depth)?),
        ext::SET => Value::Set(elements(body, depth)?),
        ext::FROZENSET => Value::FrozenSet(elements(body, depth)?),
        ext::COMPLEX => match body.as_chunks() {
            ([re, im], []) => Value::Complex {
                re: f64::from_be_bytes(*re),
                im: f64::from_be_bytes(*im),
            },
            _ => return malformed("a complex number of another length"),
        },
        ext::BIG_INT => match body.split_first() {
            Some((sign @ (0 | 1), magnitude)) => {
                Value::from(BigInt::from_parts(*sign == 1, magnitude))
            }
            _ => return malformed("an int without a sign"),
        },
        ext::DECIMAL => match std::str::from_utf8(body) {
            Ok(text) => Value::Decimal(text.parse()?),
            Err(_) => return malformed("a text that is no decimal number"),
        },
        ext::DATETIME => Value::DateTime(DateTime::from_body(body)?),
        ext::DATE => Value::Date(Date::from_body(body)?),
        ext::TIME => Value::Time(Time::from_body(body)?),
        ext::TIMEDELTA => Value::TimeDelta(TimeDelta::from_body(body)?),
        ext::UUID => match Uuid::from_slice(body) {
            Ok(uuid) => Value::Uuid(uuid),
            Err(_) => return malformed("a UUID of another length"),
        },
        other => Value::Ext(other, Bytes::copy_from_slice(body)),
    })
}

fn malformed<T>(reason: &'static str) -> Result<T, ValueError> {
    Err(ValueError::Malformed { offset: 0, reason })
}

/// The array that is all of a body.
fn elements(body: &[u8], depth: usize) -> Result<Vec<Value>, ValueError> {
    let mut reader = Reader {
        payload: body,
        offset: 0,
    };
    let elements = reader.array(depth)?;
    reader.end()?;
    Ok(elements)
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

impl<'de> Deserialize<'de> for BigInt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Int(number) => Ok(Self::from(number)),
            Value::BigInt(number) => Ok(number),
            _ => Err(D::Error::custom("an int was expected")),
        }
    }
}

struct Visitor;

impl<'de> serde::de::Visitor<'de> for Visitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::None)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(truth.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(Bytes::copy_from_slice(bytes)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = sequence.next_element()? {
            elements.push(element);
        }
        Ok(Value::List(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Value::Dict(pairs))
    }

    /// An extension, as `rmp_serde` gives it.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, ext: D) -> Result<Value, D::Error> {
        let (number, body) = <(i8, serde_bytes::ByteBuf)>::deserialize(ext)?;
        ext_value(number, &body, 0).map_err(D::Error::custom)
    }
}
