//! Reading bytes that may lie about their lengths, and the varints they are told in.

use bytes::Bytes;

use super::Malformed;

/// Longest varint of a u64.
const VARINT_BYTES_MAX: u32 = 10;

/// Appends `value`, 7 bits per byte, low ones first, the top bit telling that more follow.
pub fn put_varint(buffer: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        #[expect(clippy::cast_possible_truncation, reason = "7 bits and the mark")]
        buffer.push(value as u8 | 0x80);
        value >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 0x80")]
    buffer.push(value as u8);
}

/// Bytes that [`put_varint`] appends.
#[must_use]
pub const fn varint_bytes(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Takes fields from the front of a piece of memory, sharing it.
pub struct BytesReader<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> BytesReader<'a> {
    /// Reads `bytes` from the start.
    #[must_use]
    pub fn new(bytes: &'a Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes not taken yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Takes one byte.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = *self.bytes.get(self.at).ok_or(Malformed("cut short"))?;
        self.at += 1;
        Ok(byte)
    }

    /// Takes a varint.
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for group in 0..VARINT_BYTES_MAX {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if group == VARINT_BYTES_MAX - 1 && bits > 1 {
                return Err(Malformed("a number over 64 bits"));
            }
            value |= bits << (7 * group);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("a number over 64 bits"))
    }

    /// Takes a varint that fits a smaller type.
    pub fn number<T: TryFrom<u64>>(&mut self) -> Result<T, Malformed> {
        T::try_from(self.varint()?).map_err(|_| Malformed("a number out of its range"))
    }

    /// Takes a length, and that many bytes.
    pub fn sized(&mut self) -> Result<Bytes, Malformed> {
        let taken = self.sized_slice()?;
        Ok(self.bytes.slice_ref(taken))
    }

    /// As [`BytesReader::sized`], for bytes that are only looked at.
    pub fn sized_slice(&mut self) -> Result<&'a [u8], Malformed> {
        let count = self.number::<usize>()?;
        if count > self.remaining() {
            return Err(Malformed("a length past the end"));
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    /// Takes bytes of a fixed count.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        if N > self.remaining() {
            return Err(Malformed("cut short"));
        }
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        Ok(array)
    }

    /// Takes what is left.
    pub fn rest(&mut self) -> Bytes {
        let rest = self.bytes.slice(self.at..);
        self.at = self.bytes.len();
        rest
    }

    /// That nothing is left.
    pub fn finish(self) -> Result<(), Malformed> {
        match self.remaining() {
            0 => Ok(()),
            _ => Err(Malformed("bytes after the end")),
        }
    }
}
