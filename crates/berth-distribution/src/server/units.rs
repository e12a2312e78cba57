//! Spans of time and amounts of bytes as people write them: `90s`, `24h`, `30d`; `500MB`, `10GiB`.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// A span of time, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(i64);

impl Span {
    /// So many seconds.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds)
    }

    /// The seconds.
    pub fn as_secs(self) -> i64 {
        self.0
    }

    /// For timers.
    pub(crate) fn as_duration(self) -> Duration {
        Duration::from_secs(u64::try_from(self.0).unwrap_or(0))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        span(&text).map(Span).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "invalid span of time {text:?}: a number with s, m, h or d is wanted"
            ))
        })
    }
}

fn span(text: &str) -> Option<i64> {
    let unit = text.chars().last()?;
    let number: i64 = text.strip_suffix(unit)?.parse().ok()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    number.checked_mul(seconds).filter(|s| *s >= 0)
}

/// An amount of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(u64);

impl Bytes {
    /// So many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        amount(&text).map(Bytes).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "invalid amount of bytes {text:?}: a number with B, KB, MB, GB, TB, KiB, MiB, GiB or TiB is wanted"
            ))
        })
    }
}

fn amount(text: &str) -> Option<u64> {
    let at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..at].parse().ok()?;
    let factor: u64 = match text[at..].trim() {
        "" | "B" => 1,
        "KB" | "kB" => 1000,
        "MB" => 1000 * 1000,
        "GB" => 1000 * 1000 * 1000,
        "TB" => 1000 * 1000 * 1000 * 1000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!(span("90s"), Some(90));
        assert_eq!(span("30d"), Some(30 * 86_400));
        for bad in ["", "s", "1", "1w", "-1h", "99999999999999999d", "1.5h"] {
            assert_eq!(span(bad), None, "{bad}");
        }
        assert_eq!(amount("10GiB"), Some(10 << 30));
        assert_eq!(amount("500 MB"), Some(500_000_000));
        assert_eq!(amount("7"), Some(7));
        for bad in ["", "GB", "1PB", "1.5GB", "99999999999TB"] {
            assert_eq!(amount(bad), None, "{bad}");
        }
    }
}
