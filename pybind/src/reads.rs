//! How old a read may be, snapshots, what came of a lost write, and what is queued: the native side
//! of `objsync._reads` and `objsync._aio_reads`.

use objsync::{Done, ErrorKind, FrameIndex, Origin, Outcome, Pending, Sequence, SessionId};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::awaitable::plain;
use crate::calls::Calls;
use crate::codec::{decode, encode_key};
use crate::handle::Handle;
use crate::leases::duration;
use crate::past::PastHandle;
use crate::waiting::{blocking, wait};
use crate::{errors, records};

type Object<'py> = Bound<'py, PyAny>;
/// Epoch and frame of the session, and the number within it.
type OpNumbers = (u64, u64, u64);

/// The value of a key as it was no longer ago than that.
pub(crate) fn get_within<'py>(
    handle: &Handle,
    key: &Object<'py>,
    max_stale: &Object<'py>,
) -> PyResult<Option<Object<'py>>> {
    let py = key.py();
    let read = handle
        .dict(py)?
        .get_within(&encode_key(key)?, duration(max_stale, "max_stale")?);
    let payload = wait(py, read)?;
    payload
        .map(|payload| Ok(decode(py, &payload)?.object))
        .transpose()
}

/// As `Handle.get` with `max_stale`; `KeyError` never.
#[pyfunction]
pub(crate) fn read_within(
    calls: &Calls,
    future: &Object<'_>,
    handle: &Handle,
    key: &Object<'_>,
    default: Py<PyAny>,
    max_stale: &Object<'_>,
) -> PyResult<()> {
    let max_stale = duration(max_stale, "max_stale")?;
    let call = handle
        .dict(key.py())?
        .get_within(&encode_key(key)?, max_stale);
    calls.start(future, call, move |py, payload| match payload {
        Some(payload) => Ok(decode(py, &payload)?.object.unbind()),
        None => Ok(default),
    })
}

/// The dictionary as of this moment.
#[pyfunction]
pub(crate) fn snapshot(py: Python<'_>, handle: &Handle) -> PyResult<PastHandle> {
    Ok(PastHandle::of(wait(py, handle.dict(py)?.snapshot())?))
}

/// As `snapshot`, awaitable.
#[pyfunction]
pub(crate) fn snapshot_begin(calls: &Calls, future: &Object<'_>, handle: &Handle) -> PyResult<()> {
    let call = handle.dict(future.py())?.snapshot();
    calls.start(future, call, |py, past| {
        Ok(Py::new(py, PastHandle::of(past))?.into_any())
    })
}

fn asked(py: Python<'_>, handle: &Handle, op: OpNumbers) -> PyResult<Pending<Option<Done>>> {
    let (epoch, frame, sequence) = op;
    let op = Origin {
        session: SessionId {
            epoch,
            frame: FrameIndex(frame),
        },
        sequence: Sequence(sequence),
    };
    Ok(handle.dict(py)?.outcome(op))
}

/// What came of a write: an `Outcome`, or `None` when it was not done and never will be.
#[pyfunction]
pub(crate) fn outcome<'py>(
    py: Python<'py>,
    handle: &Handle,
    op: OpNumbers,
) -> PyResult<Option<Object<'py>>> {
    let done = wait(py, asked(py, handle, op)?)?;
    done.map(|done| told(py, done)).transpose()
}

/// As `outcome`, awaitable.
#[pyfunction]
pub(crate) fn outcome_of(
    calls: &Calls,
    future: &Object<'_>,
    handle: &Handle,
    op: OpNumbers,
) -> PyResult<()> {
    let call = asked(future.py(), handle, op)?;
    calls.start(future, call, |py, done| match done {
        Some(done) => Ok(told(py, done)?.unbind()),
        None => Ok(py.None()),
    })
}

/// `Outcome(value, ack)`: what the call would have returned.
fn told(py: Python<'_>, done: Done) -> PyResult<Object<'_>> {
    let value = match done.outcome {
        Outcome::Done => py.None(),
        Outcome::Deleted(count) => count.into_py_any(py)?,
        Outcome::Swapped(swapped) => swapped.into_py_any(py)?,
        Outcome::Number(number) => number.into_py_any(py)?,
        Outcome::Lease(lease) => lease.0.into_py_any(py)?,
        Outcome::Locked(fence) => fence.map(|fence| fence.0).into_py_any(py)?,
        Outcome::Conflict { .. } | Outcome::Outdated { .. } => {
            let text = "the transaction was not done: others had changed what it had read";
            return Err(errors::of_kind(py, ErrorKind::Conflict, text.to_owned()));
        }
        Outcome::Fenced { .. } => {
            let text = "the transaction was not done: its lock was lost";
            return Err(errors::of_kind(py, ErrorKind::Conflict, text.to_owned()));
        }
        Outcome::NeedChunks { .. } => {
            let text = "the write was not done: chunks of its value had not arrived";
            return Err(errors::of_kind(py, ErrorKind::Unavailable, text.to_owned()));
        }
    };
    records::outcome(py, value, done.ack)
}

/// Queued writes that the owner decided otherwise, as a list of `Conflict`.
#[pyfunction]
pub(crate) fn conflicts<'py>(py: Python<'py>, handle: &Handle) -> PyResult<Bound<'py, PyList>> {
    let dict = handle.dict(py)?;
    let conflicts = blocking(py, || dict.conflicts())?;
    let records: PyResult<Vec<_>> = conflicts
        .iter()
        .map(|conflict| records::conflict(py, conflict))
        .collect();
    PyList::new(py, records?)
}

/// Forgets the conflicts so far.
#[pyfunction]
pub(crate) fn clear_conflicts(py: Python<'_>, handle: &Handle) -> PyResult<()> {
    wait(py, handle.dict(py)?.clear_conflicts())
}

/// As `clear_conflicts`, awaitable.
#[pyfunction]
pub(crate) fn conflicts_clear(calls: &Calls, future: &Object<'_>, handle: &Handle) -> PyResult<()> {
    let call = handle.dict(future.py())?.clear_conflicts();
    calls.start(future, call, |py, ()| plain(py, py.None()))
}
