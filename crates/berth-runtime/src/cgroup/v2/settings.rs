//! Limits as values for the files of cgroup v2.

use berth_spec::oci::runtime::{BlockIo, Cpu, LinuxResources, Memory, ThrottleDevice};

use super::super::setting::Setting;
use super::super::v1;
use super::super::{Error, Result};

/// Microseconds of a period when none is given, cpu.max.
const DEFAULT_PERIOD: u64 = 100_000;

/// Every limit that is asked for, in the order in which it is to be written. `has` tells whether
/// the cgroup has a file. What v2 has no file for goes to `warnings`.
pub(super) fn all(
    resources: &LinuxResources,
    has: impl Fn(&str) -> bool,
    warnings: &mut Vec<String>,
) -> Result<Vec<Setting>> {
    let mut out = Vec::new();
    if let Some(cpu) = &resources.cpu {
        out.extend(cpu_settings(cpu));
    }
    if let Some(memory) = &resources.memory {
        out.extend(memory_settings(memory, warnings)?);
    }
    if let Some(pids) = resources.pids.filter(|p| p.limit != 0) {
        out.push(Setting::new("pids.max", v1::pids_max(pids.limit)));
    }
    if let Some(io) = &resources.block_io {
        out.extend(io_settings(io, has("io.bfq.weight")));
    }
    for limit in &resources.hugepage_limits {
        let file = |kind: &str| format!("hugetlb.{}.{kind}", limit.page_size);
        out.push(Setting::new(file("max"), limit.limit));
        if has(&file("rsvd.max")) {
            out.push(Setting::new(file("rsvd.max"), limit.limit));
        }
    }
    out.extend(v1::rdma(resources));
    for (file, value) in &resources.unified {
        if file.contains('/') || file.is_empty() || file.starts_with('.') {
            return Err(Error::Invalid(format!(
                "unified resource {file:?} must be a file name (no slashes)"
            )));
        }
        // `io.max` and others take one line at a time.
        out.extend(value.lines().map(|line| Setting::new(file, line)));
    }
    Ok(out)
}

fn cpu_settings(cpu: &Cpu) -> Vec<Setting> {
    let mut out = Vec::new();
    if let Some(shares) = cpu.shares.filter(|&s| s != 0) {
        out.push(Setting::new("cpu.weight", weight_of_shares(shares)));
    }
    if let Some(idle) = cpu.idle {
        out.push(Setting::new("cpu.idle", idle));
    }
    let quota = cpu.quota.filter(|&q| q != 0);
    let period = cpu.period.filter(|&p| p != 0);
    if quota.is_some() || period.is_some() {
        let quota = match quota {
            Some(q) if q > 0 => q.to_string(),
            _ => "max".to_owned(),
        };
        let period = period.unwrap_or(DEFAULT_PERIOD);
        out.push(Setting::new("cpu.max", format!("{quota} {period}")));
    }
    if let Some(burst) = cpu.burst {
        out.push(Setting::new("cpu.max.burst", burst));
    }
    for (file, list) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if !list.is_empty() {
            out.push(Setting::new(file, list));
        }
    }
    out
}

/// v1's shares (2 to 262144, 1024 by default) as v2's weight (1 to 10000, 100 by default). The
/// curve goes through the three pairs (2, 1), (1024, 100) and (262144, 10000), as in runc 1.3.2
/// and crun 1.23 (opencontainers/cgroups#20).
fn weight_of_shares(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let l = (shares as f64).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    10_f64.powf(exponent).ceil() as u64
}

fn memory_settings(memory: &Memory, warnings: &mut Vec<String>) -> Result<Vec<Setting>> {
    let mut out = Vec::new();
    let limit = memory.limit.filter(|&n| n != 0);
    let swap = memory.swap.filter(|&n| n != 0);
    let text = |n: i64| match n {
        -1 => "max".to_owned(),
        n => n.to_string(),
    };
    // v2 counts swap alone, a bundle counts memory and swap together.
    let swap = match (limit, swap) {
        (_, Some(-1)) | (Some(-1), None) => Some("max".to_owned()),
        (_, None) => None,
        (Some(limit), Some(swap)) if limit > 0 && swap >= limit => Some((swap - limit).to_string()),
        (Some(limit), Some(_)) if limit > 0 => {
            return Err(Error::Invalid(
                "memory+swap limit should be >= memory limit".to_owned(),
            ));
        }
        _ => {
            return Err(Error::Invalid(
                "unable to set swap limit without memory limit".to_owned(),
            ));
        }
    };
    out.extend(swap.map(|s| Setting::new("memory.swap.max", s)));
    out.extend(limit.map(|n| Setting::new("memory.max", text(n))));
    let reservation = memory.reservation.filter(|&n| n != 0);
    out.extend(reservation.map(|n| Setting::new("memory.low", text(n))));
    if memory.disable_oom_killer == Some(true) {
        warnings.push(
            "OomKillDisable is not supported on cgroup v2. OomKillDisable discarded.".to_owned(),
        );
    }
    if memory.swappiness.is_some() {
        warnings.push(
            "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded."
                .to_owned(),
        );
    }
    Ok(out)
}

fn io_settings(io: &BlockIo, bfq: bool) -> Vec<Setting> {
    let (file, scale): (_, fn(u16) -> u64) = if bfq {
        ("io.bfq.weight", u64::from)
    } else {
        ("io.weight", io_weight)
    };
    let mut out = Vec::new();
    if let Some(weight) = io.weight.filter(|&w| w != 0) {
        out.push(Setting::new(file, scale(weight)));
    }
    for device in &io.weight_device {
        if let Some(weight) = device.weight {
            let value = format!("{}:{} {}", device.major, device.minor, scale(weight));
            out.push(Setting::new(file, value));
        }
    }
    let mut throttle = |key: &str, devices: &[ThrottleDevice]| {
        out.extend(devices.iter().map(|d| {
            // No operation at all cannot be said; 0 has always meant "no limit".
            let rate = match d.rate {
                0 => "max".to_owned(),
                rate => rate.to_string(),
            };
            Setting::new("io.max", format!("{}:{} {key}={rate}", d.major, d.minor))
        }));
    };
    throttle("rbps", &io.throttle_read_bps_device);
    throttle("wbps", &io.throttle_write_bps_device);
    throttle("riops", &io.throttle_read_iops_device);
    throttle("wiops", &io.throttle_write_iops_device);
    out
}

/// v1's 10 to 1000 on v2's 1 to 10000.
fn io_weight(weight: u16) -> u64 {
    let weight = u64::from(weight.clamp(10, 1000));
    1 + (weight - 10) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(resources: &LinuxResources) -> (Vec<String>, Vec<String>) {
        let mut warnings = Vec::new();
        let settings = all(resources, |_| false, &mut warnings).unwrap();
        let lines = settings
            .iter()
            .map(|s| format!("{}={}", s.file, s.value))
            .collect();
        (lines, warnings)
    }

    fn memory(memory: Memory) -> LinuxResources {
        LinuxResources {
            memory: Some(memory),
            ..LinuxResources::default()
        }
    }

    #[test]
    fn shares_become_weights() {
        assert_eq!([2, 1024, 262_144].map(weight_of_shares), [1, 100, 10_000]);
        assert!(weight_of_shares(512) < 100 && weight_of_shares(2048) > 100);
        assert_eq!([10, 500, 1000].map(io_weight), [1, 4950, 10_000]);
    }

    #[test]
    fn swap_is_counted_apart() {
        let of = |limit, swap| {
            of(&memory(Memory {
                limit,
                swap,
                ..Memory::default()
            }))
            .0
        };
        assert_eq!(
            of(Some(10), Some(30)),
            ["memory.swap.max=20", "memory.max=10"]
        );
        assert_eq!(
            of(Some(10), Some(10)),
            ["memory.swap.max=0", "memory.max=10"]
        );
        assert_eq!(
            of(Some(10), Some(-1)),
            ["memory.swap.max=max", "memory.max=10"]
        );
        assert_eq!(
            of(Some(-1), None),
            ["memory.swap.max=max", "memory.max=max"]
        );
        assert_eq!(of(Some(10), None), ["memory.max=10"]);
        let bad = memory(Memory {
            swap: Some(5),
            ..Memory::default()
        });
        assert!(all(&bad, |_| true, &mut Vec::new()).is_err());
    }

    #[test]
    fn quota_and_period_share_a_file() {
        let cpu = |quota, period| {
            of(&LinuxResources {
                cpu: Some(Cpu {
                    quota,
                    period,
                    ..Cpu::default()
                }),
                ..LinuxResources::default()
            })
            .0
        };
        assert_eq!(cpu(Some(50_000), None), ["cpu.max=50000 100000"]);
        assert_eq!(cpu(Some(-1), Some(20_000)), ["cpu.max=max 20000"]);
        assert!(cpu(None, None).is_empty());
    }

    #[test]
    fn what_v2_lacks_is_told() {
        let (lines, warnings) = of(&memory(Memory {
            disable_oom_killer: Some(true),
            swappiness: Some(10),
            ..Memory::default()
        }));
        assert!(lines.is_empty());
        assert_eq!(warnings.len(), 2);
    }

    #[test]
    fn unified_names_are_files() {
        let mut resources = LinuxResources::default();
        let unified = &mut resources.unified;
        unified.insert("memory.high".to_owned(), "5".to_owned());
        assert_eq!(of(&resources).0, ["memory.high=5"]);
        resources.unified.insert("../x".to_owned(), "5".to_owned());
        assert!(all(&resources, |_| true, &mut Vec::new()).is_err());
    }
}
