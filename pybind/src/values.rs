//! Values in parts, and files of values.

use std::fs::File;
use std::path::PathBuf;

use objsync::Bytes;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::codec::{Split, decode_split};

type Content<'py> = Bound<'py, PyBytes>;

/// Head and content of the stored bytes of a bytes, str or array of at least `bytes_min` bytes.
#[pyfunction]
pub(crate) fn split_value<'py>(
    value: &Bound<'py, PyAny>,
    bytes_min: usize,
) -> PyResult<Option<(Content<'py>, Content<'py>)>> {
    let py = value.py();
    let Some(split) = Split::new(value, bytes_min)? else {
        return Ok(None);
    };
    let content = split.content.into_bytes()?;
    Ok(Some((
        PyBytes::new(py, &split.head),
        PyBytes::new(py, &content),
    )))
}

/// The value of a head and its content.
#[pyfunction]
pub(crate) fn join_value<'py>(
    py: Python<'py>,
    head: &[u8],
    content: &[u8],
) -> PyResult<Bound<'py, PyAny>> {
    let content = Bytes::copy_from_slice(content);
    Ok(decode_split(py, head, &content)?.object)
}

/// What a file that zstd compressed holds; all of it in memory.
#[pyfunction]
pub(crate) fn unpack_zstd(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyBytes>> {
    let plain = py.detach(|| zstd::stream::decode_all(File::open(path)?))?;
    Ok(PyBytes::new(py, &plain))
}
