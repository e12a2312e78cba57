//! Points in time as clients write them: `1700000000`, `1700000000.123456789`.

use crate::error::{ApiError, Reply};
use crate::query::Query;

/// Nanoseconds since the epoch of the parameter `name`; `None` where it is absent, empty or zero.
pub fn optional(query: &Query, name: &str) -> Reply<Option<i64>> {
    Ok(given(query, name)?.filter(|time| *time != 0))
}

/// As [`optional`], with zero as the beginning of the epoch: all that is kept, for events.
pub fn given(query: &Query, name: &str) -> Reply<Option<i64>> {
    let Some(text) = query.get(name).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    parse(text).map(Some).ok_or_else(|| {
        ApiError::bad_request(format!(
            "invalid value {text:?} of query parameter {name}: expected seconds since 1970"
        ))
    })
}

fn parse(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = seconds.parse().ok()?;
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let nanoseconds: i64 = digits.parse().ok()?;
    let nanoseconds = if text.starts_with('-') {
        -nanoseconds
    } else {
        nanoseconds
    };
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn seconds_with_and_without_a_fraction() {
        for (text, nanoseconds) in [
            ("1", 1_000_000_000),
            ("1.5", 1_500_000_000),
            ("1700000000.000000001", 1_700_000_000_000_000_001),
            ("-1.5", -1_500_000_000),
        ] {
            assert_eq!(parse(text), Some(nanoseconds), "{text}");
        }
        for bad in ["", "x", "1.x", "99999999999999999999", "9999999999999"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
