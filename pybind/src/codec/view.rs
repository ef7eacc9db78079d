//! Stored bytes as a Python buffer, so that a numpy array can lie on them without a copy.
//!
//! `unsafe` is here because Python's buffer protocol is a C interface: it is handed a pointer.

#![allow(unsafe_code, reason = "Python's buffer protocol is a C interface")]

use std::os::raw::{c_int, c_void};

use bytes::Bytes;
use pyo3::buffer::PyBuffer;
use pyo3::ffi;
use pyo3::prelude::*;

/// Bytes that nobody changes, kept for as long as a view of them lives.
#[pyclass(frozen, module = "objsync._objsync")]
pub(super) struct StoredBytes {
    bytes: Bytes,
}

impl StoredBytes {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }
}

#[pymethods]
impl StoredBytes {
    // SAFETY: `view` is Python's, which calls this with a place to fill in. The bytes do not move and
    // do not change while `slf` lives, and `PyBuffer_FillInfo` makes the view hold `slf`. It refuses
    // a writable view because of `readonly`, so the cast to a mutable pointer is never used to write.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let bytes = &slf.get().bytes;
        let length = isize::try_from(bytes.len())?;
        let start = bytes.as_ptr().cast::<c_void>().cast_mut();
        // SAFETY: as above.
        let done = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, length, 1, flags) };
        if done == 0 {
            Ok(())
        } else {
            Err(PyErr::fetch(slf.py()))
        }
    }
}

/// Appends all bytes of a buffer, which lie one after the other, as those of a flat array do.
pub(super) fn append(out: &mut Vec<u8>, buffer: &PyBuffer<u8>) {
    assert!(
        buffer.is_c_contiguous(),
        "_arrays.py gives flat arrays only"
    );
    let count = buffer.len_bytes();
    out.reserve(count);
    // SAFETY: the buffer has `count` bytes from its start, one after the other, and stays exported
    // while it is borrowed; `out` has room for as many, which are written before it is made longer. Its
    // memory is its own. Another thread that writes into the array meanwhile leaves a mixture of
    // bytes, as with every reader of a numpy array.
    unsafe {
        let from = buffer.buf_ptr().cast::<u8>();
        let end = out.as_mut_ptr().add(out.len());
        std::ptr::copy_nonoverlapping(from, end, count);
        out.set_len(out.len() + count);
    }
}
