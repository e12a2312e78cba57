//! `--device` and the limits of block devices.

use berth_spec::docker::config::{DeviceMapping, ThrottleDevice, WeightDevice};

use super::mount::clean_absolute;
use crate::format::size;

/// A device, or the qualified name (`vendor.com/class=name`) of one described by CDI.
#[derive(Debug, PartialEq, Eq)]
pub enum Device {
    /// A device of the host.
    Host(HostDevice),
    /// A CDI name.
    Cdi(String),
}

/// Source, target and permissions.
pub type HostDevice = (String, String, String);

impl Device {
    /// As the API has it.
    pub fn mapping(from: &HostDevice) -> DeviceMapping {
        DeviceMapping {
            path_on_host: from.0.clone(),
            path_in_container: from.1.clone(),
            cgroup_permissions: from.2.clone(),
        }
    }
}

/// Reads `source[:target][:permissions]`.
pub fn parse(text: &str) -> Result<Device, String> {
    if is_cdi(text) {
        return Ok(Device::Cdi(text.to_owned()));
    }
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 3 || parts[0].is_empty() {
        return Err(format!("bad format for path: {text}"));
    }
    let absolute = |path: &str| {
        if path.starts_with('/') {
            Ok(clean_absolute(path))
        } else {
            Err(format!("{path} is not an absolute path"))
        }
    };
    let source = parts[0].to_owned();
    let all = "rwm".to_owned();
    Ok(Device::Host(match parts[..] {
        [path] => (absolute(path)?, absolute(path)?, all),
        [path, mode] if is_mode(mode) => (absolute(path)?, absolute(path)?, mode.to_owned()),
        [_, target] => (source, absolute(target)?, all),
        [_, target, mode] if is_mode(mode) => (source, absolute(target)?, mode.to_owned()),
        [_, _, mode] => return Err(format!("bad mode specified: {mode}")),
        _ => return Err(format!("invalid device specification: {text}")),
    }))
}

fn is_mode(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|c| "rwm".contains(c))
        && "rwm".chars().all(|c| text.matches(c).count() <= 1)
}

/// `vendor/class=device`.
fn is_cdi(text: &str) -> bool {
    let Some((kind, device)) = text.split_once('=') else {
        return false;
    };
    let word = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    kind.split_once('/')
        .is_some_and(|(vendor, class)| word(vendor) && word(class))
        && !device.is_empty()
        && !device.contains('/')
}

fn split(text: &str) -> Result<(&str, &str), String> {
    let (path, value) = text
        .split_once(':')
        .filter(|(path, _)| !path.is_empty())
        .ok_or_else(|| format!("bad format: {text}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    Ok((path, value))
}

/// `/dev/x:1mb`: bytes per second.
pub fn throttle_bytes(text: &str) -> Result<ThrottleDevice, String> {
    let (path, value) = split(text)?;
    let rate = size::parse_ram(value)
        .ok()
        .and_then(|rate| rate.try_into().ok());
    Ok(ThrottleDevice {
        path: path.to_owned(),
        rate: rate.ok_or_else(|| format!("invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb"))?,
    })
}

/// `/dev/x:100`: operations per second.
pub fn throttle_operations(text: &str) -> Result<ThrottleDevice, String> {
    let (path, value) = split(text)?;
    Ok(ThrottleDevice {
        path: path.to_owned(),
        rate: value.parse().map_err(|_| format!("invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer"))?,
    })
}

/// `/dev/x:500`.
pub fn weight(text: &str) -> Result<WeightDevice, String> {
    let (path, value) = split(text)?;
    let weight = value.parse().ok().filter(|w| matches!(w, 0 | 10..=1000));
    Ok(WeightDevice {
        path: path.to_owned(),
        weight: weight.ok_or_else(|| format!("invalid weight for device: {text}"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read() {
        let host = |s: &str, t: &str, m: &str| Device::Host((s.into(), t.into(), m.into()));
        for (text, device) in [
            ("/dev/a", host("/dev/a", "/dev/a", "rwm")),
            ("/dev/a:r", host("/dev/a", "/dev/a", "r")),
            ("/dev/a:/dev/b", host("/dev/a", "/dev/b", "rwm")),
            ("/dev/a:/dev/b:rw", host("/dev/a", "/dev/b", "rw")),
            ("v.com/gpu=all", Device::Cdi("v.com/gpu=all".into())),
        ] {
            assert_eq!(parse(text), Ok(device), "{text}");
        }
        for (text, error) in [
            ("a", "a is not an absolute path"),
            ("/a:/b:x", "bad mode specified: x"),
            ("/a:/b:r:w", "bad format for path: /a:/b:r:w"),
        ] {
            assert_eq!(parse(text).unwrap_err(), error, "{text}");
        }
        assert_eq!(throttle_bytes("/dev/a:1k").unwrap().rate, 1024);
        assert!(weight("/dev/a:5").is_err() && throttle_operations("a:1").is_err());
    }
}
