//! What ends by itself: leases, locks and presence, blocking and awaitable.

use std::time::Duration;

use objsync::{Key, key};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::awaitable::plain;
use crate::calls::Calls;
use crate::codec::{decode_key, encode, encode_key};
use crate::handle::Handle;
use crate::waiting::{blocking, wait};
use crate::{errors, large, records};

type Object<'py> = Bound<'py, PyAny>;

/// Times above this are over every limit.
const SECONDS_MAX: f64 = 1e12;

/// A time as Python gives it: seconds, or a timedelta.
pub(crate) fn duration(value: &Object<'_>, name: &str) -> PyResult<Duration> {
    let py = value.py();
    let seconds = match value.getattr("total_seconds") {
        Ok(total) => total.call0()?.extract::<f64>()?,
        Err(_) => value.extract::<f64>().map_err(|_| {
            let kind = value.get_type();
            PyTypeError::new_err(format!("{name} is a {kind}; it is seconds or a timedelta"))
        })?,
    };
    if seconds.is_nan() || seconds < 0.0 {
        return Err(errors::invalid(
            py,
            format!("{name} {seconds} s: it is 0 or more"),
        ));
    }
    Ok(Duration::from_secs_f64(seconds.min(SECONDS_MAX)))
}

fn optional(value: Option<&Object<'_>>, name: &str) -> PyResult<Option<Duration>> {
    value.map(|value| duration(value, name)).transpose()
}

/// What a block raised is what the caller should see; that leaving it failed too is noted there.
fn leave(py: Python<'_>, raised: Option<&Object<'_>>, left: PyResult<()>) -> PyResult<()> {
    match (raised, left) {
        (Some(raised), Err(error)) => {
            let note = error.value(py).to_string();
            raised.call_method1("add_note", (note,)).map(drop)
        }
        (_, left) => left,
    }
}

/// What lies under it is there for as long as this process keeps it; made by `Object.lease`.
///
/// Kept by a thread that all leases share, and at once again after a reconnect. It ends when it is
/// closed, and `ttl` seconds after this process or its connection ended; then the owner of the store
/// removes what lies under it.
///
/// >>> from objsync import DiskObject
/// >>> with DiskObject("data.obj") as d:
/// ...     with d.lease(ttl=10) as lease:
/// ...         d.set("worker", "busy", lease=lease).durability
/// ...     "worker" in d
/// 'sync'
/// False
#[pyclass(frozen, module = "objsync._objsync.leases")]
pub(crate) struct Lease {
    lease: objsync::Lease,
}

#[pymethods]
impl Lease {
    /// Its number in the store.
    #[getter]
    fn id(&self) -> u64 {
        self.lease.id().0
    }

    /// Seconds that it lasts after it was last kept.
    #[getter]
    fn ttl(&self) -> f64 {
        self.lease.ttl().as_secs_f64()
    }

    /// Whether it is there as far as this process knows; asks nobody.
    #[getter]
    fn is_alive(&self) -> bool {
        self.lease.is_alive()
    }

    /// Ends it, and removes what lies under it. Harmless when repeated, or when it has ended.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        wait(py, self.lease.close())
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (kind, error, traceback, /))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: Option<&Object<'_>>,
        error: Option<&Object<'_>>,
        traceback: Option<&Object<'_>>,
    ) -> PyResult<()> {
        let _ = (kind, traceback);
        leave(py, error, self.close(py))
    }

    fn __repr__(&self) -> String {
        let state = if self.is_alive() { "alive" } else { "ended" };
        format!("<Lease {} of {} s, {state}>", self.id(), self.ttl())
    }
}

/// A lock that one holds at a time, in whatever process; made by `Object.lock`.
///
/// One object holds it once: for several threads make one each. A holder that dies, hangs or is cut
/// off for `ttl` seconds loses it. It may not know: what only the holder may do is to be done in a
/// transaction that demands the lock (`Transaction.require`).
///
/// >>> from objsync import DiskObject
/// >>> with DiskObject("data.obj") as d:
/// ...     with d.lock("report") as lock:
/// ...         def publish(t):
/// ...             t.require(lock)
/// ...             t["report"] = "by the holder alone"
/// ...         d.transact(publish)
/// ...         lock.locked, d.lock("report").acquire(blocking=False)
/// ...     lock.locked
/// (True, False)
/// False
#[pyclass(frozen, module = "objsync._objsync.leases")]
pub(crate) struct Lock {
    lock: objsync::Lock,
    timeout: Option<Duration>,
}

impl Lock {
    pub(crate) fn lock(&self) -> &objsync::Lock {
        &self.lock
    }

    fn patience(
        &self,
        py: Python<'_>,
        blocking: bool,
        timeout: Option<&Object<'_>>,
    ) -> PyResult<Option<Duration>> {
        match (blocking, timeout) {
            (true, Some(timeout)) => duration(timeout, "timeout").map(Some),
            (true, None) => Ok(self.timeout),
            (false, None) => Ok(Some(Duration::ZERO)),
            (false, Some(_)) => {
                let message = "a timeout is for a call that may wait";
                Err(errors::invalid(py, String::from(message)))
            }
        }
    }
}

#[pymethods]
impl Lock {
    /// The name that it was made with.
    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> PyResult<Object<'py>> {
        decode_key(py, self.lock.encoded_name())
    }

    /// Seconds that it outlives a holder that does not keep it.
    #[getter]
    fn ttl(&self) -> f64 {
        self.lock.ttl().as_secs_f64()
    }

    /// A number that grows with each holder; ``None`` while this object does not hold it.
    #[getter]
    fn fence(&self) -> Option<u64> {
        self.lock.fence().map(|fence| fence.0)
    }

    /// Whether this object holds it as far as this process knows; asks nobody.
    #[getter]
    fn locked(&self) -> bool {
        self.lock.is_held()
    }

    /// Takes the lock; returns whether it did.
    ///
    /// Args:
    ///     blocking: Wait while somebody else holds it.
    ///     timeout: Seconds to wait, or a timedelta; without it, what `Object.lock` was told.
    ///
    /// >>> from objsync import DiskObject
    /// >>> with DiskObject("data.obj") as d:
    /// ...     mine, yours = d.lock("report"), d.lock("report")
    /// ...     mine.acquire(), yours.acquire(timeout=0.01)
    /// ...     mine.release()
    /// (True, False)
    #[pyo3(signature = (blocking=true, timeout=None))]
    fn acquire(
        &self,
        py: Python<'_>,
        blocking: bool,
        timeout: Option<&Object<'_>>,
    ) -> PyResult<bool> {
        let patience = self.patience(py, blocking, timeout)?;
        wait(py, self.lock.acquire(patience))
    }

    /// Gives it back. `FencedError` when it was lost meanwhile, so that another may have held it.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        wait(py, self.lock.release())
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        let pending = slf.lock.enter(slf.timeout);
        wait(slf.py(), pending)?;
        Ok(slf)
    }

    #[pyo3(signature = (kind, error, traceback, /))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: Option<&Object<'_>>,
        error: Option<&Object<'_>>,
        traceback: Option<&Object<'_>>,
    ) -> PyResult<()> {
        let _ = (kind, traceback);
        leave(py, error, self.release(py))
    }

    fn __repr__(&self) -> String {
        let name = key::decode(self.lock.encoded_name());
        let name = name.map_or_else(|_| String::from("?"), |name: Key| name.to_string());
        match self.fence() {
            Some(fence) => format!("<Lock {name}, held with fence {fence}>"),
            None => format!("<Lock {name}, not held>"),
        }
    }
}

/// A key that is there for as long as this process is connected; made by `Object.presence`.
///
/// >>> from objsync import DiskObject
/// >>> with DiskObject("data.obj") as d:
/// ...     with d.presence("user:ada", "online"):
/// ...         d["user:ada"]
/// ...     "user:ada" in d
/// 'online'
/// False
#[pyclass(frozen, module = "objsync._objsync.leases")]
pub(crate) struct Presence {
    presence: objsync::Presence,
}

#[pymethods]
impl Presence {
    /// Removes the key. Harmless when repeated.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        wait(py, self.presence.close())
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (kind, error, traceback, /))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: Option<&Object<'_>>,
        error: Option<&Object<'_>>,
        traceback: Option<&Object<'_>>,
    ) -> PyResult<()> {
        let _ = (kind, traceback);
        leave(py, error, self.close(py))
    }
}

/// A call that puts a value which may end by itself.
pub(crate) fn put(
    handle: &Handle,
    key: &Object<'_>,
    value: &Object<'_>,
    ttl: Option<&Object<'_>>,
    lease: Option<&Lease>,
) -> PyResult<objsync::Pending<objsync::Ack>> {
    let ttl = optional(ttl, "ttl")?;
    let dict = handle.dict(key.py())?;
    if ttl.is_none() && lease.is_none() {
        return large::set(dict, &encode_key(key)?, value);
    }
    let (encoded, payload) = (encode_key(key)?, large::encode(value)?);
    Ok(dict.set_leased(&encoded, payload, ttl, lease.map(|lease| &lease.lease)))
}

/// Begins a lease.
#[pyfunction]
pub(crate) fn lease(py: Python<'_>, handle: &Handle, ttl: &Object<'_>) -> PyResult<Lease> {
    let ttl = duration(ttl, "ttl")?;
    let lease = wait(py, handle.dict(py)?.lease(ttl))?;
    Ok(Lease { lease })
}

/// A lock that is not taken yet.
#[pyfunction]
#[pyo3(signature = (handle, name, ttl, timeout=None))]
pub(crate) fn lock(
    handle: &Handle,
    name: &Object<'_>,
    ttl: &Object<'_>,
    timeout: Option<&Object<'_>>,
) -> PyResult<Lock> {
    let py = name.py();
    let (ttl, timeout) = (duration(ttl, "ttl")?, optional(timeout, "timeout")?);
    let (name, dict) = (encode_key(name)?, handle.dict(py)?);
    let lock = blocking(py, || dict.lock(&name, ttl))?;
    Ok(Lock { lock, timeout })
}

/// Puts a value under a key that is there for as long as this process is connected.
#[pyfunction]
pub(crate) fn presence(
    handle: &Handle,
    key: &Object<'_>,
    value: &Object<'_>,
) -> PyResult<Presence> {
    let py = key.py();
    let (encoded, payload) = (encode_key(key)?, encode(value)?);
    let presence = wait(py, handle.dict(py)?.presence(&encoded, payload))?;
    Ok(Presence { presence })
}

/// Puts a value that may end by itself; completes with its `Ack`.
#[pyfunction]
#[pyo3(signature = (calls, future, handle, key, value, ttl=None, lease=None))]
pub(crate) fn set_leased(
    calls: &Calls,
    future: &Object<'_>,
    handle: &Handle,
    key: &Object<'_>,
    value: &Object<'_>,
    ttl: Option<&Object<'_>>,
    lease: Option<&Lease>,
) -> PyResult<()> {
    let call = put(handle, key, value, ttl, lease)?;
    calls.start(future, call, |py, ack| Ok(records::ack(py, ack)?.unbind()))
}

/// Begins a lease; completes with `Lease`.
#[pyfunction]
pub(crate) fn lease_begin(
    calls: &Calls,
    future: &Object<'_>,
    handle: &Handle,
    ttl: &Object<'_>,
) -> PyResult<()> {
    let call = handle.dict(future.py())?.lease(duration(ttl, "ttl")?);
    calls.start(future, call, |py, lease| {
        Ok(Py::new(py, Lease { lease })?.into_any())
    })
}

/// Ends a lease.
#[pyfunction]
pub(crate) fn lease_close(calls: &Calls, future: &Object<'_>, lease: &Lease) -> PyResult<()> {
    calls.start(future, lease.lease.close(), plain)
}

/// `Lock.acquire`; completes with whether it was taken.
#[pyfunction]
#[pyo3(signature = (calls, future, lock, blocking=true, timeout=None))]
pub(crate) fn lock_acquire(
    calls: &Calls,
    future: &Object<'_>,
    lock: &Lock,
    blocking: bool,
    timeout: Option<&Object<'_>>,
) -> PyResult<()> {
    let patience = lock.patience(future.py(), blocking, timeout)?;
    calls.start(future, lock.lock.acquire(patience), plain)
}

/// Takes a lock, or fails with `LockTimeoutError`; completes with its fence.
#[pyfunction]
pub(crate) fn lock_enter(calls: &Calls, future: &Object<'_>, lock: &Lock) -> PyResult<()> {
    let call = lock.lock.enter(lock.timeout);
    calls.start(future, call, |py, fence| plain(py, fence.0))
}

/// `Lock.release`.
#[pyfunction]
pub(crate) fn lock_release(calls: &Calls, future: &Object<'_>, lock: &Lock) -> PyResult<()> {
    calls.start(future, lock.lock.release(), plain)
}

/// `presence`; completes with `Presence`.
#[pyfunction]
pub(crate) fn presence_begin(
    calls: &Calls,
    future: &Object<'_>,
    handle: &Handle,
    key: &Object<'_>,
    value: &Object<'_>,
) -> PyResult<()> {
    let (encoded, payload) = (encode_key(key)?, encode(value)?);
    let call = handle.dict(future.py())?.presence(&encoded, payload);
    calls.start(future, call, |py, presence| {
        Ok(Py::new(py, Presence { presence })?.into_any())
    })
}

/// `Presence.close`.
#[pyfunction]
pub(crate) fn presence_close(
    calls: &Calls,
    future: &Object<'_>,
    presence: &Presence,
) -> PyResult<()> {
    calls.start(future, presence.presence.close(), plain)
}
