//! Writing an encoded key piece by piece, so that a caller needs no [`Key`] in between.

use uuid::Uuid;

use super::{Key, KeyBytes, KeyError, number, tag};
use crate::bigint::BigInt;
use crate::limits::{KEY_BYTES_MAX, VALUE_DEPTH_MAX};

/// Builds one encoded key. Call one method for a simple key; for a tuple, call
/// [`begin_tuple`](Self::begin_tuple), the elements and [`end_tuple`](Self::end_tuple).
#[derive(Debug, Default)]
pub struct KeyWriter {
    out: Vec<u8>,
    depth: usize,
}

impl KeyWriter {
    /// A writer with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self {
            out: Vec::with_capacity(32),
            depth: 0,
        }
    }

    /// Writes `None`.
    pub fn none(&mut self) {
        self.out.push(tag::NONE);
    }

    /// Writes an integer, or a bool as one.
    pub fn int(&mut self, value: i128) {
        number::write_i128(&mut self.out, value);
    }

    /// Writes an integer of any size.
    ///
    /// # Errors
    /// [`KeyError::TooLong`].
    pub fn big_int(&mut self, value: &BigInt) -> Result<(), KeyError> {
        // Before any work is done on it. What is written is shorter where the number ends in zeros,
        // and the exponent has room for what is left.
        let magnitude = value.magnitude();
        let zeros = magnitude.iter().rev().take_while(|byte| **byte == 0);
        self.check_room(magnitude.len() - zeros.count())?;
        if magnitude.len() > KEY_BYTES_MAX {
            let bytes = magnitude.len();
            return Err(KeyError::TooLong { bytes });
        }
        number::write_big(&mut self.out, value);
        Ok(())
    }

    /// Writes a float; an integral one is the same key as the int.
    ///
    /// # Errors
    /// [`KeyError::NotANumber`].
    pub fn float(&mut self, value: f64) -> Result<(), KeyError> {
        number::write_f64(&mut self.out, value)
    }

    /// Writes text.
    ///
    /// # Errors
    /// [`KeyError::TooLong`].
    pub fn str(&mut self, text: &str) -> Result<(), KeyError> {
        self.escaped(tag::STR, text.as_bytes())
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// [`KeyError::TooLong`].
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), KeyError> {
        self.escaped(tag::BYTES, bytes)
    }

    /// Writes a date and time without a zone: microseconds from 1970-01-01T00:00:00.
    pub fn datetime_naive(&mut self, micros: i64) {
        self.datetime(tag::DATETIME_NAIVE, micros);
    }

    /// Writes a moment: microseconds from 1970-01-01T00:00:00 UTC.
    pub fn datetime_aware(&mut self, micros: i64) {
        self.datetime(tag::DATETIME_AWARE, micros);
    }

    /// Writes a UUID.
    pub fn uuid(&mut self, uuid: Uuid) {
        self.out.push(tag::UUID);
        self.out.extend_from_slice(uuid.as_bytes());
    }

    /// Opens a tuple.
    ///
    /// # Errors
    /// [`KeyError::TooDeep`].
    pub fn begin_tuple(&mut self) -> Result<(), KeyError> {
        self.depth += 1;
        if self.depth > VALUE_DEPTH_MAX {
            return Err(KeyError::TooDeep { depth: self.depth });
        }
        self.out.push(tag::TUPLE);
        Ok(())
    }

    /// Closes the innermost open tuple.
    pub fn end_tuple(&mut self) {
        assert!(self.depth > 0, "no tuple is open");
        self.depth -= 1;
        self.out.push(tag::END);
    }

    /// Writes a key of any kind.
    ///
    /// # Errors
    /// Any [`KeyError`] but [`KeyError::Malformed`].
    pub fn key(&mut self, key: &Key) -> Result<(), KeyError> {
        match key {
            Key::None => self.none(),
            Key::Int(number) => self.int(*number),
            Key::BigInt(number) => self.big_int(number)?,
            Key::Float(number) => self.float(*number)?,
            Key::Str(text) => self.str(text)?,
            Key::Bytes(bytes) => self.bytes(bytes)?,
            Key::DateTimeNaive(micros) => self.datetime_naive(*micros),
            Key::DateTimeAware(micros) => self.datetime_aware(*micros),
            Key::Uuid(uuid) => self.uuid(*uuid),
            Key::Tuple(elements) => {
                self.begin_tuple()?;
                for element in elements {
                    self.key(element)?;
                    self.check_room(0)?;
                }
                self.end_tuple();
            }
        }
        Ok(())
    }

    /// The key, once all of it is written.
    ///
    /// # Errors
    /// [`KeyError::TooLong`].
    pub fn finish(self) -> Result<KeyBytes, KeyError> {
        assert!(self.depth == 0, "a tuple is still open");
        self.check_room(0)?;
        debug_assert_eq!(
            super::check(&self.out),
            Ok(()),
            "what is written can be read"
        );
        Ok(KeyBytes(self.out.into()))
    }

    /// What is written so far, for a range rather than a key.
    pub(super) fn into_prefix(self) -> Vec<u8> {
        self.out
    }

    fn escaped(&mut self, tag: u8, bytes: &[u8]) -> Result<(), KeyError> {
        self.check_room(bytes.len())?;
        self.out.push(tag);
        self.escaped_open(bytes);
        self.out.extend_from_slice(&[0x00, 0x00]);
        Ok(())
    }

    /// A string without its end: all strings that go on from it start with these bytes.
    pub(super) fn open_string(&mut self, tag: u8, bytes: &[u8]) {
        self.out.push(tag);
        self.escaped_open(bytes);
    }

    fn escaped_open(&mut self, bytes: &[u8]) {
        let mut runs = bytes.split(|byte| *byte == 0);
        self.out.extend_from_slice(runs.next().unwrap_or_default());
        for run in runs {
            self.out.extend_from_slice(&[0x00, 0xFF]);
            self.out.extend_from_slice(run);
        }
    }

    fn datetime(&mut self, tag: u8, micros: i64) {
        self.out.push(tag);
        // Flipping the sign bit makes the order of bytes that of numbers.
        self.out
            .extend_from_slice(&(micros ^ i64::MIN).to_be_bytes());
    }

    fn check_room(&self, more: usize) -> Result<(), KeyError> {
        let bytes = self.out.len() + more;
        if bytes > KEY_BYTES_MAX {
            Err(KeyError::TooLong { bytes })
        } else {
            Ok(())
        }
    }
}
