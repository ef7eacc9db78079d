//! Integers of any size, as Python has them: a sign and a magnitude, without arithmetic.
//!
//! Only what keys, values and the command line need: exact conversion from and to `i128`,
//! big-endian bytes and decimal text.

use std::fmt;
use std::str::FromStr;

/// Most decimal digits read from text: the work grows with their square.
pub const BIGINT_DIGITS_MAX: usize = 10_000;

/// An integer of any size.
///
/// The magnitude has no leading zero byte and zero is not negative, so equal numbers are equal
/// values.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct BigInt {
    negative: bool,
    magnitude: Vec<u8>,
}

impl BigInt {
    /// The number with this sign and big-endian magnitude; leading zeros are dropped.
    #[must_use]
    pub fn from_parts(negative: bool, magnitude: &[u8]) -> Self {
        let zeros = magnitude.iter().take_while(|byte| **byte == 0).count();
        let magnitude = magnitude[zeros..].to_vec();
        Self {
            negative: negative && !magnitude.is_empty(),
            magnitude,
        }
    }

    /// Whether it is below zero.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// The absolute value, big-endian, without leading zeros; empty for zero.
    #[must_use]
    pub fn magnitude(&self) -> &[u8] {
        &self.magnitude
    }

    /// The same number as an `i128`, if it fits.
    #[must_use]
    pub fn to_i128(&self) -> Option<i128> {
        if self.magnitude.len() > 16 {
            return None;
        }
        let mut bytes = [0; 16];
        bytes[16 - self.magnitude.len()..].copy_from_slice(&self.magnitude);
        let absolute = u128::from_be_bytes(bytes);
        if self.negative {
            0_i128.checked_sub_unsigned(absolute)
        } else {
            i128::try_from(absolute).ok()
        }
    }
}

impl From<i128> for BigInt {
    fn from(number: i128) -> Self {
        Self::from_parts(number < 0, &number.unsigned_abs().to_be_bytes())
    }
}

/// Why a text is no [`BigInt`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BigIntError {
    /// Something other than an optional sign and decimal digits.
    #[error("{0:?} is not a decimal integer")]
    NotDecimal(String),
    /// More digits than are read.
    #[error("integer has {0} digits; the limit is {BIGINT_DIGITS_MAX} digits")]
    TooLong(usize),
}

impl FromStr for BigInt {
    type Err = BigIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if digits.len() > BIGINT_DIGITS_MAX {
            return Err(BigIntError::TooLong(digits.len()));
        }
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(BigIntError::NotDecimal(text.to_owned()));
        }
        // Little-endian words of 32 bits: multiply by ten, add a digit.
        let mut words: Vec<u32> = Vec::new();
        for digit in digits.bytes() {
            let mut carry = u64::from(digit - b'0');
            for word in &mut words {
                let wide = u64::from(*word) * 10 + carry;
                *word = low_word(wide);
                carry = wide >> 32;
            }
            if carry > 0 {
                words.push(low_word(carry));
            }
        }
        let bytes: Vec<u8> = words
            .iter()
            .rev()
            .flat_map(|word| word.to_be_bytes())
            .collect();
        Ok(Self::from_parts(text.starts_with('-'), &bytes))
    }
}

impl fmt::Display for BigInt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const STEP: u64 = 1_000_000_000;
        let mut rest = self.magnitude.clone();
        let mut groups = Vec::new();
        while !rest.is_empty() {
            let mut remainder = 0;
            for byte in &mut rest {
                let wide = (remainder << 8) | u64::from(*byte);
                *byte = u8::try_from(wide / STEP).expect("the remainder is below the step");
                remainder = wide % STEP;
            }
            groups.push(remainder);
            let zeros = rest.iter().take_while(|byte| **byte == 0).count();
            rest.drain(..zeros);
        }
        let mut digits = groups.pop().unwrap_or(0).to_string();
        for group in groups.iter().rev() {
            digits.push_str(&format!("{group:09}"));
        }
        f.pad_integral(!self.negative, "", &digits)
    }
}

fn low_word(wide: u64) -> u32 {
    u32::try_from(wide & u64::from(u32::MAX)).expect("masked to 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back_from_parts_and_from_text(number: i128) {
            let big = BigInt::from(number);
            prop_assert_eq!(big.to_i128(), Some(number));
            prop_assert_eq!(big.to_string(), number.to_string());
            prop_assert_eq!(number.to_string().parse::<BigInt>().unwrap(), big);
        }

        #[test]
        fn long_text_comes_back(text in "-?[1-9][0-9]{40,400}") {
            let big: BigInt = text.parse().unwrap();
            prop_assert_eq!(big.to_i128(), None);
            prop_assert_eq!(big.to_string(), text);
        }
    }

    #[test]
    fn zero_has_one_form() {
        assert_eq!("-000".parse::<BigInt>().unwrap(), BigInt::default());
        assert_eq!(BigInt::from_parts(true, &[0, 0]), BigInt::default());
        assert_eq!(BigInt::default().to_string(), "0");
    }

    #[test]
    fn text_that_is_no_integer_is_refused() {
        for text in ["", "-", "1.0", "0x1", " 1"] {
            assert!(
                matches!(text.parse::<BigInt>(), Err(BigIntError::NotDecimal(_))),
                "{text:?}"
            );
        }
        let long = "9".repeat(BIGINT_DIGITS_MAX + 1);
        assert_eq!(
            long.parse::<BigInt>(),
            Err(BigIntError::TooLong(BIGINT_DIGITS_MAX + 1))
        );
    }
}
