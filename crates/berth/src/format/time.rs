//! Ages, durations and moments.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// An age in words: `3 hours`, `About a minute`.
pub fn human_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds as f64 / 3600.0).round() as i64);
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// How long ago a moment (seconds since the epoch) is.
pub fn ago(moment: i64) -> String {
    let age = Timestamp::now().as_second() - moment;
    format!("{} ago", human_duration(age))
}

/// `2006-01-02 15:04:05 +0100 CET`, as Go prints a local time.
pub fn local(moment: i64) -> String {
    let Ok(timestamp) = Timestamp::from_second(moment) else {
        return String::new();
    };
    timestamp
        .to_zoned_datetime(TimeZone::system())
        .strftime("%Y-%m-%d %H:%M:%S %z %Z")
        .to_string()
}

/// An RFC 3339 text as Go prints its moment: `2006-01-02 15:04:05.999 +0000 UTC`.
pub fn go_local(text: &str) -> String {
    let Ok(timestamp) = text.parse::<Timestamp>() else {
        return text.to_owned();
    };
    let zoned = timestamp.to_zoned_datetime(TimeZone::UTC);
    let fraction = match timestamp.subsec_nanosecond() {
        0 => String::new(),
        nano => format!(".{nano:09}").trim_end_matches('0').to_owned(),
    };
    format!(
        "{}{fraction} +0000 UTC",
        zoned.strftime("%Y-%m-%d %H:%M:%S")
    )
}

/// `2006-01-02T15:04:05+01:00`, or with `Z` in UTC.
pub fn rfc3339(moment: i64) -> String {
    let Ok(timestamp) = Timestamp::from_second(moment) else {
        return String::new();
    };
    zoned_rfc3339(timestamp, "%Y-%m-%dT%H:%M:%S")
}

/// The same with nine digits of fraction.
pub fn rfc3339_nano(nanoseconds: i64) -> String {
    let Ok(timestamp) = Timestamp::from_nanosecond(i128::from(nanoseconds)) else {
        return String::new();
    };
    zoned_rfc3339(timestamp, "%Y-%m-%dT%H:%M:%S.%9f")
}

fn zoned_rfc3339(timestamp: Timestamp, format: &str) -> String {
    let zoned = timestamp.to_zoned_datetime(TimeZone::system());
    let text = zoned.strftime(format).to_string();
    if zoned.offset().seconds() == 0 {
        format!("{text}Z")
    } else {
        format!("{text}{}", zoned.strftime("%:z"))
    }
}

/// Reads Go's durations: `1h30m`, `1.5s`, `300ms`; bare `0`.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let bad = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(|| format!("time: missing unit in duration {text:?}"))?;
        let value: f64 = rest[..end].parse().map_err(|_| bad())?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            unit => {
                return Err(format!("time: unknown unit {unit:?} in duration {text:?}"));
            }
        };
        total += value * unit;
        rest = &rest[end..];
    }
    if total > i64::MAX as f64 {
        return Err(bad());
    }
    Ok(if negative { -total } else { total } as i64)
}

/// A moment for the API (`seconds.nanoseconds`) from what users give: an age (`10m`), seconds
/// since the epoch, or a date with or without time and zone.
pub fn moment(text: &str) -> Result<String, String> {
    if let Ok(age) = parse_duration(text)
        && text != "0"
    {
        let then = Timestamp::now() - Duration::from_nanos(age.unsigned_abs());
        return Ok(seconds(then));
    }
    if text.chars().all(|c| c.is_ascii_digit() || c == '.') && !text.is_empty() {
        return Ok(text.to_owned());
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(seconds(timestamp));
    }
    let text = text.strip_suffix('Z').unwrap_or(text);
    let civil = text
        .parse::<jiff::civil::DateTime>()
        .or_else(|_| {
            let date = text.parse::<jiff::civil::Date>()?;
            Ok::<_, jiff::Error>(date.at(0, 0, 0, 0))
        })
        .map_err(|_| format!("failed to parse value as time or duration: {text:?}"))?;
    let zoned = civil
        .to_zoned_datetime(TimeZone::system())
        .map_err(|e| e.to_string())?;
    Ok(seconds(zoned.timestamp()))
}

fn seconds(timestamp: Timestamp) -> String {
    format!(
        "{}.{:09}",
        timestamp.as_second(),
        timestamp.subsec_nanosecond()
    )
}

/// Seconds since the epoch of an RFC 3339 text; zero where it is none.
pub fn epoch(text: &str) -> i64 {
    text.parse::<Timestamp>().map_or(0, |t| t.as_second())
}

/// `Mon Jan  2 15:04:05 2006`, the form of `version`.
pub fn ansic(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(timestamp) => timestamp
            .to_zoned_datetime(TimeZone::UTC)
            .strftime("%a %b %e %H:%M:%S %Y")
            .to_string(),
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_as_go_units_tells_them() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (3 * 3600, "3 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86400, "2 weeks"),
            (61 * 86400, "2 months"),
            (800 * 86400, "2 years"),
        ] {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        assert_eq!(parse_duration("1h30m"), Ok(5400 * 1_000_000_000));
        assert_eq!(parse_duration("1.5s"), Ok(1_500_000_000));
        assert_eq!(parse_duration("-2ms"), Ok(-2_000_000));
        assert_eq!(parse_duration("0"), Ok(0));
        for bad in ["", "5", "x", "5y"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn moments_are_dates_ages_or_seconds() {
        assert_eq!(moment("1136073845"), Ok("1136073845".into()));
        assert_eq!(moment("1136073845.5"), Ok("1136073845.5".into()));
        assert_eq!(
            moment("2006-01-02T15:04:05Z"),
            Ok("1136214245.000000000".into())
        );
        assert!(moment("yesterday").is_err());
        assert!(moment("10m").is_ok());
        assert!(moment("2013-01-02").is_ok());
    }
}
