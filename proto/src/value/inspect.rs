//! What can be told of a payload without decoding it.

use rmp::Marker;

use super::ext;

/// The payload of an integer.
#[must_use]
pub fn int_payload(number: i64) -> Vec<u8> {
    let mut payload = Vec::with_capacity(9);
    rmp::encode::write_sint(&mut payload, number).expect("memory takes every write");
    payload
}

/// What Python calls the type of a payload, by its first bytes.
#[must_use]
pub fn type_name(payload: &[u8]) -> &'static str {
    let Some(first) = payload.first() else {
        return "nothing";
    };
    match Marker::from_u8(*first) {
        Marker::Null => "None",
        Marker::True | Marker::False => "bool",
        Marker::FixPos(_) | Marker::FixNeg(_) => "int",
        Marker::U8 | Marker::U16 | Marker::U32 | Marker::U64 => "int",
        Marker::I8 | Marker::I16 | Marker::I32 | Marker::I64 => "int",
        Marker::F32 | Marker::F64 => "float",
        Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => "str",
        Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => "bytes",
        Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => "list",
        Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => "dict",
        Marker::Reserved => "nothing",
        _ => ext_name(payload),
    }
}

fn ext_name(payload: &[u8]) -> &'static str {
    let mut rest = payload;
    rmp::decode::read_ext_meta(&mut rest)
        .ok()
        .and_then(|meta| ext::name(meta.typeid))
        .unwrap_or("an unknown type")
}
