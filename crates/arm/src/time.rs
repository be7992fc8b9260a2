//! Times as the API writes them: ISO 8601 durations, instants and time zones. Repeating intervals are in `interval`.
//!
//! An instant is an `i64` of microseconds since 1970-01-01T00:00:00Z everywhere in Blobkeep; this file is where it
//! becomes text and where text becomes it. It must never look at a clock: whoever needs the present passes it in.

use std::fmt;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp, Zoned};

use crate::zones;

/// The shortest period a backup schedule may have, in seconds (PT5M).
pub const SHORTEST_PERIOD_SECONDS: i64 = 5 * 60;

/// Why a text is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// The text is no ISO 8601 duration of the form P30D, P12W, P6M, P10Y or PT4H.
    #[error("'{0}' is not an ISO 8601 duration such as P30D, P12W, P6M, P10Y or PT4H")]
    Duration(String),
    /// The text is no full date-time.
    #[error("'{0}' is not a full date and time such as 2024-05-08T14:00:00Z")]
    Instant(String),
    /// The text is no repeating interval.
    #[error("'{0}' is not a repeating interval such as R/2024-05-08T14:00:00+00:00/P1D: {1}")]
    Interval(String, String),
    /// No IANA or Windows time zone has this name.
    #[error("'{0}' is neither an IANA nor a Windows time zone name")]
    Zone(String),
    /// The sum lies outside the years that can be written.
    #[error("adding {0} leaves the range of representable dates")]
    Range(String),
}

/// An ISO 8601 duration, with its calendar parts kept apart: P1M is a month, not thirty days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IsoDuration {
    /// Calendar years.
    pub years: u32,
    /// Calendar months.
    pub months: u32,
    /// Weeks of seven calendar days.
    pub weeks: u32,
    /// Calendar days: 23 or 25 hours where a clock change falls into one.
    pub days: u32,
    /// The part after `T`, in seconds.
    pub time_seconds: u64,
}

/// The largest number that any one part of a duration may carry: with it, no sum leaves an `i64`.
const LARGEST_PART: u64 = 3_660_000;

impl IsoDuration {
    /// Reads `P[nY][nM][nW][nD][T[nH][nM][nS]]`: whole numbers, at least one part, upper case or lower case.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        Self::parse_parts(text).ok_or_else(|| TimeError::Duration(text.to_owned()))
    }

    fn parse_parts(text: &str) -> Option<Self> {
        let upper = text.trim().to_ascii_uppercase();
        let rest = upper.strip_prefix('P')?;
        let (date, time) = match rest.split_once('T') {
            Some((_, "")) => return None,
            Some((date, time)) => (date, time),
            None => (rest, ""),
        };
        if date.is_empty() && time.is_empty() {
            return None;
        }
        let mut duration = Self::default();
        for (number, unit) in parts(date, "YMWD")? {
            let number = u32::try_from(number).ok()?;
            match unit {
                'Y' => duration.years = number,
                'M' => duration.months = number,
                'W' => duration.weeks = number,
                _ => duration.days = number,
            }
        }
        for (number, unit) in parts(time, "HMS")? {
            duration.time_seconds += number
                * match unit {
                    'H' => 3600,
                    'M' => 60,
                    _ => 1,
                };
        }
        Some(duration)
    }

    /// Whether the duration has no length at all.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// Whether any part follows the calendar instead of the stopwatch.
    pub fn is_calendar(&self) -> bool {
        self.years != 0 || self.months != 0 || self.weeks != 0 || self.days != 0
    }

    /// The least number of seconds that this duration can last, months taken as 28 days: for comparing with a minimum.
    pub fn least_seconds(&self) -> i64 {
        let days = i64::from(self.years) * 365
            + i64::from(self.months) * 28
            + i64::from(self.weeks) * 7
            + i64::from(self.days);
        days * 86_400 + i64::try_from(self.time_seconds).unwrap_or(i64::MAX / 2)
    }

    /// Days by the usual reckoning (year 365, month 30), for limits that the product states in days.
    pub fn nominal_days(&self) -> i64 {
        i64::from(self.years) * 365
            + i64::from(self.months) * 30
            + i64::from(self.weeks) * 7
            + i64::from(self.days)
            + i64::try_from(self.time_seconds / 86_400).unwrap_or(0)
    }

    /// The instant that lies `times` of this duration after `start`: calendar parts by the wall clock of `zone`
    /// (month ends are clamped, counted from the start and never from a clamped day), then the exact part.
    pub fn after(&self, start: i64, times: i64, zone: &TimeZone) -> Result<i64, TimeError> {
        self.after_parts(start, times, zone).ok_or_else(|| TimeError::Range(self.to_string()))
    }

    fn after_parts(&self, start: i64, times: i64, zone: &TimeZone) -> Option<i64> {
        let base = if self.is_calendar() {
            instant_of(self.on_calendar(zoned(start, zone)?.datetime(), times)?, zone)?
        } else {
            start
        };
        self.exactly_after(base, times)
    }

    /// The date and time that lies `times` of the calendar parts alone after another; none beyond what a calendar holds.
    pub(crate) fn on_calendar(&self, wall: DateTime, times: i64) -> Option<DateTime> {
        let span = Span::new()
            .try_years(i64::from(self.years).checked_mul(times)?)
            .ok()?
            .try_months(i64::from(self.months).checked_mul(times)?)
            .ok()?
            .try_weeks(i64::from(self.weeks).checked_mul(times)?)
            .ok()?
            .try_days(i64::from(self.days).checked_mul(times)?)
            .ok()?;
        wall.checked_add(span).ok()
    }

    /// The instant (µs) that lies `times` of the exact part alone after another; none beyond what a calendar holds.
    pub(crate) fn exactly_after(&self, instant: i64, times: i64) -> Option<i64> {
        let seconds = i64::try_from(self.time_seconds).ok()?.checked_mul(times)?;
        let start = Timestamp::from_microsecond(instant).ok()?;
        Some(start.checked_add(SignedDuration::from_secs(seconds)).ok()?.as_microsecond())
    }
}

impl fmt::Display for IsoDuration {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return out.write_str("PT0S");
        }
        out.write_str("P")?;
        for (number, unit) in [(self.years, 'Y'), (self.months, 'M'), (self.weeks, 'W'), (self.days, 'D')] {
            if number != 0 {
                write!(out, "{number}{unit}")?;
            }
        }
        if self.time_seconds == 0 {
            return Ok(());
        }
        out.write_str("T")?;
        let parts =
            [(self.time_seconds / 3600, 'H'), (self.time_seconds / 60 % 60, 'M'), (self.time_seconds % 60, 'S')];
        for (number, unit) in parts {
            if number != 0 {
                write!(out, "{number}{unit}")?;
            }
        }
        Ok(())
    }
}

/// Splits `12H30M` into its numbers and units; the units must come in the order of `units` and at most once each.
fn parts(text: &str, units: &str) -> Option<Vec<(u64, char)>> {
    let mut found = Vec::new();
    let mut allowed = units;
    let mut digits = String::new();
    for letter in text.chars() {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        let position = allowed.find(letter)?;
        allowed = allowed.get(position + 1..)?;
        let number: u64 = digits.parse().ok()?;
        if number > LARGEST_PART {
            return None;
        }
        found.push((number, letter));
        digits.clear();
    }
    digits.is_empty().then_some(found)
}

/// The same instant on the clocks of a zone.
fn zoned(instant: i64, zone: &TimeZone) -> Option<Zoned> {
    Some(Timestamp::from_microsecond(instant).ok()?.to_zoned(zone.clone()))
}

/// The date and time that clocks in `zone` show at `instant` (µs); the epoch's own for what no calendar can hold.
pub fn wall_clock(instant: i64, zone: &TimeZone) -> DateTime {
    zoned(instant, zone).map(|zoned| zoned.datetime()).unwrap_or_default()
}

/// The instant (µs) at which clocks in `zone` show a time. One that a clock change skips is taken as late as the clock moved, of one that
/// comes twice the first.
pub(crate) fn instant_of(wall: DateTime, zone: &TimeZone) -> Option<i64> {
    Some(wall.to_zoned(zone.clone()).ok()?.timestamp().as_microsecond())
}

/// How far clocks in `zone` are ahead of UTC at `instant` (µs), in seconds.
pub(crate) fn offset_seconds(instant: i64, zone: &TimeZone) -> i64 {
    Timestamp::from_microsecond(instant).map_or(0, |instant| i64::from(zone.to_offset(instant).seconds()))
}

/// Reads a date and time as schedules write them: what clocks in `zone` show, and the instant (µs). Without an offset it is a time on these
/// clocks, also one that a clock change skips.
pub fn parse_on_clock(text: &str, zone: &TimeZone) -> Result<(DateTime, i64), TimeError> {
    let instant = parse_instant(text)?;
    if names_offset(text.trim()) {
        return Ok((wall_clock(instant, zone), instant));
    }
    let wall = wall_clock(instant, &TimeZone::UTC);
    let instant = instant_of(wall, zone).ok_or_else(|| TimeError::Instant(text.to_owned()))?;
    Ok((wall, instant))
}

/// Whether a date-time of the full form says how far its clock is ahead of UTC.
fn names_offset(text: &str) -> bool {
    text.get(19..).unwrap_or_default().contains(['Z', 'z', '+', '-'])
}

/// Reads `2024-05-08T14:00:00[.fffffff](Z|±hh:mm)`, µs; without an offset it is UTC. Fractions beyond a
/// microsecond are cut off. Compact forms (`20240508T140000Z`) and dates without a time are refused.
pub fn parse_instant(text: &str) -> Result<i64, TimeError> {
    let trimmed = text.trim();
    let wrong = || TimeError::Instant(text.to_owned());
    if !has_full_form(trimmed) {
        return Err(wrong());
    }
    let timestamp = if names_offset(trimmed) {
        trimmed.parse::<Timestamp>().map_err(|_| wrong())?
    } else {
        let wall: DateTime = trimmed.parse().map_err(|_| wrong())?;
        wall.to_zoned(TimeZone::UTC).map_err(|_| wrong())?.timestamp()
    };
    Ok(timestamp.as_microsecond())
}

/// Whether the text begins `dddd-dd-ddTdd:dd:dd` and goes on with nothing but a fraction and an offset.
fn has_full_form(text: &str) -> bool {
    const FORM: &[u8] = b"dddd-dd-ddTdd:dd:dd";
    let bytes = text.as_bytes();
    let head_fits = bytes.len() >= FORM.len()
        && FORM.iter().zip(bytes).all(|(form, byte)| match form {
            b'd' => byte.is_ascii_digit(),
            b'T' => matches!(byte, b'T' | b't'),
            other => byte == other,
        });
    head_fits && bytes.iter().skip(FORM.len()).all(|byte| byte.is_ascii_digit() || b".Zz+-:".contains(byte))
}

/// Writes an instant (µs) as the product's statuses do: UTC, `Z`, the fraction without trailing zeros.
pub fn format_instant(instant: i64) -> String {
    let full = format_seven_digits(instant);
    let Some(bare) = full.strip_suffix('Z') else { return full };
    format!("{}Z", bare.trim_end_matches('0').trim_end_matches('.'))
}

/// Writes an instant (µs) with all seven fraction digits, as recovery points, jobs and ranges are recorded.
pub fn format_seven_digits(instant: i64) -> String {
    let wall = wall_clock(instant, &TimeZone::UTC);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}0Z",
        wall.year(),
        wall.month(),
        wall.day(),
        wall.hour(),
        wall.minute(),
        wall.second(),
        wall.subsec_nanosecond() / 1000
    )
}

/// Writes a length of time (µs) as .NET does, `[d.]hh:mm:ss.fffffff`: the `duration` of a job.
pub fn format_timespan(length: i64) -> String {
    let micros = length.max(0);
    let seconds = micros / 1_000_000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let days = if days == 0 { String::new() } else { format!("{days}.") };
    format!("{days}{hours:02}:{minutes:02}:{:02}.{:06}0", seconds % 60, micros % 1_000_000)
}

/// Finds a zone by its IANA name (`Europe/Berlin`) or its Windows one (`W. Europe Standard Time`), case aside.
/// An empty name is UTC, as in a schedule that names none.
pub fn zone(name: &str) -> Result<TimeZone, TimeError> {
    let trimmed = name.trim();
    let is_utc = ["", "utc", "z", "etc/utc", "coordinated universal time"].contains(&trimmed.to_lowercase().as_str());
    if is_utc {
        return Ok(TimeZone::UTC);
    }
    let iana = zones::iana_of_windows(trimmed).unwrap_or(trimmed);
    TimeZone::get(iana).map_err(|_| TimeError::Zone(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn instant(text: &str) -> i64 {
        parse_instant(text).unwrap()
    }

    #[test]
    fn durations_of_policies_are_read() {
        for (text, days) in [("P30D", 30), ("P12W", 84), ("P6M", 180), ("P10Y", 3650), ("p7d", 7), ("PT48H", 2)] {
            assert_eq!(IsoDuration::parse(text).unwrap().nominal_days(), days, "{text}");
        }
        assert_eq!(IsoDuration::parse("PT4H30M").unwrap().time_seconds, 4 * 3600 + 1800);
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "P", "PT", "30D", "P-1D", "P1.5D", "P1D2Y", "PD", "P1H", "PT1D", "P1D ago", "P99999999999D"] {
            assert_eq!(IsoDuration::parse(text), Err(TimeError::Duration(text.to_owned())));
        }
    }

    #[test]
    fn a_month_ends_where_the_calendar_says() {
        let month = IsoDuration::parse("P1M").unwrap();
        let from = instant("2024-01-31T10:00:00Z");
        let after = |times| format_instant(month.after(from, times, &TimeZone::UTC).unwrap());
        assert_eq!(after(1), "2024-02-29T10:00:00Z");
        assert_eq!(after(2), "2024-03-31T10:00:00Z", "counted from the start, not from the clamped day");
    }

    #[test]
    fn instants_take_up_to_seven_fraction_digits_and_any_offset() {
        assert_eq!(instant("2021-07-07T12:48:50.3432229Z"), 1_625_662_130_343_222);
        assert_eq!(instant("2024-05-08T16:00:00+02:00"), instant("2024-05-08T14:00:00Z"));
        assert_eq!(instant("2024-05-08T14:00:00"), instant("2024-05-08T14:00:00Z"));
        for text in ["20240508T140000Z", "2024-05-08", "2024-05-08T14:00Z", "2024-13-01T00:00:00Z", "yesterday", ""] {
            assert!(parse_instant(text).is_err(), "{text}");
        }
    }

    #[test]
    fn instants_are_written_as_recorded() {
        assert_eq!(format_instant(instant("2021-07-08T07:13:30.23815Z")), "2021-07-08T07:13:30.23815Z");
        assert_eq!(format_instant(instant("2021-07-07T12:49:22Z")), "2021-07-07T12:49:22Z");
        assert_eq!(format_seven_digits(instant("2021-02-24T00:35:17Z")), "2021-02-24T00:35:17.0000000Z");
        assert_eq!(format_timespan(219_721_432), "00:03:39.7214320");
        assert_eq!(format_timespan(90_000_000_000), "1.01:00:00.0000000");
    }

    #[test]
    fn zones_go_by_both_families_of_names() {
        for name in
            ["UTC", "", "Europe/Berlin", "W. Europe Standard Time", "india standard time", "Pacific Standard Time"]
        {
            assert!(zone(name).is_ok(), "{name}");
        }
        assert_eq!(zone("Middle Earth Standard Time"), Err(TimeError::Zone("Middle Earth Standard Time".to_owned())));
    }

    proptest! {
        #[test]
        fn written_instants_are_read_back(instant in -60_000_000_000_000_000_i64..250_000_000_000_000_000) {
            prop_assert_eq!(parse_instant(&format_instant(instant)), Ok(instant));
            prop_assert_eq!(parse_instant(&format_seven_digits(instant)), Ok(instant));
        }

        #[test]
        fn no_text_makes_the_readers_panic(text in "\\PC{0,40}") {
            let _ = parse_instant(&text);
            let _ = IsoDuration::parse(&text);
            let _ = parse_on_clock(&text, &TimeZone::UTC);
            let _ = zone(&text);
        }
    }
}
