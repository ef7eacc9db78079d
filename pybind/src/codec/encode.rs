//! Values: from a Python object straight to its MessagePack payload.
//!
//! Types are told apart by identity: a subclass is not silently stored as its base. What the
//! payload looks like is `docs/format.md` "Values".

use objsync::PAYLOAD_BYTES_MAX;
use objsync::limits::VALUE_DEPTH_MAX;
use objsync::value::ext;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyComplex, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet,
    PyString, PyTuple, PyType,
};

use super::array::{self, Taken};
use super::fault::Fault;
use super::{class, moment, types::ValueTypes};

pub(super) type Encoded = Result<(), Box<Fault>>;

/// Payload bytes that most values fit into.
const PAYLOAD_BYTES_USUAL: usize = 256;
/// Bytes before which an encoded ext payload is put: type and the longest length.
const EXT_HEADER_BYTES_MAX: usize = 6;

/// The payload of a Python object.
pub(crate) fn encode(object: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let mut out = Vec::with_capacity(PAYLOAD_BYTES_USUAL);
    let done = write_value(&mut out, object, 0).and_then(|()| check_size(&out));
    match done {
        Ok(()) => Ok(out),
        Err(fault) => Err(fault.raise(object.py())),
    }
}

fn check_size(out: &[u8]) -> Encoded {
    if out.len() <= PAYLOAD_BYTES_MAX {
        return Ok(());
    }
    Err(Fault::invalid(format!(
        "is {} bytes when encoded; the limit is {PAYLOAD_BYTES_MAX} bytes: use one key per item",
        out.len()
    )))
}

pub(super) fn write_value(out: &mut Vec<u8>, object: &Bound<'_, PyAny>, depth: usize) -> Encoded {
    if let Ok(text) = object.cast_exact::<PyString>() {
        write_str(out, text)
    } else if let Ok(number) = object.cast_exact::<PyInt>() {
        write_int(out, number)
    } else if let Ok(dict) = object.cast_exact::<PyDict>() {
        write_dict(out, dict, deeper(depth)?)
    } else if let Ok(list) = object.cast_exact::<PyList>() {
        write_list(out, list, deeper(depth)?)
    } else if let Ok(number) = object.cast_exact::<PyFloat>() {
        push_float(out, number.value());
        Ok(())
    } else if object.is_none() {
        out.push(0xc0);
        Ok(())
    } else if let Ok(truth) = object.cast_exact::<PyBool>() {
        out.push(if truth.is_true() { 0xc3 } else { 0xc2 });
        Ok(())
    } else if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        write_bytes(out, bytes.as_bytes())
    } else if let Ok(tuple) = object.cast_exact::<PyTuple>() {
        let depth = deeper(depth)?;
        write_ext(out, ext::TUPLE, |out| write_tuple(out, tuple, depth))
    } else {
        write_rare(out, object, depth)
    }
}

fn write_rare(out: &mut Vec<u8>, object: &Bound<'_, PyAny>, depth: usize) -> Encoded {
    if object.cast_exact::<PySet>().is_ok() {
        let depth = deeper(depth)?;
        return write_ext(out, ext::SET, |out| write_set(out, object, depth));
    }
    if object.cast_exact::<PyFrozenSet>().is_ok() {
        let depth = deeper(depth)?;
        return write_ext(out, ext::FROZENSET, |out| write_set(out, object, depth));
    }
    if let Ok(bytes) = object.cast_exact::<PyByteArray>() {
        return write_bytes(out, &bytes.to_vec());
    }
    if let Ok(number) = object.cast_exact::<PyComplex>() {
        let (real, imaginary) = complex_parts(number)?;
        return write_ext(out, ext::COMPLEX, |out| {
            out.extend_from_slice(&real.to_be_bytes());
            out.extend_from_slice(&imaginary.to_be_bytes());
            Ok(())
        });
    }
    if let Some(plain) = crate::live::plain_of(object)? {
        return write_value(out, &plain, depth);
    }
    let py = object.py();
    let types = ValueTypes::get(py)?;
    let class = object.get_type();
    let is = |other: &Py<PyType>| class.is(other);
    if is(&types.datetime) {
        let body = moment::datetime_body(object, types)?;
        write_ext_bytes(out, ext::DATETIME, &body)
    } else if is(&types.date) {
        write_ext_bytes(out, ext::DATE, &moment::date_body(object)?)
    } else if is(&types.time) {
        write_ext_bytes(out, ext::TIME, &moment::time_body(object, types)?)
    } else if is(&types.timedelta) {
        write_ext_bytes(out, ext::TIMEDELTA, &moment::timedelta_body(object)?)
    } else if is(&types.uuid) {
        let bytes = object.getattr(intern!(py, "bytes"))?;
        write_ext_bytes(
            out,
            ext::UUID,
            bytes.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes(),
        )
    } else if is(&types.decimal) {
        let text = object.str()?;
        write_ext_bytes(out, ext::DECIMAL, text.to_str()?.as_bytes())
    } else {
        write_of_others(out, object, depth)
    }
}

/// Arrays of numpy and objects of registered classes.
fn write_of_others(out: &mut Vec<u8>, object: &Bound<'_, PyAny>, depth: usize) -> Encoded {
    let class = object.get_type();
    if let Some(taker) = class::taker(&class)? {
        class::write(out, object, &taker, depth)
    } else if array::is_of_numpy(&class) {
        Taken::new(object)?.write(out)
    } else {
        Err(Fault::unknown_type(object))
    }
}

pub(super) fn deeper(depth: usize) -> Result<usize, Box<Fault>> {
    if depth < VALUE_DEPTH_MAX {
        return Ok(depth + 1);
    }
    Err(Fault::invalid(format!(
        "is nested too deep, or contains itself; the limit is {VALUE_DEPTH_MAX} levels"
    )))
}

pub(super) fn text_of<'a>(text: &'a Bound<'_, PyString>) -> Result<&'a str, Box<Fault>> {
    text.to_str().map_err(|_| {
        Fault::invalid(
            "has half of a surrogate pair, which is no character: decode with errors='replace'",
        )
    })
}

pub(super) fn write_str(out: &mut Vec<u8>, text: &Bound<'_, PyString>) -> Encoded {
    let text = text_of(text)?;
    let count = length(text.len())?;
    match count {
        0..=31 => out.push(0xa0 | low_byte(count)),
        32..=0xff => out.extend_from_slice(&[0xd9, low_byte(count)]),
        _ => push_length(out, count, 0xda, 0xdb),
    }
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) -> Encoded {
    let count = length(bytes.len())?;
    match count {
        0..=0xff => out.extend_from_slice(&[0xc4, low_byte(count)]),
        _ => push_length(out, count, 0xc5, 0xc6),
    }
    out.extend_from_slice(bytes);
    Ok(())
}

fn write_int(out: &mut Vec<u8>, number: &Bound<'_, PyInt>) -> Encoded {
    if let Ok(small) = number.extract::<i64>() {
        rmp::encode::write_sint(out, small).map_err(|error| Fault::invalid(error.to_string()))?;
        return Ok(());
    }
    if let Ok(large) = number.extract::<u64>() {
        out.push(0xcf);
        out.extend_from_slice(&large.to_be_bytes());
        return Ok(());
    }
    let (negative, magnitude) = big_parts(number)?;
    write_ext(out, ext::BIG_INT, |out| {
        out.push(u8::from(negative));
        out.extend_from_slice(magnitude.as_bytes());
        Ok(())
    })
}

/// The sign of an int of any size, and its magnitude, big-endian.
pub(super) fn big_parts<'py>(number: &Bound<'py, PyInt>) -> PyResult<(bool, Bound<'py, PyBytes>)> {
    let py = number.py();
    let negative = number.lt(0)?;
    let absolute = if negative {
        number.neg()?
    } else {
        number.clone().into_any()
    };
    let bits: usize = absolute
        .call_method0(intern!(py, "bit_length"))?
        .extract()?;
    let bytes = absolute.call_method1(intern!(py, "to_bytes"), (bits.div_ceil(8), "big"))?;
    Ok((negative, bytes.cast_into::<PyBytes>()?))
}

fn complex_parts(number: &Bound<'_, PyComplex>) -> PyResult<(f64, f64)> {
    let py = number.py();
    let part = |name| number.getattr(name)?.extract::<f64>();
    Ok((part(intern!(py, "real"))?, part(intern!(py, "imag"))?))
}

fn push_float(out: &mut Vec<u8>, number: f64) {
    out.push(0xcb);
    out.extend_from_slice(&number.to_be_bytes());
}

fn write_list(out: &mut Vec<u8>, list: &Bound<'_, PyList>, depth: usize) -> Encoded {
    let count = list.len();
    push_array_length(out, length(count)?);
    // By index, not by iterator: encoding an element can run Python code that changes the list.
    for index in 0..count {
        let element = list.get_item(index)?;
        write_value(out, &element, depth).map_err(|fault| fault.at_index(index))?;
    }
    check_unchanged(list.len(), count)
}

fn write_tuple(out: &mut Vec<u8>, tuple: &Bound<'_, PyTuple>, depth: usize) -> Encoded {
    push_array_length(out, length(tuple.len())?);
    for (index, element) in tuple.iter_borrowed().enumerate() {
        write_value(out, &element, depth).map_err(|fault| fault.at_index(index))?;
    }
    Ok(())
}

fn write_dict(out: &mut Vec<u8>, dict: &Bound<'_, PyDict>, depth: usize) -> Encoded {
    let count = dict.len();
    push_dict_length(out, length(count)?);
    // PyO3's iterator panics when the dict changes under it: look before each step.
    let mut entries = dict.iter();
    for place in 0..count {
        check_unchanged(dict.len(), count)?;
        let Some((key, value)) = entries.next() else {
            return check_unchanged(place, count);
        };
        write_value(out, &key, depth).map_err(|fault| fault.at_nth(place))?;
        write_value(out, &value, depth).map_err(|fault| fault.at_key(&key))?;
    }
    check_unchanged(dict.len(), count)
}

/// Elements in the order of their bytes, so that equal sets are equal payloads.
fn write_set(out: &mut Vec<u8>, set: &Bound<'_, PyAny>, depth: usize) -> Encoded {
    let mut elements = Vec::with_capacity(set.len()?);
    for (place, element) in set.try_iter()?.enumerate() {
        let mut bytes = Vec::new();
        write_value(&mut bytes, &element?, depth).map_err(|fault| fault.at_nth(place))?;
        elements.push(bytes);
    }
    elements.sort_unstable();
    push_array_length(out, length(elements.len())?);
    for element in elements {
        out.extend_from_slice(&element);
    }
    Ok(())
}

fn check_unchanged(now: usize, before: usize) -> Encoded {
    if now == before {
        Ok(())
    } else {
        Err(Fault::invalid("changed size while it was stored"))
    }
}

fn write_ext_bytes(out: &mut Vec<u8>, kind: i8, body: &[u8]) -> Encoded {
    write_ext(out, kind, |out| {
        out.extend_from_slice(body);
        Ok(())
    })
}

/// Writes the body first, then the header before it, whose length depends on that of the body.
pub(super) fn write_ext(
    out: &mut Vec<u8>,
    kind: i8,
    write_body: impl FnOnce(&mut Vec<u8>) -> Encoded,
) -> Encoded {
    let start = out.len();
    write_body(out)?;
    let mut header = Vec::with_capacity(EXT_HEADER_BYTES_MAX);
    rmp::encode::write_ext_meta(&mut header, length(out.len() - start)?, kind)
        .map_err(|error| Fault::invalid(error.to_string()))?;
    out.splice(start..start, header);
    Ok(())
}

fn push_array_length(out: &mut Vec<u8>, count: u32) {
    match count {
        0..=15 => out.push(0x90 | low_byte(count)),
        _ => push_length(out, count, 0xdc, 0xdd),
    }
}

pub(super) fn push_dict_length(out: &mut Vec<u8>, count: u32) {
    match count {
        0..=15 => out.push(0x80 | low_byte(count)),
        _ => push_length(out, count, 0xde, 0xdf),
    }
}

fn push_length(out: &mut Vec<u8>, count: u32, marker_16: u8, marker_32: u8) {
    if let Ok(short) = u16::try_from(count) {
        out.push(marker_16);
        out.extend_from_slice(&short.to_be_bytes());
    } else {
        out.push(marker_32);
        out.extend_from_slice(&count.to_be_bytes());
    }
}

/// Lengths over the limit are refused here, before their bytes are written.
pub(super) fn length(count: usize) -> Result<u32, Box<Fault>> {
    match u32::try_from(count) {
        Ok(fits) if count <= PAYLOAD_BYTES_MAX => Ok(fits),
        _ => Err(Fault::invalid(format!(
            "has {count} items or bytes; the limit is {PAYLOAD_BYTES_MAX} bytes: use one key per item"
        ))),
    }
}

fn low_byte(count: u32) -> u8 {
    count.to_le_bytes()[0]
}
