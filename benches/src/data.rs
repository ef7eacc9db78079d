//! Keys and values that are measured with.

use objsync::{Bytes, key};
use serde::Serialize;

use crate::Result;

/// A record of a user: some 150 bytes.
#[derive(Serialize)]
struct Record {
    id: u32,
    name: String,
    tags: [String; 3],
    score: f64,
    active: bool,
    payload: String,
}

/// Encoded keys `prefix:00000000` and on, in order.
pub(crate) fn keys(prefix: &str, count: u32) -> Result<Vec<Bytes>> {
    (0..count)
        .map(|number| {
            let key = key::Key::Str(format!("{prefix}:{number:08}"));
            Ok(key::encode(&key)?.into_bytes())
        })
        .collect()
}

/// The same keys in an order that repeats from run to run and follows no other.
pub(crate) fn shuffled(keys: &[Bytes]) -> Vec<Bytes> {
    let count = keys.len() as u64;
    // A step without a factor in common with the count visits each once.
    let step = (count * 5 / 8..)
        .find(|step| gcd(*step, count) == 1)
        .unwrap_or(1);
    (0..count)
        .map(|at| keys[usize::try_from(at * step % count).expect("it is below a length")].clone())
        .collect()
}

const fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The payload of a record.
pub(crate) fn record(number: u32) -> Result<Bytes> {
    let noise = u64::from(number).wrapping_mul(2_654_435_761);
    let record = Record {
        id: number,
        name: format!("user-{number}"),
        tags: ["alpha".into(), "beta".into(), (number % 97).to_string()],
        score: f64::from(number) * 0.5,
        active: number.is_multiple_of(2),
        payload: format!("{noise:016x}").repeat(4),
    };
    Ok(rmp_serde::to_vec_named(&record)?.into())
}

/// The payload of `bytes` bytes of text.
pub(crate) fn text(bytes: usize) -> Result<Bytes> {
    Ok(rmp_serde::to_vec_named(&"x".repeat(bytes))?.into())
}
