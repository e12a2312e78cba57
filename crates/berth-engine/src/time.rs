//! Times as Docker writes and reads them.

use std::time::Duration;

use berth_spec::docker::ZERO_TIME;
use jiff::Timestamp;

use crate::{Error, Filters, Result};

/// RFC 3339 with as many digits as are needed; Go's zero time for "never".
pub(crate) fn text(time: Option<Timestamp>) -> String {
    time.map_or_else(|| ZERO_TIME.to_owned(), |t| t.to_string())
}

/// The time that the filter `until` names; the earliest, if there are several.
pub(crate) fn until(filters: &Filters) -> Result<Option<Timestamp>> {
    let mut found: Option<Timestamp> = None;
    for value in filters.get("until") {
        let time = parse(value)?;
        found = Some(found.map_or(time, |f| f.min(time)));
    }
    Ok(found)
}

/// Reads a time: seconds since the epoch with a fraction, RFC 3339 (also without a zone, or a date alone, which are UTC), or a
/// duration before now (`10m`, `1h30m`).
pub(crate) fn parse(text: &str) -> Result<Timestamp> {
    let refused = || {
        Error::invalid(format!(
            "failed to parse value as time or duration: {text:?}"
        ))
    };
    if let Some(before) = duration(text) {
        return Timestamp::now().checked_sub(before).map_err(|_| refused());
    }
    if let Ok(seconds) = text.parse::<f64>() {
        let nanos = seconds * 1e9;
        return Timestamp::from_nanosecond(nanos as i128).map_err(|_| refused());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    text.parse::<jiff::civil::DateTime>()
        .or_else(|_| text.parse::<jiff::civil::Date>().map(|d| d.at(0, 0, 0, 0)))
        .ok()
        .and_then(|local| jiff::tz::TimeZone::UTC.to_timestamp(local).ok())
        .ok_or_else(refused)
}

/// Reads Go's durations: `1h30m`, `500ms`. Nothing without a unit.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        rest = &rest[end..];
        total += Duration::try_from_secs_f64(number * unit).ok()?;
    }
    (!text.is_empty()).then_some(total)
}

/// How long ago, in Docker's words: `3 minutes`, `About an hour`.
pub(crate) fn ago(seconds: i64) -> String {
    let plural = |n: i64, unit: &str| format!("{n} {unit}");
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => plural(seconds, "seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => plural(minutes, "minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => plural(hours, "hours"),
        _ if hours < 24 * 7 * 2 => plural(hours / 24, "days"),
        _ if hours < 24 * 30 * 2 => plural(hours / 24 / 7, "weeks"),
        _ if hours < 24 * 365 * 2 => plural(hours / 24 / 30, "months"),
        _ => plural(hours / 24 / 365, "years"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for text in [
            "1700000000",
            "1700000000.5",
            "2023-11-14T22:13:20Z",
            "2023-11-14T22:13:20.5+01:00",
            "2023-11-14",
            "10m",
        ] {
            assert!(parse(text).is_ok(), "{text}");
        }
        for text in ["", "yesterday", "10x", "1e99"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(duration("15"), None);
    }

    #[test]
    fn ages_are_dockers() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (150, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (86_400 * 3, "3 days"),
            (86_400 * 21, "3 weeks"),
            (86_400 * 90, "3 months"),
            (86_400 * 800, "2 years"),
        ] {
            assert_eq!(ago(seconds), text);
        }
    }
}
