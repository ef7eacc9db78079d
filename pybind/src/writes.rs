//! Writes that look first: each is one decision of the owner, so no other process comes in between.

use objsync::limits::TRANSACTION_BYTES_MAX;
use objsync::{Ack, Bytes, Dict, ErrorKind, KeyRange, Revision};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::codec::{decode, decode_key, encode_key};
use crate::errors;
use crate::large::{self, encode};
use crate::live::Places;
use crate::waiting::{blocking, wait, wait_for_read};

type Object<'py> = Bound<'py, PyAny>;

/// Bytes that a pair takes in a transaction besides key and value, at most.
const PAIR_BYTES: usize = 64;

/// What is under a key: payload, and revision where an owner gave it one.
type Entry = Option<(Bytes, Option<Revision>)>;

/// How often one state may be found after it was refused as what is expected. Others can come back to
/// the same value between a read and the write that follows; nobody does so each time.
const REFUSALS_MAX: u32 = 100;

/// What a loop of reads and conditional writes has found, so that it ends where an owner refuses what a
/// read finds: one of another version may compare otherwise.
#[derive(Default)]
struct Seen {
    last: Option<(Vec<u8>, Entry)>,
    count: u32,
    is_refused: bool,
}

impl Seen {
    /// The payload under a key; a large value as its reference.
    fn find(&mut self, py: Python<'_>, dict: &Dict, key: &[u8]) -> PyResult<Option<Bytes>> {
        if !std::mem::replace(&mut self.is_refused, true) {
            // Most often the only look; of a peer it keeps what it fetches, as any read.
            return wait_for_read(py, dict.find(key));
        }
        let entry = wait_for_read(py, dict.fetch_entry(key))?;
        let found = (key.to_vec(), entry);
        let payload = found.1.as_ref().map(|(payload, _)| payload.clone());
        if self.last.as_ref() != Some(&found) {
            self.count = 0;
            self.last = Some(found);
        } else if self.count == REFUSALS_MAX {
            let message = format!(
                "key {}: the owner refused {REFUSALS_MAX} times what a read finds there as what is \
                 expected: is it of another version?",
                objsync::key::describe(key)
            );
            return Err(errors::of_kind(py, ErrorKind::Conflict, message));
        }
        self.count += 1;
        Ok(payload)
    }
}

/// Removes a key and returns its value, which nobody else then gets.
pub(crate) fn pop<'py>(
    py: Python<'py>,
    dict: &Dict,
    key: &Object<'py>,
) -> PyResult<Option<Object<'py>>> {
    let encoded = encode_key(key)?;
    let mut seen = Seen::default();
    loop {
        let Some(payload) = seen.find(py, dict, &encoded)? else {
            return Ok(None);
        };
        // Decoded first: what cannot be given to the caller must not be removed.
        let value = large::object(py, dict, payload.clone())?;
        if wait(py, dict.compare_and_set(&encoded, Some(payload), None))? {
            return Ok(Some(value));
        }
        wait(py, dict.sync())?;
    }
}

/// Removes the last entry in key order and returns its key, and both.
pub(crate) fn pop_last<'py>(
    py: Python<'py>,
    dict: &Dict,
) -> PyResult<Option<(Object<'py>, Object<'py>)>> {
    let mut seen = Seen::default();
    loop {
        let last = blocking(py, || {
            dict.keys(KeyRange::default(), true)?.next().transpose()
        })?;
        let Some((key, _)) = last else {
            return Ok(None);
        };
        let Some(payload) = seen.find(py, dict, &key)? else {
            // It went meanwhile: another one is the last.
            wait(py, dict.sync())?;
            continue;
        };
        let name = decode_key(py, &key)?;
        let entry = PyTuple::new(py, [&name, &large::object(py, dict, payload.clone())?])?;
        if wait(py, dict.compare_and_set(&key, Some(payload), None))? {
            return Ok(Some((name, entry.into_any())));
        }
        wait(py, dict.sync())?;
    }
}

/// The value under a key, which is put there if the key is missing.
pub(crate) fn set_default<'py>(
    py: Python<'py>,
    dict: &Dict,
    key: &Object<'py>,
    default: &Object<'py>,
) -> PyResult<Object<'py>> {
    let encoded = encode_key(key)?;
    let new = Bytes::from(encode(default)?);
    let mut seen = Seen::default();
    loop {
        if let Some(payload) = seen.find(py, dict, &encoded)? {
            return large::object(py, dict, payload);
        }
        if wait(py, dict.compare_and_set(&encoded, None, Some(new.clone())))? {
            return Ok(decode(py, &new)?.object);
        }
        wait(py, dict.sync())?;
    }
}

/// Puts `new` (or removes the key) if the value equals `expected` (or the key is missing).
///
/// The owner compares bytes. What Python calls equal can have other bytes (the order of a dict, 1
/// and 1.0), so a refusal is looked at here, and asked again with the bytes that are there.
pub(crate) fn compare_and_set<'py>(
    py: Python<'py>,
    dict: &Dict,
    key: &Object<'py>,
    expected: Option<&Object<'py>>,
    new: Option<&Object<'py>>,
) -> PyResult<bool> {
    let encoded = encode_key(key)?;
    let new = new.map(encode).transpose()?.map(Bytes::from);
    let mut guess = expected.map(encode).transpose()?.map(Bytes::from);
    let mut seen = Seen::default();
    loop {
        if wait(
            py,
            dict.compare_and_set(&encoded, guess.clone(), new.clone()),
        )? {
            return Ok(true);
        }
        let Some(expected) = expected else {
            return Ok(false);
        };
        wait(py, dict.sync())?;
        let Some(payload) = seen.find(py, dict, &encoded)? else {
            return Ok(false);
        };
        match large::object(py, dict, payload.clone())?.eq(expected) {
            Ok(true) => guess = Some(payload),
            Ok(false) => return Ok(false),
            // Arrays have no single truth: of them the bytes decide, and these differ.
            Err(error) if error.is_instance_of::<PyValueError>(py) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// Puts `new` if the stored bytes are `expected`; if they are not, what others did is here by then.
pub(crate) fn swap(
    py: Python<'_>,
    dict: &Dict,
    key: &Object<'_>,
    expected: &[u8],
    new: &[u8],
) -> PyResult<bool> {
    let [expected, new] = [expected, new].map(|bytes| Some(Bytes::copy_from_slice(bytes)));
    let is_done = wait(py, dict.compare_and_set(&encode_key(key)?, expected, new))?;
    if !is_done {
        wait(py, dict.sync())?;
    }
    Ok(is_done)
}

/// Puts many pairs: one transaction up to 16 MiB, above that several in order.
pub(crate) fn update<'py>(
    py: Python<'py>,
    dict: &Dict,
    places: &Places,
    pairs: &Object<'py>,
) -> PyResult<Option<Ack>> {
    let ends = places.ends(py);
    let send = |pairs: Vec<(Bytes, Bytes)>| {
        let keys: Vec<Bytes> = if ends.is_needed(py) {
            pairs.iter().map(|(key, _)| key.clone()).collect()
        } else {
            Vec::new()
        };
        let ack = blocking(py, || dict.update(pairs))?;
        ends.replaced(py, keys.iter().map(|key| &key[..]))?;
        PyResult::Ok(ack)
    };
    let mut ack = None;
    let mut ready: Vec<(Bytes, Bytes)> = Vec::new();
    let mut ready_bytes = 0;
    for pair in pairs.try_iter()? {
        let (key, value) = pair_of(&pair?)?;
        if places.is_own(&key, &value)? {
            continue;
        }
        let value = encode(&value).map_err(|error| errors::under_key(&key, error))?;
        let (key, value) = (Bytes::from(encode_key(&key)?), Bytes::from(value));
        let bytes = key.len() + value.len() + PAIR_BYTES;
        if ready_bytes + bytes > TRANSACTION_BYTES_MAX {
            let full = std::mem::take(&mut ready);
            ack = send(full)?.or(ack);
            ready_bytes = 0;
        }
        ready_bytes += bytes;
        ready.push((key, value));
    }
    Ok(send(ready)?.or(ack))
}

/// A key and a value: a tuple, or anything of two elements, as for a dict.
pub(crate) fn pair_of<'py>(pair: &Object<'py>) -> PyResult<(Object<'py>, Object<'py>)> {
    if let Ok(tuple) = pair.cast_exact::<PyTuple>()
        && tuple.len() == 2
    {
        return Ok((tuple.get_item(0)?, tuple.get_item(1)?));
    }
    let elements: Vec<Object<'py>> = pair.try_iter()?.collect::<PyResult<_>>()?;
    let count = elements.len();
    let two: Result<[Object<'py>; 2], _> = elements.try_into();
    two.map(|[key, value]| (key, value)).map_err(|_| {
        let message = format!("a pair of key and value has {count} elements; 2 are needed");
        errors::invalid(pair.py(), message)
    })
}
