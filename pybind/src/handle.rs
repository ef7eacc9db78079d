//! The class under all objects of the Python package: one handle on a dictionary.
//!
//! Trail of `d[key]`: [`Handle::__getitem__`] -> [`Cache`] -> `objsync::Dict::fetch`. Of
//! `d[key] = value`: [`Handle::__setitem__`] -> `codec::encode` -> `objsync::Dict::set`.
//!
//! Invariants
//! * The interpreter's lock is held while memory is looked into, and never while waiting.
//! * What a reader gets is free to change: the cache keeps its own copy.

use std::sync::OnceLock;

use objsync::{Dict, KeyRange, Revision};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyGenericAlias, PyList, PyTuple, PyType};

use crate::batch::Batch;
use crate::cache::Cache;
use crate::codec::{encode_key, prefix_range};
use crate::leases::Lease;
use crate::live::Places;
use crate::past::PastHandle;
use crate::patches::patch;
use crate::pipeline::Pipeline;
use crate::scan::{ScanIterator, What};
use crate::waiting::{blocking, wait, wait_for_read};
use crate::watch::Events;
use crate::{large, leases, options, past, reads, records, watch, writes};

/// A handle on a dictionary; Python's objects are subclasses of it.
#[pyclass(subclass, frozen, mapping, weakref, module = "objsync._objsync")]
pub(crate) struct Handle {
    pub(crate) dict: OnceLock<Dict>,
    pub(crate) cache: Cache,
    pub(crate) places: Places,
}

pub(crate) fn missing(key: &Bound<'_, PyAny>) -> PyErr {
    // In a tuple of its own, or a key that is a tuple would become several arguments.
    PyKeyError::new_err((key.clone().unbind(),))
}

/// The range that the arguments of a Python method name: from `start` to before `stop`, or all that
/// begins with `prefix`.
pub(crate) fn range_of(
    start: Option<&Bound<'_, PyAny>>,
    stop: Option<&Bound<'_, PyAny>>,
    prefix: Option<&Bound<'_, PyAny>>,
) -> PyResult<KeyRange> {
    if let Some(prefix) = prefix {
        return prefix_range(prefix);
    }
    let bound = |key: &Bound<'_, PyAny>| encode_key(key).map(bytes::Bytes::from);
    Ok(KeyRange {
        start: start.map(bound).transpose()?.unwrap_or_default(),
        end: stop.map(bound).transpose()?,
    })
}

#[pymethods]
impl Handle {
    /// `Handle[str, int]`: for those who declare types; it changes nothing.
    #[classmethod]
    #[pyo3(signature = (item, /))]
    fn __class_getitem__<'py>(
        cls: &Bound<'py, PyType>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyGenericAlias>> {
        PyGenericAlias::new(cls.py(), cls, item)
    }

    /// Takes any arguments: they are for `__init__` of the subclass, which opens the handle.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(
        py: Python<'_>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> Self {
        Self {
            dict: OnceLock::new(),
            cache: Cache::new(py),
            places: Places::new(py),
        }
    }

    fn _open(
        &self,
        py: Python<'_>,
        path: std::path::PathBuf,
        settings: &Bound<'_, PyDict>,
    ) -> PyResult<()> {
        let options = options::read(settings)?;
        let dict = blocking(py, || Dict::open(&path, options))?;
        self.opened(py, dict)
    }

    fn _connect(&self, py: Python<'_>, target: &str, settings: &Bound<'_, PyDict>) -> PyResult<()> {
        let target = options::target(py, target)?;
        let options = options::read(settings)?;
        let dict = blocking(py, || Dict::connect(&target, options))?;
        self.opened(py, dict)
    }

    fn __getitem__<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.read(key)?.ok_or_else(|| missing(key))
    }

    /// The value of `key`; `default` when there is no such key.
    ///
    /// Args:
    ///     key: The key.
    ///     default: Returned when there is no such key.
    ///     max_stale: Seconds, or a timedelta: how old the answer may be. From memory if this handle
    ///         made a barrier (`sync`, `fresh`, or this) so lately, else by one round trip; 0 sees
    ///         all that was committed before. Without an owner that is an `UnavailableError`.
    ///
    /// >>> from objsync import DiskObject
    /// >>> with DiskObject("data.obj", {"a": 1}) as d:
    /// ...     d.get("a"), d.get("b"), d.get("b", 0), d.get("a", max_stale=0.2)
    /// (1, None, 0, 1)
    #[pyo3(signature = (key, default=None, *, max_stale=None))]
    fn get<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
        max_stale: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let found = match max_stale {
            Some(max_stale) => match reads::get_within(self, key, max_stale)? {
                Some(value) => Some(self.live(key, value)?),
                None => None,
            },
            None => self.read(key)?,
        };
        Ok(found.or(default))
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = key.py();
        let dict = self.dict(py)?;
        let encoded = encode_key(key)?;
        blocking(py, || dict.contains(&encoded))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        let count = wait_for_read(py, self.dict(py)?.count())?;
        Ok(usize::try_from(count)?)
    }

    fn __setitem__(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = key.py();
        if self.places.is_own(key, value)? {
            return Ok(());
        }
        let pending = large::set(self.dict(py)?, &encode_key(key)?, value)?;
        wait(py, pending)?;
        self.replaced(key)
    }

    fn __delitem__(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = key.py();
        let (was_there, _) = wait(py, self.dict(py)?.delete(&encode_key(key)?))?;
        self.replaced(key)?;
        if was_there { Ok(()) } else { Err(missing(key)) }
    }

    fn __iter__(&self, py: Python<'_>) -> PyResult<ScanIterator> {
        ScanIterator::new(py, self.dict(py)?, KeyRange::default(), false, What::Keys)
    }

    fn __reversed__(&self, py: Python<'_>) -> PyResult<ScanIterator> {
        ScanIterator::new(py, self.dict(py)?, KeyRange::default(), true, What::Keys)
    }

    /// Entries of a range: `what` is "keys", "values" or "items"; containers as live objects or not.
    #[pyo3(signature = (what, start=None, stop=None, prefix=None, reverse=false, live=false))]
    fn _scan(
        slf: &Bound<'_, Self>,
        what: &str,
        start: Option<&Bound<'_, PyAny>>,
        stop: Option<&Bound<'_, PyAny>>,
        prefix: Option<&Bound<'_, PyAny>>,
        reverse: bool,
        live: bool,
    ) -> PyResult<ScanIterator> {
        let (py, handle) = (slf.py(), slf.get());
        let range = range_of(start, stop, prefix)?;
        let scan = ScanIterator::new(py, handle.dict(py)?, range, reverse, What::read(py, what)?)?;
        Ok(if live {
            scan.live(slf.clone().unbind())
        } else {
            scan
        })
    }

    /// Whether an encoded key lies in a range.
    #[staticmethod]
    #[pyo3(signature = (key, start=None, stop=None, prefix=None))]
    fn _in_range(
        key: &Bound<'_, PyAny>,
        start: Option<&Bound<'_, PyAny>>,
        stop: Option<&Bound<'_, PyAny>>,
        prefix: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let range = range_of(start, stop, prefix)?;
        let key = encode_key(key)?;
        Ok(range.start[..] <= key[..] && range.end.is_none_or(|end| key[..] < end[..]))
    }

    #[pyo3(signature = (start=None, stop=None, prefix=None))]
    fn _delete_range(
        &self,
        py: Python<'_>,
        start: Option<&Bound<'_, PyAny>>,
        stop: Option<&Bound<'_, PyAny>>,
        prefix: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        let range = range_of(start, stop, prefix)?;
        let count = wait(py, self.dict(py)?.delete_range(range.clone()))?;
        self.places.ends(py).removed(py, &range)?;
        Ok(count)
    }

    /// Puts `value` under `key`, as ``d[key] = value`` does; returns where the write stands.
    ///
    /// Args:
    ///     key: The key.
    ///     value: The value.
    ///     ttl: Seconds, or a timedelta, after which the owner of the store removes the key; 1 ms to
    ///         10 years. Any later assignment of the key takes that away; `incr`, `list_append` and
    ///         their like keep it.
    ///     lease: A lease (see `Object.lease`) at whose end the key is removed.
    ///
    /// Raises:
    ///     LeaseExpiredError: The lease has ended.
    ///
    /// >>> from objsync import DiskObject
    /// >>> with DiskObject("data.obj") as d:
    /// ...     d.set("a", 1).durability, d.set("token", "secret", ttl=60).durability
    /// ('sync', 'sync')
    #[pyo3(signature = (key, value, ttl=None, lease=None))]
    fn set<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
        ttl: Option<&Bound<'py, PyAny>>,
        lease: Option<&Lease>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let pending = leases::put(self, key, value, ttl, lease)?;
        let ack = wait(key.py(), pending)?;
        self.replaced(key)?;
        records::ack(key.py(), ack)
    }

    /// Adds to the end of a list and returns its new length; a missing key counts as an empty one.
    ///
    /// Decided by the owner of the store, so nothing is lost between processes.
    ///
    /// >>> from objsync import DiskObject
    /// >>> with DiskObject("data.obj") as d:
    /// ...     d.list_append("jobs", "sweep", "wash"), d.list_append("jobs", "dry"), d["jobs"]
    /// (2, 3, ['sweep', 'wash', 'dry'])
    #[pyo3(signature = (key, *items))]
    fn list_append(&self, key: &Bound<'_, PyAny>, items: &Bound<'_, PyTuple>) -> PyResult<u64> {
        let py = key.py();
        wait(py, patch(self.dict(py)?, "list_append", key, items)?)
    }

    /// Adds to a set and returns how many were not there; a missing key counts as an empty one.
    ///
    /// >>> from objsync import DiskObject
    /// >>> with DiskObject("data.obj") as d:
    /// ...     d.set_add("tags", "red", "blue"), d.set_add("tags", "red"), sorted(d["tags"])
    /// (2, 0, ['blue', 'red'])
    #[pyo3(signature = (key, *items))]
    fn set_add(&self, key: &Bound<'_, PyAny>, items: &Bound<'_, PyTuple>) -> PyResult<u64> {
        let py = key.py();
        wait(py, patch(self.dict(py)?, "set_add", key, items)?)
    }

    /// Removes from a set and returns how many were there; a missing key counts as an empty one.
    ///
    /// >>> from objsync import DiskObject
    /// >>> with DiskObject("data.obj", {"tags": {"red", "blue"}}) as d:
    /// ...     d.set_discard("tags", "red", "green"), d["tags"]
    /// (1, {'blue'})
    #[pyo3(signature = (key, *items))]
    fn set_discard(&self, key: &Bound<'_, PyAny>, items: &Bound<'_, PyTuple>) -> PyResult<u64> {
        let py = key.py();
        wait(py, patch(self.dict(py)?, "set_discard", key, items)?)
    }

    /// Adds to an integer and returns its new value; a missing key counts as 0.
    ///
    /// Decided by the owner of the store, so no count is lost between processes.
    ///
    /// >>> from objsync import DiskObject
    /// >>> with DiskObject("data.obj") as d:
    /// ...     d.incr("visits"), d.incr("visits", 10)
    /// (1, 11)
    #[pyo3(signature = (key, by=1))]
    fn incr(&self, key: &Bound<'_, PyAny>, by: i64) -> PyResult<i64> {
        let py = key.py();
        wait(py, self.dict(py)?.incr(&encode_key(key)?, by))
    }

    /// `compare_and_set` with each value in a tuple, empty for a missing key.
    fn _compare_and_set(
        &self,
        key: &Bound<'_, PyAny>,
        expected: &Bound<'_, PyTuple>,
        new: &Bound<'_, PyTuple>,
    ) -> PyResult<bool> {
        let py = key.py();
        let (expected, new) = (expected.get_item(0).ok(), new.get_item(0).ok());
        let (expected, new) = (expected.as_ref(), new.as_ref());
        let is_done = writes::compare_and_set(py, self.dict(py)?, key, expected, new)?;
        if is_done {
            self.replaced(key)?;
        }
        Ok(is_done)
    }

    /// The stored bytes of the value of `key`; `None` when there is no such key.
    fn _payload<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let (py, key) = (key.py(), encode_key(key)?);
        let found = wait_for_read(py, self.dict(py)?.find(&key))?;
        Ok(found.map(|payload| PyBytes::new(py, &payload)))
    }

    /// Puts the stored bytes `new` if those of the value are `expected`; returns whether it did.
    fn _swap(&self, key: &Bound<'_, PyAny>, expected: &[u8], new: &[u8]) -> PyResult<bool> {
        let py = key.py();
        writes::swap(py, self.dict(py)?, key, expected, new)
    }

    /// The value of `key`; if there is none, `default`, which is put there.
    #[pyo3(signature = (key, default=None))]
    fn setdefault<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = key.py();
        let default = default.unwrap_or_else(|| py.None().into_bound(py));
        let value = writes::set_default(py, self.dict(py)?, key, &default)?;
        self.live(key, value)
    }

    /// `pop`, with the default in a tuple, empty for none.
    fn _pop<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = key.py();
        match writes::pop(py, self.dict(py)?, key)? {
            Some(value) => {
                self.replaced(key)?;
                Ok(value)
            }
            None => default.get_item(0).map_err(|_| missing(key)),
        }
    }

    /// Removes the last entry in key order and returns it; `KeyError` when there is none.
    fn popitem<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (key, entry) = writes::pop_last(py, self.dict(py)?)?
            .ok_or_else(|| PyKeyError::new_err("popitem(): the dictionary is empty"))?;
        self.replaced(&key)?;
        Ok(entry)
    }

    fn _update<'py>(
        &self,
        py: Python<'py>,
        pairs: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let ack = writes::update(py, self.dict(py)?, &self.places, pairs)?;
        ack.map(|ack| records::ack(py, ack)).transpose()
    }

    /// ``with d.batch() as b: b[k] = v``: one transaction, all of it or nothing.
    ///
    /// At most 16 MiB. If the block raises, nothing is written.
    ///
    /// >>> from objsync import DiskObject
    /// >>> with DiskObject("data.obj", {"a": 1}) as d:
    /// ...     with d.batch() as b:
    /// ...         b["b"] = 2
    /// ...         del b["a"]
    /// ...     d.copy()
    /// {'b': 2}
    fn batch(&self, py: Python<'_>) -> PyResult<Batch> {
        Ok(Batch::new(self.dict(py)?, self.places.ends(py)))
    }

    /// ``with d.pipeline() as p: p[k] = v``: many acknowledged writes in flight.
    ///
    /// Sent in order, each a transaction of its own; the end of the block waits for all answers and
    /// raises the first failure.
    ///
    /// >>> from objsync import DiskObject
    /// >>> with DiskObject("data.obj") as d:
    /// ...     with d.pipeline() as p:
    /// ...         for i in range(1000):
    /// ...             p[i] = str(i)
    /// ...     len(d)
    /// 1000
    fn pipeline(&self, py: Python<'_>) -> PyResult<Pipeline> {
        Ok(Pipeline::new(self.dict(py)?, self.places.ends(py)))
    }

    #[pyo3(signature = (key, prefix=None, since=None))]
    fn _watch(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyTuple>,
        prefix: Option<&Bound<'_, PyAny>>,
        since: Option<u64>,
    ) -> PyResult<Events> {
        let range = watch::range(py, key, prefix)?;
        Events::new(py, self.dict(py)?, range, since)
    }

    fn _at(&self, py: Python<'_>, revision: u64) -> PyResult<PastHandle> {
        let past = wait(py, self.dict(py)?.at(Revision(revision)))?;
        Ok(PastHandle::of(past))
    }

    #[pyo3(signature = (key, before=None, limit=None))]
    fn _history<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        before: Option<u64>,
        limit: Option<usize>,
    ) -> PyResult<Bound<'py, PyList>> {
        let py = key.py();
        let key = encode_key(key)?;
        let dict = self.dict(py)?;
        let versions = wait(py, past::versions(dict, &key, before, limit))?;
        past::records(py, dict, &key, &versions)
    }

    /// The acknowledgement of this handle's newest answered write; ``None`` before the first.
    #[getter]
    fn last_ack<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.dict(py)?
            .last_ack()
            .map(|ack| records::ack(py, ack))
            .transpose()
    }

    /// How the handle is, from what it knows itself: asks nobody.
    #[getter]
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        records::status(py, &self.dict(py)?.status())
    }

    /// Waits until this process has all that was committed before the call.
    ///
    /// Every read after it sees at least that. Returns how far that is: a revision.
    fn sync(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(wait(py, self.dict(py)?.sync())?.revision.0)
    }

    /// Makes everything this handle wrote survive a power cut; returns up to which revision.
    fn flush(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(wait(py, self.dict(py)?.flush(None))?.revision.0)
    }

    fn _serve(&self, py: Python<'_>, address: &str) -> PyResult<String> {
        let listen = options::listen_address(py, address)?;
        let dict = self.dict(py)?;
        blocking(py, || dict.serve(listen)).map(|address| address.to_string())
    }

    /// Closes the handle: started writes are finished, watches end. Harmless when repeated.
    ///
    /// Any other call then raises `ClosedError`. When the last handle of the owning process closes,
    /// the store does, and another process takes over.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.cache.clear(py);
        match self.dict.get() {
            Some(dict) => blocking(py, || dict.close()),
            None => Ok(()),
        }
    }
}
