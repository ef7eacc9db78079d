//! Objects of registered classes, for programs that have no classes: a name and a value.

use bytes::Bytes;
use rmp::decode as read;

use super::{Value, ValueError, check, decode, ext, to_payload};
use crate::limits::CLASS_NAME_BYTES_MAX;

/// Name of the class and content of an object; none for any other value, and for one that is malformed.
///
/// # Examples
/// ```
/// use objsync_proto::value::{self, Value};
///
/// let item = value::object("shop.Item", &Value::Dict(vec![("price".into(), 3.into())]))?;
/// assert_eq!(value::object_parts(&item).unwrap().0, "shop.Item");
/// assert_eq!(value::object_parts(&3.into()), None);
/// # Ok::<(), value::ValueError>(())
/// ```
#[must_use]
pub fn object_parts(value: &Value) -> Option<(String, Value)> {
    let Value::Ext(ext::OBJECT, body) = value else {
        return None;
    };
    let mut rest = &body[..];
    let length = read::read_str_len(&mut rest).ok()? as usize;
    let (name, content) = rest.split_at_checked(length)?;
    if length > CLASS_NAME_BYTES_MAX {
        return None;
    }
    let name = std::str::from_utf8(name).ok()?;
    // Objects within it count too: who walks through them all goes no deeper than a value can be.
    check(content).ok()?;
    Some((name.to_owned(), decode(content).ok()?))
}

/// The object of a class with this name; what its content is, the program that has the class knows.
///
/// # Errors
/// [`ValueError::Malformed`] for a name of no bytes or more than [`CLASS_NAME_BYTES_MAX`], and what
/// [`to_payload`] says of the content.
pub fn object(name: &str, content: &Value) -> Result<Value, ValueError> {
    if name.is_empty() || name.len() > CLASS_NAME_BYTES_MAX {
        return Err(ValueError::Malformed {
            offset: 0,
            reason: "the name of a class is empty or too long",
        });
    }
    let body = [to_payload(name)?, to_payload(content)?].concat();
    Ok(Value::Ext(ext::OBJECT, Bytes::from(body)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::VALUE_DEPTH_MAX;

    #[test]
    fn object_comes_apart_into_what_it_was_made_of() {
        let inner = object("b", &Value::None).unwrap();
        let outer = object("a", &Value::Tuple(vec![inner.clone()])).unwrap();
        let parts = object_parts(&outer).unwrap();
        assert_eq!(parts, ("a".to_owned(), Value::Tuple(vec![inner])));
        assert!(object("", &Value::None).is_err());
        assert!(object(&"n".repeat(CLASS_NAME_BYTES_MAX + 1), &Value::None).is_err());
        assert!(object(&"n".repeat(CLASS_NAME_BYTES_MAX), &Value::None).is_ok());
    }

    #[test]
    fn what_is_malformed_or_too_deep_has_no_parts() {
        let of = |body: &[u8]| object_parts(&Value::Ext(ext::OBJECT, body.to_vec().into()));
        for body in [
            &b""[..],
            b"\x01",
            b"\xa2a",
            b"\xa1a",
            b"\xa1\xff\xc0",
            b"\xa1a\xc0\xc0",
        ] {
            assert_eq!(of(body), None, "{body:?}");
        }
        let mut body = b"\xa1a\xc0".to_vec();
        for _ in 0..VALUE_DEPTH_MAX {
            assert!(of(&body).is_some());
            let mut next = b"\xa1a".to_vec();
            let length = u32::try_from(body.len()).unwrap();
            rmp::encode::write_ext_meta(&mut next, length, ext::OBJECT).unwrap();
            next.extend_from_slice(&body);
            body = next;
        }
        assert!(
            of(&body).is_some(),
            "its content is as deep as a value can be"
        );
        let mut next = b"\xa1a".to_vec();
        let length = u32::try_from(body.len()).unwrap();
        rmp::encode::write_ext_meta(&mut next, length, ext::OBJECT).unwrap();
        next.extend_from_slice(&body);
        assert_eq!(of(&next), None);
    }
}
