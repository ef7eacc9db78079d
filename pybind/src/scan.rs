//! Iteration over keys, values or items, all as of one revision.

use objsync::{Bytes, Dict, KeyRange, ObjectError, Pending, Scan, TransactionScan};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::codec::{decode, decode_key};
use crate::errors;
use crate::handle::Handle;
use crate::live::is_container;
use crate::waiting::{blocking, wait};

/// What an iterator yields of each entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Keys,
    Values,
    Items,
}

impl What {
    pub(crate) fn read(py: Python<'_>, name: &str) -> PyResult<Self> {
        match name {
            "keys" => Ok(Self::Keys),
            "values" => Ok(Self::Values),
            "items" => Ok(Self::Items),
            _ => Err(errors::invalid(
                py,
                format!("{name:?} is neither keys, values nor items"),
            )),
        }
    }

    /// Starts to read what is needed of a range.
    pub(crate) fn scan(self, dict: &Dict, range: KeyRange, reverse: bool) -> Pending<Scan> {
        match self {
            Self::Keys => dict.keys_async(range, reverse),
            Self::Values | Self::Items => dict.scan_async(range, reverse),
        }
    }

    /// The Python object of one entry.
    pub(crate) fn object<'py>(
        self,
        py: Python<'py>,
        (key, payload): (Bytes, Bytes),
    ) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Keys => decode_key(py, &key),
            Self::Values => Ok(decode(py, &payload)?.object),
            Self::Items => {
                let pair = [decode_key(py, &key)?, decode(py, &payload)?.object];
                Ok(PyTuple::new(py, pair)?.into_any())
            }
        }
    }
}

/// Entries of a dictionary, or as a transaction sees them.
pub(crate) enum AnyScan {
    Dict(Scan),
    Transaction(TransactionScan),
}

impl AnyScan {
    fn next_page(&mut self) -> Result<Vec<(Bytes, Bytes)>, ObjectError> {
        match self {
            Self::Dict(scan) => scan.next_page(),
            Self::Transaction(scan) => scan.next_page(),
        }
    }

    pub(crate) async fn next_page_async(&mut self) -> Result<Vec<(Bytes, Bytes)>, ObjectError> {
        match self {
            Self::Dict(scan) => scan.next_page_async().await,
            Self::Transaction(scan) => scan.next_page_async().await,
        }
    }
}

// What it yields does not go through the cache of decoded values: a long iteration would only empty
// it.
/// Yields entries in key order. They are decoded one by one, and fetched some 256 KiB at a time.
#[pyclass(module = "objsync._objsync")]
pub(crate) struct ScanIterator {
    scan: AnyScan,
    what: What,
    page: std::vec::IntoIter<(Bytes, Bytes)>,
    is_done: bool,
    /// Keeps the handle open: `for key in DiskObject(path)` has no other one.
    _open: Option<Dict>,
    /// Whose live objects it yields for containers.
    live: Option<Py<Handle>>,
}

impl ScanIterator {
    pub(crate) fn new(
        py: Python<'_>,
        dict: &Dict,
        range: KeyRange,
        reverse: bool,
        what: What,
    ) -> PyResult<Self> {
        let iterator = Self::of(py, what.scan(dict, range, reverse), what)?;
        Ok(Self {
            _open: Some(dict.clone()),
            ..iterator
        })
    }

    /// Over what was started to be read.
    pub(crate) fn of(py: Python<'_>, scan: Pending<Scan>, what: What) -> PyResult<Self> {
        Ok(Self::over(AnyScan::Dict(wait(py, scan)?), what))
    }

    /// Over what can be read on.
    pub(crate) fn over(scan: AnyScan, what: What) -> Self {
        Self {
            scan,
            what,
            page: Vec::new().into_iter(),
            is_done: false,
            _open: None,
            live: None,
        }
    }

    /// Yields live objects of a handle for containers.
    pub(crate) fn live(self, handle: Py<Handle>) -> Self {
        let live = (self.what != What::Keys).then_some(handle);
        Self { live, ..self }
    }

    fn object<'py>(
        &self,
        py: Python<'py>,
        (key, payload): (Bytes, Bytes),
    ) -> PyResult<Bound<'py, PyAny>> {
        let Some(handle) = &self.live else {
            return self.what.object(py, (key, payload));
        };
        let value = decode(py, &payload)?.object;
        if self.what == What::Values && !is_container(&value) {
            return Ok(value);
        }
        let key = decode_key(py, &key)?;
        let value = handle.get().live(&key, value)?;
        match self.what {
            What::Values => Ok(value),
            _ => Ok(PyTuple::new(py, [key, value])?.into_any()),
        }
    }
}

#[pymethods]
impl ScanIterator {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(entry) = self.page.next() {
            return self.object(py, entry).map(Some);
        }
        if self.is_done {
            return Ok(None);
        }
        let scan = &mut self.scan;
        self.page = blocking(py, || scan.next_page())?.into_iter();
        self.is_done = self.page.len() == 0;
        self.page
            .next()
            .map(|entry| self.object(py, entry))
            .transpose()
    }
}
