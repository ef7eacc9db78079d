//! Keys: what may be one, and its bytes, whose order is the order of keys.
//!
//! An encoded key is a tag, then a body that tells its own end, so encoded keys can stand one
//! after another inside a tuple and still compare as bytes. `docs/format.md` "Keys" has the table.
//!
//! Invariants
//! * Equal keys have equal bytes, in Python's sense of equal: `1`, `1.0` and `True` are one key.
//! * Each key has exactly one encoding: [`check`] refuses every other, so nobody can store a key
//!   that no lookup finds.

mod number;
mod range;
mod read;
mod write;

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use uuid::Uuid;

use crate::bigint::BigInt;
use crate::limits::{KEY_BYTES_MAX, VALUE_DEPTH_MAX};

pub use range::{between, bytes_prefix, prefix_end, str_prefix, successor, tuple_prefix};
pub use read::{check, decode};
pub use write::KeyWriter;

/// The first byte of an encoded key, in key order. Numbers are never reused.
pub mod tag {
    /// Ends a tuple; below every tag, so that a shorter tuple sorts first.
    pub const END: u8 = 0x00;
    /// `None`.
    pub const NONE: u8 = 0x10;
    /// Minus infinity.
    pub const NUMBER_LOWEST: u8 = 0x20;
    /// A finite number below zero.
    pub const NUMBER_NEGATIVE: u8 = 0x21;
    /// Zero.
    pub const NUMBER_ZERO: u8 = 0x22;
    /// A finite number above zero.
    pub const NUMBER_POSITIVE: u8 = 0x23;
    /// Plus infinity.
    pub const NUMBER_HIGHEST: u8 = 0x24;
    /// Text.
    pub const STR: u8 = 0x30;
    /// Bytes.
    pub const BYTES: u8 = 0x40;
    /// A date and time without a zone.
    pub const DATETIME_NAIVE: u8 = 0x50;
    /// A date and time with a zone, as UTC.
    pub const DATETIME_AWARE: u8 = 0x51;
    /// A UUID.
    pub const UUID: u8 = 0x60;
    /// A tuple: its elements, then [`END`].
    pub const TUPLE: u8 = 0x70;
}

/// A key as a program holds it.
///
/// A bool is the int that Python takes it for, and an integral float is that int.
#[derive(Debug, Clone, PartialEq)]
pub enum Key {
    /// Python's `None`, the lowest key.
    None,
    /// An integer.
    Int(i128),
    /// An integer too large for [`Key::Int`].
    BigInt(BigInt),
    /// A number that is no integer, or infinite. NaN is no key.
    Float(f64),
    /// Text, in the order of code points.
    Str(String),
    /// Bytes.
    Bytes(Bytes),
    /// A date and time without a zone: microseconds from 1970-01-01T00:00:00.
    DateTimeNaive(i64),
    /// A moment: microseconds from 1970-01-01T00:00:00 UTC.
    DateTimeAware(i64),
    /// A UUID.
    Uuid(Uuid),
    /// Several keys, compared one after the other.
    Tuple(Vec<Key>),
}

/// Why something is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Its encoding is over the limit.
    #[error("key is {bytes} bytes when encoded; the limit is {KEY_BYTES_MAX} bytes")]
    TooLong {
        /// Encoded length; of a key that is still being written, what it has reached.
        bytes: usize,
    },
    /// Not a number: it equals nothing, so it could not be found again.
    #[error("key nan: a key must equal itself")]
    NotANumber,
    /// Tuples nested too deep.
    #[error("key has tuples nested {depth} deep; the limit is {VALUE_DEPTH_MAX}")]
    TooDeep {
        /// How deep it goes at least.
        depth: usize,
    },
    /// The bytes are not the encoding of any key.
    #[error("encoded key is malformed at byte {offset}: {reason}")]
    Malformed {
        /// Where.
        offset: usize,
        /// What was wrong there.
        reason: &'static str,
    },
}

/// A checked encoded key: at most [`KEY_BYTES_MAX`] bytes and the one encoding of its key.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyBytes(Bytes);

impl KeyBytes {
    /// Checks bytes that come from outside.
    pub fn new(bytes: Bytes) -> Result<Self, KeyError> {
        check(&bytes)?;
        Ok(Self(bytes))
    }

    /// The key behind the bytes.
    #[must_use]
    pub fn decode(&self) -> Key {
        decode(&self.0).expect("only checked bytes become KeyBytes")
    }

    /// The bytes, shared.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The bytes.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl Deref for KeyBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for KeyBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<KeyBytes> for Bytes {
    fn from(key: KeyBytes) -> Self {
        key.0
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyBytes({})", self.decode())
    }
}

/// Encodes a key.
pub fn encode(key: &Key) -> Result<KeyBytes, KeyError> {
    let mut writer = KeyWriter::new();
    writer.key(key)?;
    writer.finish()
}

/// The key as a person reads it in an error: the key itself, or its bytes if they are no key.
#[must_use]
pub fn describe(encoded: &[u8]) -> String {
    match decode(encoded) {
        Ok(key) => key.to_string(),
        Err(_) => format!("(not a key: {})", encoded.escape_ascii()),
    }
}

/// Texts over this many characters are cut when a key is shown.
const SHOWN_CHARS_MAX: usize = 100;

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Int(number) => number.fmt(f),
            Self::BigInt(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
            Self::Str(text) => show_cut(f, text.chars().map(|c| c.escape_debug().to_string())),
            Self::Bytes(bytes) => {
                f.write_str("b")?;
                show_cut(f, bytes.iter().map(|byte| byte.escape_ascii().to_string()))
            }
            Self::DateTimeNaive(micros) => write!(f, "datetime({micros} us)"),
            Self::DateTimeAware(micros) => write!(f, "datetime({micros} us UTC)"),
            Self::Uuid(uuid) => uuid.fmt(f),
            Self::Tuple(elements) => {
                f.write_str("(")?;
                for (place, element) in elements.iter().enumerate() {
                    write!(f, "{}{element}", if place > 0 { ", " } else { "" })?;
                }
                f.write_str(if elements.len() == 1 { ",)" } else { ")" })
            }
        }
    }
}

fn show_cut(f: &mut fmt::Formatter<'_>, pieces: impl Iterator<Item = String>) -> fmt::Result {
    f.write_str("\"")?;
    for (count, piece) in pieces.enumerate() {
        if count == SHOWN_CHARS_MAX {
            return f.write_str("\"...");
        }
        f.write_str(&piece)?;
    }
    f.write_str("\"")
}

macro_rules! key_from {
    ($($source:ty, $name:ident => $key:expr;)*) => {$(
        impl From<$source> for Key {
            fn from($name: $source) -> Self {
                $key
            }
        }
    )*};
}

key_from! {
    &str, text => Self::Str(text.to_owned());
    String, text => Self::Str(text);
    &String, text => Self::Str(text.clone());
    &[u8], bytes => Self::Bytes(Bytes::copy_from_slice(bytes));
    Vec<u8>, bytes => Self::Bytes(bytes.into());
    Bytes, bytes => Self::Bytes(bytes);
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
    bool, truth => Self::Int(truth.into());
    f64, number => number::integral(number).unwrap_or(Self::Float(number));
    Uuid, uuid => Self::Uuid(uuid);
    (), _unit => Self::None;
    Vec<Key>, elements => Self::Tuple(elements);
    &Key, key => key.clone();
}

impl<const N: usize> From<&[u8; N]> for Key {
    fn from(bytes: &[u8; N]) -> Self {
        Self::Bytes(Bytes::copy_from_slice(bytes))
    }
}

macro_rules! key_from_tuple {
    ($($name:ident),+) => {
        impl<$($name: Into<Key>),+> From<($($name,)+)> for Key {
            #[allow(non_snake_case, reason = "the type's name serves for the value too")]
            fn from(($($name,)+): ($($name,)+)) -> Self {
                Self::Tuple(vec![$($name.into()),+])
            }
        }
    };
}

key_from_tuple!(A);
key_from_tuple!(A, B);
key_from_tuple!(A, B, C);
key_from_tuple!(A, B, C, D);
key_from_tuple!(A, B, C, D, E);
key_from_tuple!(A, B, C, D, E, F);

#[cfg(test)]
mod tests;
