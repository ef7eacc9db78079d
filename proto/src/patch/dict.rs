//! What patches make of a dict. Its order stays: a new field goes to the end, a known one keeps its
//! place and its key.

use std::collections::HashMap;

use bytes::Bytes;

use super::{Edited, number};
use crate::value::elements::{self, Identity};

/// The payload of an empty dict.
pub(super) const EMPTY: &[u8] = &[0x80];

/// Puts fields, the later ones over the earlier.
pub(super) fn merge(part: &[u8], fields: &[(Bytes, Bytes)]) -> Option<Edited> {
    let mut pairs = elements::dict(part)?;
    let before = pairs.len();
    let mut wanted: HashMap<Identity<'_>, Option<usize>> = fields
        .iter()
        .map(|(field, _)| (Identity::of(field), None))
        .collect();
    for (at, (field, _)) in pairs.iter().enumerate() {
        if let Some(place) = wanted.get_mut(&Identity::of(field)) {
            *place = Some(at);
        }
    }
    for (field, value) in fields {
        let place = wanted.entry(Identity::of(field)).or_default();
        match place {
            Some(at) => pairs[*at].1 = value,
            None => {
                *place = Some(pairs.len());
                pairs.push((field, value));
            }
        }
    }
    let added = number(pairs.len() - before);
    let new = if fields.is_empty() {
        None
    } else {
        Some(elements::dict_payload(&pairs)?)
    };
    Some((added, new))
}

pub(super) fn delete(part: &[u8], field: &[u8]) -> Option<Edited> {
    let mut pairs = elements::dict(part)?;
    let unwanted = Identity::of(field);
    let before = pairs.len();
    pairs.retain(|(field, _)| Identity::of(field) != unwanted);
    if pairs.len() == before {
        return Some((0, None));
    }
    Some((1, Some(elements::dict_payload(&pairs)?)))
}

pub(super) fn clear(part: &[u8]) -> Option<Edited> {
    let count = elements::dict_len(part)?;
    Some((count.into(), (count > 0).then(|| EMPTY.to_vec())))
}
