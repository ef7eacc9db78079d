//! Changes of a part of a value: items added to a list or a set, or removed from a set.

use objsync::{Bytes, Dict, Pending};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::awaitable::plain;
use crate::calls::Calls;
use crate::codec::{encode, encode_key};
use crate::errors;
use crate::handle::Handle;

type Object<'py> = Bound<'py, PyAny>;

/// The change that a method's name stands for.
pub(crate) fn patch(
    dict: &Dict,
    what: &str,
    key: &Object<'_>,
    items: &Bound<'_, PyTuple>,
) -> PyResult<Pending<u64>> {
    let encoded = encode_key(key)?;
    let is_set = what != "list_append";
    let payload = |item: Object<'_>| {
        if is_set {
            hashable(&item)?;
        }
        encode(&item).map(Bytes::from)
    };
    let items = items.iter().map(payload).collect::<PyResult<_>>()?;
    match what {
        "list_append" => Ok(dict.list_append(&encoded, items)),
        "set_add" => Ok(dict.set_add(&encoded, items)),
        "set_discard" => Ok(dict.set_discard(&encoded, items)),
        _ => Err(errors::invalid(
            key.py(),
            format!("there is no change of a part named {what:?}"),
        )),
    }
}

/// Refuses what no set of Python holds, by its own word: every reader would fail.
pub(crate) fn hashable(item: &Object<'_>) -> PyResult<()> {
    let Err(error) = item.hash() else {
        return Ok(());
    };
    let py = item.py();
    let text = format!("no set holds the item: {}", error.value(py));
    let refused = errors::invalid(py, text);
    refused.set_cause(py, Some(error));
    Err(refused)
}

/// Changes a part of a value; completes with its number.
#[pyfunction]
pub(crate) fn patch_value(
    calls: &Calls,
    future: &Object<'_>,
    handle: &Handle,
    what: &str,
    key: &Object<'_>,
    items: &Bound<'_, PyTuple>,
) -> PyResult<()> {
    let call = patch(handle.dict(key.py())?, what, key, items)?;
    calls.start(future, call, plain)
}
