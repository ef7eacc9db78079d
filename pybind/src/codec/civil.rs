//! The calendar: days since 1970-01-01 to year, month and day (proleptic Gregorian, as in Python).

pub(super) const DAY_MICROS: i64 = 86_400_000_000;
/// `date(1970, 1, 1).toordinal()`
pub(super) const EPOCH_ORDINAL: i64 = 719_163;
/// `date.max.toordinal()`
const ORDINAL_MAX: i64 = 3_652_059;

/// Year, month and day; none outside of Python's years 1 to 9999.
pub(super) fn civil_of_days(days: i64) -> Option<(i64, i64, i64)> {
    let ordinal = days.checked_add(EPOCH_ORDINAL)?;
    if !(1..=ORDINAL_MAX).contains(&ordinal) {
        return None;
    }
    // Years that start in March end with the leap day; 719,468 days lie from 0000-03-01 to 1970.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    Some((year_of_era + era * 400 + i64::from(month <= 2), month, day))
}

/// Hour, minute, second and microsecond of a moment of the day.
pub(super) fn clock_of_micros(micros: i64) -> (i64, i64, i64, i64) {
    let seconds = micros / 1_000_000;
    (
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        micros % 1_000_000,
    )
}
