//! Numbers as Go's `%g` prints them.

/// `%.{digits}g`, for the magnitudes that sizes have.
pub fn general(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let exponent = {
        let text = format!("{:.*e}", digits.saturating_sub(1), value);
        let (_, exponent) = text.split_once('e').unwrap_or(("", "0"));
        exponent.parse::<i32>().unwrap_or(0)
    };
    if exponent < -4 || exponent >= digits as i32 {
        let text = format!("{:.*e}", digits.saturating_sub(1), value);
        let (mantissa, _) = text.split_once('e').unwrap_or((&text, ""));
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs());
    }
    let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
    trimmed(&format!("{value:.decimals$}")).to_owned()
}

fn trimmed(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_prints_it() {
        for (value, digits, text) in [
            (0.0, 4, "0"),
            (1.0, 4, "1"),
            (999.96, 3, "1e+03"),
            (1.2345, 4, "1.234"),
            (12.345, 3, "12.3"),
            (123.456, 3, "123"),
            (1000.0, 4, "1000"),
            (0.00001, 3, "1e-05"),
        ] {
            assert_eq!(general(value, digits), text, "{value} {digits}");
        }
    }
}
