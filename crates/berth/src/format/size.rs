//! Amounts of bytes, as Docker prints and reads them.

use super::number::general;

const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

fn scaled(bytes: f64, base: f64, units: &[&str], digits: usize) -> String {
    let mut value = bytes;
    let mut unit = 0;
    while value >= base && unit < units.len() - 1 {
        value /= base;
        unit += 1;
    }
    format!("{}{}", general(value, digits), units[unit])
}

/// Powers of 1000, four digits: `12.34MB`.
pub fn human(bytes: f64) -> String {
    scaled(bytes, 1000.0, &DECIMAL, 4)
}

/// Powers of 1000, three digits: `12.3MB`.
pub fn short(bytes: f64) -> String {
    scaled(bytes, 1000.0, &DECIMAL, 3)
}

/// Powers of 1024: `11.77MiB`.
pub fn binary(bytes: f64) -> String {
    scaled(bytes, 1024.0, &BINARY, 4)
}

/// Reads `64m`, `1.5GiB`, `1024`: powers of 1024.
pub fn parse_ram(text: &str) -> Result<i64, String> {
    let bad = || format!("invalid size: '{text}'");
    let end = text
        .rfind(|c: char| c.is_ascii_digit() || c == '.')
        .map(|at| at + 1)
        .ok_or_else(bad)?;
    let (number, suffix) = text.split_at(end);
    let number = number.trim_start();
    let (number, suffix) = (number, suffix.strip_prefix(' ').unwrap_or(suffix));
    let value: f64 = number.parse().map_err(|_| bad())?;
    if value < 0.0 || number.starts_with(['+', '-']) {
        return Err(bad());
    }
    let suffix = suffix.to_ascii_lowercase();
    let mut letters = suffix.chars();
    let multiple = match letters.next() {
        None | Some('b') => 0,
        Some('k') => 1,
        Some('m') => 2,
        Some('g') => 3,
        Some('t') => 4,
        Some('p') => 5,
        _ => return Err(format!("invalid suffix: '{suffix}'")),
    };
    if !matches!(
        (multiple, letters.as_str()),
        (_, "") | (1.., "b") | (1.., "ib")
    ) {
        return Err(format!("invalid suffix: '{suffix}'"));
    }
    Ok((value * 1024f64.powi(multiple)) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_printed_as_go_units_does() {
        assert_eq!(human(0.0), "0B");
        assert_eq!(human(999.0), "999B");
        assert_eq!(human(1_234_567.0), "1.235MB");
        assert_eq!(short(1_234_567.0), "1.23MB");
        assert_eq!(short(999_999.0), "1e+03kB");
        assert_eq!(binary(1536.0), "1.5KiB");
    }

    #[test]
    fn sizes_are_read_in_powers_of_1024() {
        for (text, bytes) in [
            ("32", 32),
            ("32b", 32),
            ("32k", 32 << 10),
            ("32KiB", 32 << 10),
            ("1.5m", 3 << 19),
            ("1 gb", 1 << 30),
        ] {
            assert_eq!(parse_ram(text), Ok(bytes), "{text}");
        }
        for bad in ["", "x", "-1", "1x", "1bb", "1kx"] {
            assert!(parse_ram(bad).is_err(), "{bad}");
        }
    }
}
