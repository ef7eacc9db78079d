//! How a handle is opened: from the dict of settings that a Python constructor makes.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use objsync::{
    Change, Chunking, Durability, Link, OfflineMode, Options, ReplicaMode, Target, limits,
};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::codec::{encode_key, prefix_range};
use crate::errors;
use crate::large::encode;
use crate::writes::pair_of;

/// Timeouts above this are as good as none.
const TIMEOUT_SECONDS_MAX: f64 = 1e9;

/// Reads the settings; a name that is not known is a fault of the caller in Python.
pub(crate) fn read(settings: &Bound<'_, PyDict>) -> PyResult<Options> {
    let py = settings.py();
    let mut options = Options::default();
    for (name, value) in settings.iter() {
        if value.is_none() {
            continue;
        }
        let name: String = name.extract()?;
        match name.as_str() {
            "namespace" => options.namespace = value.extract()?,
            "content" => options.content = Some(content(&value)?),
            "chunking" => options.chunking = parsed::<Chunking, _>(py, &value)?,
            "durability" => options.durability = Some(parsed::<Durability, _>(py, &value)?),
            "readonly" => options.readonly = value.extract()?,
            "compression" => options.compression = Some(level(&value)?),
            "dictionary" => options.dictionary = value.extract()?,
            "promote" => options.promote = value.extract()?,
            "replica" => options.replica = parsed::<ReplicaMode, _>(py, &value)?,
            "prefix" => options.range = Some(prefix_range(&value)?),
            "timeout" => options.timeout = timeout(&value)?,
            "offline" => options.offline = parsed::<OfflineMode, _>(py, &value)?,
            "link" => options.link = Some(link(py, &value.extract::<String>()?)?),
            _ => return Err(errors::invalid(py, format!("there is no setting {name:?}"))),
        }
    }
    Ok(options)
}

/// Where `NetworkObject` connects to.
pub(crate) fn target(py: Python<'_>, text: &str) -> PyResult<Target> {
    Target::parse(text).map_err(|error| errors::raise(py, &error))
}

/// The first address of a `host:port`.
pub(crate) fn listen_address(py: Python<'_>, text: &str) -> PyResult<SocketAddr> {
    let found = py.detach(|| text.to_socket_addrs().map(|mut all| all.next()));
    match found {
        Ok(Some(address)) => Ok(address),
        Ok(None) => Err(errors::invalid(
            py,
            format!("address {text:?}: no such host"),
        )),
        Err(error) => Err(errors::invalid(py, format!("address {text:?}: {error}"))),
    }
}

fn link(py: Python<'_>, text: &str) -> PyResult<Link> {
    Link::parse(text).map_err(|error| errors::raise(py, &error))
}

fn parsed<T, E>(py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<T>
where
    T: std::str::FromStr<Err = E>,
    E: std::fmt::Display,
{
    let text: String = value.extract()?;
    text.parse()
        .map_err(|error: E| errors::invalid(py, error.to_string()))
}

fn level(value: &Bound<'_, PyAny>) -> PyResult<i32> {
    let level: i32 = value.extract()?;
    let (least, most) = (limits::COMPRESSION_LEVEL_MIN, limits::COMPRESSION_LEVEL_MAX);
    if (least..=most).contains(&level) {
        return Ok(level);
    }
    let message = format!("compression_level {level}: it is {least} to {most}");
    Err(errors::invalid(value.py(), message))
}

fn timeout(value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds: f64 = value.extract()?;
    if seconds.is_nan() || seconds < 0.0 {
        let message = format!("timeout {seconds} s: it is 0 or more");
        return Err(errors::invalid(value.py(), message));
    }
    Ok(Duration::from_secs_f64(seconds.min(TIMEOUT_SECONDS_MAX)))
}

/// What a new dictionary holds: a dict, or pairs.
fn content(value: &Bound<'_, PyAny>) -> PyResult<Vec<Change>> {
    let mut changes = Vec::new();
    for pair in value.try_iter()? {
        let (key, value) = pair_of(&pair?)?;
        changes.push(put(&key, &value)?);
    }
    Ok(changes)
}

/// The change that puts a value.
pub(crate) fn put(key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<Change> {
    let encoded = encode(value).map_err(|error| errors::under_key(key, error))?;
    Ok(Change {
        key: encode_key(key)?.into(),
        value: Some(encoded.into()),
    })
}
