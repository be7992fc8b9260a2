//! Which rates hold at which time of day, and how that is written.

use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::item::Timestamp;

const DAY_SECONDS: i64 = 24 * 60 * 60;
const EXAMPLE: &str = "`08:00-18:00=20MiB/s,50req/s; else unlimited`";

/// How much may pass in a second; `None` is as much as there is. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Bytes of content.
    pub bytes_per_second: Option<u64>,
    /// Requests.
    pub requests_per_second: Option<u64>,
}

/// Rates by time of day.
///
/// Written as windows between semicolons: `08:00-18:00=20MiB/s,50req/s; else unlimited`. The first window that holds the present time of day counts,
/// and outside of all windows what stands after `else`, or no limit. A window may go over midnight. Rates alone (`20MiB/s`) hold all day. Times
/// are UTC, or of the offset that `zone=+02:00` gives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schedule {
    offset_seconds: i64,
    windows: Vec<Window>,
    otherwise: Rates,
}

/// From a second of the day on, up to but without another; over midnight if that is not later.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    from: i64,
    to: i64,
    rates: Rates,
}

/// What holds at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Present {
    /// The rates.
    pub rates: Rates,
    /// How long they hold at least.
    pub left: Duration,
}

impl Schedule {
    /// The same rates all day.
    pub fn always(rates: Rates) -> Self {
        Self { otherwise: rates, ..Self::default() }
    }

    /// What holds at this instant, and until when.
    pub fn at(&self, now: Timestamp) -> Present {
        let micros_of_day = (now.0 + self.offset_seconds * 1_000_000).rem_euclid(DAY_SECONDS * 1_000_000);
        let second = micros_of_day / 1_000_000;
        let window = self.windows.iter().find(|window| window.holds(second));
        let until = |time: i64| {
            let micros = (time * 1_000_000 - micros_of_day).rem_euclid(DAY_SECONDS * 1_000_000);
            if micros == 0 { DAY_SECONDS * 1_000_000 } else { micros }
        };
        let changes = self.windows.iter().flat_map(|window| [until(window.from), until(window.to)]);
        let left = changes.min().unwrap_or(DAY_SECONDS * 1_000_000);
        Present {
            rates: window.map_or(self.otherwise, |window| window.rates),
            left: Duration::from_micros(left.unsigned_abs()),
        }
    }
}

impl Window {
    fn holds(&self, second: i64) -> bool {
        if self.from < self.to {
            (self.from..self.to).contains(&second)
        } else {
            second >= self.from || second < self.to
        }
    }
}

impl FromStr for Schedule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut schedule = Self::default();
        let mut otherwise = None;
        for item in text.split(';').map(str::trim).filter(|item| !item.is_empty()) {
            let rest_of_day = item.strip_prefix("else").map(|rates| rates.trim_start_matches([' ', '=']));
            if let Some(zone) = item.strip_prefix("zone=") {
                schedule.offset_seconds = offset(zone)?;
            } else if let Some(rates) = rest_of_day.or_else(|| (!item.contains('=')).then_some(item)) {
                if otherwise.replace(rates_of(rates)?).is_some() {
                    return Err(wrong(item, "the rest of the day has rates already"));
                }
            } else if let Some((window, rates)) = item.split_once('=') {
                schedule.windows.push(window_of(window.trim(), rates)?);
            }
        }
        if otherwise.is_none() && schedule.windows.is_empty() {
            return Err(wrong(text, "it holds no rates"));
        }
        schedule.otherwise = otherwise.unwrap_or_default();
        Ok(schedule)
    }
}

fn wrong(part: &str, why: &str) -> Error {
    Error::Invalid(format!("the limit {part:?} cannot be used: {why}; write it like {EXAMPLE}"))
}

fn window_of(text: &str, rates: &str) -> Result<Window> {
    let times = text.split_once('-').and_then(|(from, to)| Some((time_of_day(from)?, time_of_day(to)?)));
    let Some((from, to)) = times else {
        return Err(wrong(text, "a window is two times of day, HH:MM-HH:MM"));
    };
    if from == to || from == DAY_SECONDS {
        return Err(wrong(text, "a window has a beginning and another end; the whole day is 00:00-24:00"));
    }
    Ok(Window { from, to, rates: rates_of(rates)? })
}

/// Seconds since midnight, up to 24:00.
fn time_of_day(text: &str) -> Option<i64> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let number = |digits: &str| {
        let is_number = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse::<i64>().ok()).flatten()
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let is_time = minutes < 60 && (hours < 24 || (hours == 24 && minutes == 0));
    is_time.then_some(hours * 3600 + minutes * 60)
}

fn offset(text: &str) -> Result<i64> {
    if text.eq_ignore_ascii_case("utc") {
        return Ok(0);
    }
    let (sign, time) = match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(time), _) => (1, time),
        (_, Some(time)) => (-1, time),
        _ => (1, ""),
    };
    let seconds = time_of_day(time).filter(|seconds| *seconds <= 14 * 3600);
    seconds.map(|seconds| sign * seconds).ok_or_else(|| wrong(text, "a zone is UTC, or an offset like +02:00"))
}

fn rates_of(text: &str) -> Result<Rates> {
    let mut rates = Rates::default();
    if text.trim() == "unlimited" {
        return Ok(rates);
    }
    for rate in text.split(',').map(str::trim) {
        let Some(amount) = rate.strip_suffix("/s") else {
            return Err(wrong(rate, "a rate is given per second, like 20MiB/s or 50req/s, or it is `unlimited`"));
        };
        let at = amount.find(|sign: char| !sign.is_ascii_digit() && sign != '.').unwrap_or(amount.len());
        let (number, unit) = (&amount[..at], amount[at..].trim());
        let factor = match unit {
            "req" | "B" => 1,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(wrong(rate, "units are B, kB, MB, GB, KiB, MiB, GiB, and req for requests")),
        };
        let number: f64 = number.parse().map_err(|_| wrong(rate, "it does not begin with a number"))?;
        let amount = (number * f64::from(factor)) as u64;
        if amount == 0 {
            return Err(wrong(rate, "nothing would ever pass: give at least 1 a second"));
        }
        let place = if unit == "req" { &mut rates.requests_per_second } else { &mut rates.bytes_per_second };
        if place.replace(amount).is_some() {
            return Err(wrong(text, "one rate is given twice"));
        }
    }
    Ok(rates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(bytes: u64, requests: u64) -> Rates {
        let some = |rate: u64| (rate > 0).then_some(rate);
        Rates { bytes_per_second: some(bytes), requests_per_second: some(requests) }
    }

    fn schedule(text: &str) -> Schedule {
        text.parse().unwrap()
    }

    /// An instant of some day, in UTC.
    fn at(hours: i64, minutes: i64) -> Timestamp {
        Timestamp((20_000 * DAY_SECONDS + hours * 3600 + minutes * 60) * 1_000_000)
    }

    #[test]
    fn the_first_window_that_holds_the_time_of_day_counts() {
        let schedule = schedule("08:00-18:00=20MiB/s,50req/s; 17:00-20:00=1kB/s; else 3req/s");
        for (hours, minutes, expected) in [
            (7, 59, rates(0, 3)),
            (8, 0, rates(20 << 20, 50)),
            (17, 59, rates(20 << 20, 50)),
            (18, 0, rates(1_000, 0)),
            (20, 0, rates(0, 3)),
        ] {
            assert_eq!(schedule.at(at(hours, minutes)).rates, expected, "{hours}:{minutes}");
        }
    }

    #[test]
    fn a_window_goes_over_midnight_and_a_zone_moves_it() {
        let night = schedule("zone=+02:00; 22:00-06:00=5MB/s");
        for (hours, is_limited) in [(19, false), (20, true), (23, true), (3, true), (4, false), (12, false)] {
            assert_eq!(night.at(at(hours, 0)).rates.bytes_per_second.is_some(), is_limited, "{hours} o'clock");
        }
        let west = schedule("zone=-03:30; 00:00-01:00=5MB/s");
        assert!(west.at(at(3, 30)).rates.bytes_per_second.is_some() && west.at(at(4, 30)).rates == Rates::default());
    }

    #[test]
    fn rates_hold_until_a_window_begins_or_ends() {
        let schedule = schedule("08:00-18:00=1MiB/s; 22:00-24:00=2MiB/s");
        let minutes_left = |hours, minutes| schedule.at(at(hours, minutes)).left.as_secs() / 60;
        assert_eq!((minutes_left(7, 30), minutes_left(8, 0), minutes_left(17, 59)), (30, 600, 1));
        assert_eq!((minutes_left(18, 0), minutes_left(23, 0), minutes_left(0, 0)), (240, 60, 480));
        assert_eq!(Schedule::always(rates(1, 1)).at(at(3, 0)).left, Duration::from_secs(24 * 3600));
    }

    #[test]
    fn rates_alone_hold_all_day() {
        assert_eq!(schedule("1.5MiB/s"), Schedule::always(rates(3 << 19, 0)));
        assert_eq!(schedule(" 10 req/s , 2GB/s ;"), Schedule::always(rates(2_000_000_000, 10)));
        assert_eq!(schedule("unlimited"), Schedule::default());
        assert_eq!(schedule("else=7B/s"), Schedule::always(rates(7, 0)));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_an_example() {
        for (text, reason) in [
            ("", "no rates"),
            ("zone=UTC", "no rates"),
            ("fast", "per second"),
            ("20MiB", "per second"),
            ("20Mb/s", "units are"),
            ("MiB/s", "begin with a number"),
            ("1.2.3MiB/s", "begin with a number"),
            ("0req/s", "nothing would ever pass"),
            ("0.5B/s", "nothing would ever pass"),
            ("1B/s,2B/s", "twice"),
            ("1B/s;2B/s", "already"),
            ("1B/s;else 2B/s", "already"),
            ("8:00-18:00=1B/s", "HH:MM-HH:MM"),
            ("08:00-25:00=1B/s", "HH:MM-HH:MM"),
            ("08:00=1B/s", "HH:MM-HH:MM"),
            ("08:00-08:00=1B/s", "00:00-24:00"),
            ("zone=Berlin;1B/s", "+02:00"),
            ("zone=02:00;1B/s", "+02:00"),
        ] {
            let error = text.parse::<Schedule>().unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("08:00-18:00=20MiB/s"), "{text:?}: {error}");
        }
    }
}
