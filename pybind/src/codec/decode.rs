//! Values: from a MessagePack payload straight to Python objects.
//!
//! Payloads come from disk and from peers, so nothing in them is believed: a length is compared
//! with the bytes that are there before memory is taken for it.

use bytes::Bytes;
use objsync::limits::{CLASS_NAME_BYTES_MAX, VALUE_DEPTH_MAX};
use objsync::value::ext;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyComplex, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString,
    PyTuple,
};

use super::array::{self, Head};
use super::names::Names;
use super::types::ValueTypes;
use super::{class, moment};
use crate::errors;

/// Bytes that a Python object takes besides its content, roughly: what the cache counts with.
const OBJECT_BYTES: usize = 56;
/// Bytes that an entry of a dict or set takes, roughly.
const ENTRY_BYTES: usize = 32;

/// A Python object and what it weighs in memory, roughly.
pub(crate) struct Decoded<'py> {
    pub(crate) object: Bound<'py, PyAny>,
    pub(crate) weight_bytes: usize,
    /// Whether `Fresh` cannot make another like it, so that each reader needs it decoded anew.
    pub(crate) is_single: bool,
}

/// The Python object of a payload; `CorruptError` when there is none. Large arrays lie on the
/// payload's memory, which then lives as long as they do.
pub(crate) fn decode<'py>(py: Python<'py>, payload: &Bytes) -> PyResult<Decoded<'py>> {
    let mut reader = Reader {
        py,
        owner: payload,
        payload,
        at: 0,
        weight_bytes: 0,
        is_single: false,
    };
    let object = match reader.value(0) {
        Ok(object) if reader.at == payload.len() => Ok(object),
        Ok(_) => Err(Malformed::At("bytes follow the value")),
        Err(malformed) => Err(malformed),
    };
    match object {
        Ok(object) => Ok(Decoded {
            object,
            weight_bytes: reader.weight_bytes,
            is_single: reader.is_single,
        }),
        Err(Malformed::Raised(error)) => Err(error),
        Err(Malformed::At(reason)) => Err(errors::corrupt(
            py,
            format!(
                "stored value is malformed at byte {} of {}: {reason}",
                reader.at,
                payload.len()
            ),
        )),
    }
}

pub(super) enum Malformed {
    /// What is wrong where the reader stands.
    At(&'static str),
    /// Python refused to build the object.
    Raised(PyErr),
}

impl From<PyErr> for Malformed {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

type Read<T> = Result<T, Malformed>;

struct Reader<'a, 'py> {
    py: Python<'py>,
    owner: &'a Bytes,
    payload: &'a [u8],
    at: usize,
    weight_bytes: usize,
    is_single: bool,
}

impl<'a, 'py> Reader<'a, 'py> {
    fn value(&mut self, depth: usize) -> Read<Bound<'py, PyAny>> {
        let marker = self.byte()?;
        self.weight_bytes += OBJECT_BYTES;
        match marker {
            0x00..=0x7f => Ok(int(self.py, marker)),
            0x80..=0x8f => self.dict(usize::from(marker & 0x0f), depth),
            0x90..=0x9f => self.list(usize::from(marker & 0x0f), depth),
            0xa0..=0xbf => self.str(usize::from(marker & 0x1f)),
            0xe0..=0xff => Ok(int(self.py, marker.cast_signed())),
            0xc0 => Ok(self.py.None().into_bound(self.py)),
            0xc2 => Ok(PyBool::new(self.py, false).to_owned().into_any()),
            0xc3 => Ok(PyBool::new(self.py, true).to_owned().into_any()),
            0xca..=0xd3 => self.number(marker),
            0xc4..=0xc6 => {
                let count = self.length(marker - 0xc4)?;
                self.bytes(count)
            }
            0xd9..=0xdb => {
                let count = self.length(marker - 0xd9)?;
                self.str(count)
            }
            0xdc | 0xdd => {
                let count = self.length(marker - 0xdc + 1)?;
                self.list(count, depth)
            }
            0xde | 0xdf => {
                let count = self.length(marker - 0xde + 1)?;
                self.dict(count, depth)
            }
            0xd4..=0xd8 => self.ext(1 << (marker - 0xd4), depth),
            0xc7..=0xc9 => {
                let count = self.length(marker - 0xc7)?;
                self.ext(count, depth)
            }
            0xc1 => Err(Malformed::At("no type has this marker")),
        }
    }

    fn number(&mut self, marker: u8) -> Read<Bound<'py, PyAny>> {
        let py = self.py;
        Ok(match marker {
            0xca => PyFloat::new(py, f64::from(f32::from_be_bytes(self.array()?))).into_any(),
            0xcb => PyFloat::new(py, f64::from_be_bytes(self.array()?)).into_any(),
            0xcc => int(py, u8::from_be_bytes(self.array()?)),
            0xcd => int(py, u16::from_be_bytes(self.array()?)),
            0xce => int(py, u32::from_be_bytes(self.array()?)),
            0xcf => PyInt::new(py, u64::from_be_bytes(self.array()?)).into_any(),
            0xd0 => int(py, i8::from_be_bytes(self.array()?)),
            0xd1 => int(py, i16::from_be_bytes(self.array()?)),
            0xd2 => int(py, i32::from_be_bytes(self.array()?)),
            _ => int(py, i64::from_be_bytes(self.array()?)),
        })
    }

    fn str(&mut self, count: usize) -> Read<Bound<'py, PyAny>> {
        let text = self.text(count)?;
        // Unlike `new`, it raises when there is no memory.
        Ok(PyString::from_bytes(self.py, text.as_bytes())?.into_any())
    }

    fn text(&mut self, count: usize) -> Read<&'a str> {
        self.weight_bytes += count;
        let bytes = self.take(count)?;
        std::str::from_utf8(bytes).map_err(|_| Malformed::At("text is not UTF-8"))
    }

    fn bytes(&mut self, count: usize) -> Read<Bound<'py, PyAny>> {
        self.weight_bytes += count;
        let content = self.take(count)?;
        let bytes = PyBytes::new_with(self.py, count, |buffer| {
            buffer.copy_from_slice(content);
            Ok(())
        })?;
        Ok(bytes.into_any())
    }

    fn list(&mut self, count: usize, depth: usize) -> Read<Bound<'py, PyAny>> {
        let elements = self.elements(count, depth)?;
        Ok(PyList::new(self.py, elements)?.into_any())
    }

    fn elements(&mut self, count: usize, depth: usize) -> Read<Vec<Bound<'py, PyAny>>> {
        self.check_container(count, 1, depth)?;
        self.weight_bytes += count * size_of::<usize>();
        (0..count).map(|_| self.value(depth + 1)).collect()
    }

    fn dict(&mut self, count: usize, depth: usize) -> Read<Bound<'py, PyAny>> {
        self.check_container(count, 2, depth)?;
        self.weight_bytes += count * ENTRY_BYTES;
        let dict = PyDict::new(self.py);
        // Two keys can be equal where a part was changed by an owner to whom they are not, such as 5 and
        // Decimal(5): as in Python, the first key stays and the last value counts.
        for _ in 0..count {
            let key = self.dict_key(depth)?;
            let value = self.value(depth + 1)?;
            dict.set_item(key, value)?;
        }
        Ok(dict.into_any())
    }

    /// Keys of dicts repeat from value to value, so short ones share one object.
    fn dict_key(&mut self, depth: usize) -> Read<Bound<'py, PyAny>> {
        let Some(marker @ 0xa0..=0xbf) = self.payload.get(self.at) else {
            return self.value(depth + 1);
        };
        self.at += 1;
        let text = self.text(usize::from(marker & 0x1f))?;
        Ok(Names::get(self.py, text).into_any())
    }

    fn check_container(&self, count: usize, item_bytes_min: usize, depth: usize) -> Read<()> {
        if depth >= VALUE_DEPTH_MAX {
            return Err(Malformed::At("containers are nested too deep"));
        }
        if count > (self.payload.len() - self.at) / item_bytes_min {
            return Err(Malformed::At(
                "a container says it has more items than bytes are left",
            ));
        }
        Ok(())
    }

    fn ext(&mut self, count: usize, depth: usize) -> Read<Bound<'py, PyAny>> {
        let kind = self.byte()?.cast_signed();
        let end = self.at + count;
        if end > self.payload.len() {
            return Err(Malformed::At("the value is cut"));
        }
        let object = match kind {
            ext::TUPLE => PyTuple::new(self.py, self.ext_array(depth)?)?.into_any(),
            ext::SET => PySet::new(self.py, self.ext_array(depth)?)?.into_any(),
            ext::FROZENSET => PyFrozenSet::new(self.py, self.ext_array(depth)?)?.into_any(),
            ext::NDARRAY => self.ndarray(end, depth)?,
            ext::OBJECT => self.object(depth)?,
            _ => {
                let body = self.take(count)?;
                self.weight_bytes += count;
                self.ext_scalar(kind, body)?
            }
        };
        if self.at == end {
            Ok(object)
        } else {
            Err(Malformed::At("an extension lies about its length"))
        }
    }

    /// The elements of the array that is the body of an extension.
    fn ext_array(&mut self, depth: usize) -> Read<Vec<Bound<'py, PyAny>>> {
        let marker = self.byte()?;
        let count = match marker {
            0x90..=0x9f => usize::from(marker & 0x0f),
            0xdc | 0xdd => self.length(marker - 0xdc + 1)?,
            _ => return Err(Malformed::At("the body of the extension is no array")),
        };
        self.elements(count, depth)
    }

    fn ndarray(&mut self, end: usize, depth: usize) -> Read<Bound<'py, PyAny>> {
        let cut = Malformed::At("a numpy array is cut");
        let Some((head, dtype_at)) = Head::read(&self.payload[self.at..end]) else {
            return Err(cut);
        };
        self.at += dtype_at;
        let dtype = self.value(depth)?;
        let Some(raw) = self.payload[..end].get(self.at + head.padding..) else {
            return Err(cut);
        };
        let elements = array::buffer(self.py, raw, self.owner)?;
        self.weight_bytes += raw.len();
        let array = head.build(&dtype, &elements)?.ok_or(Malformed::At(
            "dtype, shape and bytes of a numpy array do not fit together",
        ))?;
        self.at = end;
        Ok(array)
    }

    fn object(&mut self, depth: usize) -> Read<Bound<'py, PyAny>> {
        self.check_container(1, 1, depth)?;
        let marker = self.byte()?;
        let count = match marker {
            0xa0..=0xbf => usize::from(marker & 0x1f),
            0xd9..=0xdb => self.length(marker - 0xd9)?,
            _ => return Err(Malformed::At("an object without the name of its class")),
        };
        if count > CLASS_NAME_BYTES_MAX {
            return Err(Malformed::At("the name of a class is too long"));
        }
        let name = self.text(count)?;
        let content = self.value(depth + 1)?;
        let rebuilt = class::rebuild(self.py, name, &content)?;
        self.is_single |= !rebuilt.is_shareable;
        Ok(rebuilt.object)
    }

    fn ext_scalar(&self, kind: i8, body: &[u8]) -> Read<Bound<'py, PyAny>> {
        let py = self.py;
        match kind {
            ext::COMPLEX => {
                let (real, imaginary) = halves(body)?;
                Ok(PyComplex::from_doubles(py, real, imaginary).into_any())
            }
            ext::BIG_INT => big_int(py, body),
            ext::DECIMAL => {
                let text = std::str::from_utf8(body).map_err(|_| Malformed::At("no decimal"))?;
                Ok(ValueTypes::get(py)?.decimal.bind(py).call1((text,))?)
            }
            ext::DATETIME => moment::read_datetime(py, body),
            ext::DATE => moment::read_date(py, body),
            ext::TIME => moment::read_time(py, body),
            ext::TIMEDELTA => moment::read_timedelta(py, body),
            ext::UUID => {
                let bytes: &[u8; 16] = body.try_into().map_err(|_| Malformed::At("no UUID"))?;
                Ok(uuid(py, bytes)?)
            }
            _ => Err(Malformed::At(
                "an extension of this number is not known to this version",
            )),
        }
    }

    fn length(&mut self, width: u8) -> Read<usize> {
        Ok(match width {
            0 => usize::from(self.byte()?),
            1 => usize::from(u16::from_be_bytes(self.array()?)),
            _ => u32::from_be_bytes(self.array()?) as usize,
        })
    }

    fn byte(&mut self) -> Read<u8> {
        let Some(byte) = self.payload.get(self.at) else {
            return Err(Malformed::At("the value is cut"));
        };
        self.at += 1;
        Ok(*byte)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let Some(array) = self.payload[self.at..].first_chunk() else {
            return Err(Malformed::At("the value is cut"));
        };
        self.at += N;
        Ok(*array)
    }

    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let Some(bytes) = self.payload[self.at..].get(..count) else {
            return Err(Malformed::At("the value is cut"));
        };
        self.at += count;
        Ok(bytes)
    }
}

fn int(py: Python<'_>, number: impl Into<i64>) -> Bound<'_, PyAny> {
    PyInt::new(py, number.into()).into_any()
}

fn halves(body: &[u8]) -> Read<(f64, f64)> {
    let ([first, second], []) = body.as_chunks::<8>() else {
        return Err(Malformed::At("no complex number"));
    };
    Ok((f64::from_be_bytes(*first), f64::from_be_bytes(*second)))
}

fn big_int<'py>(py: Python<'py>, body: &[u8]) -> Read<Bound<'py, PyAny>> {
    let Some((sign @ 0..=1, magnitude)) = body.split_first() else {
        return Err(Malformed::At("no integer"));
    };
    Ok(int_from_parts(py, *sign == 1, magnitude)?)
}

/// An int of any size from its sign and big-endian magnitude.
pub(super) fn int_from_parts<'py>(
    py: Python<'py>,
    negative: bool,
    magnitude: &[u8],
) -> PyResult<Bound<'py, PyAny>> {
    let absolute = py.get_type::<PyInt>().call_method1(
        pyo3::intern!(py, "from_bytes"),
        (PyBytes::new(py, magnitude), "big"),
    )?;
    if negative {
        absolute.neg()
    } else {
        Ok(absolute)
    }
}

/// A `uuid.UUID` from its bytes.
pub(super) fn uuid<'py>(py: Python<'py>, bytes: &[u8; 16]) -> PyResult<Bound<'py, PyAny>> {
    let types = ValueTypes::get(py)?;
    types
        .uuid
        .bind(py)
        .call1((py.None(), PyBytes::new(py, bytes)))
}
