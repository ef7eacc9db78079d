//! Where the raw content of a payload begins: what large values are cut from.

use rmp::Marker;
use rmp::decode as read;

use super::inspect::skip;
use super::{Value, ext};

/// Bytes before the content of bytes or a str, at most.
const CONTENT_HEADER_BYTES_MAX: usize = 5;
/// Bytes of an array's form, its count of dimensions, and its count of zero bytes.
const ARRAY_FIXED_BYTES: usize = 3;

/// Where the raw content of bytes, a str or an array begins in its payload; none for any other type,
/// and for a payload that does not end with its content.
///
/// Before the content of an array stand shape and dtype, so that equal elements are equal content.
#[must_use]
pub fn content_start(payload: &[u8]) -> Option<usize> {
    let mut rest = payload;
    let length = match Marker::from_u8(*payload.first()?) {
        Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
            read::read_str_len(&mut rest).ok()?
        }
        Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => read::read_bin_len(&mut rest).ok()?,
        Marker::Ext8 | Marker::Ext16 | Marker::Ext32 => {
            let meta = read::read_ext_meta(&mut rest).ok()?;
            let elements = array_elements(rest).filter(|_| meta.typeid == ext::NDARRAY)?;
            let is_whole = rest.len() == meta.size as usize;
            return is_whole.then(|| payload.len() - elements.len());
        }
        _ => return None,
    };
    (rest.len() == length as usize).then(|| payload.len() - rest.len())
}

/// The payload of bytes or a str of any length that a payload can state, so also of what only lies in
/// chunks; none for any other value.
#[must_use]
pub fn content_payload(value: &Value) -> Option<Vec<u8>> {
    let content = match value {
        Value::Bytes(bytes) => &bytes[..],
        Value::Str(text) => text.as_bytes(),
        _ => return None,
    };
    let length = u32::try_from(content.len()).ok()?;
    let mut payload = Vec::with_capacity(CONTENT_HEADER_BYTES_MAX + content.len());
    let written = match value {
        Value::Bytes(_) => rmp::encode::write_bin_len(&mut payload, length),
        _ => rmp::encode::write_str_len(&mut payload, length),
    };
    written.ok()?;
    payload.extend_from_slice(content);
    Some(payload)
}

/// The elements in the body of an array: behind form, dimensions, dtype and zero bytes.
fn array_elements(body: &[u8]) -> Option<&[u8]> {
    let [_form, dimensions, zeros, ..] = *body else {
        return None;
    };
    let mut rest = body.get(ARRAY_FIXED_BYTES + usize::from(dimensions) * 8..)?;
    skip(&mut rest, 0).ok()?;
    rest.get(usize::from(zeros)..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::encode;

    #[test]
    fn content_of_bytes_and_text_begins_behind_their_length() {
        for count in [0_usize, 31, 32, 255, 256, 65_535, 65_536] {
            let bytes = encode(&Value::Bytes(vec![7; count].into())).unwrap();
            assert_eq!(bytes.len() - content_start(&bytes).unwrap(), count);
            let text = encode(&Value::Str("x".repeat(count))).unwrap();
            assert_eq!(text.len() - content_start(&text).unwrap(), count);
            let again = content_payload(&Value::Str("x".repeat(count)));
            assert_eq!(again.unwrap(), text);
        }
    }

    #[test]
    fn content_of_an_array_begins_behind_shape_dtype_and_zeros() {
        // One dimension of three, dtype "u1", two zero bytes.
        let mut body = vec![0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0xA2, b'u', b'1', 0, 0];
        body.extend_from_slice(&[1, 2, 3]);
        let mut payload = Vec::new();
        let length = u32::try_from(body.len()).unwrap();
        rmp::encode::write_ext_meta(&mut payload, length, ext::NDARRAY).unwrap();
        payload.extend_from_slice(&body);
        assert_eq!(payload[content_start(&payload).unwrap()..], [1, 2, 3]);
        for cut in 1..payload.len() {
            assert_eq!(content_start(&payload[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn nothing_else_has_content() {
        for value in [Value::None, Value::Int(7), Value::List(vec![Value::None])] {
            assert_eq!(content_start(&encode(&value).unwrap()), None);
        }
        assert_eq!(content_start(&[]), None);
        assert_eq!(content_start(&[0xC4, 2, 7]), None);
        assert_eq!(content_start(&[0xC4, 2, 7, 7, 7]), None);
    }
}
