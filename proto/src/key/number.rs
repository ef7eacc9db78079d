//! One encoding for ints, floats and bools, by exact value.
//!
//! A finite number is `1.fraction * 2^exponent`. After the tag (which holds the sign) come the
//! exponent plus 32,768 as a big-endian u16, and the fraction in groups of 7 bits from the top,
//! each shifted left by one with the lowest bit set when another group follows. Trailing zero
//! groups do not occur. A negative number has all these bytes complemented.

use super::{Key, KeyError, tag};
use crate::bigint::BigInt;

const EXPONENT_BIAS: i32 = 1 << 15;

/// Fraction bits of an `f64`.
const F64_FRACTION_BITS: u32 = 52;
/// Exponent of the lowest normal `f64`.
const F64_EXPONENT_MIN: i32 = -1022;
/// Exponent of the lowest `f64` above zero.
const F64_SUBNORMAL_MIN: i32 = F64_EXPONENT_MIN - F64_FRACTION_BITS as i32;

/// The integer key of an integral float.
pub(super) fn integral(number: f64) -> Option<Key> {
    if !number.is_finite() || number.fract() != 0.0 {
        return None;
    }
    let mut bytes = Vec::new();
    write_f64(&mut bytes, number).ok()?;
    let (parts, _) = read(&bytes, 0).ok()?;
    Some(parts.into_key())
}

pub(super) fn write_i128(out: &mut Vec<u8>, number: i128) {
    let absolute = number.unsigned_abs();
    let Ok(small) = u64::try_from(absolute) else {
        return write_big(out, &BigInt::from(number));
    };
    if small == 0 {
        out.push(tag::NUMBER_ZERO);
        return;
    }
    let start = begin(out, number < 0, 63 - small.leading_zeros().cast_signed());
    push_fraction(out, (small << small.leading_zeros()) << 1);
    end(out, number < 0, start);
}

pub(super) fn write_f64(out: &mut Vec<u8>, number: f64) -> Result<(), KeyError> {
    if number.is_nan() {
        return Err(KeyError::NotANumber);
    }
    if number == 0.0 || number.is_infinite() {
        out.push(match number {
            f64::INFINITY => tag::NUMBER_HIGHEST,
            f64::NEG_INFINITY => tag::NUMBER_LOWEST,
            _ => tag::NUMBER_ZERO,
        });
        return Ok(());
    }
    let bits = number.to_bits();
    let fraction = bits << 12;
    let biased = i32::try_from((bits >> F64_FRACTION_BITS) & 0x7FF).expect("11 bits");
    let (exponent, fraction) = if biased == 0 {
        // Subnormal: the leading one is the highest bit set.
        let zeros = fraction.leading_zeros();
        (
            F64_EXPONENT_MIN - 1 - zeros.cast_signed(),
            (fraction << zeros) << 1,
        )
    } else {
        (biased - 1023, fraction)
    };
    let start = begin(out, number < 0.0, exponent);
    push_fraction(out, fraction);
    end(out, number < 0.0, start);
    Ok(())
}

/// The caller has bounded the magnitude, so the exponent fits.
pub(super) fn write_big(out: &mut Vec<u8>, number: &BigInt) {
    let magnitude = number.magnitude();
    let Some(first) = magnitude.first() else {
        out.push(tag::NUMBER_ZERO);
        return;
    };
    let bits = magnitude.len() * 8 - first.leading_zeros() as usize;
    let exponent = i32::try_from(bits - 1).expect("a key has few bits");
    let start = begin(out, number.is_negative(), exponent);
    let mut below = bits - 1;
    loop {
        let group = (0..7).fold(0, |group, place| {
            group << 1
                | below
                    .checked_sub(place + 1)
                    .map_or(0, |bit| bit_of(magnitude, bit))
        });
        below = below.saturating_sub(7);
        let more = lowest_bit(magnitude) < below;
        out.push(group << 1 | u8::from(more));
        if !more {
            break;
        }
    }
    end(out, number.is_negative(), start);
}

/// Bit `place` of a big-endian magnitude, 0 being the lowest.
fn bit_of(magnitude: &[u8], place: usize) -> u8 {
    magnitude[magnitude.len() - 1 - place / 8] >> (place % 8) & 1
}

/// Place of the lowest bit that is set.
fn lowest_bit(magnitude: &[u8]) -> usize {
    let zeros = magnitude
        .iter()
        .rev()
        .take_while(|byte| **byte == 0)
        .count();
    let byte = magnitude[magnitude.len() - 1 - zeros];
    zeros * 8 + byte.trailing_zeros() as usize
}

fn begin(out: &mut Vec<u8>, negative: bool, exponent: i32) -> usize {
    out.push(if negative {
        tag::NUMBER_NEGATIVE
    } else {
        tag::NUMBER_POSITIVE
    });
    let start = out.len();
    let biased = u16::try_from(exponent + EXPONENT_BIAS).expect("a key's exponent is small");
    out.extend_from_slice(&biased.to_be_bytes());
    start
}

fn end(out: &mut [u8], negative: bool, start: usize) {
    if negative {
        out[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }
}

/// Pushes the groups of a fraction whose first bit is the highest of the word.
fn push_fraction(out: &mut Vec<u8>, mut fraction: u64) {
    loop {
        let group = u8::try_from(fraction >> 57).expect("7 bits");
        fraction <<= 7;
        out.push(group << 1 | u8::from(fraction != 0));
        if fraction == 0 {
            break;
        }
    }
}

/// A number as it stands in a key.
pub(super) enum Number<'a> {
    Lowest,
    Zero,
    Highest,
    Finite(Finite<'a>),
}

/// A finite number that is not zero.
pub(super) struct Finite<'a> {
    negative: bool,
    exponent: i32,
    /// Still complemented when negative.
    groups: &'a [u8],
    /// Bits of the fraction up to the last one set.
    fraction_bits: i32,
}

/// Reads the number whose tag stands at `offset`; gives it and the offset after it.
pub(super) fn read(bytes: &[u8], offset: usize) -> Result<(Number<'_>, usize), KeyError> {
    let malformed = |reason| KeyError::Malformed { offset, reason };
    let negative = match bytes[offset] {
        tag::NUMBER_LOWEST => return Ok((Number::Lowest, offset + 1)),
        tag::NUMBER_ZERO => return Ok((Number::Zero, offset + 1)),
        tag::NUMBER_HIGHEST => return Ok((Number::Highest, offset + 1)),
        tag => tag == tag::NUMBER_NEGATIVE,
    };
    let mask = if negative { 0xFF } else { 0 };
    let body = &bytes[offset + 1..];
    let biased = body
        .first_chunk::<2>()
        .ok_or(malformed("the exponent is cut"))?;
    let exponent = i32::from(u16::from_be_bytes(biased.map(|byte| byte ^ mask))) - EXPONENT_BIAS;
    let last = body[2..]
        .iter()
        .position(|byte| (byte ^ mask) & 1 == 0)
        .ok_or(malformed("the number does not end"))?;
    let groups = &body[2..=last + 2];
    let tail = (groups[last] ^ mask) >> 1;
    if tail == 0 && last > 0 {
        return Err(malformed("the number ends in zeros"));
    }
    let bits = if tail == 0 {
        0
    } else {
        (last + 1) * 7 - tail.trailing_zeros() as usize
    };
    let fraction_bits = i32::try_from(bits).map_err(|_| malformed("the number is too long"))?;
    let finite = Finite {
        negative,
        exponent,
        groups,
        fraction_bits,
    };
    if !finite.is_integral() && !finite.fits_f64() {
        return Err(malformed("a fraction that no float holds"));
    }
    Ok((Number::Finite(finite), offset + 1 + 2 + groups.len()))
}

impl Number<'_> {
    pub(super) fn into_key(self) -> Key {
        match self {
            Self::Lowest => Key::Float(f64::NEG_INFINITY),
            Self::Zero => Key::Int(0),
            Self::Highest => Key::Float(f64::INFINITY),
            Self::Finite(finite) if finite.is_integral() => finite.integer(),
            Self::Finite(finite) => Key::Float(finite.float()),
        }
    }
}

impl Finite<'_> {
    fn is_integral(&self) -> bool {
        self.exponent >= self.fraction_bits
    }

    fn fits_f64(&self) -> bool {
        let bits_max = if self.exponent >= F64_EXPONENT_MIN {
            F64_FRACTION_BITS.cast_signed()
        } else {
            self.exponent - F64_SUBNORMAL_MIN
        };
        self.fraction_bits <= bits_max
    }

    /// The groups without complement.
    fn plain_groups(&self) -> impl Iterator<Item = u8> {
        let mask = if self.negative { 0xFF } else { 0 };
        self.groups.iter().map(move |byte| (byte ^ mask) >> 1)
    }

    fn integer(&self) -> Key {
        let bits = usize::try_from(self.exponent).expect("an integer's exponent is not negative");
        let mut magnitude = vec![0_u8; bits / 8 + 1];
        let length = magnitude.len();
        let mut set = |place: usize| magnitude[length - 1 - place / 8] |= 1 << (place % 8);
        set(bits);
        for (index, group) in self.plain_groups().enumerate() {
            for place in (0..7).filter(|place| group >> (6 - place) & 1 == 1) {
                set(bits - 1 - index * 7 - place);
            }
        }
        Key::from(BigInt::from_parts(self.negative, &magnitude))
    }

    fn float(&self) -> f64 {
        let fraction = self
            .plain_groups()
            .enumerate()
            .fold(0_u64, |word, (index, group)| {
                word | shift_left(group, 57 - 7 * index.cast_signed())
            });
        let magnitude = if self.exponent >= F64_EXPONENT_MIN {
            let biased = u64::try_from(self.exponent + 1023).expect("within the range of f64");
            biased << F64_FRACTION_BITS | fraction >> 12
        } else {
            let shift = 12 + (F64_EXPONENT_MIN - self.exponent).unsigned_abs();
            // The leading one stands in the word too, below the exponent of zero.
            (1 << 63 | fraction >> 1) >> (shift - 1)
        };
        f64::from_bits(magnitude | u64::from(self.negative) << 63)
    }
}

/// A group at its place in the word, also where it reaches below the lowest bit.
fn shift_left(group: u8, places: isize) -> u64 {
    let wide = u64::from(group);
    if places >= 0 {
        wide << places
    } else {
        wide >> places.unsigned_abs()
    }
}
