//! What `objsync.aio` calls: each function starts a call and completes an `asyncio` future with its
//! answer. The work is that of the blocking forms.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use objsync::{Bytes, Dict, Revision, Scan};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::calls::Calls;
use crate::codec::{decode, encode_key};
use crate::handle::{Handle, missing, range_of};
use crate::scan::{AnyScan, What};
use crate::watch::Events;
use crate::{errors, large, options, records};

type Object<'py> = Bound<'py, PyAny>;

fn no_answer(py: Python<'_>, (): ()) -> PyResult<Py<PyAny>> {
    Ok(py.None())
}

pub(crate) fn plain<T>(py: Python<'_>, answer: T) -> PyResult<Py<PyAny>>
where
    T: for<'py> IntoPyObject<'py>,
{
    answer.into_py_any(py)
}

/// Opens a handle on a directory.
#[pyfunction]
pub(crate) fn open(
    calls: &Calls,
    future: &Object<'_>,
    handle: Py<Handle>,
    path: PathBuf,
    settings: &Bound<'_, PyDict>,
) -> PyResult<()> {
    let call = Dict::open_async(&path, options::read(settings)?);
    calls.start(future, call, move |py, dict| {
        no_answer(py, handle.get().opened(py, dict)?)
    })
}

/// Opens a handle on an address.
#[pyfunction]
pub(crate) fn connect(
    calls: &Calls,
    future: &Object<'_>,
    handle: Py<Handle>,
    target: &str,
    settings: &Bound<'_, PyDict>,
) -> PyResult<()> {
    let target = options::target(future.py(), target)?;
    let call = Dict::connect_async(&target, options::read(settings)?);
    calls.start(future, call, move |py, dict| {
        no_answer(py, handle.get().opened(py, dict)?)
    })
}

/// The value under a key; `default` when there is none, or `KeyError` when `is_required`.
#[pyfunction]
pub(crate) fn get(
    calls: &Calls,
    future: &Object<'_>,
    handle: &Handle,
    key: &Object<'_>,
    default: Py<PyAny>,
    is_required: bool,
) -> PyResult<()> {
    let call = handle.dict(key.py())?.fetch(&encode_key(key)?);
    let key = key.clone().unbind();
    calls.start(future, call, move |py, payload| match payload {
        Some(payload) => Ok(decode(py, &payload)?.object.unbind()),
        None if is_required => Err(missing(key.bind(py))),
        None => Ok(default),
    })
}

/// Whether there is such a key.
#[pyfunction]
pub(crate) fn contains(
    calls: &Calls,
    future: &Object<'_>,
    handle: &Handle,
    key: &Object<'_>,
) -> PyResult<()> {
    let call = handle.dict(key.py())?.fetch(&encode_key(key)?);
    calls.start(future, call, |py, payload| plain(py, payload.is_some()))
}

/// How many keys there are.
#[pyfunction]
pub(crate) fn count(calls: &Calls, future: &Object<'_>, handle: &Handle) -> PyResult<()> {
    calls.start(future, handle.dict(future.py())?.count(), plain)
}

/// Puts a value; completes with its `Ack`.
#[pyfunction]
pub(crate) fn set(
    calls: &Calls,
    future: &Object<'_>,
    handle: &Handle,
    key: &Object<'_>,
    value: &Object<'_>,
) -> PyResult<()> {
    let call = large::set(handle.dict(key.py())?, &encode_key(key)?, value)?;
    calls.start(future, call, |py, ack| Ok(records::ack(py, ack)?.unbind()))
}

/// Removes a key; `KeyError` when it is missing.
#[pyfunction]
pub(crate) fn delete(
    calls: &Calls,
    future: &Object<'_>,
    handle: &Handle,
    key: &Object<'_>,
) -> PyResult<()> {
    let call = handle.dict(key.py())?.delete(&encode_key(key)?);
    let key = key.clone().unbind();
    calls.start(future, call, move |py, (was_there, ack)| {
        if was_there {
            Ok(records::ack(py, ack)?.unbind())
        } else {
            Err(missing(key.bind(py)))
        }
    })
}

/// Adds to an integer.
#[pyfunction]
pub(crate) fn incr(
    calls: &Calls,
    future: &Object<'_>,
    handle: &Handle,
    key: &Object<'_>,
    by: i64,
) -> PyResult<()> {
    let call = handle.dict(key.py())?.incr(&encode_key(key)?, by);
    calls.start(future, call, plain)
}

/// Waits until the handle has everything that was committed when it was called.
#[pyfunction]
pub(crate) fn sync(calls: &Calls, future: &Object<'_>, handle: &Handle) -> PyResult<()> {
    let call = handle.dict(future.py())?.sync();
    calls.start(future, call, |py, position| plain(py, position.revision.0))
}

/// Makes what the handle wrote survive a power cut.
#[pyfunction]
pub(crate) fn flush(calls: &Calls, future: &Object<'_>, handle: &Handle) -> PyResult<()> {
    let call = handle.dict(future.py())?.flush(None);
    calls.start(future, call, |py, position| plain(py, position.revision.0))
}

/// The next event of a watch, or `None` at its end.
#[pyfunction]
pub(crate) fn next_event(calls: &Calls, future: &Object<'_>, events: Py<Events>) -> PyResult<()> {
    let call = async move { events.get().stream().next().await };
    calls.start(future, call, |py, event| match event {
        Some(event) => Ok(records::event(py, &event)?.unbind()),
        None => Ok(py.None()),
    })
}

/// Starts to follow changes; completes with `Events`.
#[pyfunction]
#[pyo3(signature = (calls, future, handle, key, prefix=None, since=None))]
pub(crate) fn watch(
    calls: &Calls,
    future: &Object<'_>,
    handle: &Handle,
    key: &Bound<'_, PyTuple>,
    prefix: Option<&Object<'_>>,
    since: Option<u64>,
) -> PyResult<()> {
    let range = crate::watch::range(future.py(), key, prefix)?;
    let call = handle
        .dict(future.py())?
        .watch_async(range, since.map(Revision));
    calls.start(future, call, |py, watch| {
        Ok(Py::new(py, Events::of(watch))?.into_any())
    })
}

/// Starts to read keys, values or items; completes with `Pages`.
#[pyfunction]
#[pyo3(signature = (calls, future, handle, what, bounds, reverse))]
pub(crate) fn pages(
    calls: &Calls,
    future: &Object<'_>,
    handle: &Handle,
    what: &str,
    bounds: (Option<Object<'_>>, Option<Object<'_>>, Option<Object<'_>>),
    reverse: bool,
) -> PyResult<()> {
    let what = What::read(future.py(), what)?;
    let (start, stop, prefix) = bounds;
    let range = range_of(start.as_ref(), stop.as_ref(), prefix.as_ref())?;
    let call = what.scan(handle.dict(future.py())?, range, reverse);
    calls.start(future, call, move |py, scan| Pages::of(py, scan, what))
}

/// An iteration that is read page by page.
#[pyclass(frozen, module = "objsync._objsync")]
pub(crate) struct Pages {
    /// Away while a page is being read.
    scan: Arc<Mutex<Option<AnyScan>>>,
    what: What,
}

impl Pages {
    pub(crate) fn of(py: Python<'_>, scan: Scan, what: What) -> PyResult<Py<PyAny>> {
        Self::over(py, AnyScan::Dict(scan), what)
    }

    /// Over what can be read on.
    pub(crate) fn over(py: Python<'_>, scan: AnyScan, what: What) -> PyResult<Py<PyAny>> {
        let scan = Arc::new(Mutex::new(Some(scan)));
        Ok(Py::new(py, Self { scan, what })?.into_any())
    }
}

/// A scan that goes back to its place when its call ends, or is cancelled.
struct TakenScan {
    scan: Option<AnyScan>,
    place: Arc<Mutex<Option<AnyScan>>>,
}

impl TakenScan {
    fn take(place: &Arc<Mutex<Option<AnyScan>>>) -> Option<Self> {
        let scan = place.lock().unwrap_or_else(PoisonError::into_inner).take();
        scan.is_some().then(|| Self {
            scan,
            place: Arc::clone(place),
        })
    }
}

impl Drop for TakenScan {
    fn drop(&mut self) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = self.scan.take();
    }
}

#[pymethods]
impl Pages {
    /// Completes with a list of the next entries; an empty one is the end.
    fn next_page(&self, calls: &Calls, future: &Object<'_>) -> PyResult<()> {
        let Some(mut taken) = TakenScan::take(&self.scan) else {
            let message = String::from("another task waits for this iterator's next entry");
            return Err(errors::invalid(future.py(), message));
        };
        let what = self.what;
        let call = async move {
            match &mut taken.scan {
                Some(scan) => scan.next_page_async().await,
                None => Ok(Vec::new()),
            }
        };
        calls.start(future, call, move |py, page: Vec<(Bytes, Bytes)>| {
            let objects: PyResult<Vec<_>> = page
                .into_iter()
                .map(|entry| what.object(py, entry))
                .collect();
            Ok(PyList::new(py, objects?)?.into_any().unbind())
        })
    }
}
