//! `with d.batch() as b:` one transaction, all of it or nothing.

use objsync::{Ack, Bytes, Change, Dict};
use pyo3::prelude::*;
use pyo3::types::{PyGenericAlias, PyType};

use crate::codec::encode_key;
use crate::live::Ends;
use crate::waiting::wait;
use crate::{options, records};

/// Changes collected for one transaction; made by `Object.batch`.
///
/// >>> from objsync import DiskObject
/// >>> with DiskObject("data.obj") as d, d.batch() as b:
/// ...     b["a"] = 1
/// ...     b.commit()
/// ...     b["b"] = 2
/// ...     b.clear()
/// ...     d.copy(), b.ack == d.last_ack
/// ({'a': 1}, True)
#[pyclass(module = "objsync._objsync")]
pub(crate) struct Batch {
    dict: Dict,
    changes: Vec<Change>,
    ack: Option<Ack>,
    ends: Ends,
}

impl Batch {
    pub(crate) fn new(dict: &Dict, ends: Ends) -> Self {
        Self {
            dict: dict.clone(),
            changes: Vec::new(),
            ack: None,
            ends,
        }
    }
}

#[pymethods]
impl Batch {
    /// `Batch[str, int]`: for those who declare types; it changes nothing.
    #[classmethod]
    #[pyo3(signature = (item, /))]
    fn __class_getitem__<'py>(
        cls: &Bound<'py, PyType>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyGenericAlias>> {
        PyGenericAlias::new(cls.py(), cls, item)
    }

    fn __setitem__(&mut self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.changes.push(options::put(key, value)?);
        Ok(())
    }

    fn __delitem__(&mut self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        self.changes.push(Change {
            key: encode_key(key)?.into(),
            value: None,
        });
        Ok(())
    }

    fn __len__(&self) -> usize {
        self.changes.len()
    }

    /// Where the transaction stands, once it was made.
    #[getter]
    fn ack<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.ack.map(|ack| records::ack(py, ack)).transpose()
    }

    /// Forgets the changes collected so far.
    fn clear(&mut self) {
        self.changes.clear();
    }

    /// Makes the changes collected so far, in one transaction.
    fn commit(&mut self, py: Python<'_>) -> PyResult<()> {
        let changes = std::mem::take(&mut self.changes);
        if changes.is_empty() {
            return Ok(());
        }
        let keys: Vec<Bytes> = changes.iter().map(|change| change.key.clone()).collect();
        self.ack = Some(wait(py, self.dict.batch(changes))?);
        self.ends.replaced(py, keys.iter().map(|key| &key[..]))
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (kind, error, traceback, /))]
    fn __exit__(
        &mut self,
        py: Python<'_>,
        kind: Option<&Bound<'_, PyAny>>,
        error: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (error, traceback);
        if kind.is_some() {
            self.clear();
            return Ok(());
        }
        self.commit(py)
    }
}
