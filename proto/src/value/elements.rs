//! Payloads of lists, sets and dicts, taken apart into the payloads of their elements and put together
//! again, without decoding these.

use bytes::Bytes;
use rmp::Marker;
use rmp::decode as read;

use super::inspect::skip;
use super::{ext, type_name};
use crate::limits::VALUE_DEPTH_MAX;

/// The payload of an empty list.
pub const EMPTY_LIST: &[u8] = &[0x90];

/// Length of a list and the payloads of its elements, one after the other; none for another type.
#[must_use]
pub fn list(payload: &[u8]) -> Option<(u32, &[u8])> {
    let mut rest = payload;
    let first = Marker::from_u8(*payload.first()?);
    if !matches!(
        first,
        Marker::FixArray(_) | Marker::Array16 | Marker::Array32
    ) {
        return None;
    }
    let count = read::read_array_len(&mut rest).ok()?;
    Some((count, rest))
}

/// The payloads of the elements of a set; none for another type, and for a set that is cut.
#[must_use]
pub fn set(payload: &[u8]) -> Option<Vec<&[u8]>> {
    let mut body = payload;
    let meta = read::read_ext_meta(&mut body).ok()?;
    if meta.typeid != ext::SET || body.len() != meta.size as usize {
        return None;
    }
    let (count, mut rest) = list(body)?;
    // Each takes a byte at least.
    let mut elements = Vec::with_capacity((count as usize).min(rest.len()));
    for _ in 0..count {
        elements.push(next(&mut rest, 1)?);
    }
    rest.is_empty().then_some(elements)
}

/// The next of several payloads that stand one after the other, `depth` containers deep; none where
/// it is cut or nested too deep.
pub(crate) fn next<'a>(rest: &mut &'a [u8], depth: usize) -> Option<&'a [u8]> {
    let before = *rest;
    skip(rest, depth).ok()?;
    Some(&before[..before.len() - rest.len()])
}

/// How many fields a dict has; none for another type.
#[must_use]
pub fn dict_len(payload: &[u8]) -> Option<u32> {
    let mut rest = payload;
    match Marker::from_u8(*payload.first()?) {
        Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => read::read_map_len(&mut rest).ok(),
        _ => None,
    }
}

/// The payloads of the keys and values of a dict; none for another type, and for a dict that is cut.
#[must_use]
pub fn dict(payload: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let count = dict_len(payload)?;
    let mut rest = payload;
    read::read_map_len(&mut rest).ok()?;
    // Each takes two bytes at least.
    let mut pairs = Vec::with_capacity((count as usize).min(rest.len() / 2));
    for _ in 0..count {
        pairs.push((next(&mut rest, 1)?, next(&mut rest, 1)?));
    }
    rest.is_empty().then_some(pairs)
}

/// The payload of a dict of these keys and values.
#[must_use]
pub fn dict_payload(pairs: &[(&[u8], &[u8])]) -> Option<Vec<u8>> {
    let bytes: usize = pairs
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    let mut payload = Vec::with_capacity(5 + bytes);
    rmp::encode::write_map_len(&mut payload, u32::try_from(pairs.len()).ok()?).ok()?;
    for (key, value) in pairs {
        payload.extend_from_slice(key);
        payload.extend_from_slice(value);
    }
    Some(payload)
}

/// The payload of a list of what is in `head`, already one after the other, and of `items`.
#[must_use]
pub fn list_payload((count, head): (u32, &[u8]), items: &[Bytes]) -> Option<Vec<u8>> {
    let count = count.checked_add(u32::try_from(items.len()).ok()?)?;
    let mut payload = Vec::with_capacity(5 + head.len() + bytes_of(items));
    rmp::encode::write_array_len(&mut payload, count).ok()?;
    payload.extend_from_slice(head);
    items
        .iter()
        .for_each(|item| payload.extend_from_slice(item));
    Some(payload)
}

/// The payload of a set of these elements, which differ from each other.
#[must_use]
pub fn set_payload(mut elements: Vec<&[u8]>) -> Option<Vec<u8>> {
    elements.sort_unstable();
    let mut body = Vec::with_capacity(5 + elements.iter().map(|item| item.len()).sum::<usize>());
    rmp::encode::write_array_len(&mut body, u32::try_from(elements.len()).ok()?).ok()?;
    elements
        .iter()
        .for_each(|element| body.extend_from_slice(element));
    let mut payload = Vec::with_capacity(6 + body.len());
    rmp::encode::write_ext_meta(&mut payload, u32::try_from(body.len()).ok()?, ext::SET).ok()?;
    payload.extend_from_slice(&body);
    Some(payload)
}

/// What two payloads have in common when Python takes them for one element of a set, or one key of
/// a dict: 1, 1.0 and True are one, and so are 0.0 and -0.0. Others are one when they are the same
/// bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Identity<'a> {
    /// A whole number of 64 bits, whatever its type.
    Number(i64),
    /// Any other payload.
    Payload(&'a [u8]),
}

impl<'a> Identity<'a> {
    /// That of a payload.
    #[must_use]
    pub fn of(payload: &'a [u8]) -> Self {
        whole_number(payload).map_or(Self::Payload(payload), Self::Number)
    }
}

/// Whether it can be an element of a set: no list, dict or set, and no tuple that has one in it.
/// What is cut, or deeper than a value can be, cannot.
#[must_use]
pub fn is_hashable(payload: &[u8]) -> bool {
    is_hashable_at(payload, 0)
}

fn is_hashable_at(payload: &[u8], depth: usize) -> bool {
    match type_name(payload) {
        "list" | "dict" | "set" => false,
        "ndarray" => is_scalar(payload),
        "tuple" | "frozenset" => {
            depth < VALUE_DEPTH_MAX && inner(payload).is_some_and(|body| are_hashable(body, depth))
        }
        _ => true,
    }
}

/// Whether it is a scalar of numpy: their form is 2, that of arrays less.
fn is_scalar(payload: &[u8]) -> bool {
    let mut body = payload;
    read::read_ext_meta(&mut body).is_ok() && body.first() == Some(&2)
}

/// The elements of a tuple or a frozenset, as a list.
fn inner(payload: &[u8]) -> Option<&[u8]> {
    let mut body = payload;
    let meta = read::read_ext_meta(&mut body).ok()?;
    body.get(..meta.size as usize)
}

fn are_hashable(body: &[u8], depth: usize) -> bool {
    let Some((count, mut rest)) = list(body) else {
        return false;
    };
    (0..count).all(|_| {
        let element = rest;
        skip(&mut rest, depth).is_ok()
            && is_hashable_at(&element[..element.len() - rest.len()], depth + 1)
    })
}

fn whole_number(payload: &[u8]) -> Option<i64> {
    let mut rest = payload;
    let number = match Marker::from_u8(*payload.first()?) {
        Marker::True => return Some(1),
        Marker::False => return Some(0),
        Marker::F32 => of_float(read::read_f32(&mut rest).ok()?.into())?,
        Marker::F64 => of_float(read::read_f64(&mut rest).ok()?)?,
        _ => read::read_int(&mut rest).ok()?,
    };
    rest.is_empty().then_some(number)
}

#[expect(clippy::cast_possible_truncation, reason = "only exact ones are taken")]
fn of_float(float: f64) -> Option<i64> {
    // Below the bounds of i64, which f64 has exactly.
    let is_whole = float.fract().abs().to_bits() == 0 && float.abs() < 9.2e18;
    is_whole.then_some(float as i64)
}

fn bytes_of(items: &[Bytes]) -> usize {
    items.iter().map(Bytes::len).sum()
}

#[cfg(test)]
mod tests {
    use super::super::{Value, decode, encode, int_payload};
    use super::*;

    fn payload(value: &Value) -> Bytes {
        encode(value).unwrap()
    }

    #[test]
    fn set_that_is_put_together_is_the_one_that_was_encoded() {
        let whole = payload(&Value::Set(vec![3.into(), "a".into(), Value::None]));
        let parts = set(&whole).unwrap();
        assert_eq!(parts.len(), 3);
        let reversed = parts.into_iter().rev().collect();
        assert_eq!(set_payload(reversed).unwrap(), whole);
        assert_eq!(set(&payload(&Value::FrozenSet(vec![1.into()]))), None);
        assert_eq!(set(&whole[..whole.len() - 1]), None, "it is cut");
        assert_eq!(set(&payload(&5.into())), None);
    }

    #[test]
    fn list_grows_past_each_form_of_its_length() {
        let items: Vec<Bytes> = (0..40_000).map(|n: i64| int_payload(n).into()).collect();
        let mut whole = EMPTY_LIST.to_vec();
        for part in [&items[..10], &items[10..20], &items[20..]] {
            whole = list_payload(list(&whole).unwrap(), part).unwrap();
        }
        let numbers = (0..40_000).map(|n: i64| n.into()).collect();
        assert_eq!(decode(&whole).unwrap(), Value::List(numbers));
        assert_eq!(list(&payload(&Value::Tuple(vec![]))), None);
    }

    #[test]
    fn element_of_a_set_has_nothing_in_it_that_can_change() {
        let of = |value: Value| is_hashable(&payload(&value));
        let list = || Value::List(vec![]);
        assert!(of(Value::Tuple(vec![
            1.into(),
            Value::Tuple(vec!["a".into()])
        ])));
        assert!(of(Value::Tuple(vec![Value::FrozenSet(vec![1.into()])])));
        assert!(!of(list()));
        assert!(!of(Value::Tuple(vec![1.into(), list()])));
        assert!(!of(Value::Tuple(vec![
            Value::Tuple(vec![Value::Set(vec![])]),
            1.into()
        ])));
        assert!(of(Value::Ext(ext::NDARRAY, Bytes::from_static(&[2, 0, 0]))));
        assert!(!of(Value::Ext(
            ext::NDARRAY,
            Bytes::from_static(&[0, 0, 0])
        )));
        assert!(!of(Value::FrozenSet(vec![Value::Tuple(vec![list()])])));
        let whole = payload(&Value::Tuple(vec![1.into(), "text".into()]));
        assert!(!is_hashable(&whole[..whole.len() - 1]), "it is cut");
    }

    #[test]
    fn equal_numbers_are_one_element_and_others_are_not() {
        let of = |value: Value| match Identity::of(&payload(&value)) {
            Identity::Number(number) => Ok(number),
            Identity::Payload(payload) => Err(payload.to_vec()),
        };
        assert_eq!(of(1.into()), of(1.0.into()));
        assert_eq!(of(1.into()), of(true.into()));
        assert_eq!(of(0.into()), of((-0.0).into()));
        assert_ne!(of(1.into()), of(1.5.into()));
        assert_ne!(of(1.into()), of("1".into()));
        assert_ne!(of(0.into()), of(Value::None));
        assert_ne!(of(f64::NAN.into()), of(0.into()));
        assert_ne!(of(f64::INFINITY.into()), of(i64::MAX.into()));
    }
}
