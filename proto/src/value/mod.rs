//! Values: MessagePack payloads, with extension types for what Python has and MessagePack lacks.
//!
//! A [`Value`] is any of them. A Rust program stores its own types through serde with
//! [`to_payload`] and [`from_payload`], and may have a [`Value`] or a [`BigInt`] inside.
//! `docs/format.md` "Values" has the table.
//!
//! | file | what |
//! |---|---|
//! | `ext.rs` | the numbers of the extension types |
//! | `moment.rs` | dates and times |
//! | `encode.rs` | a value, or any serde type, to a payload |
//! | `decode.rs` | a payload to a value: every length is checked, nesting is bounded |
//! | `elements.rs` | lists and sets taken apart and put together without decoding |
//! | `object.rs` | objects of registered classes: a name and a value |
//! | `content.rs` | where the raw content of a payload begins |
//! | `inspect.rs` | what can be told of a payload without decoding it |

mod content;
mod decode;
pub mod elements;
mod encode;
pub mod ext;
mod inspect;
mod moment;
mod object;

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use uuid::Uuid;

use crate::bigint::BigInt;
use crate::error::ErrorKind;
use crate::limits::VALUE_DEPTH_MAX;
use crate::stored::PAYLOAD_BYTES_MAX;

pub use content::{content_payload, content_start};
pub use decode::{decode, from_payload};
pub use encode::{encode, to_payload};
pub use inspect::{check, check_element, int_payload, type_name};
pub use moment::{Date, DateTime, Time, TimeDelta, Zone};
pub use object::{object, object_parts};

/// Anything that can be stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Python's `None`.
    None,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i128),
    /// An integer too large for [`Value::Int`].
    BigInt(BigInt),
    /// A floating point number.
    Float(f64),
    /// Text.
    Str(String),
    /// Bytes.
    Bytes(Bytes),
    /// Several values.
    List(Vec<Value>),
    /// Several values, as a tuple.
    Tuple(Vec<Value>),
    /// Values under keys, in the order they were put in.
    Dict(Vec<(Value, Value)>),
    /// Distinct values. Stored in the order of their encoded bytes.
    Set(Vec<Value>),
    /// Distinct values that do not change.
    FrozenSet(Vec<Value>),
    /// A date with a time.
    DateTime(DateTime),
    /// A date.
    Date(Date),
    /// A time of day.
    Time(Time),
    /// A difference of times.
    TimeDelta(TimeDelta),
    /// A UUID.
    Uuid(Uuid),
    /// A decimal number, exactly as written.
    Decimal(Decimal),
    /// A complex number.
    Complex {
        /// Real part.
        re: f64,
        /// Imaginary part.
        im: f64,
    },
    /// An extension that this version has no type for, as it is.
    Ext(i8, Bytes),
}

/// A decimal number as text, in the form that Python's `Decimal` writes and reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Decimal(String);

impl Decimal {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Decimal {
    type Err = ValueError;

    /// Takes `[-+]digits[.digits][E[-+]digits]`, `Infinity`, and `NaN` or `sNaN` with digits.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if is_decimal(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ValueError::Malformed {
                offset: 0,
                reason: "a text that is no decimal number",
            })
        }
    }
}

fn is_decimal(text: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = |text: &'_ str| text.strip_prefix(['-', '+']).unwrap_or(text).to_owned();
    let number = unsigned(text);
    if number == "Infinity" {
        return true;
    }
    if let Some(payload) = number
        .strip_prefix("NaN")
        .or_else(|| number.strip_prefix("sNaN"))
    {
        return digits(payload);
    }
    let (mantissa, exponent) = number.split_once(['E', 'e']).unwrap_or((&number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent = unsigned(exponent);
    let all_digits = digits(whole) && digits(fraction) && digits(&exponent);
    all_digits && !exponent.is_empty() && !(whole.is_empty() && fraction.is_empty())
}

/// Why something is no value, or a payload cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// The payload is over the limit.
    #[error("value is {bytes} bytes when encoded; the limit is {PAYLOAD_BYTES_MAX} bytes")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// Containers inside containers beyond the limit.
    #[error("value is nested more than {VALUE_DEPTH_MAX} levels deep")]
    TooDeep,
    /// The bytes are no payload.
    #[error("value is malformed at byte {offset}: {reason}")]
    Malformed {
        /// Where.
        offset: usize,
        /// What was wrong there.
        reason: &'static str,
    },
    /// A type's own serde code refused.
    #[error("value cannot be encoded")]
    Encode(#[source] rmp_serde::encode::Error),
    /// The payload is not of the type asked for.
    #[error("value is not of the type asked for")]
    Decode(#[source] rmp_serde::decode::Error),
}

impl ValueError {
    /// The stable class of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Malformed { .. } => ErrorKind::Corrupt,
            _ => ErrorKind::Invalid,
        }
    }
}

macro_rules! value_from {
    ($($source:ty, $name:ident => $value:expr;)*) => {$(
        impl From<$source> for Value {
            fn from($name: $source) -> Self {
                $value
            }
        }
    )*};
}

value_from! {
    (), _unit => Self::None;
    bool, truth => Self::Bool(truth);
    i8, number => Self::Int(number.into());
    i16, number => Self::Int(number.into());
    i32, number => Self::Int(number.into());
    i64, number => Self::Int(number.into());
    i128, number => Self::Int(number);
    u8, number => Self::Int(number.into());
    u16, number => Self::Int(number.into());
    u32, number => Self::Int(number.into());
    u64, number => Self::Int(number.into());
    BigInt, number => number.to_i128().map_or(Self::BigInt(number), Self::Int);
    f64, number => Self::Float(number);
    &str, text => Self::Str(text.to_owned());
    String, text => Self::Str(text);
    Bytes, bytes => Self::Bytes(bytes);
    Vec<Value>, elements => Self::List(elements);
    Uuid, uuid => Self::Uuid(uuid);
    DateTime, moment => Self::DateTime(moment);
    Date, date => Self::Date(date);
    Time, time => Self::Time(time);
    TimeDelta, delta => Self::TimeDelta(delta);
    Decimal, decimal => Self::Decimal(decimal);
}

#[cfg(test)]
mod tests;
