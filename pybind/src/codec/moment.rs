//! Dates and times: from Python's classes to the bodies of their extensions and back.
//!
//! An aware datetime keeps its wall clock, its offset and, when its zone is a `ZoneInfo` with a
//! name, that name. Other zones become a fixed offset; so does a name that this machine lacks.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::civil::{DAY_MICROS, EPOCH_ORDINAL, civil_of_days, clock_of_micros};
use super::decode::Malformed;
use super::types::ValueTypes;
use crate::errors;

type Object<'py> = Bound<'py, PyAny>;

/// The first byte after the clock: which zone follows.
mod zone {
    pub(super) const NAIVE: u8 = 0;
    pub(super) const OFFSET: u8 = 1;
    pub(super) const NAMED: u8 = 2;
    pub(super) const FOLD: u8 = 0x80;
}

/// Microseconds of the wall clock since 1970, big-endian, then the zone.
pub(super) fn datetime_body(object: &Object<'_>, types: &ValueTypes) -> PyResult<Vec<u8>> {
    let mut body = wall_micros(object)?.to_be_bytes().to_vec();
    push_zone(&mut body, object, types)?;
    Ok(body)
}

/// Microseconds since midnight, big-endian, then the zone.
pub(super) fn time_body(object: &Object<'_>, types: &ValueTypes) -> PyResult<Vec<u8>> {
    let mut body = clock_micros(object)?.to_be_bytes().to_vec();
    push_zone(&mut body, object, types)?;
    Ok(body)
}

pub(super) fn date_body(object: &Object<'_>) -> PyResult<[u8; 4]> {
    let days = ordinal(object)? - EPOCH_ORDINAL;
    Ok(small(days)?.to_be_bytes())
}

pub(super) fn timedelta_body(object: &Object<'_>) -> PyResult<Vec<u8>> {
    let py = object.py();
    let names = [
        intern!(py, "days"),
        intern!(py, "seconds"),
        intern!(py, "microseconds"),
    ];
    let mut body = Vec::with_capacity(12);
    for name in names {
        body.extend_from_slice(&object.getattr(name)?.extract::<i32>()?.to_be_bytes());
    }
    Ok(body)
}

fn ordinal(object: &Object<'_>) -> PyResult<i64> {
    object
        .call_method0(intern!(object.py(), "toordinal"))?
        .extract()
}

fn wall_micros(object: &Object<'_>) -> PyResult<i64> {
    Ok((ordinal(object)? - EPOCH_ORDINAL) * DAY_MICROS + clock_micros(object)?)
}

fn clock_micros(object: &Object<'_>) -> PyResult<i64> {
    let py = object.py();
    let field = |name: &Bound<'_, PyString>| object.getattr(name)?.extract::<i64>();
    let minutes = field(intern!(py, "hour"))? * 60 + field(intern!(py, "minute"))?;
    let seconds = minutes * 60 + field(intern!(py, "second"))?;
    Ok(seconds * 1_000_000 + field(intern!(py, "microsecond"))?)
}

/// Zone kind and fold in one byte, then the offset in microseconds, then the zone's name.
fn push_zone(body: &mut Vec<u8>, object: &Object<'_>, types: &ValueTypes) -> PyResult<()> {
    let py = object.py();
    let fold: u8 = object.getattr(intern!(py, "fold"))?.extract()?;
    let fold = if fold == 1 { zone::FOLD } else { 0 };
    let tzinfo = object.getattr(intern!(py, "tzinfo"))?;
    if tzinfo.is_none() {
        body.push(zone::NAIVE | fold);
        return Ok(());
    }
    let offset = offset_micros(object)?;
    let name = if tzinfo.get_type().is(&types.zone_info) {
        tzinfo
            .getattr(intern!(py, "key"))?
            .extract::<Option<String>>()?
    } else {
        None
    };
    if name.is_none() && offset.is_none() {
        let message = format!("{} has a tzinfo without an offset", object.repr()?);
        return Err(errors::invalid(py, message));
    }
    body.push(
        if name.is_some() {
            zone::NAMED
        } else {
            zone::OFFSET
        } | fold,
    );
    body.extend_from_slice(&offset.unwrap_or(0).to_be_bytes());
    body.extend_from_slice(name.unwrap_or_default().as_bytes());
    Ok(())
}

fn offset_micros(object: &Object<'_>) -> PyResult<Option<i64>> {
    let py = object.py();
    let offset = object.call_method0(intern!(py, "utcoffset"))?;
    if offset.is_none() {
        return Ok(None);
    }
    let days: i64 = offset.getattr(intern!(py, "days"))?.extract()?;
    let seconds: i64 = offset.getattr(intern!(py, "seconds"))?.extract()?;
    let micros: i64 = offset.getattr(intern!(py, "microseconds"))?.extract()?;
    Ok(Some(days * DAY_MICROS + seconds * 1_000_000 + micros))
}

fn small(number: i64) -> PyResult<i32> {
    i32::try_from(number).map_err(PyErr::from)
}

/// A datetime as a key: microseconds since 1970, as UTC if it is aware, and whether it is.
pub(super) fn key_micros(object: &Object<'_>) -> PyResult<(i64, bool)> {
    let micros = wall_micros(object)?;
    let Some(offset) = offset_micros(object)? else {
        return Ok((micros, false));
    };
    let moment = micros - offset;
    if civil_of_days(moment.div_euclid(DAY_MICROS)).is_none() {
        let message = format!(
            "key {}: as UTC it is outside of the years 1 to 9999",
            object.repr()?
        );
        return Err(errors::invalid(object.py(), message));
    }
    Ok((moment, true))
}

/// The datetime of a key; an aware one is UTC.
pub(super) fn datetime_of_key(py: Python<'_>, micros: i64, aware: bool) -> PyResult<Object<'_>> {
    let types = ValueTypes::get(py)?;
    let utc = aware.then(|| types.utc.bind(py).clone());
    match datetime(py, micros, utc, false) {
        Ok(object) => Ok(object),
        Err(Malformed::Raised(error)) => Err(error),
        Err(Malformed::At(reason)) => Err(errors::corrupt(py, format!("stored key: {reason}"))),
    }
}

pub(super) fn read_datetime<'py>(py: Python<'py>, body: &[u8]) -> Result<Object<'py>, Malformed> {
    let (micros, tzinfo, fold) = read_clock(py, body)?;
    datetime(py, micros, tzinfo, fold)
}

fn datetime<'py>(
    py: Python<'py>,
    micros: i64,
    tzinfo: Option<Object<'py>>,
    fold: bool,
) -> Result<Object<'py>, Malformed> {
    let (year, month, day) = civil_of_days(micros.div_euclid(DAY_MICROS))
        .ok_or(Malformed::At("a datetime outside of the years 1 to 9999"))?;
    let (hour, minute, second, micro) = clock_of_micros(micros.rem_euclid(DAY_MICROS));
    let class = ValueTypes::get(py)?.datetime.bind(py);
    let arguments = (year, month, day, hour, minute, second, micro, tzinfo);
    Ok(class.call(arguments, fold_argument(py, fold)?.as_ref())?)
}

pub(super) fn read_time<'py>(py: Python<'py>, body: &[u8]) -> Result<Object<'py>, Malformed> {
    let (micros, tzinfo, fold) = read_clock(py, body)?;
    if !(0..DAY_MICROS).contains(&micros) {
        return Err(Malformed::At("a time outside of a day"));
    }
    let (hour, minute, second, micro) = clock_of_micros(micros);
    let class = ValueTypes::get(py)?.time.bind(py);
    Ok(class.call(
        (hour, minute, second, micro, tzinfo),
        fold_argument(py, fold)?.as_ref(),
    )?)
}

pub(super) fn read_date<'py>(py: Python<'py>, body: &[u8]) -> Result<Object<'py>, Malformed> {
    let days: [u8; 4] = body.try_into().map_err(|_| Malformed::At("no date"))?;
    let (year, month, day) = civil_of_days(i32::from_be_bytes(days).into())
        .ok_or(Malformed::At("a date outside of the years 1 to 9999"))?;
    Ok(ValueTypes::get(py)?
        .date
        .bind(py)
        .call1((year, month, day))?)
}

pub(super) fn read_timedelta<'py>(py: Python<'py>, body: &[u8]) -> Result<Object<'py>, Malformed> {
    let ([a, b, c], []) = body.as_chunks::<4>() else {
        return Err(Malformed::At("no timedelta"));
    };
    let parts = [a, b, c].map(|part| i32::from_be_bytes(*part));
    Ok(ValueTypes::get(py)?
        .timedelta
        .bind(py)
        .call1((parts[0], parts[1], parts[2]))?)
}

fn fold_argument(py: Python<'_>, fold: bool) -> PyResult<Option<Bound<'_, PyDict>>> {
    if !fold {
        return Ok(None);
    }
    let arguments = PyDict::new(py);
    arguments.set_item(intern!(py, "fold"), 1)?;
    Ok(Some(arguments))
}

/// The clock, the zone and the fold of a body.
fn read_clock<'py>(
    py: Python<'py>,
    body: &[u8],
) -> Result<(i64, Option<Object<'py>>, bool), Malformed> {
    let cut = Malformed::At("a date or time is cut");
    let Some((micros, [kind, rest @ ..])) = body.split_first_chunk::<8>() else {
        return Err(cut);
    };
    let fold = kind & zone::FOLD != 0;
    let tzinfo = match kind & !zone::FOLD {
        zone::NAIVE if rest.is_empty() => None,
        zone::OFFSET | zone::NAMED => {
            let (offset, name) = rest.split_first_chunk::<8>().ok_or(cut)?;
            let name = std::str::from_utf8(name).map_err(|_| Malformed::At("no name of a zone"))?;
            Some(read_zone(py, i64::from_be_bytes(*offset), name)?)
        }
        _ => return Err(Malformed::At("a zone of no known kind")),
    };
    Ok((i64::from_be_bytes(*micros), tzinfo, fold))
}

fn read_zone<'py>(py: Python<'py>, offset: i64, name: &str) -> Result<Object<'py>, Malformed> {
    let types = ValueTypes::get(py)?;
    if !name.is_empty()
        && let Ok(zone) = types.zone_info.bind(py).call1((name,))
    {
        return Ok(zone);
    }
    if offset == 0 {
        return Ok(types.utc.bind(py).clone());
    }
    if offset.abs() >= DAY_MICROS {
        return Err(Malformed::At("an offset of more than a day"));
    }
    let offset = types
        .timedelta
        .bind(py)
        .call1((0, offset / 1_000_000, offset % 1_000_000))?;
    Ok(types.timezone.bind(py).call1((offset,))?)
}
