//! Limits as properties of a unit (systemd.resource-control(5)), so that systemd does not take them
//! back when it writes to the cgroup itself.

use std::collections::BTreeMap;

use berth_spec::oci::runtime::{LinuxResources, Memory};

use super::wire::Value;
use crate::error::{Error, Result};

/// Name and value.
pub(super) type Property = (String, Value);

/// Annotations that set a property, as runc has them.
const ANNOTATION: &str = "org.systemd.property.";
/// `CPUQuotaPerSecUSec` and others: no limit.
const INFINITY: u64 = u64::MAX;

/// What limits become; `unified` where the one tree is v2.
pub(super) fn of(resources: &LinuxResources, unified: bool) -> Result<Vec<Property>> {
    let mut found = Vec::new();
    let mut add = |name: &str, value: Value| found.push((name.to_owned(), value));
    if let Some(memory) = &resources.memory {
        for (name, value) in memory_limits(memory, unified) {
            add(name, Value::U64(value));
        }
    }
    if let Some(cpu) = &resources.cpu {
        match cpu.shares.filter(|shares| *shares != 0) {
            Some(shares) if unified => add("CPUWeight", Value::U64(weight(shares))),
            Some(shares) => add("CPUShares", Value::U64(shares)),
            None => {}
        }
        if let Some(period) = cpu.period.filter(|period| *period != 0) {
            add("CPUQuotaPeriodUSec", Value::U64(period));
        }
        if let Some(quota) = cpu.quota.filter(|quota| *quota != 0) {
            let period = cpu.period.filter(|period| *period != 0).unwrap_or(100_000);
            add("CPUQuotaPerSecUSec", Value::U64(per_second(quota, period)));
        }
        if unified {
            for (name, list) in [
                ("AllowedCPUs", &cpu.cpus),
                ("AllowedMemoryNodes", &cpu.mems),
            ] {
                if !list.is_empty() {
                    add(name, Value::Bytes(bits(list)?));
                }
            }
        }
    }
    if let Some(pids) = resources.pids {
        let limit = u64::try_from(pids.limit).ok().filter(|limit| *limit != 0);
        add("TasksMax", Value::U64(limit.unwrap_or(INFINITY)));
    }
    Ok(found)
}

fn memory_limits(memory: &Memory, unified: bool) -> Vec<(&'static str, u64)> {
    let limit = |value: i64| u64::try_from(value).unwrap_or(INFINITY);
    let set = |value: Option<i64>| value.filter(|value| *value != 0);
    let mut found = Vec::new();
    if let Some(value) = set(memory.limit) {
        let name = if unified { "MemoryMax" } else { "MemoryLimit" };
        found.push((name, limit(value)));
    }
    if !unified {
        return found;
    }
    if let Some(value) = set(memory.reservation) {
        found.push(("MemoryLow", limit(value)));
    }
    match (set(memory.swap), set(memory.limit)) {
        (Some(swap), _) if swap < 0 => found.push(("MemorySwapMax", INFINITY)),
        // What is asked for is memory and swap together.
        (Some(swap), Some(both)) if both > 0 && swap >= both => {
            found.push(("MemorySwapMax", limit(swap - both)));
        }
        _ => {}
    }
    found
}

/// v1's shares as v2's weight: the formula that the kernel's documentation of both gives.
fn weight(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    1 + (shares - 2) * 9999 / 262_142
}

/// Microseconds of a second, in steps of ten milliseconds as systemd has them.
fn per_second(quota: i64, period: u64) -> u64 {
    const STEP: u64 = 10_000;
    let Ok(quota) = u64::try_from(quota) else {
        return INFINITY;
    };
    let exact = u128::from(quota) * 1_000_000 / u128::from(period);
    u64::try_from(exact).map_or(INFINITY, |n| n.checked_next_multiple_of(STEP).unwrap_or(n))
}

/// A list of CPUs or nodes (cpuset(7)) as bits, the lowest first.
fn bits(list: &str) -> Result<Vec<u8>> {
    const MOST: usize = 8192;
    let bad = || Error::invalid(format!("cpuset {list:?} cannot be read"));
    let mut found = Vec::new();
    for range in list.split(',').filter(|range| !range.trim().is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| bad());
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last >= MOST {
            return Err(bad());
        }
        for bit in first..=last {
            if found.len() <= bit / 8 {
                found.resize(bit / 8 + 1, 0);
            }
            found[bit / 8] |= 1 << (bit % 8);
        }
    }
    Ok(found)
}

/// Properties that annotations ask for. Only those that bound the unit's life: what else it may be is
/// not for whoever wrote an annotation.
pub(super) fn annotated(annotations: &BTreeMap<String, String>) -> Result<Vec<Property>> {
    let mut found = Vec::new();
    for (annotation, text) in annotations {
        let Some(name) = annotation.strip_prefix(ANNOTATION) else {
            continue;
        };
        let bad = || Error::invalid(format!("annotation {annotation}={text} value parse error"));
        let text = text.trim();
        match name {
            "TimeoutStopSec" | "RuntimeMaxSec" => {
                let seconds: u64 = text.parse().map_err(|_| bad())?;
                let name = name.replace("Sec", "USec");
                found.push((name, Value::U64(seconds.saturating_mul(1_000_000))));
            }
            "TimeoutStopUSec" | "RuntimeMaxUSec" => {
                let text = text.strip_prefix("uint64").unwrap_or(text).trim();
                let number = text.parse().map_err(|_| bad())?;
                found.push((name.to_owned(), Value::U64(number)));
            }
            "CollectMode" => {
                let text = text.trim_matches(['\'', '"']);
                found.push((name.to_owned(), Value::Text(text.to_owned())));
            }
            _ => {
                let text = format!("annotation {annotation}: this property cannot be set");
                return Err(Error::invalid(text));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use berth_spec::oci::runtime::{Cpu, Pids};

    use super::*;

    #[test]
    fn limits_become_properties() {
        let resources = LinuxResources {
            memory: Some(Memory {
                limit: Some(1 << 20),
                swap: Some(3 << 20),
                ..Memory::default()
            }),
            cpu: Some(Cpu {
                shares: Some(1024),
                quota: Some(5000),
                period: Some(10_000),
                cpus: "0-1,9".into(),
                ..Cpu::default()
            }),
            pids: Some(Pids { limit: -1 }),
            ..LinuxResources::default()
        };
        let found = of(&resources, true).unwrap();
        let get = |name: &str| {
            found
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, v)| v.clone())
        };
        assert_eq!(get("MemoryMax"), Some(Value::U64(1 << 20)));
        assert_eq!(get("MemorySwapMax"), Some(Value::U64(2 << 20)));
        assert_eq!(get("CPUWeight"), Some(Value::U64(39)));
        assert_eq!(get("CPUQuotaPerSecUSec"), Some(Value::U64(500_000)));
        assert_eq!(get("AllowedCPUs"), Some(Value::Bytes(vec![3, 2])));
        assert_eq!(get("TasksMax"), Some(Value::U64(INFINITY)));
        let found = of(&resources, false).unwrap();
        assert!(found.iter().any(|(name, _)| name == "MemoryLimit"));
        for bad in ["x", "2-1", "0-99999"] {
            assert!(bits(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn annotations_set_what_they_may() {
        let one = |name: &str, value: &str| {
            let name = format!("{ANNOTATION}{name}");
            annotated(&BTreeMap::from([(name, value.to_owned())]))
        };
        let expected = ("RuntimeMaxUSec".to_owned(), Value::U64(2_000_000));
        assert_eq!(one("RuntimeMaxSec", "2").unwrap(), [expected]);
        assert!(one("RuntimeMaxUSec", "uint64 5").is_ok());
        assert!(one("RuntimeMaxSec", "soon").is_err());
        assert!(one("DeviceAllow", "[]").is_err());
        let other = BTreeMap::from([("a.b".to_owned(), "c".to_owned())]);
        assert_eq!(annotated(&other).unwrap(), []);
    }
}
