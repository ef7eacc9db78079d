//! Large bytes, str and arrays as a head and their content, which stays where it is: so that it can be
//! cut into pieces without a payload being made of it first.
//!
//! The head and the content, one after the other, are the payload that `encode` makes.

use bytes::Bytes;
use objsync::value::ext;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyString};

use super::array::{self, Head, Taken};
use super::decode::{Decoded, decode};
use super::encode;
use super::fault::Fault;
use super::view;
use crate::errors;

/// A value as the first bytes of its payload and the rest of them.
pub(crate) struct Split<'py> {
    /// The first bytes of the payload: type and length; of an array shape and dtype too.
    pub(crate) head: Vec<u8>,
    /// The rest.
    pub(crate) content: Content<'py>,
}

/// The bytes of a Python object, where they are.
pub(crate) enum Content<'py> {
    /// Those of a bytes.
    Bytes(Bound<'py, PyBytes>),
    /// Those of a str, as UTF-8.
    Text(Bound<'py, PyString>),
    /// The elements of an array.
    Elements(PyBuffer<u8>),
}

impl<'py> Split<'py> {
    /// Splits a bytes, str or array whose content is at least so long; none for anything else.
    ///
    /// # Errors
    /// What `encode` says of half a surrogate pair, or of a dtype that is not stored; `InvalidError`
    /// for content of more than 4 GiB, which no payload can name.
    pub(crate) fn new(object: &Bound<'py, PyAny>, bytes_min: usize) -> PyResult<Option<Self>> {
        split(object, bytes_min).map_err(|fault| fault.raise(object.py()))
    }
}

fn split<'py>(
    object: &Bound<'py, PyAny>,
    bytes_min: usize,
) -> Result<Option<Split<'py>>, Box<Fault>> {
    if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        let count = bytes.as_bytes().len();
        let content = Content::Bytes(bytes.clone());
        return plain(content, count, bytes_min, rmp::encode::write_bin_len);
    }
    if let Ok(text) = object.cast_exact::<PyString>() {
        let count = encode::text_of(text)?.len();
        let content = Content::Text(text.clone());
        return plain(content, count, bytes_min, rmp::encode::write_str_len);
    }
    if !array::is_of_numpy(&object.get_type()) {
        return Ok(None);
    }
    let taken = Taken::new(object)?;
    if taken.raw.len_bytes() < bytes_min {
        return Ok(None);
    }
    Ok(Some(Split {
        head: taken.head(0)?,
        content: Content::Elements(taken.raw),
    }))
}

fn plain<'py, M>(
    content: Content<'py>,
    count: usize,
    bytes_min: usize,
    write: impl FnOnce(&mut Vec<u8>, u32) -> Result<M, rmp::encode::ValueWriteError>,
) -> Result<Option<Split<'py>>, Box<Fault>> {
    if count < bytes_min {
        return Ok(None);
    }
    let Ok(length) = u32::try_from(count) else {
        let max = u32::MAX;
        return Err(Fault::invalid(format!(
            "has {count} bytes; the limit is {max} bytes"
        )));
    };
    let mut head = Vec::new();
    write(&mut head, length).map_err(|error| Fault::invalid(error.to_string()))?;
    Ok(Some(Split { head, content }))
}

impl Content<'_> {
    /// The bytes, for whoever works on them without the interpreter's lock.
    ///
    /// Those of bytes and str stay where they are. Elements of an array are copied, once: who has
    /// the array may change them meanwhile.
    ///
    /// # Errors
    /// None that a str which has been split can have.
    pub(crate) fn into_bytes(self) -> PyResult<Bytes> {
        Ok(match self {
            Self::Bytes(bytes) => Bytes::from_owner(PyBackedBytes::from(bytes)),
            Self::Text(text) => Bytes::from_owner(Text(PyBackedStr::try_from(text)?)),
            Self::Elements(elements) => {
                let mut copy = Vec::new();
                view::append(&mut copy, &elements);
                copy.into()
            }
        })
    }
}

/// The UTF-8 of a str, where it is.
struct Text(PyBackedStr);

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// The Python object of a head and its content, as `Split` makes them; the content of an array is not
/// copied, if it begins at an address that 16 divides.
pub(crate) fn decode_split<'py>(
    py: Python<'py>,
    head: &[u8],
    content: &Bytes,
) -> PyResult<Decoded<'py>> {
    let object = match head.first() {
        Some(0xc4..=0xc6) => PyBytes::new(py, content).into_any(),
        Some(0xd9..=0xdb) => match std::str::from_utf8(content) {
            Ok(text) => PyString::from_bytes(py, text.as_bytes())?.into_any(),
            Err(_) => return Err(errors::corrupt(py, "stored text is not UTF-8".into())),
        },
        _ => match array_of(py, head, content)? {
            Some(array) => array,
            None => {
                let message = "head and content of a large value do not fit together";
                return Err(errors::corrupt(py, message.into()));
            }
        },
    };
    Ok(Decoded {
        object,
        weight_bytes: content.len(),
        is_single: false,
    })
}

fn array_of<'py>(
    py: Python<'py>,
    head: &[u8],
    content: &Bytes,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let mut body = head;
    let Ok(meta) = rmp::decode::read_ext_meta(&mut body) else {
        return Ok(None);
    };
    let is_whole = u64::from(meta.size) == body.len() as u64 + content.len() as u64;
    if meta.typeid != ext::NDARRAY || !is_whole {
        return Ok(None);
    }
    let Some((array, dtype_at)) = Head::read(body) else {
        return Ok(None);
    };
    let Some(end) = body
        .len()
        .checked_sub(array.padding)
        .filter(|end| dtype_at <= *end)
    else {
        return Ok(None);
    };
    let dtype = decode(py, &Bytes::copy_from_slice(&body[dtype_at..end]))?;
    let elements = array::buffer(py, content, content)?;
    array.build(&dtype.object, &elements)
}
