//! `with d.pipeline() as p:` many acknowledged writes in flight.

use std::sync::{Mutex, PoisonError};

use objsync::{Ack, Bytes, Dict};
use pyo3::prelude::*;
use pyo3::types::{PyGenericAlias, PyType};

use crate::codec::encode_key;
use crate::large::encode;
use crate::live::Ends;
use crate::waiting::blocking;
use crate::{errors, records};

/// Writes handed over together: taking them over one by one would cost more than the writes.
const HANDED_OVER_MAX: usize = 64;
/// Bytes handed over together, at most.
const HANDED_OVER_BYTES_MAX: usize = 256 << 10;

/// Writes sent in order without waiting for each answer; made by `Object.pipeline`.
///
/// >>> from objsync import DiskObject
/// >>> with DiskObject("data.obj") as d, d.pipeline() as p:
/// ...     p["a"] = 1
/// ...     p["b"] = 2
/// ...     p.finish()
/// ...     d.copy(), p.ack == d.last_ack
/// ({'a': 1, 'b': 2}, True)
#[pyclass(module = "objsync._objsync")]
pub(crate) struct Pipeline {
    /// In a mutex only because Python may ask from any thread; it is never contended.
    pipeline: Mutex<Option<objsync::Pipeline>>,
    ready: Vec<(Bytes, Option<Bytes>)>,
    ready_bytes: usize,
    ack: Option<Ack>,
    ends: Ends,
}

impl Pipeline {
    pub(crate) fn new(dict: &Dict, ends: Ends) -> Self {
        Self {
            pipeline: Mutex::new(Some(dict.pipeline())),
            ready: Vec::new(),
            ready_bytes: 0,
            ack: None,
            ends,
        }
    }

    fn pipeline(&mut self) -> &mut Option<objsync::Pipeline> {
        self.pipeline
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&mut self, py: Python<'_>, key: Bytes, value: Option<Bytes>) -> PyResult<()> {
        if self.pipeline().is_none() {
            return Err(errors::closed(
                py,
                String::from("this pipeline was finished"),
            ));
        }
        self.ready_bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
        self.ready.push((key, value));
        if self.ready.len() < HANDED_OVER_MAX && self.ready_bytes < HANDED_OVER_BYTES_MAX {
            return Ok(());
        }
        self.hand_over(py)
    }

    fn hand_over(&mut self, py: Python<'_>) -> PyResult<()> {
        self.ready_bytes = 0;
        let ready = std::mem::take(&mut self.ready);
        let Some(pipeline) = self.pipeline() else {
            return Ok(());
        };
        let keys: Vec<Bytes> = ready.iter().map(|(key, _)| key.clone()).collect();
        // Sent, so in its place among the writes of this handle.
        blocking(py, || {
            for (key, value) in ready {
                match value {
                    Some(value) => pipeline.set(&key, value)?,
                    None => pipeline.delete(&key)?,
                }
            }
            Ok(())
        })?;
        self.ends.replaced(py, keys.iter().map(|key| &key[..]))
    }
}

#[pymethods]
impl Pipeline {
    /// `Pipeline[str, int]`: for those who declare types; it changes nothing.
    #[classmethod]
    #[pyo3(signature = (item, /))]
    fn __class_getitem__<'py>(
        cls: &Bound<'py, PyType>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyGenericAlias>> {
        PyGenericAlias::new(cls.py(), cls, item)
    }

    fn __setitem__(&mut self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let (encoded, payload) = (encode_key(key)?.into(), encode(value)?.into());
        self.push(key.py(), encoded, Some(payload))
    }

    fn __delitem__(&mut self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        let encoded = encode_key(key)?.into();
        self.push(key.py(), encoded, None)
    }

    /// Where the last write stands, once the pipeline is finished.
    #[getter]
    fn ack<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.ack.map(|ack| records::ack(py, ack)).transpose()
    }

    /// Waits for every answer and raises the first failure.
    fn finish(&mut self, py: Python<'_>) -> PyResult<()> {
        let handed_over = self.hand_over(py);
        if let Some(pipeline) = self.pipeline().take() {
            self.ack = blocking(py, || pipeline.finish())?;
        }
        handed_over
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
        let finished = self.finish(py);
        // What the block raised is what the caller should see.
        if kind.is_some() { Ok(()) } else { finished }
    }
}
