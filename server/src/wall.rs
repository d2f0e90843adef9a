//! Wall time for people: the one place of the server that reads the calendar clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECS_PER_DAY: i64 = 86_400;

/// Time since 1970 by the machine's clock; zero if the clock is before it.
#[must_use]
pub fn unix_now() -> Duration {
    #[expect(
        clippy::disallowed_methods,
        reason = "wall time for people and token expiry only"
    )]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// RFC 3339 in UTC with milliseconds, e.g. `2026-11-20T17:45:00.000Z`.
#[must_use]
pub fn rfc3339(unix: Duration) -> String {
    let secs = i64::try_from(unix.as_secs()).unwrap_or(i64::MAX);
    let (year, month, day) = civil_from_days(secs / SECS_PER_DAY);
    let second_of_day = secs % SECS_PER_DAY;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second_of_day / 3600,
        second_of_day / 60 % 60,
        second_of_day % 60,
        unix.subsec_millis()
    )
}

/// Seconds since 1970 of a TOML date-time. `None` unless it has date, time and offset.
#[must_use]
pub fn unix_from_toml(value: &toml::value::Datetime) -> Option<i64> {
    let (date, time, offset) = (value.date?, value.time?, value.offset?);
    let days = days_from_civil(
        i64::from(date.year),
        i64::from(date.month),
        i64::from(date.day),
    );
    let minutes = i64::from(time.hour) * 60 + i64::from(time.minute);
    let offset_minutes = match offset {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => i64::from(minutes),
    };
    let second = i64::from(time.second.unwrap_or(0));
    Some(days * SECS_PER_DAY + (minutes - offset_minutes) * 60 + second)
}

/// Days since 1970-01-01 in the Gregorian calendar (Howard Hinnant's algorithm: years begin in March,
/// so that the leap day comes last).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`]: year, month, day.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `date -u -d @N` of GNU coreutils gave these.
    #[test]
    fn known_dates_are_written_as_date_writes_them() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ];
        for (secs, text) in cases {
            assert_eq!(rfc3339(Duration::from_secs(secs)), text);
        }
    }

    #[test]
    fn an_offset_is_taken_off_and_a_local_time_is_refused() {
        let unix = |text: &str| unix_from_toml(&text.parse().expect("valid TOML"));
        assert_eq!(unix("2024-02-29T23:59:59Z"), Some(1_709_251_199));
        assert_eq!(unix("2024-03-01T01:59:59+02:00"), Some(1_709_251_199));
        assert_eq!(unix("2024-03-01T01:59:59"), None);
        assert_eq!(unix("2024-03-01"), None);
    }

    #[test]
    fn both_directions_of_the_calendar_agree_for_two_centuries() {
        for days in 0..73_000 {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
    }
}
