//! Times: the machine's clock (the only file that may read it) and the text forms that the Blob service uses. Everything
//! else gets the time from the options' clock.

use std::sync::Arc;

/// Microseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

const SECOND_US: i64 = 1_000_000;
const DAY_SECONDS: i64 = 86_400;
/// The Unix epoch in 100 ns ticks since the year 1: the number that Azure's ETags are made of.
const EPOCH_TICKS: i64 = 621_355_968_000_000_000;

/// The machine's clock.
// The default clock of a server that runs for real is the machine's; tests pass their own.
#[allow(clippy::disallowed_methods)]
pub(crate) fn real() -> Clock {
    Arc::new(|| {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
    })
}

/// Year, month, day of a count of days since the Unix epoch (proleptic Gregorian calendar).
fn civil(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u32, day as u32)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`: whole seconds, as in `Last-Modified`.
pub(crate) fn http_date(at_us: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = at_us.div_euclid(SECOND_US);
    let days = seconds.div_euclid(DAY_SECONDS);
    let second_of_day = seconds.rem_euclid(DAY_SECONDS);
    let (year, month, day) = civil(days);
    let weekday = DAYS[days.rem_euclid(7) as usize];
    let month = MONTHS[(month - 1) as usize];
    let (hour, minute, second) = (second_of_day / 3_600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// `2026-01-31T08:49:37.1234567Z` of a number of [`ticks`]: the form of the ids of snapshots and versions.
pub(crate) fn iso_ticks(ticks: i64) -> String {
    let since_epoch = ticks - EPOCH_TICKS;
    let seconds = since_epoch.div_euclid(10_000_000);
    let fraction = since_epoch.rem_euclid(10_000_000);
    let second_of_day = seconds.rem_euclid(DAY_SECONDS);
    let (year, month, day) = civil(seconds.div_euclid(DAY_SECONDS));
    let (hour, minute, second) = (second_of_day / 3_600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:07}Z")
}

/// The ticks of a time in the form of [`iso_ticks`]; none if it is not exactly that.
pub(crate) fn parse_iso_ticks(text: &str) -> Option<i64> {
    let at: jiff::Timestamp = text.parse().ok()?;
    let ticks = i64::try_from(at.as_nanosecond().div_euclid(100)).ok()?.checked_add(EPOCH_TICKS)?;
    (iso_ticks(ticks) == text).then_some(ticks)
}

/// `2026-01-31T08:49:37.123Z` of a number of [`ticks`], cut off.
pub(crate) fn iso_millis(ticks: i64) -> String {
    let mut text = iso_ticks(ticks);
    text.truncate(text.len() - "4567Z".len());
    text.push('Z');
    text
}

/// A time as 100 ns ticks since the year 1.
pub(crate) fn ticks(at_us: i64) -> i64 {
    at_us.saturating_mul(10).saturating_add(EPOCH_TICKS)
}

/// The seconds of an HTTP date, if it is one.
pub(crate) fn parse_http_date(text: &str) -> Option<i64> {
    // Clients write "GMT" or "UTC"; the parser of RFC 2822 wants the former.
    let text = text.trim().replace("UTC", "GMT");
    Some(jiff::fmt::rfc2822::parse(&text).ok()?.timestamp().as_second())
}

/// Microseconds of a time in a SAS or an access policy: `YYYY-MM-DD`, `YYYY-MM-DDThh:mmZ`, or with seconds and fractions.
pub(crate) fn parse_sas_time(text: &str) -> Option<i64> {
    let text = text.trim();
    let full = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        17 if text.ends_with('Z') => format!("{}:00Z", &text[..16]),
        _ => text.to_owned(),
    };
    full.parse::<jiff::Timestamp>().ok().map(|at| at.as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates_have_whole_seconds_and_read_back() {
        let at_us = 784_111_777 * SECOND_US + 999_999;
        assert_eq!(http_date(at_us), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(951_782_400 * SECOND_US), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(parse_http_date("yesterday"), None);
    }

    #[test]
    fn snapshot_times_have_seven_digits() {
        let text = iso_ticks(ticks(784_111_777_123_456) + 7);
        assert_eq!(text, "1994-11-06T08:49:37.1234567Z");
        assert_eq!(parse_iso_ticks(&text), Some(ticks(784_111_777_123_456) + 7));
        assert_eq!(iso_millis(ticks(784_111_777_123_456)), "1994-11-06T08:49:37.123Z");
        for wrong in ["1994-11-06T08:49:37Z", "1994-11-06T08:49:37.12345678Z", "yesterday", ""] {
            assert_eq!(parse_iso_ticks(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sas_times_come_in_three_lengths() {
        assert_eq!(parse_sas_time("1994-11-06"), Some(784_080_000 * SECOND_US));
        assert_eq!(parse_sas_time("1994-11-06T08:49Z"), Some(784_111_740 * SECOND_US));
        assert_eq!(parse_sas_time("1994-11-06T08:49:37Z"), Some(784_111_777 * SECOND_US));
        assert_eq!(parse_sas_time("never"), None);
    }
}
