//! Extension type numbers of MessagePack for what it has no type of its own.
//!
//! `docs/format.md` "Values" says what the payload of each is. Numbers are never reused.

/// Tuple: one array.
pub const TUPLE: i8 = 1;
/// Set: one array, elements in the order of their encoded bytes.
pub const SET: i8 = 2;
/// Frozen set: as [`SET`].
pub const FROZENSET: i8 = 3;
/// Complex number: real and imaginary part, each a big-endian f64.
pub const COMPLEX: i8 = 4;
/// Integer outside `-2^63 .. 2^64`: one byte 0 or 1 for the sign, then the magnitude big-endian.
pub const BIG_INT: i8 = 5;
/// Decimal number: its text as Python writes it.
pub const DECIMAL: i8 = 6;
/// Date and time: see [`DateTime`](super::DateTime).
pub const DATETIME: i8 = 7;
/// Date: days from 1970-01-01, big-endian i32.
pub const DATE: i8 = 8;
/// Time of day: see [`Time`](super::Time).
pub const TIME: i8 = 9;
/// Difference of times: days, seconds, microseconds, each a big-endian i32.
pub const TIMEDELTA: i8 = 10;
/// UUID: its 16 bytes.
pub const UUID: i8 = 11;
/// numpy array or scalar: form, shape, dtype, then its elements as raw bytes.
pub const NDARRAY: i8 = 16;
/// Object of a registered class: the class's name as a str, then one payload, such as a dict of its
/// fields.
pub const OBJECT: i8 = 17;

/// The Python name of an extension type.
#[must_use]
pub const fn name(number: i8) -> Option<&'static str> {
    Some(match number {
        TUPLE => "tuple",
        SET => "set",
        FROZENSET => "frozenset",
        COMPLEX => "complex",
        BIG_INT => "int",
        DECIMAL => "Decimal",
        DATETIME => "datetime",
        DATE => "date",
        TIME => "time",
        TIMEDELTA => "timedelta",
        UUID => "UUID",
        NDARRAY => "ndarray",
        OBJECT => "object",
        _ => return None,
    })
}
