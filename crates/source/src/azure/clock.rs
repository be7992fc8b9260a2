//! The one place of this crate that asks for the time of day: requests are signed with it. Also the dates of HTTP.

use blobkeep_vault::Timestamp;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Now, as `x-ms-date` wants it.
// Signatures are only valid near the server's time, and no caller has a better notion of now.
#[allow(clippy::disallowed_methods)]
pub(crate) fn now_for_signing() -> String {
    format_http_date(Timestamp(jiff::Timestamp::now().as_microsecond()))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) fn format_http_date(at: Timestamp) -> String {
    match jiff::Timestamp::from_microsecond(at.0) {
        Ok(at) => at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string(),
        Err(_) => String::new(),
    }
}

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT`; a listing has two for each blob, hence by hand.
pub(crate) fn parse_http_date(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    if bytes.len() != 29 || !text.is_ascii() || !text.ends_with(" GMT") {
        return None;
    }
    let number = |from: usize, to: usize| text[from..to].parse::<i64>().ok();
    let (day, year) = (number(5, 7)?, number(12, 16)?);
    let month = MONTHS.iter().position(|name| *name == &text[8..11])? as i64 + 1;
    let seconds = number(17, 19)? * 3_600 + number(20, 22)? * 60 + number(23, 25)?;
    // Days since 1970 in the proleptic Gregorian calendar, counted from March so that leap days come last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(Timestamp((days * 86_400 + seconds) * 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_go_both_ways() {
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Thu, 29 Feb 2024 23:59:59 GMT", 1_709_251_199),
        ] {
            let at = Timestamp(seconds * 1_000_000);
            assert_eq!(parse_http_date(text), Some(at));
            assert_eq!(format_http_date(at), text);
        }
        for bad in ["", "0001-01-01T00:00:00", "Sun, 06 Nov 1994 08:49:37 UTC", "Sun, 06 Xxx 1994 08:49:37 GMT"] {
            assert_eq!(parse_http_date(bad), None, "{bad}");
        }
    }
}
