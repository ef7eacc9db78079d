//! What patches make of a list.

use bytes::Bytes;

use super::{Edited, number};
use crate::value::elements::{self, Identity};

pub(super) fn append(part: Option<&[u8]>, items: &[Bytes]) -> Option<Edited> {
    let (count, head) = elements::list(part.unwrap_or(elements::EMPTY_LIST))?;
    let length = number(count as usize + items.len());
    if items.is_empty() {
        return Some((length, None));
    }
    Some((length, Some(elements::list_payload((count, head), items)?)))
}

pub(super) fn remove(part: &[u8], item: &[u8]) -> Option<Edited> {
    let (count, head) = elements::list(part)?;
    let wanted = Identity::of(item);
    let mut rest = head;
    for _ in 0..count {
        let start = head.len() - rest.len();
        let found = elements::next(&mut rest, 1)?;
        if Identity::of(found) == wanted {
            let kept = [&head[..start], rest].concat();
            let new = elements::list_payload((count - 1, &kept), &[])?;
            return Some((1, Some(new)));
        }
    }
    Some((0, None))
}

/// A `start` behind the end takes nothing away and adds at the end: the caller has seen the list,
/// and its revision stands.
pub(super) fn splice(
    part: &[u8],
    (start, delete_count): (u32, u32),
    items: &[Bytes],
) -> Option<Edited> {
    let (count, head) = elements::list(part)?;
    let start = start.min(count);
    let deleted = delete_count.min(count - start);
    let mut rest = head;
    for _ in 0..start {
        elements::next(&mut rest, 1)?;
    }
    let before = &head[..head.len() - rest.len()];
    for _ in 0..deleted {
        elements::next(&mut rest, 1)?;
    }
    let put: Vec<&[u8]> = items.iter().map(|item| &item[..]).collect();
    let kept = [before, &put.concat(), rest].concat();
    let count = (count - deleted).checked_add(u32::try_from(items.len()).ok()?)?;
    let new = elements::list_payload((count, &kept), &[])?;
    Some((i64::from(count), Some(new)))
}

pub(super) fn clear(part: &[u8]) -> Option<Edited> {
    let (count, _) = elements::list(part)?;
    let new = (count > 0).then(|| elements::EMPTY_LIST.to_vec());
    Some((count.into(), new))
}
