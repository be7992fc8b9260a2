//! What the command prints: results on standard output as tables or JSON, everything else on standard error. A reader that went away (a
//! closed pipe) is no failure. Nothing here may print a secret, and text from outside is shown without control characters.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use blobkeep_vault::Timestamp;
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Readable tables and lines.
    #[default]
    Table,
    /// One JSON document.
    Json,
}

/// Starts the log on standard error; `RUST_LOG` overrides the level.
pub(crate) fn start_log(default_level: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default_level));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .try_init();
    // A second start in one process (tests) keeps the first log.
    drop(started);
}

/// Prints one line on standard output.
///
/// # Errors
/// What the system says, unless the reader merely went away.
pub(crate) fn line(text: impl Display) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints a document as JSON on standard output.
///
/// # Errors
/// As [`line()`].
pub(crate) fn json(document: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string_pretty(document)?)
}

/// Prints a table on standard output; one line instead if it has no rows.
///
/// # Errors
/// As [`line()`].
pub(crate) fn table(headers: &[&str], rows: Vec<Vec<String>>, if_empty: &str) -> anyhow::Result<()> {
    if rows.is_empty() {
        return line(if_empty);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headers.iter().copied());
    if io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
    line(table.trim_fmt())
}

/// Prints one line for the user on standard error.
pub(crate) fn note(text: &str) {
    // Standard error may be closed; there is nowhere left to say so.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints an error on standard error.
pub(crate) fn error(text: &str) {
    note(&format!("error: {text}"));
}

/// An error with its causes, each told once: some errors repeat the text of their cause.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// The text without control characters: names from outside must not steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// `1.5 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut amount = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.96 would be shown as 1024.0.
    while amount >= 1023.95 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

/// `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 blob`, `2 blobs`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// `0.42 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

/// An instant as RFC 3339 with six digits, so that texts sort like instants.
pub(crate) fn time(instant: Timestamp) -> String {
    match jiff::Timestamp::from_microsecond(instant.0) {
        Ok(time) => format!("{time:.6}"),
        Err(_) => format!("{} µs since 1970", instant.0),
    }
}

/// An instant to the second, for tables.
pub(crate) fn short_time(instant: Timestamp) -> String {
    match jiff::Timestamp::from_second(instant.0.div_euclid(1_000_000)) {
        Ok(time) => time.to_string(),
        Err(_) => time(instant),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_counts_are_readable() {
        let shown = [0, 1023, 1024, 1536, 1024 * 1024 - 1, 5 << 30].map(bytes);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "5.0 GiB"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!((counted(1, "blob"), counted(2, "blob")), ("1 blob".into(), "2 blobs".into()));
    }

    #[test]
    fn times_sort_as_text() {
        let (whole, later) = (Timestamp(1_800_000_000_000_000), Timestamp(1_800_000_000_500_000));
        assert_eq!(time(whole), "2027-01-15T08:00:00.000000Z");
        assert!(time(whole) < time(later));
        assert_eq!(short_time(later), "2027-01-15T08:00:00Z");
    }

    #[test]
    fn control_characters_are_not_shown() {
        assert_eq!(printable("a\u{1b}[2Jb"), "a\u{fffd}[2Jb");
    }
}
