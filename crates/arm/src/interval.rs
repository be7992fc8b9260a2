//! Repeating intervals of schedules, `R/start/period`: when they come round again on the clocks of a zone.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::time::{IsoDuration, TimeError, instant_of, parse_on_clock, wall_clock};

/// One `R[n]/start/period` of a schedule. The count is read and has no effect, as in the product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepeatingInterval {
    /// The first occurrence, µs.
    pub start: i64,
    /// The date and time that the start names on the schedule's clock: calendar periods are counted from it. It differs from what clocks show
    /// at `start` if a clock change skips it.
    pub start_named: DateTime,
    /// The distance between occurrences.
    pub period: IsoDuration,
}

/// One time at which an interval comes round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occurrence {
    /// When, µs.
    pub at: i64,
    /// The date and time that the schedule names for it: what clocks show then, unless a clock change skips it.
    pub named: DateTime,
}

impl RepeatingInterval {
    /// Reads `R/2024-05-08T14:00:00+00:00/P1D`. A start without an offset is a wall-clock time of `zone`.
    pub fn parse(text: &str, zone: &TimeZone) -> Result<Self, TimeError> {
        let wrong = |why: &str| TimeError::Interval(text.to_owned(), why.to_owned());
        let mut fields = text.trim().split('/');
        let (Some(repeat), Some(start), Some(period), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(wrong("it needs three parts, R/start/period"));
        };
        let count = repeat.strip_prefix(['R', 'r']).ok_or_else(|| wrong("it must begin with R"))?;
        if !count.chars().all(|letter| letter.is_ascii_digit()) {
            return Err(wrong("only digits may follow R"));
        }
        let period = IsoDuration::parse(period).map_err(|error| wrong(&error.to_string()))?;
        if period.is_zero() {
            return Err(wrong("its period has no length"));
        }
        let (start_named, start) = parse_on_clock(start, zone).map_err(|error| wrong(&error.to_string()))?;
        Ok(Self { start, start_named, period })
    }

    /// When the first occurrence strictly after `instant` (µs) is, µs: see [`Self::next_occurrence`].
    pub fn next_after(&self, instant: i64, zone: &TimeZone) -> Result<i64, TimeError> {
        Ok(self.next_occurrence(instant, zone)?.at)
    }

    /// The first occurrence strictly after `instant` (µs). Calendar periods keep the wall-clock time of `zone` over
    /// clock changes; a time that a change skips is taken as late as the clock moved, one that comes twice counts once.
    pub fn next_occurrence(&self, instant: i64, zone: &TimeZone) -> Result<Occurrence, TimeError> {
        if self.start > instant {
            return Ok(Occurrence { at: self.start, named: self.start_named });
        }
        let mut too_early: i64 = 0;
        let mut late_enough: i64 = 1;
        while self.occurrence(late_enough, zone)?.at <= instant {
            too_early = late_enough;
            late_enough = late_enough.checked_mul(2).ok_or_else(|| self.out_of_range())?;
            if self.occurrence(late_enough, zone).is_err() {
                late_enough = self.last_representable(too_early, late_enough, zone);
                break;
            }
        }
        while late_enough - too_early > 1 {
            let middle = too_early + (late_enough - too_early) / 2;
            if self.occurrence(middle, zone)?.at <= instant {
                too_early = middle;
            } else {
                late_enough = middle;
            }
        }
        let found = self.occurrence(late_enough, zone)?;
        if found.at > instant { Ok(found) } else { Err(self.out_of_range()) }
    }

    fn out_of_range(&self) -> TimeError {
        TimeError::Range(self.period.to_string())
    }

    /// The occurrence that lies `times` periods after the start. Month ends are clamped, always counted from the start.
    fn occurrence(&self, times: i64, zone: &TimeZone) -> Result<Occurrence, TimeError> {
        self.occurrence_parts(times, zone).ok_or_else(|| self.out_of_range())
    }

    fn occurrence_parts(&self, times: i64, zone: &TimeZone) -> Option<Occurrence> {
        if !self.period.is_calendar() {
            let at = self.period.exactly_after(self.start, times)?;
            return Some(Occurrence { at, named: wall_clock(at, zone) });
        }
        let named = self.period.on_calendar(self.start_named, times)?;
        let base = instant_of(named, zone)?;
        let at = self.period.exactly_after(base, times)?;
        // A period that goes on by the stopwatch names no time of day.
        let named = if at == base { named } else { wall_clock(at, zone) };
        Some(Occurrence { at, named })
    }

    /// The largest number of repetitions between a good and a bad one that still gives a date.
    fn last_representable(&self, mut good: i64, mut bad: i64, zone: &TimeZone) -> i64 {
        while bad - good > 1 {
            let middle = good + (bad - good) / 2;
            if self.occurrence(middle, zone).is_ok() {
                good = middle;
            } else {
                bad = middle;
            }
        }
        good
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{format_instant, parse_instant, zone};
    use proptest::prelude::*;

    fn next(interval: &str, zone_name: &str, after: &str) -> String {
        let zone = zone(zone_name).unwrap();
        let interval = RepeatingInterval::parse(interval, &zone).unwrap();
        format_instant(interval.next_after(parse_instant(after).unwrap(), &zone).unwrap())
    }

    #[test]
    fn intervals_that_cannot_be_read_say_why() {
        let utc = TimeZone::UTC;
        for (text, why) in [
            ("R/2024-05-08T14:00:00+00:00", "three parts"),
            ("2024-05-08T14:00:00+00:00/P1D/P1D", "begin with R"),
            ("Rx/2024-05-08T14:00:00+00:00/P1D", "only digits"),
            ("R/2024-05-08T14:00:00+00:00/P0D", "no length"),
            ("R/20240508T140000Z/P1D", "full date and time"),
            ("R/2024-05-08T14:00:00+00:00/1D", "ISO 8601 duration"),
        ] {
            let message = RepeatingInterval::parse(text, &utc).unwrap_err().to_string();
            assert!(message.contains(why), "{text}: {message}");
        }
        assert!(RepeatingInterval::parse("R5/2024-05-08T14:00:00Z/PT4H", &utc).is_ok());
    }

    #[test]
    fn the_next_occurrence_is_strictly_later() {
        let daily = "R/2024-05-08T14:00:00+00:00/P1D";
        assert_eq!(next(daily, "UTC", "2020-01-01T00:00:00Z"), "2024-05-08T14:00:00Z");
        assert_eq!(next(daily, "UTC", "2024-05-08T14:00:00Z"), "2024-05-09T14:00:00Z");
        assert_eq!(next(daily, "UTC", "2026-12-31T13:59:59Z"), "2026-12-31T14:00:00Z");
        assert_eq!(next("R/2024-05-08T14:00:00Z/P1W", "UTC", "2026-01-01T00:00:00Z"), "2026-01-07T14:00:00Z");
        assert_eq!(next("R/2024-05-08T14:00:00Z/PT5M", "UTC", "2026-01-01T00:02:00Z"), "2026-01-01T00:05:00Z");
    }

    #[test]
    fn daily_backups_keep_their_wall_clock_over_clock_changes() {
        let at_two = "R/2024-01-01T02:30:00+01:00/P1D";
        let berlin = "W. Europe Standard Time";
        assert_eq!(next(at_two, berlin, "2024-07-01T00:00:00Z"), "2024-07-01T00:30:00Z", "summer: 02:30 is 00:30Z");
        assert_eq!(next(at_two, berlin, "2024-03-31T00:00:00Z"), "2024-03-31T01:30:00Z", "skipped hour: an hour late");
        assert_eq!(next(at_two, berlin, "2024-10-27T00:00:00Z"), "2024-10-27T00:30:00Z", "doubled hour: the first");
        assert_eq!(next(at_two, berlin, "2024-10-27T00:30:00Z"), "2024-10-28T01:30:00Z", "and not the second");
    }

    #[test]
    fn a_schedule_that_begins_at_a_skipped_time_keeps_the_time_that_it_names() {
        let at_two = "R/2024-03-31T02:30:00/P1D";
        assert_eq!(next(at_two, "Europe/Berlin", "2024-01-01T00:00:00Z"), "2024-03-31T01:30:00Z", "an hour late");
        assert_eq!(next(at_two, "Europe/Berlin", "2024-03-31T01:30:00Z"), "2024-04-01T00:30:00Z", "02:30 again");
    }

    proptest! {
        #[test]
        fn an_occurrence_is_later_than_asked_and_none_lies_between(
            after in 0_i64..4_000_000_000_000_000,
            period in prop::sample::select(vec!["PT5M", "PT4H", "P1D", "P1W", "P1M", "P1Y", "P1DT6H"]),
            zone_name in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]),
        ) {
            let zone = zone(zone_name).unwrap();
            let interval = RepeatingInterval::parse(&format!("R/1999-01-31T02:30:00Z/{period}"), &zone).unwrap();
            let found = interval.next_after(after, &zone).unwrap();
            prop_assert!(found > after);
            prop_assert!(interval.next_after(found - 1, &zone).unwrap() == found);
            if found > interval.start {
                let before = interval.next_after(after - 1, &zone).unwrap();
                prop_assert!(before <= found);
            }
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,40}") {
            let _ = RepeatingInterval::parse(&text, &TimeZone::UTC);
        }
    }
}
