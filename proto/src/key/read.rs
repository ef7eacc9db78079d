//! Reading encoded keys, which may come from anybody: every byte is checked.

use bytes::Bytes;
use uuid::Uuid;

use super::{Key, KeyError, number, tag};
use crate::limits::{KEY_BYTES_MAX, VALUE_DEPTH_MAX};

/// Checks that bytes are the one encoding of some key, without taking memory.
pub fn check(encoded: &[u8]) -> Result<(), KeyError> {
    if encoded.len() > KEY_BYTES_MAX {
        return Err(KeyError::TooLong {
            bytes: encoded.len(),
        });
    }
    let mut reader = Reader {
        bytes: encoded,
        offset: 0,
    };
    let mut depth = 0;
    loop {
        match reader.peek()? {
            tag::TUPLE => {
                depth += 1;
                if depth > VALUE_DEPTH_MAX {
                    return Err(KeyError::TooDeep { depth });
                }
                reader.offset += 1;
            }
            tag::END if depth > 0 => {
                depth -= 1;
                reader.offset += 1;
            }
            _ => reader.skip_simple()?,
        }
        if depth == 0 {
            return reader.end();
        }
    }
}

/// Decodes an encoded key.
pub fn decode(encoded: &[u8]) -> Result<Key, KeyError> {
    if encoded.len() > KEY_BYTES_MAX {
        return Err(KeyError::TooLong {
            bytes: encoded.len(),
        });
    }
    let mut reader = Reader {
        bytes: encoded,
        offset: 0,
    };
    let key = reader.key(0)?;
    reader.end()?;
    Ok(key)
}

struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn malformed<T>(&self, reason: &'static str) -> Result<T, KeyError> {
        Err(KeyError::Malformed {
            offset: self.offset,
            reason,
        })
    }

    fn peek(&self) -> Result<u8, KeyError> {
        match self.bytes.get(self.offset) {
            Some(byte) => Ok(*byte),
            None => self.malformed("the key is cut"),
        }
    }

    fn end(&self) -> Result<(), KeyError> {
        if self.offset == self.bytes.len() {
            Ok(())
        } else {
            self.malformed("bytes after the key")
        }
    }

    fn key(&mut self, depth: usize) -> Result<Key, KeyError> {
        let tag = self.peek()?;
        Ok(match tag {
            tag::NONE => {
                self.offset += 1;
                Key::None
            }
            tag::NUMBER_LOWEST..=tag::NUMBER_HIGHEST => self.number()?.into_key(),
            tag::STR => {
                let bytes = self.string()?;
                match String::from_utf8(bytes) {
                    Ok(text) => Key::Str(text),
                    Err(_) => return self.malformed("the text is not UTF-8"),
                }
            }
            tag::BYTES => Key::Bytes(Bytes::from(self.string()?)),
            tag::DATETIME_NAIVE => Key::DateTimeNaive(self.micros()?),
            tag::DATETIME_AWARE => Key::DateTimeAware(self.micros()?),
            tag::UUID => Key::Uuid(Uuid::from_bytes(*self.array()?)),
            tag::TUPLE => self.tuple(depth + 1)?,
            _ => return self.malformed("no kind of key has this tag"),
        })
    }

    fn tuple(&mut self, depth: usize) -> Result<Key, KeyError> {
        if depth > VALUE_DEPTH_MAX {
            return Err(KeyError::TooDeep { depth });
        }
        self.offset += 1;
        let mut elements = Vec::new();
        while self.peek()? != tag::END {
            elements.push(self.key(depth)?);
        }
        self.offset += 1;
        Ok(Key::Tuple(elements))
    }

    fn skip_simple(&mut self) -> Result<(), KeyError> {
        match self.peek()? {
            tag::NONE => self.offset += 1,
            tag::NUMBER_LOWEST..=tag::NUMBER_HIGHEST => {
                self.number()?;
            }
            tag::STR => {
                let start = self.offset + 1;
                let end = self.find_string_end()?;
                // A zero is a character of its own, so text between escapes is whole.
                let runs = self.bytes[start..end].split(|byte| *byte == 0);
                for (index, run) in runs.enumerate() {
                    let run = if index > 0 { &run[1..] } else { run };
                    if std::str::from_utf8(run).is_err() {
                        return self.malformed("the text is not UTF-8");
                    }
                }
                self.offset = end + 2;
            }
            tag::BYTES => self.offset = self.find_string_end()? + 2,
            tag::DATETIME_NAIVE | tag::DATETIME_AWARE => {
                self.micros()?;
            }
            tag::UUID => {
                self.array::<16>()?;
            }
            _ => return self.malformed("no kind of key has this tag"),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<number::Number<'a>, KeyError> {
        let (number, offset) = number::read(self.bytes, self.offset)?;
        self.offset = offset;
        Ok(number)
    }

    fn string(&mut self) -> Result<Vec<u8>, KeyError> {
        let start = self.offset + 1;
        let end = self.find_string_end()?;
        let mut plain = Vec::with_capacity(end - start);
        for (index, run) in self.bytes[start..end].split(|byte| *byte == 0).enumerate() {
            if index > 0 {
                plain.push(0);
            }
            plain.extend_from_slice(if index > 0 { &run[1..] } else { run });
        }
        self.offset = end + 2;
        Ok(plain)
    }

    /// Where the two zeros stand that end the string at the offset; each zero before them is
    /// followed by FF.
    fn find_string_end(&self) -> Result<usize, KeyError> {
        let mut at = self.offset + 1;
        loop {
            let rest = &self.bytes[at..];
            let Some(zero) = rest.iter().position(|byte| *byte == 0) else {
                return self.malformed("the string does not end");
            };
            match rest.get(zero + 1) {
                Some(0x00) => return Ok(at + zero),
                Some(0xFF) => at += zero + 2,
                _ => return self.malformed("a zero is neither escaped nor the end"),
            }
        }
    }

    fn micros(&mut self) -> Result<i64, KeyError> {
        Ok(i64::from_be_bytes(*self.array()?) ^ i64::MIN)
    }

    /// The fixed-length body after a tag.
    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], KeyError> {
        match self.bytes[self.offset + 1..].first_chunk() {
            Some(array) => {
                self.offset += 1 + N;
                Ok(array)
            }
            None => self.malformed("the key is cut"),
        }
    }
}
