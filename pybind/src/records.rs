//! What calls tell about themselves: acknowledgements, events, status, as the named tuples of
//! `objsync._records`.

use objsync::{Ack, ChangeKind, CompressionStatus, Conflict, Status, Version, WatchEvent};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyModule, PyString};

use crate::codec::{decode, decode_key};

fn class<'py>(py: Python<'py>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    MODULE
        .get_or_try_init(py, || py.import("objsync._records").map(Bound::unbind))?
        .bind(py)
        .getattr(name)
}

/// `Ack(revision, epoch, durability)`
pub(crate) fn ack(py: Python<'_>, ack: Ack) -> PyResult<Bound<'_, PyAny>> {
    let fields = (ack.revision.0, ack.epoch.number, ack.durability.to_string());
    class(py, intern!(py, "Ack"))?.call1(fields)
}

/// `Event(key, value, old_value, kind, revision, origin)`
pub(crate) fn event<'py>(py: Python<'py>, event: &WatchEvent) -> PyResult<Bound<'py, PyAny>> {
    let value = |payload: &Option<bytes::Bytes>| -> PyResult<Option<Bound<'py, PyAny>>> {
        payload
            .as_ref()
            .map(|payload| Ok(decode(py, payload)?.object))
            .transpose()
    };
    let kind = match event.kind {
        ChangeKind::Set => intern!(py, "set"),
        ChangeKind::Delete => intern!(py, "delete"),
        ChangeKind::Expire => intern!(py, "expire"),
        ChangeKind::Patch => intern!(py, "patch"),
    };
    let origin = if event.origin_is_self {
        Some(String::from("self"))
    } else {
        event
            .origin
            .map(|origin| format!("{}.{}", origin.session.epoch, origin.session.frame.0))
    };
    let fields = (
        decode_key(py, &event.key)?,
        value(&event.value)?,
        value(&event.old_value)?,
        kind,
        event.revision.0,
        origin,
    );
    let told = class(py, intern!(py, "Event"))?.call1(fields)?;
    if let Some(failure) = &event.unread {
        let error = crate::errors::raise(py, &failure.clone().into());
        let unread = class(py, intern!(py, "unread_event"))?;
        return unread.call1((error.value(py), told));
    }
    Ok(told)
}

/// `Outcome(value, ack)`
pub(crate) fn outcome(py: Python<'_>, value: Py<PyAny>, of: Ack) -> PyResult<Bound<'_, PyAny>> {
    class(py, intern!(py, "Outcome"))?.call1((value, ack(py, of)?))
}

/// `Conflict(key, operation, expected, wanted, actual, reason, time)`
pub(crate) fn conflict<'py>(py: Python<'py>, conflict: &Conflict) -> PyResult<Bound<'py, PyAny>> {
    let value = |payload: &Option<bytes::Bytes>| -> PyResult<Option<Bound<'py, PyAny>>> {
        let payload = payload.as_ref();
        payload
            .map(|payload| Ok(decode(py, payload)?.object))
            .transpose()
    };
    let key = conflict.key.as_ref();
    let fields = (
        key.map(|key| decode_key(py, key)).transpose()?,
        &conflict.operation,
        value(&conflict.expected)?,
        value(&conflict.wanted)?,
        value(&conflict.actual)?,
        &conflict.reason,
        conflict.time_ms,
    );
    class(py, intern!(py, "conflict"))?.call1(fields)
}

/// `Version(key, value, revision, time, kind, is_oldest_known)`
pub(crate) fn version<'py>(
    py: Python<'py>,
    key: &Bound<'py, PyAny>,
    value: Option<Bound<'py, PyAny>>,
    version: &Version,
) -> PyResult<Bound<'py, PyAny>> {
    let kind = match version.value {
        Some(_) => intern!(py, "set"),
        None => intern!(py, "delete"),
    };
    let fields = (
        key,
        value,
        version.revision.0,
        version.time_ms,
        kind,
        version.is_oldest_known,
    );
    class(py, intern!(py, "version"))?.call1(fields)
}

/// `Compression(level, dictionary, trained_at, trainings, values, ..)`
fn compression_of<'py>(py: Python<'py>, how: &CompressionStatus) -> PyResult<Bound<'py, PyAny>> {
    let per_second = |bytes: Option<f64>| bytes.map(|bytes| bytes / 1e6);
    let counts = (
        how.trainings,
        how.values,
        how.plain_bytes,
        how.stored_bytes,
        how.ratio(),
        per_second(how.pack_bytes_per_second),
        per_second(how.unpack_bytes_per_second),
    );
    let fields = (how.level, how.dictionary, how.trained_ms, counts);
    class(py, intern!(py, "compression"))?.call1(fields)
}

/// `Status(role=.., ..)`
pub(crate) fn status<'py>(py: Python<'py>, status: &Status) -> PyResult<Bound<'py, PyAny>> {
    let fields = PyDict::new(py);
    fields.set_item("role", status.role.to_string())?;
    fields.set_item("address", &status.address)?;
    let directory = status
        .directory
        .as_ref()
        .map(|path| path.to_string_lossy().into_owned());
    fields.set_item("directory", directory)?;
    fields.set_item("namespace", &status.namespace)?;
    fields.set_item(
        "store",
        status.position.map(|position| position.store.to_string()),
    )?;
    fields.set_item(
        "epoch",
        status.position.map(|position| position.epoch.number),
    )?;
    fields.set_item(
        "revision",
        status.position.map_or(0, |position| position.revision.0),
    )?;
    fields.set_item("lag", status.lag)?;
    fields.set_item("peers", status.peers)?;
    fields.set_item("keys", status.keys)?;
    fields.set_item("unanswered", status.unanswered)?;
    fields.set_item("owner_pid", status.owner_pid)?;
    fields.set_item("reason", &status.reason)?;
    fields.set_item("stale_s", status.stale.as_secs_f64())?;
    fields.set_item("queued", status.queued)?;
    fields.set_item("conflicts", status.conflicts)?;
    let compression = status.compression.as_ref();
    let compression = compression.map(|how| compression_of(py, how)).transpose()?;
    fields.set_item("compression", compression)?;
    class(py, intern!(py, "Status"))?.call((), Some(&fields))
}
