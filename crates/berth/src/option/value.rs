//! Numbers, amounts, durations and small words.

use std::net::IpAddr;

use crate::format::{size, time};

/// Go's `bool`.
pub fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!(
            "strconv.ParseBool: parsing {text:?}: invalid syntax"
        )),
    }
}

/// Go's `int64`, with its words.
pub fn int(text: &str) -> Result<i64, String> {
    text.parse().map_err(|e: std::num::ParseIntError| {
        let why = match e.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
                "value out of range"
            }
            _ => "invalid syntax",
        };
        format!("strconv.ParseInt: parsing {text:?}: {why}")
    })
}

/// Go's `uint16`.
pub fn uint16(text: &str) -> Result<u16, String> {
    text.parse()
        .map_err(|_| format!("strconv.ParseUint: parsing {text:?}: invalid syntax"))
}

/// An amount of memory: `64m`.
pub fn memory(text: &str) -> Result<i64, String> {
    size::parse_ram(text)
}

/// The same, or -1 for no limit.
pub fn memory_swap(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { memory(text) }
}

/// A number of processors, `1.5`, in billionths.
pub fn nano_cpus(text: &str) -> Result<i64, String> {
    let bad = || format!("failed to parse {text} as a rational number");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.len() + fraction.len() == 0 {
        return Err(bad());
    }
    let significant = fraction.trim_end_matches('0');
    if significant.len() > 9 {
        return Err("value is too precise".to_owned());
    }
    let nano: i64 = format!("{significant:0<9}").parse().map_err(|_| bad())?;
    let whole: i64 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| bad())?
    };
    whole
        .checked_mul(1_000_000_000)
        .and_then(|whole| whole.checked_add(nano))
        .ok_or_else(bad)
}

/// Go's duration, in nanoseconds.
pub fn duration(text: &str) -> Result<i64, String> {
    time::parse_duration(text)
}

/// An address, in its usual form.
pub fn ip(text: &str) -> Result<String, String> {
    text.trim()
        .parse::<IpAddr>()
        .map(|ip| ip.to_string())
        .map_err(|_| format!("IP address is not correctly formatted: {text}"))
}

/// A domain to search.
pub fn dns_search(text: &str) -> Result<String, String> {
    let domain = text.trim_matches(' ');
    if domain == "." {
        return Ok(domain.to_owned());
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
    };
    let named = domain.chars().any(|c| c.is_ascii_alphabetic());
    if named && domain.len() < 255 && domain.trim_end_matches('.').split('.').all(label) {
        Ok(domain.to_owned())
    } else {
        Err(format!("{text} is not a valid domain"))
    }
}

/// `stdin`, `stdout` or `stderr`.
pub fn stream(text: &str) -> Result<String, String> {
    let name = text.to_lowercase();
    if ["stdin", "stdout", "stderr"].contains(&name.as_str()) {
        Ok(name)
    } else {
        Err("valid streams are STDIN, STDOUT and STDERR".to_owned())
    }
}

/// `host:address`, or `host=address`; the address may be `host-gateway`.
pub fn extra_host(text: &str) -> Result<String, String> {
    let (name, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| format!("bad format for add-host: {text:?}"))?;
    let bare = address
        .strip_prefix('[')
        .and_then(|a| a.strip_suffix(']'))
        .unwrap_or(address);
    if bare != "host-gateway" && bare.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {address:?}"));
    }
    Ok(format!("{name}:{bare}"))
}

/// `name` or `name:alias`.
pub fn link(text: &str) -> Result<String, String> {
    let parts: Vec<_> = text.split(':').collect();
    if text.is_empty() {
        return Err("empty string specified for links".to_owned());
    }
    if parts.len() > 2 {
        return Err(format!("bad format for links: {text}"));
    }
    Ok(text.to_owned())
}

/// `a *:* rwm`: a rule of the device filter.
pub fn device_rule(text: &str) -> Result<String, String> {
    let bad = || format!("invalid device cgroup format '{text}'");
    let number = |n: &str| n == "*" || (!n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    let parts: Vec<_> = text.split(' ').collect();
    let [kind, numbers, access] = parts[..] else {
        return Err(bad());
    };
    let good = ["a", "c", "b"].contains(&kind)
        && numbers
            .split_once(':')
            .is_some_and(|(major, minor)| number(major) && number(minor))
        && (1..=3).contains(&access.len())
        && access.chars().all(|c| "rwm".contains(c));
    if good {
        Ok(text.to_owned())
    } else {
        Err(bad())
    }
}

/// A hardware address.
pub fn is_mac(text: &str) -> bool {
    let parts: Vec<_> = text.split([':', '-']).collect();
    parts.len() == 6
        && parts
            .iter()
            .all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A sysctl that a container may have its own value of.
pub fn sysctl(text: &str) -> Result<String, String> {
    const KERNEL: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let name = text.split_once('=').map_or("", |(name, _)| name);
    if KERNEL.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.") {
        Ok(text.to_owned())
    } else {
        Err(format!("sysctl '{text}' is not allowed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted_in_billionths() {
        for (text, nano) in [
            ("1.5", 1_500_000_000),
            ("2", 2_000_000_000),
            (".001", 1_000_000),
        ] {
            assert_eq!(nano_cpus(text), Ok(nano), "{text}");
        }
        for bad in ["", "x", "-1", "1.0000000001"] {
            assert!(nano_cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn small_notations() {
        assert_eq!(extra_host("a:1.2.3.4"), Ok("a:1.2.3.4".into()));
        assert_eq!(extra_host("a=[::1]"), Ok("a:::1".into()));
        assert_eq!(extra_host("a:host-gateway"), Ok("a:host-gateway".into()));
        assert!(extra_host("a").is_err() && extra_host("a:b").is_err());
        assert!(device_rule("c 1:3 rwm").is_ok() && device_rule("x 1:3 r").is_err());
        assert!(dns_search("a.b-c").is_ok() && dns_search("_").is_err());
        assert!(is_mac("92:d0:c6:0a:29:33") && !is_mac("92"));
        assert_eq!(memory_swap("-1"), Ok(-1));
        assert!(sysctl("net.a=1").is_ok() && sysctl("vm.a=1").is_err());
    }
}
