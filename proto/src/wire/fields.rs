//! MessagePack of the fields of a frame, read from bytes that may come from anybody.
//!
//! Structs are arrays of their fields, enums arrays of the variant's number and its fields, ids
//! their number or raw bytes: what `rmp_serde` makes of the same types, which a test compares.
//! Written by hand because keys and values are slices of the frame here, not copies, and because
//! every count is held against what the frame can hold before memory is taken for it.

use bytes::{BufMut, Bytes, BytesMut};
use rmp::{decode, encode};

use crate::limits::{FEED_FRAME_BYTES, TRANSACTION_EFFECTS_MAX};

/// Most elements of all lists in one frame: a full transaction, or a full frame of small events.
const FRAME_ITEMS_MAX: usize = TRANSACTION_EFFECTS_MAX + FEED_FRAME_BYTES;

/// What a frame held instead of what its type says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed {
    /// Where in the body.
    pub(super) offset: usize,
    /// What was wrong there.
    pub(super) reason: &'static str,
}

/// Something that stands in a frame.
pub(super) trait Field: Sized {
    /// Appends it.
    fn put(&self, out: &mut BytesMut);
    /// Reads it.
    fn take(reader: &mut Reader) -> Result<Self, Malformed>;
}

/// The body of a frame while it is read.
pub(super) struct Reader {
    body: Bytes,
    offset: usize,
    items: usize,
}

impl Reader {
    pub(super) fn new(body: Bytes) -> Self {
        Self {
            body,
            offset: 0,
            items: 0,
        }
    }

    pub(super) fn malformed(&self, reason: &'static str) -> Malformed {
        Malformed {
            offset: self.offset,
            reason,
        }
    }

    /// Nothing may follow what the type says.
    pub(super) fn end(&self) -> Result<(), Malformed> {
        if self.remaining() == 0 {
            Ok(())
        } else {
            Err(self.malformed("bytes after the message"))
        }
    }

    /// Takes what is left of the frame as read.
    pub(super) fn pass_over_rest(&mut self) {
        self.offset = self.body.len();
    }

    fn remaining(&self) -> usize {
        self.body.len() - self.offset
    }

    /// Reads one thing with a function of `rmp`.
    fn read<'a, T, E>(
        &'a mut self,
        read: impl FnOnce(&mut &'a [u8]) -> Result<T, E>,
        reason: &'static str,
    ) -> Result<T, Malformed> {
        let mut rest = &self.body[self.offset..];
        let value = read(&mut rest).map_err(|_| Malformed {
            offset: self.offset,
            reason,
        })?;
        self.offset = self.body.len() - rest.len();
        Ok(value)
    }

    /// The next `length` bytes, shared with the frame.
    fn slice(&mut self, length: u32) -> Result<Bytes, Malformed> {
        let length = length as usize;
        if length > self.remaining() {
            return Err(self.malformed("a length beyond the end of the frame"));
        }
        let slice = self.body.slice(self.offset..self.offset + length);
        self.offset += length;
        Ok(slice)
    }

    /// Reads a nil if one stands here.
    fn nil(&mut self) -> bool {
        let is_nil = self.body.get(self.offset) == Some(&rmp::Marker::Null.to_u8());
        self.offset += usize::from(is_nil);
        is_nil
    }

    /// The number of elements of an array.
    pub(super) fn array(&mut self) -> Result<usize, Malformed> {
        let length = self.read(decode::read_array_len, "an array was expected")?;
        Ok(length as usize)
    }

    /// The start of an array that must have `length` elements.
    pub(super) fn array_of(&mut self, length: usize) -> Result<(), Malformed> {
        if self.array()? == length {
            Ok(())
        } else {
            Err(self.malformed("an array has another number of fields"))
        }
    }
}

pub(super) fn put_array(out: &mut BytesMut, length: usize) {
    let length = u32::try_from(length).expect("a frame holds fewer elements");
    encode::write_array_len(&mut out.writer(), length).expect("memory takes every write");
}

macro_rules! unsigned {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn put(&self, out: &mut BytesMut) {
                encode::write_uint(&mut out.writer(), (*self).into())
                    .expect("memory takes every write");
            }

            fn take(reader: &mut Reader) -> Result<Self, Malformed> {
                reader.read(decode::read_int, concat!("a ", stringify!($type), " was expected"))
            }
        }
    )*};
}
unsigned!(u8, u16, u32, u64);

impl Field for i64 {
    fn put(&self, out: &mut BytesMut) {
        encode::write_sint(&mut out.writer(), *self).expect("memory takes every write");
    }

    fn take(reader: &mut Reader) -> Result<Self, Malformed> {
        reader.read(decode::read_int, "an i64 was expected")
    }
}

impl Field for bool {
    fn put(&self, out: &mut BytesMut) {
        encode::write_bool(&mut out.writer(), *self).expect("memory takes every write");
    }

    fn take(reader: &mut Reader) -> Result<Self, Malformed> {
        reader.read(decode::read_bool, "a bool was expected")
    }
}

impl Field for String {
    fn put(&self, out: &mut BytesMut) {
        encode::write_str(&mut out.writer(), self).expect("memory takes every write");
    }

    fn take(reader: &mut Reader) -> Result<Self, Malformed> {
        let length = reader.read(decode::read_str_len, "a str was expected")?;
        let bytes = reader.slice(length)?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(reader.malformed("a str is not UTF-8")),
        }
    }
}

impl Field for Bytes {
    fn put(&self, out: &mut BytesMut) {
        encode::write_bin(&mut out.writer(), self).expect("memory takes every write");
    }

    fn take(reader: &mut Reader) -> Result<Self, Malformed> {
        let length = reader.read(decode::read_bin_len, "a bin was expected")?;
        reader.slice(length)
    }
}

impl<const N: usize> Field for [u8; N] {
    fn put(&self, out: &mut BytesMut) {
        encode::write_bin(&mut out.writer(), self).expect("memory takes every write");
    }

    fn take(reader: &mut Reader) -> Result<Self, Malformed> {
        let bytes = Bytes::take(reader)?;
        (&bytes[..])
            .try_into()
            .map_err(|_| reader.malformed("a bin has another length"))
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut BytesMut) {
        match self {
            Some(value) => value.put(out),
            None => out.put_u8(rmp::Marker::Null.to_u8()),
        }
    }

    fn take(reader: &mut Reader) -> Result<Self, Malformed> {
        if reader.nil() {
            Ok(None)
        } else {
            T::take(reader).map(Some)
        }
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, out: &mut BytesMut) {
        put_array(out, self.len());
        self.iter().for_each(|element| element.put(out));
    }

    fn take(reader: &mut Reader) -> Result<Self, Malformed> {
        let length = reader.array()?;
        reader.items = reader.items.saturating_add(length);
        if length > reader.remaining() || reader.items > FRAME_ITEMS_MAX {
            return Err(reader.malformed("a list with more elements than a frame holds"));
        }
        // Elements are larger in memory than in the frame: grow as they prove to be there.
        let sure = length.min(reader.remaining() / size_of::<T>().max(1) + 1);
        let mut list = Self::with_capacity(sure);
        for _ in 0..length {
            list.push(T::take(reader)?);
        }
        Ok(list)
    }
}

impl<A: Field, B: Field> Field for (A, B) {
    fn put(&self, out: &mut BytesMut) {
        put_array(out, 2);
        self.0.put(out);
        self.1.put(out);
    }

    fn take(reader: &mut Reader) -> Result<Self, Malformed> {
        reader.array_of(2)?;
        Ok((A::take(reader)?, B::take(reader)?))
    }
}

/// `[0, value]` or `[1, error]`.
impl<T: Field, E: Field> Field for Result<T, E> {
    fn put(&self, out: &mut BytesMut) {
        put_array(out, 2);
        out.put_u8(u8::from(self.is_err()));
        match self {
            Ok(value) => value.put(out),
            Err(error) => error.put(out),
        }
    }

    fn take(reader: &mut Reader) -> Result<Self, Malformed> {
        reader.array_of(2)?;
        match u8::take(reader)? {
            0 => T::take(reader).map(Ok),
            1 => E::take(reader).map(Err),
            _ => Err(reader.malformed("a result is neither 0 nor 1")),
        }
    }
}
