//! Deciding operations: what a request comes to, given what the dictionary holds.
//!
//! Pure: the owner calls [`evaluate`] in the order of its log, and what is logged is the decision,
//! never the request, so replay and peers need none of these rules.

use std::collections::HashSet;

use bytes::Bytes;

use crate::effect::Change;
use crate::error::{ErrorKind, Failure};
use crate::key;
use crate::limits::{TRANSACTION_BYTES_MAX, TRANSACTION_EFFECTS_MAX};
use crate::operation::{Operation, Outcome};
use crate::stored::{self, Compression};
use crate::value;
use crate::wire::KeyRange;

/// Bytes that a change takes beside its key and value, at most, on the wire and in the log.
pub const CHANGE_OVERHEAD_BYTES: usize = 32;

/// What a dictionary holds while an operation is decided.
pub trait View {
    /// Why it cannot be looked into.
    type Error;

    /// The stored value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Self::Error>;

    /// The first keys of a range, in order: at most `count_max` of them.
    fn keys(&self, range: &KeyRange, count_max: u32) -> Result<Vec<Bytes>, Self::Error>;
}

/// What an operation comes to: its outcome and the changes, at most one per key; or a refusal,
/// which changes nothing.
pub type Decision = Result<(Outcome, Vec<Change>), Failure>;

/// Decides an operation.
///
/// # Errors
/// Those of the view. That an operation is refused is a [`Decision`], not an error.
pub fn evaluate<E>(operation: &Operation, view: &dyn View<Error = E>) -> Result<Decision, E> {
    if let Err(failure) = check(operation) {
        return Ok(Err(failure));
    }
    match operation {
        Operation::Put { key, value } => Ok(Ok((Outcome::Done, vec![put(key, value)]))),
        Operation::Delete { key } => delete(key, view),
        Operation::DeleteRange {
            start,
            end,
            count_max,
        } => {
            let range = KeyRange {
                start: start.clone(),
                end: end.clone(),
            };
            delete_range(&range, *count_max, view)
        }
        Operation::CompareAndSet { key, expected, new } => {
            compare_and_set(key, expected.as_ref(), new.as_ref(), view)
        }
        Operation::Increment { key, by } => increment(key, *by, view),
        Operation::Batch { changes } => batch(changes, view),
        Operation::Settle => Ok(Ok((Outcome::Done, Vec::new()))),
        Operation::Transact { .. }
        | Operation::Patch { .. }
        | Operation::PutLeased { .. }
        | Operation::GrantLease { .. }
        | Operation::RevokeLease { .. }
        | Operation::Lock { .. }
        | Operation::Unlock { .. } => Ok(Err(Failure::new(
            ErrorKind::Unsupported,
            "the owner does not know this operation",
        ))),
    }
}

/// Checks what can be checked of an operation without looking into the dictionary: keys, stored
/// values and sizes. [`evaluate`] does so first; a client does so to refuse early.
pub fn check(operation: &Operation) -> Result<(), Failure> {
    match operation {
        Operation::Put { key, value } => check_change(key, Some(value)),
        Operation::Delete { key } | Operation::Increment { key, .. } => check_change(key, None),
        // Bounds of a range need not be keys, only comparable with them.
        Operation::DeleteRange { .. } => Ok(()),
        Operation::CompareAndSet { key, new, .. } => check_change(key, new.as_ref()),
        Operation::Batch { changes } | Operation::Transact { changes, .. } => check_batch(changes),
        Operation::PutLeased { key, value, .. } => check_change(key, Some(value)),
        Operation::Patch { key, .. } => check_change(key, None),
        Operation::Lock { name, .. } | Operation::Unlock { name, .. } => check_change(name, None),
        Operation::GrantLease { .. } | Operation::RevokeLease { .. } | Operation::Settle => Ok(()),
    }
}

/// What a change counts towards [`TRANSACTION_BYTES_MAX`].
#[must_use]
pub fn change_bytes(key: &[u8], value: Option<&[u8]>) -> usize {
    key.len() + value.map_or(0, <[u8]>::len) + CHANGE_OVERHEAD_BYTES
}

fn check_change(key: &[u8], value: Option<&Bytes>) -> Result<(), Failure> {
    key::check(key).map_err(|error| invalid(error.to_string()))?;
    let Some(value) = value else { return Ok(()) };
    stored::check(value)
        .map(drop)
        .map_err(|error| invalid(format!("value of key {}: {error}", key::describe(key))))
}

fn check_batch(changes: &[Change]) -> Result<(), Failure> {
    if changes.len() > TRANSACTION_EFFECTS_MAX {
        return Err(invalid(format!(
            "batch has {} changes; the limit is {TRANSACTION_EFFECTS_MAX} changes",
            changes.len()
        )));
    }
    let bytes: usize = changes
        .iter()
        .map(|change| change_bytes(&change.key, change.value.as_deref()))
        .sum();
    if bytes > TRANSACTION_BYTES_MAX {
        return Err(invalid(format!(
            "batch is {bytes} bytes; the limit of a transaction is {TRANSACTION_BYTES_MAX} bytes"
        )));
    }
    changes
        .iter()
        .try_for_each(|change| check_change(&change.key, change.value.as_ref()))
}

fn delete<E>(key: &Bytes, view: &dyn View<Error = E>) -> Result<Decision, E> {
    let changes: Vec<_> = view.get(key)?.map(|_| remove(key)).into_iter().collect();
    Ok(Ok((Outcome::Deleted(changes.len() as u64), changes)))
}

fn delete_range<E>(
    range: &KeyRange,
    count_max: u32,
    view: &dyn View<Error = E>,
) -> Result<Decision, E> {
    let effects_max = u32::try_from(TRANSACTION_EFFECTS_MAX).unwrap_or(u32::MAX);
    let mut changes = Vec::new();
    let mut rest = range.clone();
    let mut bytes = 0;
    let mut left = count_max.min(effects_max);
    // In steps, so that a wide range does not put more keys into memory than a transaction holds.
    while left > 0 {
        let step = left.min(DELETE_STEP_KEYS);
        let keys = view.keys(&rest, step)?;
        let last_step = keys.len() < step as usize;
        for key in keys {
            bytes += change_bytes(&key, None);
            if bytes > TRANSACTION_BYTES_MAX {
                return Ok(Ok((Outcome::Deleted(changes.len() as u64), changes)));
            }
            left -= 1;
            changes.push(remove(&key));
        }
        match changes.last() {
            Some(change) if !last_step => rest.start = key::successor(&change.key),
            _ => break,
        }
    }
    Ok(Ok((Outcome::Deleted(changes.len() as u64), changes)))
}

const DELETE_STEP_KEYS: u32 = 4_096;

fn compare_and_set<E>(
    key: &Bytes,
    expected: Option<&Bytes>,
    new: Option<&Bytes>,
    view: &dyn View<Error = E>,
) -> Result<Decision, E> {
    let present = view.get(key)?;
    let equal = match (&present, expected) {
        (None, None) => true,
        (Some(value), Some(expected)) => match stored::open(value) {
            Ok(payload) => payload == *expected,
            Err(error) => return Ok(Err(unreadable(key, &error))),
        },
        _ => false,
    };
    let changes = match new {
        _ if !equal => Vec::new(),
        Some(new) => vec![put(key, new)],
        None => present.map(|_| remove(key)).into_iter().collect(),
    };
    Ok(Ok((Outcome::Swapped(equal), changes)))
}

fn increment<E>(key: &Bytes, by: i64, view: &dyn View<Error = E>) -> Result<Decision, E> {
    let present = match view.get(key)? {
        None => 0,
        Some(value) => match counter(key, &value) {
            Ok(number) => number,
            Err(failure) => return Ok(Err(failure)),
        },
    };
    let Some(number) = present.checked_add(by) else {
        let name = key::describe(key);
        return Ok(Err(invalid(format!(
            "counter {name} is {present}; adding {by} passes the limit of 64 bits"
        ))));
    };
    let payload = value::int_payload(number);
    let value = stored::seal(&payload, Compression::None).expect("an int is short");
    Ok(Ok((Outcome::Number(number), vec![put(key, &value)])))
}

/// The integer that a stored value holds.
fn counter(key: &[u8], value: &Bytes) -> Result<i64, Failure> {
    let payload = stored::open(value).map_err(|error| unreadable(key, &error))?;
    let mut rest = &payload[..];
    rmp::decode::read_int(&mut rest)
        .ok()
        .filter(|_: &i64| rest.is_empty())
        .ok_or_else(|| {
            invalid(format!(
                "value of key {} is {}; adding needs an int of 64 bits",
                key::describe(key),
                value::type_name(&payload)
            ))
        })
}

/// The last change of each key, in the order of those; deletes of missing keys are left out, so
/// that nobody is told of a key that was not there.
fn batch<E>(changes: &[Change], view: &dyn View<Error = E>) -> Result<Decision, E> {
    let mut seen = HashSet::with_capacity(changes.len());
    let mut kept = Vec::with_capacity(changes.len());
    for change in changes
        .iter()
        .rev()
        .filter(|change| seen.insert(&change.key))
    {
        if change.value.is_some() || view.get(&change.key)?.is_some() {
            kept.push(change.clone());
        }
    }
    kept.reverse();
    Ok(Ok((Outcome::Done, kept)))
}

fn put(key: &Bytes, value: &Bytes) -> Change {
    Change {
        key: key.clone(),
        value: Some(value.clone()),
    }
}

fn remove(key: &Bytes) -> Change {
    Change {
        key: key.clone(),
        value: None,
    }
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(ErrorKind::Invalid, message)
}

fn unreadable(key: &[u8], error: &stored::StoredError) -> Failure {
    let kind = match error {
        stored::StoredError::Unsupported { .. } => ErrorKind::Unsupported,
        _ => ErrorKind::Corrupt,
    };
    Failure::new(
        kind,
        format!("value of key {}: {error}", key::describe(key)),
    )
}

#[cfg(test)]
mod tests;
