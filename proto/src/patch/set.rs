//! What patches make of a set.

use std::collections::HashSet;

use bytes::Bytes;

use super::{Edited, number};
use crate::value::elements::{self, Identity};

pub(super) fn add(part: Option<&[u8]>, items: &[Bytes]) -> Option<Edited> {
    let mut all = elements_of(part)?;
    let before = all.len();
    let mut known: HashSet<Identity<'_>> = all.iter().map(|item| Identity::of(item)).collect();
    all.extend(
        items
            .iter()
            .filter(|item| known.insert(Identity::of(item)))
            .map(|item| &item[..]),
    );
    match all.len() - before {
        0 => Some((0, None)),
        added => Some((number(added), Some(elements::set_payload(all)?))),
    }
}

pub(super) fn discard(part: Option<&[u8]>, items: &[Bytes]) -> Option<Edited> {
    let mut all = elements_of(part)?;
    let before = all.len();
    let unwanted: HashSet<Identity<'_>> = items.iter().map(|item| Identity::of(item)).collect();
    all.retain(|item| !unwanted.contains(&Identity::of(item)));
    match before - all.len() {
        0 => Some((0, None)),
        removed => Some((number(removed), Some(elements::set_payload(all)?))),
    }
}

pub(super) fn clear(part: &[u8]) -> Option<Edited> {
    let count = elements::set(part)?.len();
    let new = if count > 0 {
        Some(elements::set_payload(Vec::new())?)
    } else {
        None
    };
    Some((number(count), new))
}

/// The elements of a set; of a missing one there are none.
fn elements_of(part: Option<&[u8]>) -> Option<Vec<&[u8]>> {
    part.map_or(Some(Vec::new()), elements::set)
}
