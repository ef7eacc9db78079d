//! numpy arrays and scalars: from an array to a head and its bytes, and back to a view of these.
//!
//! What numpy has to be asked for, `objsync/_arrays.py` asks: this file never touches numpy, and
//! that module is imported when the first array is met. Body of the extension:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | form: 0 = an array in C order, 1 = in Fortran order, 2 = a scalar |
//! | 1 | count of dimensions |
//! | 1 | count of zero bytes before the elements |
//! | 8 each | the dimensions |
//! | any | the dtype: one payload, a str or a dict |
//! | so many | zero bytes, which bring the elements of a large array to an address they can be read at |
//! | the rest | the elements, one after the other |

use bytes::Bytes;
use objsync::value::ext;
use objsync::{PAYLOAD_BYTES_MAX, limits::VALUE_BYTES_MAX};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString, PyTuple, PyType};

use super::encode::{self, Encoded};
use super::fault::Fault;
use super::view::{self, StoredBytes};

/// Bytes before the payload in a stored value: an address is counted from there.
const STORED_HEADER_BYTES: usize = VALUE_BYTES_MAX - PAYLOAD_BYTES_MAX;
/// What the address of the elements is a multiple of: enough for every element that numpy has.
const ALIGN_BYTES: usize = 16;
/// Elements of fewer bytes are copied out: a view would keep all that was read with them in memory.
const VIEW_BYTES_MIN: usize = 4 << 10;
/// Bytes of form, count of dimensions and count of zero bytes.
const FIXED_BYTES: usize = 3;

/// An array taken apart: the head of its extension without the zero bytes, and its elements.
pub(super) struct Taken {
    head: Vec<u8>,
    pub(super) raw: PyBuffer<u8>,
}

/// Whether a class is one of numpy's own. Nothing is imported for it.
pub(super) fn is_of_numpy(class: &Bound<'_, PyType>) -> bool {
    class.module().is_ok_and(|module| {
        module
            .to_str()
            .is_ok_and(|name| name == "numpy" || name.starts_with("numpy."))
    })
}

impl Taken {
    /// Takes an array or a scalar of numpy apart. Its elements are not copied if they lie one after
    /// the other.
    pub(super) fn new(object: &Bound<'_, PyAny>) -> Result<Self, Box<Fault>> {
        let py = object.py();
        let taken = function(py, "take_apart", &TAKE_APART)?.call1((object,))?;
        if let Ok(remedy) = taken.cast_exact::<PyString>() {
            return Err(Fault::refused(object, remedy.to_string()));
        }
        let (form, shape, dtype, raw): (u8, Vec<u64>, Bound<'_, PyAny>, Bound<'_, PyAny>) =
            taken.extract()?;
        let dimensions = u8::try_from(shape.len()).map_err(PyErr::from)?;
        let mut head = vec![form, dimensions, 0];
        for length in shape {
            head.extend_from_slice(&length.to_be_bytes());
        }
        encode::write_value(&mut head, &dtype, 0)?;
        Ok(Self {
            head,
            raw: PyBuffer::get(&raw)?,
        })
    }

    /// All before the elements, to stand `offset` bytes after the start of a payload.
    pub(super) fn head(&self, offset: usize) -> Result<Vec<u8>, Box<Fault>> {
        let bytes = self.raw.len_bytes();
        let padding = if bytes < VIEW_BYTES_MIN {
            0
        } else {
            (0..ALIGN_BYTES)
                .find(|padding| {
                    let body = self.head.len() + padding;
                    let start = offset + ext_header_bytes(body + bytes) + body;
                    (start + STORED_HEADER_BYTES).is_multiple_of(ALIGN_BYTES)
                })
                .unwrap_or(0)
        };
        let body = self.head.len() + padding + bytes;
        let Ok(length) = u32::try_from(body) else {
            return Err(Fault::invalid(format!(
                "has {bytes} bytes; the limit is {} bytes",
                u32::MAX
            )));
        };
        let mut out = Vec::with_capacity(ext_header_bytes(body) + self.head.len() + padding);
        rmp::encode::write_ext_meta(&mut out, length, ext::NDARRAY)
            .map_err(|error| Fault::invalid(error.to_string()))?;
        let start = out.len();
        out.extend_from_slice(&self.head);
        out[start + FIXED_BYTES - 1] = u8::try_from(padding).map_err(PyErr::from)?;
        out.resize(out.len() + padding, 0);
        Ok(out)
    }

    /// Writes it as a payload.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Encoded {
        encode::length(self.raw.len_bytes())?;
        let head = self.head(out.len())?;
        out.extend_from_slice(&head);
        view::append(out, &self.raw);
        Ok(())
    }
}

/// Bytes of MessagePack before a body of so many.
fn ext_header_bytes(body: usize) -> usize {
    match body {
        1 | 2 | 4 | 8 | 16 => 2,
        0..=0xff => 3,
        0x100..=0xffff => 4,
        _ => 6,
    }
}

/// What stands before the elements.
pub(super) struct Head {
    form: u8,
    shape: Vec<u64>,
    /// Zero bytes between the dtype and the elements.
    pub(super) padding: usize,
}

impl Head {
    /// Reads form, dimensions and padding; the dtype comes after so many bytes. None where it is cut.
    pub(super) fn read(body: &[u8]) -> Option<(Self, usize)> {
        let [form, dimensions, padding, rest @ ..] = body else {
            return None;
        };
        let dimensions = usize::from(*dimensions);
        let (lengths, _) = rest.split_at_checked(dimensions * 8)?;
        let (lengths, _) = lengths.as_chunks::<8>();
        let shape = lengths.iter().map(|length| u64::from_be_bytes(*length));
        let head = Self {
            form: *form,
            shape: shape.collect(),
            padding: usize::from(*padding),
        };
        Some((head, FIXED_BYTES + dimensions * 8))
    }

    /// The array; none where dtype, shape and bytes do not fit together.
    pub(super) fn build<'py>(
        &self,
        dtype: &Bound<'py, PyAny>,
        elements: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = dtype.py();
        let shape = PyTuple::new(py, &self.shape)?;
        let array = function(py, "build", &BUILD)?.call1((self.form, shape, dtype, elements))?;
        Ok(Some(array).filter(|array| !array.is_none()))
    }
}

/// Something that numpy can lay an array on: the bytes themselves where that is worth it, or a copy.
pub(super) fn buffer<'py>(
    py: Python<'py>,
    raw: &[u8],
    owner: &Bytes,
) -> PyResult<Bound<'py, PyAny>> {
    let is_aligned = raw.as_ptr().addr().is_multiple_of(ALIGN_BYTES);
    if is_aligned && raw.len() >= VIEW_BYTES_MIN && raw.len() >= owner.len() / 2 {
        let bytes = StoredBytes::new(owner.slice_ref(raw));
        return Ok(Bound::new(py, bytes)?.into_any());
    }
    Ok(PyBytes::new(py, raw).into_any())
}

type Function = PyOnceLock<Py<PyAny>>;
static TAKE_APART: Function = PyOnceLock::new();
static BUILD: Function = PyOnceLock::new();

fn function<'py>(
    py: Python<'py>,
    name: &str,
    place: &'static Function,
) -> PyResult<&'py Bound<'py, PyAny>> {
    place
        .get_or_try_init(py, || {
            Ok(py.import("objsync._arrays")?.getattr(name)?.unbind())
        })
        .map(|function| function.bind(py))
}
