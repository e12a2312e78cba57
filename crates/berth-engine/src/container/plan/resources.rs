//! Limits: Docker's checks, and what they become in the OCI document.

use berth_spec::docker::HostConfig;
use berth_spec::docker::config::Ulimit;
use berth_spec::oci::runtime::{
    BlockIo, Cpu, DeviceKind, DeviceRule, LinuxResources, Memory, Pids, Rlimit, ThrottleDevice,
    WeightDevice,
};

use super::Machine;
use crate::{Error, Result};

/// Least memory limit, in bytes.
const MEMORY_MIN: i64 = 6 << 20;
/// Microseconds that `--cpus` is measured in.
const CPU_PERIOD: i64 = 100_000;

/// Fills in what follows from other limits, as Docker does.
pub(crate) fn adapt_limits(host: &mut HostConfig) {
    if host.memory > 0 && host.memory_swap == 0 {
        // As much swap as memory.
        host.memory_swap = host.memory.saturating_mul(2);
    }
    if host.memory_swappiness == Some(-1) {
        host.memory_swappiness = None;
    }
    host.pids_limit = match host.pids_limit {
        // What a client sends that was not told a limit.
        Some(0) => None,
        // Asked for, so that the engine's default does not hold; inspect shows none, as Docker does.
        Some(limit) if limit < 0 => Some(-1),
        limit => limit,
    };
}

/// Checks limits; answers warnings.
pub(crate) fn check_limits(host: &HostConfig, machine: Machine) -> Result<Vec<String>> {
    let refused = |text: &str| Err(Error::invalid(text));
    let mut warnings = Vec::new();
    let (memory, swap, reservation) = (host.memory, host.memory_swap, host.memory_reservation);
    if memory != 0 && memory < MEMORY_MIN {
        return refused("Minimum memory limit allowed is 6MB");
    }
    if memory > 0 && swap > 0 && swap < memory {
        return refused("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if memory == 0 && swap > 0 {
        return refused(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        );
    }
    if let Some(swappiness) = host.memory_swappiness
        && !(-1..=100).contains(&swappiness)
    {
        return Err(Error::invalid(format!(
            "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        )));
    }
    if reservation != 0 && reservation < MEMORY_MIN {
        return refused("Minimum memory reservation allowed is 6MB");
    }
    if memory > 0 && reservation > memory {
        return refused(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        );
    }
    if host.oom_kill_disable == Some(true) && memory == 0 {
        warnings.push("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".to_owned());
    }
    check_cpu(host, machine)?;
    if host.blkio_weight > 0 && !machine.blkio_weight {
        warnings.push("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.".to_owned());
    }
    if host.blkio_weight_device.iter().flatten().next().is_some() && !machine.blkio_weight {
        warnings.push("Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.".to_owned());
    }
    if host.blkio_weight > 0 && !(10..=1000).contains(&host.blkio_weight) {
        return refused("Range of blkio weight is from 10 to 1000");
    }
    if host.shm_size < 0 {
        return refused("SHM size can not be less than 0");
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return Err(Error::invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        )));
    }
    for ulimit in host.ulimits.iter().flatten() {
        rlimit(ulimit)?;
    }
    for rule in host.device_cgroup_rules.iter().flatten() {
        device_rule(rule)?;
    }
    Ok(warnings)
}

fn check_cpu(host: &HostConfig, machine: Machine) -> Result<()> {
    let Machine {
        cpus, memory_node, ..
    } = machine;
    let refused = |text: &str| Err(Error::invalid(text));
    if host.nano_cpus > 0 {
        if host.cpu_period > 0 {
            return refused("Conflicting options: Nano CPUs and CPU Period cannot both be set");
        }
        if host.cpu_quota > 0 {
            return refused("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
        }
    }
    if host.nano_cpus != 0
        && (host.nano_cpus < 0 || host.nano_cpus > i64::from(cpus.max(1)) * 1_000_000_000)
    {
        return Err(Error::invalid(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        )));
    }
    if host.cpu_shares < 0 {
        return Err(Error::invalid(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            host.cpu_shares
        )));
    }
    if host.cpu_period != 0 && !(1000..=1_000_000).contains(&host.cpu_period) {
        return refused(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1000 {
        return refused("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if host.cpu_percent > 0 {
        return refused("CPU percent is not supported on this platform");
    }
    for (kind, text) in [("cpus", &host.cpuset_cpus), ("mems", &host.cpuset_mems)] {
        if !text.is_empty() && parse_set(text).is_none() {
            return Err(Error::invalid(format!(
                "Invalid value {text} for cpuset {kind}"
            )));
        }
    }
    if let Some(highest) = parse_set(&host.cpuset_cpus)
        && highest >= cpus.max(1)
        && !host.cpuset_cpus.is_empty()
    {
        return Err(Error::invalid(format!(
            "Requested CPUs are not available - requested {}, available: 0-{}",
            host.cpuset_cpus,
            cpus.saturating_sub(1)
        )));
    }
    if !host.cpuset_mems.is_empty()
        && parse_set(&host.cpuset_mems).is_some_and(|highest| highest > memory_node)
    {
        let available = match memory_node {
            0 => "0".to_owned(),
            node => format!("0-{node}"),
        };
        return Err(Error::invalid(format!(
            "Requested memory nodes are not available - requested {}, available: {available}",
            host.cpuset_mems
        )));
    }
    Ok(())
}

/// Reads `0-2,4` and answers its highest number; nothing of the size of a number is built
/// (CVE-2018-20699).
fn parse_set(text: &str) -> Option<u32> {
    let number = |part: &str| part.trim().parse::<u32>().ok().filter(|n| *n < 65_536);
    let mut highest = 0;
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let top = match part.split_once('-') {
            Some((low, high)) => number(high).filter(|h| number(low).is_some_and(|l| l <= *h))?,
            None => number(part)?,
        };
        highest = highest.max(top);
    }
    Some(highest)
}

/// Numbers of a device of the host.
pub(crate) type DeviceNumbers<'a> = &'a dyn Fn(&str) -> Result<(i64, i64)>;

/// The limits in the OCI document, without device rules. `numbers` looks a device of the host up.
pub(crate) fn linux_resources(
    host: &HostConfig,
    numbers: DeviceNumbers<'_>,
) -> Result<LinuxResources> {
    let set = |value: i64| (value != 0).then_some(value);
    let unsigned = |value: i64| u64::try_from(value).ok().filter(|v| *v > 0);
    let memory = Memory {
        limit: set(host.memory),
        reservation: set(host.memory_reservation),
        swap: set(host.memory_swap),
        swappiness: host.memory_swappiness.and_then(|s| u64::try_from(s).ok()),
        disable_oom_killer: host.oom_kill_disable,
        kernel_tcp: set(host.kernel_memory_tcp),
        ..Memory::default()
    };
    let (mut period, mut quota) = (unsigned(host.cpu_period), set(host.cpu_quota));
    if host.nano_cpus > 0 {
        period = unsigned(CPU_PERIOD);
        quota = Some(host.nano_cpus / (1_000_000_000 / CPU_PERIOD));
    }
    let cpu = Cpu {
        shares: unsigned(host.cpu_shares),
        quota,
        period,
        realtime_period: unsigned(host.cpu_realtime_period),
        realtime_runtime: set(host.cpu_realtime_runtime),
        cpus: host.cpuset_cpus.clone(),
        mems: host.cpuset_mems.clone(),
        ..Cpu::default()
    };
    Ok(LinuxResources {
        memory: (memory != Memory::default()).then_some(memory),
        cpu: (cpu != Cpu::default()).then_some(cpu),
        pids: host.pids_limit.map(|limit| Pids { limit }),
        block_io: block_io(host, numbers)?,
        ..LinuxResources::default()
    })
}

fn block_io(host: &HostConfig, numbers: DeviceNumbers<'_>) -> Result<Option<BlockIo>> {
    let throttle = |list: &Option<Vec<berth_spec::docker::config::ThrottleDevice>>| {
        list.iter()
            .flatten()
            .map(|device| {
                let (major, minor) = numbers(&device.path)?;
                Ok(ThrottleDevice {
                    major,
                    minor,
                    rate: device.rate,
                })
            })
            .collect::<Result<Vec<_>>>()
    };
    let mut weights = Vec::new();
    for device in host.blkio_weight_device.iter().flatten() {
        let (major, minor) = numbers(&device.path)?;
        weights.push(WeightDevice {
            major,
            minor,
            weight: Some(device.weight),
            leaf_weight: None,
        });
    }
    let io = BlockIo {
        weight: (host.blkio_weight > 0).then_some(host.blkio_weight),
        weight_device: weights,
        throttle_read_bps_device: throttle(&host.blkio_device_read_bps)?,
        throttle_write_bps_device: throttle(&host.blkio_device_write_bps)?,
        throttle_read_iops_device: throttle(&host.blkio_device_read_iops)?,
        throttle_write_iops_device: throttle(&host.blkio_device_write_iops)?,
        ..BlockIo::default()
    };
    Ok((io != BlockIo::default()).then_some(io))
}

/// Docker's names of limits (go-units `ulimit.go`).
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

fn rlimit(ulimit: &Ulimit) -> Result<Rlimit> {
    if !ULIMITS.contains(&ulimit.name.as_str()) {
        return Err(Error::invalid(format!(
            "invalid ulimit type: {}",
            ulimit.name
        )));
    }
    if ulimit.hard != -1 && (ulimit.soft > ulimit.hard || ulimit.soft == -1) {
        return Err(Error::invalid(format!(
            "ulimit soft limit must be less than or equal to hard limit: {} > {}",
            ulimit.soft, ulimit.hard
        )));
    }
    let value = |n: i64| u64::try_from(n).unwrap_or(u64::MAX);
    Ok(Rlimit {
        kind: format!("RLIMIT_{}", ulimit.name.to_ascii_uppercase()),
        hard: value(ulimit.hard),
        soft: value(ulimit.soft),
    })
}

/// Limits of processes: the runtime's own, the engine's over them, the container's over those.
pub(crate) fn rlimits(host: &[Ulimit], defaults: &[Ulimit]) -> Result<Vec<Rlimit>> {
    let mut limits = berth_runtime::defaults::rlimits();
    for ulimit in defaults.iter().chain(host) {
        let limit = rlimit(ulimit)?;
        limits.retain(|l| l.kind != limit.kind);
        limits.push(limit);
    }
    Ok(limits)
}

/// Reads `c 1:3 rwm` of `--device-cgroup-rule`.
pub(crate) fn device_rule(text: &str) -> Result<DeviceRule> {
    let refused = || Error::invalid(format!("invalid device cgroup rule format: '{text}'"));
    let mut parts = text.split_whitespace();
    let (Some(kind), Some(numbers), Some(access), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(refused());
    };
    let kind = match kind {
        "a" => DeviceKind::All,
        "b" => DeviceKind::Block,
        "c" => DeviceKind::Char,
        _ => return Err(refused()),
    };
    let number = |part: &str| match part {
        "*" => Ok(None),
        number => number
            .parse::<u32>()
            .map(|n| Some(i64::from(n)))
            .map_err(|_| refused()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(refused)?;
    check_device_access(access).map_err(|_| refused())?;
    Ok(DeviceRule {
        allow: true,
        kind,
        major: number(major)?,
        minor: number(minor)?,
        access: access.to_owned(),
    })
}

/// `r`, `w` and `m`, one to three of them; Docker's words for others.
pub(crate) fn check_device_access(access: &str) -> Result<()> {
    let good =
        (1..=3).contains(&access.len()) && access.bytes().all(|b| matches!(b, b'r' | b'w' | b'm'));
    match good {
        true => Ok(()),
        false => Err(Error::invalid(format!("invalid device mode: {access}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals() {
        type Change = fn(&mut HostConfig);
        let machine = Machine {
            cpus: 2,
            memory_node: 0,
            blkio_weight: true,
        };
        let cases: [(Change, &str); 10] = [
            (
                |h| h.cpuset_mems = "0-1".to_owned(),
                "Requested memory nodes are not available - requested 0-1, available: 0",
            ),
            (
                |h| h.memory = 4 << 20,
                "Minimum memory limit allowed is 6MB",
            ),
            (
                |h| h.memory_swap = 8 << 20,
                "You should always set the Memory limit when using Memoryswap limit, see usage",
            ),
            (
                |h| (h.memory, h.memory_swap) = (8 << 20, 7 << 20),
                "Minimum memoryswap limit should be larger than memory limit, see usage",
            ),
            (
                |h| h.nano_cpus = 9_000_000_000,
                "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
            ),
            (
                |h| h.cpuset_cpus = "0-5".to_owned(),
                "Requested CPUs are not available - requested 0-5, available: 0-1",
            ),
            (
                |h| h.cpuset_cpus = "0-4294967295".to_owned(),
                "Invalid value 0-4294967295 for cpuset cpus",
            ),
            (
                |h| h.blkio_weight = 5,
                "Range of blkio weight is from 10 to 1000",
            ),
            (
                |h| h.oom_score_adj = 2000,
                "Invalid value 2000, range for oom score adj is [-1000, 1000]",
            ),
            (
                |h| h.cpu_quota = 10,
                "CPU cfs quota can not be less than 1ms (i.e. 1000)",
            ),
        ];
        for (change, text) in cases {
            let mut host = HostConfig::default();
            change(&mut host);
            assert_eq!(check_limits(&host, machine).unwrap_err().to_string(), text);
        }
        assert!(
            check_limits(&HostConfig::default(), machine)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn cpus_become_a_quota() {
        let host = HostConfig {
            nano_cpus: 1_500_000_000,
            memory: 64 << 20,
            ..HostConfig::default()
        };
        let resources = linux_resources(&host, &|_| Ok((0, 0))).unwrap();
        let cpu = resources.cpu.unwrap();
        assert_eq!((cpu.period, cpu.quota), (Some(100_000), Some(150_000)));
        assert_eq!(resources.memory.unwrap().limit, Some(64 << 20));
        assert!(resources.block_io.is_none() && resources.pids.is_none());
    }

    #[test]
    fn device_rules() {
        let rule = device_rule("c 1:* rw").unwrap();
        assert_eq!((rule.major, rule.minor), (Some(1), None));
        for bad in [
            "",
            "c 1:3",
            "x 1:3 r",
            "c 1 r",
            "c 1:3 rx",
            "c -1:3 r",
            "c 1:3 rwmr",
        ] {
            assert!(device_rule(bad).is_err(), "{bad}");
        }
    }
}
