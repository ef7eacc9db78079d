//! Dates and times as text: ISO 8601, as Python's `isoformat` writes it.

use time::{Date, Month};

/// Microseconds of a day.
pub(crate) const DAY_US: i64 = 86_400_000_000;
/// 1970-01-01 as a Julian day.
const EPOCH_JULIAN_DAY: i32 = 2_440_588;

/// `2026-01-02`, from days since 1970.
pub(crate) fn date_text(days: i32) -> Option<String> {
    let date = Date::from_julian_day(days.checked_add(EPOCH_JULIAN_DAY)?).ok()?;
    let (year, month, day) = date.to_calendar_date();
    (1..=9999)
        .contains(&year)
        .then(|| format!("{year:04}-{:02}-{day:02}", u8::from(month)))
}

/// Days since 1970, from `2026-01-02`.
pub(crate) fn date_days(text: &str) -> Option<i32> {
    let (year, rest) = text.split_once('-')?;
    let (month, day) = rest.split_once('-')?;
    if [year.len(), month.len(), day.len()] != [4, 2, 2] {
        return None;
    }
    let month = Month::try_from(u8::try_from(digits(month)?).ok()?).ok()?;
    let year = i32::try_from(digits(year)?).ok()?;
    let date = Date::from_calendar_date(year, month, u8::try_from(digits(day)?).ok()?).ok()?;
    (year >= 1).then(|| date.to_julian_day() - EPOCH_JULIAN_DAY)
}

/// `2026-01-02T03:04:05.678000+00:00`, from milliseconds since 1970.
pub(crate) fn instant_text(time_ms: u64) -> Option<String> {
    let micros = i64::try_from(time_ms).ok()?.checked_mul(1000)?;
    let date = date_text(i32::try_from(micros / DAY_US).ok()?)?;
    Some(format!("{date}T{}+00:00", time_text(micros % DAY_US)))
}

/// `03:04:05` or `03:04:05.678901`, from microseconds since midnight.
pub(crate) fn time_text(micros: i64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let point = if fraction == 0 {
        String::new()
    } else {
        format!(".{fraction:06}")
    };
    format!("{hour:02}:{minute:02}:{second:02}{point}")
}

/// Microseconds since midnight, from `03:04`, `03:04:05` or `03:04:05.6`.
pub(crate) fn time_micros(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = whole.split(':');
    let mut next = |below: u32| match parts.next() {
        Some(part) if part.len() == 2 => digits(part).filter(|number| *number < below),
        _ => None,
    };
    let (hour, minute) = (next(24)?, next(60)?);
    let second = if whole.len() > 5 { next(60)? } else { 0 };
    if parts.next().is_some() || fraction.len() > 6 {
        return None;
    }
    let fraction = digits(&format!("{fraction:0<6}"))?;
    let seconds = i64::from(hour * 3600 + minute * 60 + second);
    Some(seconds * 1_000_000 + i64::from(fraction))
}

/// `+01:00`, with seconds and their fraction where they are not zero, from microseconds.
pub(crate) fn offset_text(micros: i64) -> String {
    let sign = if micros < 0 { '-' } else { '+' };
    let text = time_text(micros.abs());
    let short = if text.len() == 8 {
        text.strip_suffix(":00")
    } else {
        None
    };
    format!("{sign}{}", short.unwrap_or(&text))
}

/// Date, time and offset of a text such as `2026-01-02T03:04:05+01:00`: days since 1970, local
/// microseconds since midnight, microseconds ahead of UTC if it says so.
pub(crate) fn parts(text: &str) -> Option<(i32, i64, Option<i64>)> {
    let (date, rest) = text.split_once(['T', ' '])?;
    let days = date_days(date)?;
    let (time, offset) = split_offset(rest)?;
    Some((days, time_micros(time)?, offset))
}

/// A time and what stands behind it: `Z`, `+01:00` or nothing.
pub(crate) fn split_offset(text: &str) -> Option<(&str, Option<i64>)> {
    if let Some(time) = text.strip_suffix('Z') {
        return Some((time, Some(0)));
    }
    let Some(at) = text.find(['+', '-']) else {
        return Some((text, None));
    };
    let micros = time_micros(&text[at + 1..])?;
    let signed = if text[at..].starts_with('-') {
        -micros
    } else {
        micros
    };
    Some((&text[..at], Some(signed)))
}

fn digits(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_is_read_as_it_is_written_from_the_first_to_the_last() {
        for (days, text) in [
            (0, "1970-01-01"),
            (-719_162, "0001-01-01"),
            (2_932_896, "9999-12-31"),
            (59, "1970-03-01"),
        ] {
            assert_eq!(date_text(days).as_deref(), Some(text));
            assert_eq!(date_days(text), Some(days));
        }
        assert_eq!(date_text(-719_163), None, "there is no year 0");
        for text in [
            "",
            "2026-1-2",
            "2026-02-30",
            "2026-13-01",
            "0000-01-01",
            "+026-01-01",
        ] {
            assert_eq!(date_days(text), None, "{text}");
        }
    }

    #[test]
    fn time_has_a_fraction_only_when_it_has_one() {
        assert_eq!(time_text(0), "00:00:00");
        assert_eq!(time_text(DAY_US - 1), "23:59:59.999999");
        assert_eq!(time_micros("23:59:59.999999"), Some(DAY_US - 1));
        assert_eq!(time_micros("03:04"), Some(11_040_000_000));
        assert_eq!(time_micros("03:04:05.5"), Some(11_045_500_000));
        for text in [
            "",
            "3:04",
            "24:00:00",
            "03:60",
            "03:04:05:06",
            "03:04:05.1234567",
            "03:04x",
        ] {
            assert_eq!(time_micros(text), None, "{text}");
        }
    }

    #[test]
    fn offset_stands_behind_the_time() {
        assert_eq!(offset_text(3_600_000_000), "+01:00");
        assert_eq!(offset_text(-19_800_000_000), "-05:30");
        assert_eq!(offset_text(1_000_000), "+00:00:01");
        assert_eq!(
            parts("1970-01-02T00:00:01-05:30"),
            Some((1, 1_000_000, Some(-19_800_000_000)))
        );
        assert_eq!(parts("1970-01-01T00:00:00Z"), Some((0, 0, Some(0))));
        assert_eq!(parts("1970-01-01 00:00"), Some((0, 0, None)));
        assert_eq!(parts("1970-01-01"), None);
    }
}
