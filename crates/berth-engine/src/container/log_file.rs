//! Where a container's output is kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::record::Record;
use crate::{Error, Result};

/// Bytes of a log file where nothing is said: logs do not fill the disk.
const MAX_SIZE: u64 = 20 << 20;
/// Files kept where nothing is said, the current one among them.
const MAX_FILE: u32 = 5;

/// Files of a log, in Docker's `json-file` form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogFile {
    pub path: PathBuf,
    /// Bytes after which the next file begins; 0 for never.
    pub max_size: u64,
    pub max_file: u32,
    /// Said in every entry.
    pub attributes: BTreeMap<String, String>,
}

/// The log file of a container.
pub(crate) fn path(id: &str, dir: &Path) -> PathBuf {
    dir.join(format!("{id}-json.log"))
}

impl LogFile {
    /// What the record asks for; `dir` is the container's directory. Behind a driver that sends, the
    /// options of the files begin with `cache-`.
    pub fn of(record: &Record, dir: &Path, attributes: BTreeMap<String, String>) -> Self {
        let log = &record.host.log_config;
        let option = |name: &str| {
            let own = log.config.get(name);
            own.or_else(|| log.config.get(&format!("cache-{name}")))
                .map(String::as_str)
        };
        let max_size = match option("max-size") {
            None => MAX_SIZE,
            Some("-1") => 0,
            Some(text) => parse_size(text).unwrap_or(MAX_SIZE),
        };
        let one = log.kind == "json-file" && option("max-size").is_some();
        Self {
            path: path(&record.id, dir),
            max_size,
            max_file: option("max-file")
                .and_then(|n| n.parse().ok())
                // A size without a number of files is one file, as Docker has it.
                .unwrap_or(if one { 1 } else { MAX_FILE }),
            attributes,
        }
    }
}

/// Reads `10m`, `1g`, `500k`, `-1` (no bound).
pub(crate) fn parse_size(text: &str) -> Result<u64> {
    let refused = || Error::invalid(format!("invalid size: '{text}'"));
    if text == "-1" {
        return Ok(0);
    }
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower
        .trim_end_matches(|c: char| c.is_ascii_alphabetic())
        .trim_end();
    let unit = match lower[digits.len()..].trim() {
        "" | "b" => 1_u64,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return Err(refused()),
    };
    let number: f64 = digits.parse().map_err(|_| refused())?;
    if !(0.0..=1e15).contains(&number) {
        return Err(refused());
    }
    Ok((number * unit as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("10m", 10 << 20),
            ("1.5k", 1536),
            ("7", 7),
            ("2 GB", 2 << 30),
            ("-1", 0),
        ] {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
        for bad in ["", "m", "ten", "-5", "1x", "nan"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
