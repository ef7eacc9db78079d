//! A dictionary as it was at one revision, and what a key was: the native side of `objsync.Past`,
//! blocking and awaitable.

use objsync::{Bytes, Dict, LargeValue, Past, Pending, Revision, Scan, Version};
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::awaitable::{Pages, plain};
use crate::calls::Calls;
use crate::codec::{decode, decode_key, encode_key};
use crate::handle::{Handle, missing, range_of};
use crate::scan::{ScanIterator, What};
use crate::waiting::{blocking, wait};
use crate::{errors, large, records};

type Object<'py> = Bound<'py, PyAny>;

/// A dictionary as it was at one revision; `objsync.Past` is its public face.
#[pyclass(frozen, module = "objsync._objsync")]
pub(crate) struct PastHandle {
    past: Past,
}

impl PastHandle {
    pub(crate) fn of(past: Past) -> Self {
        Self { past }
    }

    fn read<'py>(&self, key: &Object<'py>) -> PyResult<Option<Object<'py>>> {
        let py = key.py();
        let key = encode_key(key)?;
        // A file is read for it, so never under the interpreter's lock.
        let payload = blocking(py, || self.past.get(&key).wait())?;
        payload
            .map(|payload| Ok(decode(py, &payload)?.object))
            .transpose()
    }
}

#[pymethods]
impl PastHandle {
    /// As of when it is read.
    #[getter]
    fn revision(&self) -> u64 {
        self.past.revision().0
    }

    fn __getitem__<'py>(&self, key: &Object<'py>) -> PyResult<Object<'py>> {
        self.read(key)?.ok_or_else(|| missing(key))
    }

    /// The value that `key` had; `default` when there was no such key.
    #[pyo3(signature = (key, default=None, /))]
    fn get<'py>(
        &self,
        key: &Object<'py>,
        default: Option<Object<'py>>,
    ) -> PyResult<Option<Object<'py>>> {
        Ok(self.read(key)?.or(default))
    }

    fn __contains__(&self, key: &Object<'_>) -> PyResult<bool> {
        let (py, key) = (key.py(), encode_key(key)?);
        blocking(py, || self.past.contains(&key).wait())
    }

    /// Lets go of what is held in memory for it; reads raise `ClosedError` from then on.
    fn release(&self) {
        self.past.release();
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(usize::try_from(wait(py, self.past.count())?)?)
    }

    /// Entries of a range: `what` is "keys", "values" or "items".
    #[pyo3(signature = (what, start=None, stop=None, prefix=None, reverse=false))]
    fn _scan(
        &self,
        py: Python<'_>,
        what: &str,
        start: Option<&Object<'_>>,
        stop: Option<&Object<'_>>,
        prefix: Option<&Object<'_>>,
        reverse: bool,
    ) -> PyResult<ScanIterator> {
        let what = What::read(py, what)?;
        let range = range_of(start, stop, prefix)?;
        ScanIterator::of(py, scan(&self.past, what, (range, reverse)), what)
    }
}

fn scan(past: &Past, what: What, (range, reverse): (objsync::KeyRange, bool)) -> Pending<Scan> {
    match what {
        What::Keys => past.keys(range, reverse),
        What::Values | What::Items => past.scan(range, reverse),
    }
}

/// What a key was, as a list of `Version`; no limit for all there is.
pub(crate) fn versions(
    dict: &Dict,
    key: &[u8],
    before: Option<u64>,
    limit: Option<usize>,
) -> Pending<Vec<Version>> {
    dict.history(key, before.map(Revision), limit.unwrap_or(usize::MAX))
}

/// A large value that is read when it is asked for; under `objsync.Version`.
#[pyclass(frozen, module = "objsync._objsync.files")]
pub(crate) struct Unread {
    dict: Dict,
    reference: Bytes,
    value: LargeValue,
}

#[pymethods]
impl Unread {
    /// Reads it, each time anew.
    fn read<'py>(&self, py: Python<'py>) -> PyResult<Object<'py>> {
        large::object(py, &self.dict, self.reference.clone())
    }

    fn __repr__(&self) -> String {
        let (bytes, type_name) = (self.value.content_bytes(), self.value.type_name());
        format!("<{type_name} of {bytes} bytes, not read>")
    }
}

/// The value of a version: of a large one who reads it.
fn value_of<'py>(py: Python<'py>, dict: &Dict, version: &Version) -> PyResult<Option<Object<'py>>> {
    let Some(payload) = &version.value else {
        return Ok(None);
    };
    let value = LargeValue::of(payload).map_err(|error| errors::raise(py, &error))?;
    let object = match value {
        None => decode(py, payload)?.object,
        Some(value) => {
            let (dict, reference) = (dict.clone(), payload.clone());
            let unread = Unread {
                dict,
                reference,
                value,
            };
            Bound::new(py, unread)?.into_any()
        }
    };
    Ok(Some(object))
}

/// The versions of a key as records.
pub(crate) fn records<'py>(
    py: Python<'py>,
    dict: &Dict,
    key: &[u8],
    versions: &[Version],
) -> PyResult<Bound<'py, PyList>> {
    // As the dictionary gives it back: 1.0 is 1.
    let key = decode_key(py, key)?;
    let record = |version| records::version(py, &key, value_of(py, dict, version)?, version);
    let records: PyResult<Vec<_>> = versions.iter().map(record).collect();
    PyList::new(py, records?)
}

/// The dictionary as it was at a revision; completes with `PastHandle`.
#[pyfunction]
pub(crate) fn at(
    calls: &Calls,
    future: &Object<'_>,
    handle: &Handle,
    revision: u64,
) -> PyResult<()> {
    let call = handle.dict(future.py())?.at(Revision(revision));
    calls.start(future, call, |py, past| {
        Ok(Py::new(py, PastHandle::of(past))?.into_any())
    })
}

/// What a key was, newest first; completes with a list of `Version`.
#[pyfunction]
#[pyo3(signature = (calls, future, handle, key, before=None, limit=None))]
pub(crate) fn history(
    calls: &Calls,
    future: &Object<'_>,
    handle: &Handle,
    key: &Object<'_>,
    before: Option<u64>,
    limit: Option<usize>,
) -> PyResult<()> {
    let key = encode_key(key)?;
    let dict = handle.dict(future.py())?.clone();
    let call = versions(&dict, &key, before, limit);
    calls.start(future, call, move |py, versions| {
        Ok(records(py, &dict, &key, &versions)?.into_any().unbind())
    })
}

/// The value a key had; `default` when there was none, or `KeyError` when `is_required`.
#[pyfunction]
pub(crate) fn past_get(
    calls: &Calls,
    future: &Object<'_>,
    past: &PastHandle,
    key: &Object<'_>,
    default: Py<PyAny>,
    is_required: bool,
) -> PyResult<()> {
    let call = past.past.get(&encode_key(key)?);
    let key = key.clone().unbind();
    calls.start(future, call, move |py, payload| match payload {
        Some(payload) => Ok(decode(py, &payload)?.object.unbind()),
        None if is_required => Err(missing(key.bind(py))),
        None => Ok(default),
    })
}

/// Whether there was such a key.
#[pyfunction]
pub(crate) fn past_contains(
    calls: &Calls,
    future: &Object<'_>,
    past: &PastHandle,
    key: &Object<'_>,
) -> PyResult<()> {
    calls.start(future, past.past.contains(&encode_key(key)?), plain)
}

/// How many keys there were.
#[pyfunction]
pub(crate) fn past_count(calls: &Calls, future: &Object<'_>, past: &PastHandle) -> PyResult<()> {
    calls.start(future, past.past.count(), plain)
}

/// Starts to read keys, values or items of the past; completes with `Pages`.
#[pyfunction]
#[pyo3(signature = (calls, future, past, what, bounds, reverse))]
pub(crate) fn past_pages(
    calls: &Calls,
    future: &Object<'_>,
    past: &PastHandle,
    what: &str,
    bounds: (Option<Object<'_>>, Option<Object<'_>>, Option<Object<'_>>),
    reverse: bool,
) -> PyResult<()> {
    let what = What::read(future.py(), what)?;
    let (start, stop, prefix) = bounds;
    let range = range_of(start.as_ref(), stop.as_ref(), prefix.as_ref())?;
    let call = scan(&past.past, what, (range, reverse));
    calls.start(future, call, move |py, scan| Pages::of(py, scan, what))
}
