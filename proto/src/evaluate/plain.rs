//! Puts, removals, counters and batches.

use std::collections::HashSet;

use bytes::Bytes;

use super::check::{CHANGE_OVERHEAD_BYTES, change_bytes};
use super::{Changes, Decision, Place, decided, invalid, unreadable};
use crate::dictionary::Dictionary;
use crate::effect::Change;
use crate::error::Failure;
use crate::key;
use crate::limits::{
    KEY_BYTES_MAX, RANGE_REMOVAL_COUNT_MAX, TRANSACTION_BYTES_MAX, TRANSACTION_EFFECTS_MAX,
};
use crate::operation::Outcome;
use crate::stored::{self, Compression};
use crate::stored_chunks;
use crate::value;
use crate::wire::KeyRange;

const DELETE_STEP_KEYS: u32 = 4_096;
/// Changes that the removal of a key is at most, with what ends of its time to live and its lease.
const REMOVAL_CHANGES_MAX: usize = 3;

// A removal within its limit is never cut short, so that fewer than asked for means "no more".
const _: () = assert!(
    RANGE_REMOVAL_COUNT_MAX as usize
        * REMOVAL_CHANGES_MAX
        * (KEY_BYTES_MAX + CHANGE_OVERHEAD_BYTES)
        <= TRANSACTION_BYTES_MAX
);

type Done = (Outcome, Changes);

pub(super) fn delete<E>(key: &Bytes, place: &Place<'_, E>) -> Result<Done, E> {
    let present = place.get(key)?;
    let changes: Vec<_> = present.map(|_| place.remove(key)).into_iter().collect();
    Ok((Outcome::Deleted(changes.len() as u64), changes))
}

pub(super) fn delete_range<E>(
    range: &KeyRange,
    count_max: u32,
    place: &Place<'_, E>,
) -> Result<Done, E> {
    let share = match place.view.leased().keys {
        0 => 1,
        _ => REMOVAL_CHANGES_MAX,
    };
    let effects_max = u32::try_from(TRANSACTION_EFFECTS_MAX / share).unwrap_or(u32::MAX);
    let bytes_max = TRANSACTION_BYTES_MAX / share;
    let mut changes = Vec::new();
    let mut rest = range.clone();
    let mut bytes = 0;
    let mut left = count_max.min(effects_max);
    // In steps, so that a wide range does not put more keys into memory than a transaction holds.
    while left > 0 {
        let step = left.min(DELETE_STEP_KEYS);
        let keys = place.view.keys(place.namespace, &rest, step)?;
        let last_step = keys.len() < step as usize;
        for key in keys {
            bytes += change_bytes(&key, None);
            if bytes > bytes_max {
                return Ok((Outcome::Deleted(changes.len() as u64), changes));
            }
            left -= 1;
            changes.push(place.remove(&key));
        }
        match changes.last() {
            Some((_, change)) if !last_step => rest.start = key::successor(&change.key),
            _ => break,
        }
    }
    Ok((Outcome::Deleted(changes.len() as u64), changes))
}

pub(super) fn compare_and_set<E>(
    key: &Bytes,
    expected: Option<&Bytes>,
    new: Option<&Bytes>,
    place: &Place<'_, E>,
) -> Result<Result<Done, Failure>, E> {
    let present = place.get(key)?;
    let dictionary = place.dictionary_of(present.as_ref())?;
    let equal = match (&present, expected) {
        (None, None) => true,
        (Some(value), Some(expected)) if stored_chunks::is_chunked(value) => {
            stored_chunks::is_expected(value, expected)
        }
        (Some(value), Some(expected)) => match stored::open_with(value, |_| dictionary) {
            Ok(payload) => stored_chunks::is_payload_expected(&payload, expected),
            Err(error) => return Ok(Err(unreadable(key, &error))),
        },
        _ => false,
    };
    let changes = match new {
        _ if !equal => Vec::new(),
        Some(new) => vec![place.put(key, new)],
        None => present.map(|_| place.remove(key)).into_iter().collect(),
    };
    Ok(Ok((Outcome::Swapped(equal), changes)))
}

/// A counter keeps the time that it stays.
pub(super) fn increment<E>(key: &Bytes, by: i64, place: &Place<'_, E>) -> Result<Decision, E> {
    let present = place.get(key)?;
    let dictionary = place.dictionary_of(present.as_ref())?;
    let present = match present {
        None => 0,
        Some(value) => match counter(key, &value, dictionary.as_deref()) {
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
    Ok(decided(
        Outcome::Number(number),
        vec![place.put(key, &value)],
    ))
}

/// The integer that a stored value holds.
fn counter(key: &[u8], value: &Bytes, dictionary: Option<&Dictionary>) -> Result<i64, Failure> {
    let payload = stored_chunks::payload_or_head(value, dictionary)
        .map_err(|error| unreadable(key, &error))?;
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
pub(super) fn batch<E>(changes: &[Change], place: &Place<'_, E>) -> Result<Changes, E> {
    let mut seen = HashSet::with_capacity(changes.len());
    let mut kept = Vec::with_capacity(changes.len());
    for change in changes
        .iter()
        .rev()
        .filter(|change| seen.insert(&change.key))
    {
        if change.value.is_some() || place.get(&change.key)?.is_some() {
            kept.push((place.namespace, change.clone()));
        }
    }
    kept.reverse();
    Ok(kept)
}
