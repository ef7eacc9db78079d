//! Dates and times as Python has them, without a calendar: what is stored, and its bounds.

use super::ValueError;

/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;
/// 0001-01-01, in days from 1970-01-01.
const DAYS_MIN: i32 = -719_162;
/// 9999-12-31, in days from 1970-01-01.
const DAYS_MAX: i32 = 2_932_896;
/// Most days of a difference, either way.
const DELTA_DAYS_MAX: i32 = 999_999_999;
/// Seconds of a day.
const DAY_S: i32 = 86_400;

/// Which zone follows a clock in its encoding; the highest bit says "fold".
mod zone_kind {
    pub(super) const NAIVE: u8 = 0;
    pub(super) const OFFSET: u8 = 1;
    pub(super) const NAMED: u8 = 2;
    pub(super) const FOLD: u8 = 0x80;
}

/// What a clock was set to: its distance from UTC, and where that comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Zone {
    /// Microseconds ahead of UTC; less than a day either way.
    pub offset_us: i64,
    /// A name of the time zone database, such as `Europe/Berlin`.
    pub name: Option<String>,
}

/// A date with a time, as a clock on a wall shows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DateTime {
    /// Microseconds on that clock from 1970-01-01T00:00:00 on it; years 1 to 9999.
    pub micros: i64,
    /// Where the clock hangs; none for a naive one.
    pub zone: Option<Zone>,
    /// The second of two equal readings, where a clock was set back.
    pub fold: bool,
}

/// A date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Date {
    /// Days from 1970-01-01; years 1 to 9999.
    pub days: i32,
}

/// A time of day.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Time {
    /// Microseconds from midnight; less than a day.
    pub micros: i64,
    /// As in [`DateTime`].
    pub zone: Option<Zone>,
    /// As in [`DateTime`].
    pub fold: bool,
}

/// A difference of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimeDelta {
    /// Whole days, may be negative; up to 999,999,999 either way.
    pub days: i32,
    /// 0 to 86,399.
    pub seconds: i32,
    /// 0 to 999,999.
    pub micros: i32,
}

fn malformed(reason: &'static str) -> ValueError {
    ValueError::Malformed { offset: 0, reason }
}

impl DateTime {
    /// The moment in microseconds from 1970-01-01T00:00:00 UTC; none for a naive one.
    #[must_use]
    pub fn utc_micros(&self) -> Option<i64> {
        self.zone.as_ref().map(|zone| self.micros - zone.offset_us)
    }

    pub(super) fn to_body(&self) -> Result<Vec<u8>, ValueError> {
        let days = self.micros.div_euclid(DAY_US);
        if days < DAYS_MIN.into() || days > DAYS_MAX.into() {
            return Err(malformed("a date outside of the years 1 to 9999"));
        }
        clock_body(self.micros, self.zone.as_ref(), self.fold)
    }

    pub(super) fn from_body(body: &[u8]) -> Result<Self, ValueError> {
        let (micros, zone, fold) = read_clock(body)?;
        let moment = Self { micros, zone, fold };
        moment.to_body().map(|_| moment)
    }
}

impl Time {
    pub(super) fn to_body(&self) -> Result<Vec<u8>, ValueError> {
        if !(0..DAY_US).contains(&self.micros) {
            return Err(malformed("a time outside of a day"));
        }
        clock_body(self.micros, self.zone.as_ref(), self.fold)
    }

    pub(super) fn from_body(body: &[u8]) -> Result<Self, ValueError> {
        let (micros, zone, fold) = read_clock(body)?;
        let time = Self { micros, zone, fold };
        time.to_body().map(|_| time)
    }
}

impl Date {
    pub(super) fn to_body(self) -> Result<[u8; 4], ValueError> {
        if (DAYS_MIN..=DAYS_MAX).contains(&self.days) {
            Ok(self.days.to_be_bytes())
        } else {
            Err(malformed("a date outside of the years 1 to 9999"))
        }
    }

    pub(super) fn from_body(body: &[u8]) -> Result<Self, ValueError> {
        let days = body
            .try_into()
            .map_err(|_| malformed("a date of another length"))?;
        let date = Self {
            days: i32::from_be_bytes(days),
        };
        date.to_body().map(|_| date)
    }
}

impl TimeDelta {
    pub(super) fn to_body(self) -> Result<[u8; 12], ValueError> {
        let days = (-DELTA_DAYS_MAX..=DELTA_DAYS_MAX).contains(&self.days);
        let rest = (0..DAY_S).contains(&self.seconds) && (0..1_000_000).contains(&self.micros);
        if !days || !rest {
            return Err(malformed("a difference of times out of its bounds"));
        }
        let mut body = [0; 12];
        for (place, part) in [self.days, self.seconds, self.micros]
            .into_iter()
            .enumerate()
        {
            body[4 * place..][..4].copy_from_slice(&part.to_be_bytes());
        }
        Ok(body)
    }

    pub(super) fn from_body(body: &[u8]) -> Result<Self, ValueError> {
        let (&[days, seconds, micros], []) = body.as_chunks::<4>() else {
            return Err(malformed("a difference of times of another length"));
        };
        let [days, seconds, micros] = [days, seconds, micros].map(i32::from_be_bytes);
        let delta = Self {
            days,
            seconds,
            micros,
        };
        delta.to_body().map(|_| delta)
    }
}

/// The clock, one byte for the kind of zone and the fold, then offset and name.
fn clock_body(micros: i64, zone: Option<&Zone>, fold: bool) -> Result<Vec<u8>, ValueError> {
    let mut body = micros.to_be_bytes().to_vec();
    let fold = if fold { zone_kind::FOLD } else { 0 };
    let Some(zone) = zone else {
        body.push(zone_kind::NAIVE | fold);
        return Ok(body);
    };
    if zone.offset_us.abs() >= DAY_US {
        return Err(malformed("an offset from UTC of a day or more"));
    }
    let kind = if zone.name.is_some() {
        zone_kind::NAMED
    } else {
        zone_kind::OFFSET
    };
    body.push(kind | fold);
    body.extend_from_slice(&zone.offset_us.to_be_bytes());
    body.extend_from_slice(zone.name.as_deref().unwrap_or_default().as_bytes());
    Ok(body)
}

fn read_clock(body: &[u8]) -> Result<(i64, Option<Zone>, bool), ValueError> {
    let cut = || malformed("a date or time is cut");
    let (micros, rest) = body.split_first_chunk::<8>().ok_or_else(cut)?;
    let (kind, rest) = rest.split_first().ok_or_else(cut)?;
    let zone = match kind & !zone_kind::FOLD {
        zone_kind::NAIVE if rest.is_empty() => None,
        kind @ (zone_kind::OFFSET | zone_kind::NAMED) => {
            let (offset, name) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
            let named = kind == zone_kind::NAMED;
            if !named && !name.is_empty() {
                return Err(malformed("bytes after the offset of a zone without a name"));
            }
            let name = std::str::from_utf8(name).map_err(|_| malformed("no name of a zone"))?;
            let offset_us = i64::from_be_bytes(*offset);
            if offset_us <= -DAY_US || offset_us >= DAY_US {
                return Err(malformed("an offset from UTC of a day or more"));
            }
            Some(Zone {
                offset_us,
                name: named.then(|| name.to_owned()),
            })
        }
        _ => return Err(malformed("a zone of no known kind")),
    };
    Ok((
        i64::from_be_bytes(*micros),
        zone,
        kind & zone_kind::FOLD != 0,
    ))
}
