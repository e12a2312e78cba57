//! Log drivers: which there are, the options each takes, and what they become.
//!
//! | driver | kept | sent to |
//! |---|---|---|
//! | `json-file`, `local` | in files, rotated | |
//! | `syslog`, `journald` | in files for `logs`, unless `cache-disabled` | a syslog server, the journal |
//! | `none` | | |

mod attributes;
mod forward;
mod tag;

use std::collections::BTreeMap;

use berth_runtime::task::ForwardSpec;
use berth_spec::docker::config::LogConfig;

use super::log_file::{self, parse_size};
use super::record::Record;
use crate::{Error, Result};

/// The drivers, as `info` lists them.
pub(crate) const DRIVERS: [&str; 5] = ["journald", "json-file", "local", "none", "syslog"];

/// Bytes that may wait for a receiver, where nothing is said; Docker's number.
const BUFFER: u64 = 1 << 20;

/// Options that every driver takes.
const COMMON: [&str; 2] = ["mode", "max-buffer-size"];
/// Of the files behind a driver that sends.
const CACHE: [&str; 4] = [
    "cache-disabled",
    "cache-max-size",
    "cache-max-file",
    "cache-compress",
];
/// Which of a container's labels and variables go along.
const ATTRIBUTES: [&str; 5] = ["labels", "labels-regex", "env", "env-regex", "tag"];

/// The options that a driver takes; none for a driver that is not there.
fn options(driver: &str) -> Option<Vec<&'static str>> {
    let files = ["max-size", "max-file", "compress"];
    Some(match driver {
        "json-file" => [&files[..], &ATTRIBUTES, &COMMON].concat(),
        "local" => [&files[..], &COMMON].concat(),
        "journald" => [&ATTRIBUTES[..], &CACHE, &COMMON].concat(),
        "syslog" => [&forward::SYSLOG[..], &ATTRIBUTES, &CACHE, &COMMON].concat(),
        _ => return None,
    })
}

/// Checks a driver and its options; Docker's words.
pub(super) fn check(log: &LogConfig) -> Result<()> {
    let driver = log.kind.as_str();
    if driver == "none" {
        return Ok(());
    }
    let known = options(driver).ok_or_else(|| {
        Error::invalid(format!(
            "logger: no log driver named '{driver}' is registered"
        ))
    })?;
    for (name, value) in &log.config {
        if !known.contains(&name.as_str()) {
            return Err(Error::invalid(format!(
                "unknown log opt '{name}' for {driver} log driver"
            )));
        }
        check_value(name, value)?;
    }
    tag::check(option(log, "tag").unwrap_or_default())?;
    forward::check(log)
}

fn check_value(name: &str, value: &str) -> Result<()> {
    let refused = |text: String| Err(Error::invalid(text));
    match name {
        "max-size" | "cache-max-size" | "max-buffer-size" => parse_size(value).map(drop),
        "max-file" | "cache-max-file" if !value.parse::<u32>().is_ok_and(|n| n >= 1) => {
            refused(format!("{name} cannot be less than 1: {value}"))
        }
        "mode" if !matches!(value, "blocking" | "non-blocking") => {
            refused(format!("logger: logging mode not supported: {value}"))
        }
        "labels-regex" | "env-regex" => regex::Regex::new(value)
            .map(drop)
            .map_err(|e| Error::invalid(format!("log opt {name}: {e}"))),
        _ => Ok(()),
    }
}

fn option<'l>(log: &'l LogConfig, name: &str) -> Option<&'l str> {
    log.config.get(name).map(String::as_str)
}

/// Whether a driver's output is kept here, so that it can be read again.
pub(super) fn readable(log: &LogConfig) -> bool {
    log.kind != "none" && !(forwards(log) && truth(option(log, "cache-disabled")))
}

/// Whether output is sent on.
fn forwards(log: &LogConfig) -> bool {
    matches!(log.kind.as_str(), "syslog" | "journald")
}

/// Go's `ParseBool`, where what cannot be read is false.
fn truth(value: Option<&str>) -> bool {
    matches!(value, Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
}

/// Where a container's output goes.
pub(crate) struct Target {
    pub file: Option<log_file::LogFile>,
    pub forward: Option<ForwardSpec>,
}

/// What the record asks for; `dir` is the container's directory. Names of servers are looked up, and
/// what is not there is told as Docker tells it. Blocks.
pub(crate) fn target(record: &Record, dir: &std::path::Path) -> Result<Target> {
    let log = &record.host.log_config;
    let attributes = match log.kind.as_str() {
        "json-file" => of_entries(record)?,
        _ => BTreeMap::new(),
    };
    let failed = |e: Error| e.context("failed to initialize logging driver");
    let forward = match forwards(log) {
        true => Some(ForwardSpec {
            to: forward::target(record).map_err(failed)?,
            buffer: usize::try_from(option(log, "max-buffer-size").map_or(Ok(BUFFER), parse_size)?)
                .unwrap_or(usize::MAX),
            blocking: option(log, "mode") != Some("non-blocking"),
        }),
        false => None,
    };
    Ok(Target {
        file: readable(log).then(|| log_file::LogFile::of(record, dir, attributes)),
        forward,
    })
}

/// What entries of a `json-file` say beside the text.
fn of_entries(record: &Record) -> Result<BTreeMap<String, String>> {
    let mut attributes = attributes::of(record, str::to_owned)?;
    if let Some(template) = option(&record.host.log_config, "tag") {
        attributes.insert("tag".to_owned(), tag::render(template, record)?);
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_take_their_own_options() {
        let check = |driver: &str, options: &[(&str, &str)]| {
            let log = LogConfig {
                kind: driver.to_owned(),
                config: options
                    .iter()
                    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                    .collect(),
            };
            super::check(&log).map_or_else(|e| e.to_string(), |()| String::new())
        };
        for (driver, options, expected) in [
            ("json-file", &[("labels", "a"), ("max-size", "1m")][..], ""),
            ("none", &[("x", "y")], ""),
            (
                "journald",
                &[("tag", "{{.Name}}"), ("cache-disabled", "true")],
                "",
            ),
            ("syslog", &[("syslog-address", "udp://127.0.0.1:1")], ""),
            (
                "local",
                &[("labels", "a")],
                "unknown log opt 'labels' for local log driver",
            ),
            (
                "nothing",
                &[],
                "logger: no log driver named 'nothing' is registered",
            ),
            (
                "json-file",
                &[("mode", "x")],
                "logger: logging mode not supported: x",
            ),
            (
                "json-file",
                &[("max-file", "0")],
                "max-file cannot be less than 1: 0",
            ),
            (
                "syslog",
                &[("syslog-address", "ftp://x")],
                "syslog-address should be in form proto://address, got ftp://x",
            ),
            (
                "syslog",
                &[("syslog-facility", "local9")],
                "invalid syslog facility",
            ),
            ("syslog", &[("syslog-format", "x")], "Invalid syslog format"),
        ] {
            assert_eq!(check(driver, options), expected, "{driver}");
        }
        assert!(check("json-file", &[("env-regex", "(")]).starts_with("log opt env-regex: "));
        assert!(check("json-file", &[("tag", "{{.Nope}}")]).contains("Nope"));
    }
}
