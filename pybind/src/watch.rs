//! `d.watch()`: changes as they happen.

use objsync::{Dict, KeyRange, Revision};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::codec::encode_key;
use crate::handle::range_of;
use crate::records;
use crate::waiting::{blocking, wait};

/// What to watch: a key, in a tuple that is empty for none; or all that begins with a prefix.
pub(crate) fn range(
    py: Python<'_>,
    key: &Bound<'_, PyTuple>,
    prefix: Option<&Bound<'_, PyAny>>,
) -> PyResult<KeyRange> {
    let Ok(one) = key.get_item(0) else {
        return range_of(None, None, prefix);
    };
    if prefix.is_some() {
        let text = String::from("watch has a key and a prefix: give one of them");
        return Err(crate::errors::invalid(py, text));
    }
    let start = objsync::Bytes::from(encode_key(&one)?);
    let end = Some(objsync::key::successor(&start));
    Ok(KeyRange { start, end })
}

/// A stream of changes; `objsync.Watch` is its public face.
#[pyclass(frozen, module = "objsync._objsync")]
pub(crate) struct Events {
    watch: objsync::Watch,
}

impl Events {
    pub(crate) fn new(
        py: Python<'_>,
        dict: &Dict,
        range: KeyRange,
        since: Option<u64>,
    ) -> PyResult<Self> {
        wait(py, dict.watch_async(range, since.map(Revision))).map(Self::of)
    }

    pub(crate) fn of(watch: objsync::Watch) -> Self {
        Self { watch }
    }

    pub(crate) fn stream(&self) -> &objsync::Watch {
        &self.watch
    }
}

#[pymethods]
impl Events {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let here = self
            .watch
            .try_recv()
            .map_err(|error| crate::errors::raise(py, &error))?;
        let event = match here {
            Some(event) => Some(event),
            None => blocking(py, || self.watch.recv())?,
        };
        event.map(|event| records::event(py, &event)).transpose()
    }

    /// The next event within `timeout` seconds, or none.
    fn get<'py>(&self, py: Python<'py>, timeout: f64) -> PyResult<Option<Bound<'py, PyAny>>> {
        let timeout = std::time::Duration::try_from_secs_f64(timeout.max(0.0)).unwrap_or_default();
        let event = blocking(py, || self.watch.recv_timeout(timeout))?;
        event.map(|event| records::event(py, &event)).transpose()
    }

    /// Whether nothing more can come.
    #[getter]
    fn closed(&self) -> bool {
        self.watch.is_closed()
    }

    /// Ends the stream.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.watch.close());
    }
}
