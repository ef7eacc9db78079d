//! Large values between Python and chunks: the bytes of an object are cut where they are, and what is
//! read is put where the object has it.

use objsync::limits::CHUNK_BYTES;
use objsync::{Ack, Bytes, Dict, LargeValue, Pending};
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyByteArray, PyBytes, PyString};

use crate::codec::{self, Decoded, Split, decode, decode_split};
use crate::errors;
use crate::waiting::wait;

type Object<'py> = Bound<'py, PyAny>;

/// Content up to this is decoded as any other value is, and may be cached.
const CACHED_BYTES_MAX: u64 = 1 << 20;

/// A payload in two parts: what stands before the raw content, and the content.
struct Parts {
    head: Vec<u8>,
    content: Bytes,
}

/// The UTF-8 of a str, where it is.
struct Text(PyBackedStr);

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// The payload of an object, in one piece.
pub(crate) fn encode(value: &Object<'_>) -> PyResult<Vec<u8>> {
    match split(value)? {
        Some(Parts { head, content }) => Ok([&head[..], &content].concat()),
        None => codec::encode(value),
    }
}

/// A put of an object. The content of large bytes and text is not copied, and is read without the
/// interpreter's lock.
pub(crate) fn set(dict: &Dict, key: &[u8], value: &Object<'_>) -> PyResult<Pending<Ack>> {
    Ok(match split(value)? {
        Some(Parts { head, content }) => dict.set_parts(key, &head, content),
        None => dict.set(key, codec::encode(value)?),
    })
}

/// The object of a payload that is in memory, or in chunks; of the latter, content is fetched into
/// the object itself, by other threads and without the interpreter's lock.
pub(crate) fn object<'py>(py: Python<'py>, dict: &Dict, payload: Bytes) -> PyResult<Object<'py>> {
    let value = LargeValue::of(&payload).map_err(|error| errors::raise(py, &error))?;
    match value {
        Some(value) if is_bytes(&value) => {
            let raised = |error| errors::raise(py, &error);
            value.payload_bytes().map_err(raised)?;
            let count = usize::try_from(value.content_bytes())?;
            let read = |offset: usize, buffer: &mut [u8]| {
                py.detach(|| dict.read_large(&value, offset as u64, buffer))
                    .map_err(raised)
            };
            from_start(py, count, read)
        }
        _ => Ok(decoded(py, dict, &payload)?.object),
    }
}

/// So many bytes of a content, read into the object itself.
///
/// The object takes its memory at once, so the first chunk is read before: a value of which nothing is
/// there costs nothing, whatever size it states.
pub(crate) fn from_start<'py>(
    py: Python<'py>,
    count: usize,
    mut read: impl FnMut(usize, &mut [u8]) -> PyResult<()>,
) -> PyResult<Object<'py>> {
    let mut first = vec![0; count.min(CHUNK_BYTES)];
    read(0, &mut first)?;
    let bytes = PyBytes::new_with(py, count, |buffer| {
        let (start, rest) = buffer.split_at_mut(first.len());
        start.copy_from_slice(&first);
        match rest.is_empty() {
            true => Ok(()),
            false => read(first.len(), rest),
        }
    })?;
    Ok(bytes.into_any())
}

/// As [`object`], for who may keep it.
pub(crate) fn decoded<'py>(
    py: Python<'py>,
    dict: &Dict,
    payload: &Bytes,
) -> PyResult<Decoded<'py>> {
    let value = LargeValue::of(payload).map_err(|error| errors::raise(py, &error))?;
    let Some(value) = value else {
        return decode(py, payload);
    };
    let content = wait(py, dict.load_content(&value))?;
    decode_split(py, value.head(), &content)
}

/// Whether a payload is so large that it is read by [`object`], and never cached.
pub(crate) fn is_large(payload: &Bytes) -> bool {
    matches!(LargeValue::of(payload), Ok(Some(value)) if value.content_bytes() > CACHED_BYTES_MAX)
}

fn is_bytes(value: &LargeValue) -> bool {
    matches!(value.head().first(), Some(0xc4..=0xc6))
}

/// Bytes, text or an array above 64 KiB in two parts; none for any other object.
fn split(value: &Object<'_>) -> PyResult<Option<Parts>> {
    if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        return Ok((bytes.as_bytes().len() > CHUNK_BYTES)
            .then(|| parts(0xc6, Bytes::from_owner(PyBackedBytes::from(bytes.clone())))));
    }
    if let Ok(bytes) = value.cast_exact::<PyByteArray>() {
        // Copied: it may change before all of it was read.
        return Ok((bytes.len() > CHUNK_BYTES).then(|| parts(0xc6, bytes.to_vec().into())));
    }
    if let Ok(text) = value.cast_exact::<PyString>()
        && text.len()? > CHUNK_BYTES / UTF8_BYTES_MAX
        && let Ok(text) = PyBackedStr::try_from(text.clone())
        && text.len() > CHUNK_BYTES
    {
        return Ok(Some(parts(0xdb, Bytes::from_owner(Text(text)))));
    }
    let array = match value.is_exact_instance_of::<PyString>() {
        true => None,
        false => Split::new(value, CHUNK_BYTES + 1)?,
    };
    array.map(of_array).transpose()
}

/// The elements of an array are copied once: who has it may change them meanwhile.
fn of_array(array: Split<'_>) -> PyResult<Parts> {
    Ok(Parts {
        head: array.head,
        content: array.content.into_bytes()?,
    })
}

/// Most bytes of one character.
const UTF8_BYTES_MAX: usize = 4;

/// MessagePack's longest header of bytes or text; above its 4 GiB the length says no more than that.
/// What is shorter than 64 KiB never comes here, so it is also the shortest that fits.
fn parts(marker: u8, content: Bytes) -> Parts {
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    let mut head = vec![marker];
    head.extend_from_slice(&length.to_be_bytes());
    Parts { head, content }
}
