//! Limits as values for the files of v1 controllers.

use berth_spec::oci::runtime::{BlockIo, Cpu, LinuxResources, Memory, Network, ThrottleDevice};

use super::super::setting::Setting;

/// What a limit needs: a controller, and Docker's name for the capability.
pub(super) struct Wanted {
    pub controller: &'static str,
    pub what: &'static str,
    pub settings: Vec<Setting>,
}

/// Every limit that is asked for, by controller, in the order in which they are to be written;
/// memory and devices have their own rules and are not here. `has` tells whether the cgroup has a
/// file.
pub(super) fn plain(
    resources: &LinuxResources,
    has: impl Fn(&'static str, &str) -> bool,
) -> Vec<Wanted> {
    let mut all = Vec::new();
    let mut want = |controller, what, settings: Vec<Setting>| {
        if !settings.is_empty() {
            all.push(Wanted {
                controller,
                what,
                settings,
            });
        }
    };
    if let Some(cpu) = &resources.cpu {
        want("cpu", "CPU limits", cpu_settings(cpu));
        want("cpuset", "cpuset", cpuset(cpu));
    }
    if let Some(pids) = resources.pids.filter(|p| p.limit != 0) {
        want(
            "pids",
            "PIDs limit",
            vec![Setting::new("pids.max", pids_max(pids.limit))],
        );
    }
    if let Some(io) = &resources.block_io {
        let bfq = has("blkio", "blkio.bfq.weight") && !has("blkio", "blkio.weight");
        want("blkio", "Block I/O limits", blkio(io, bfq));
    }
    for limit in &resources.hugepage_limits {
        let file = format!("hugetlb.{}.limit_in_bytes", limit.page_size);
        want(
            "hugetlb",
            "huge page limits",
            vec![Setting::new(file, limit.limit)],
        );
    }
    if let Some(network) = &resources.network {
        let (class, priorities) = network_settings(network);
        want("net_cls", "network class IDs", class);
        want("net_prio", "network priorities", priorities);
    }
    want("rdma", "RDMA limits", rdma(resources));
    all
}

/// `pids.max` for a limit of the bundle.
pub(in super::super) fn pids_max(limit: i64) -> String {
    if limit > 0 {
        limit.to_string()
    } else {
        "max".to_owned()
    }
}

pub(in super::super) fn rdma(resources: &LinuxResources) -> Vec<Setting> {
    resources
        .rdma
        .iter()
        .map(|(device, limit)| {
            let text = |n: Option<u32>| n.map_or_else(|| "max".to_owned(), |n| n.to_string());
            let value = format!(
                "{device} hca_handle={} hca_object={}",
                text(limit.hca_handles),
                text(limit.hca_objects)
            );
            Setting::new("rdma.max", value)
        })
        .collect()
}

fn cpu_settings(cpu: &Cpu) -> Vec<Setting> {
    let mut out = Vec::new();
    let mut put = |file: &str, value: Option<String>| {
        out.extend(value.map(|v| Setting::new(file, v)));
    };
    let nonzero = |n: Option<u64>| n.filter(|&n| n != 0).map(|n| n.to_string());
    put("cpu.shares", nonzero(cpu.shares));
    put("cpu.cfs_period_us", nonzero(cpu.period));
    let quota = cpu.quota.filter(|&q| q != 0).map(|q| q.to_string());
    put("cpu.cfs_quota_us", quota);
    put("cpu.cfs_burst_us", cpu.burst.map(|b| b.to_string()));
    put("cpu.rt_period_us", nonzero(cpu.realtime_period));
    let runtime = cpu.realtime_runtime.filter(|&r| r != 0);
    put("cpu.rt_runtime_us", runtime.map(|r| r.to_string()));
    put("cpu.idle", cpu.idle.map(|i| i.to_string()));
    out
}

fn cpuset(cpu: &Cpu) -> Vec<Setting> {
    [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)]
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(file, list)| Setting::new(file, list))
        .collect()
}

fn blkio(io: &BlockIo, bfq: bool) -> Vec<Setting> {
    let scheduler = if bfq { "blkio.bfq." } else { "blkio." };
    let mut out = Vec::new();
    if let Some(weight) = io.weight.filter(|&w| w != 0) {
        out.push(Setting::new(format!("{scheduler}weight"), weight));
    }
    if let Some(weight) = io.leaf_weight.filter(|&w| w != 0) {
        out.push(Setting::new("blkio.leaf_weight", weight));
    }
    for device in &io.weight_device {
        let node = format!("{}:{}", device.major, device.minor);
        if let Some(weight) = device.weight {
            let file = format!("{scheduler}weight_device");
            out.push(Setting::new(file, format!("{node} {weight}")));
        }
        if let Some(weight) = device.leaf_weight {
            let value = format!("{node} {weight}");
            out.push(Setting::new("blkio.leaf_weight_device", value));
        }
    }
    let mut throttle = |file: &str, devices: &[ThrottleDevice]| {
        out.extend(devices.iter().map(|d| {
            Setting::new(
                format!("blkio.throttle.{file}_device"),
                format!("{}:{} {}", d.major, d.minor, d.rate),
            )
        }));
    };
    throttle("read_bps", &io.throttle_read_bps_device);
    throttle("write_bps", &io.throttle_write_bps_device);
    throttle("read_iops", &io.throttle_read_iops_device);
    throttle("write_iops", &io.throttle_write_iops_device);
    out
}

fn network_settings(network: &Network) -> (Vec<Setting>, Vec<Setting>) {
    let class = network
        .class_id
        .filter(|&id| id != 0)
        .map(|id| Setting::new("net_cls.classid", id));
    let priorities = network
        .priorities
        .iter()
        .map(|p| Setting::new("net_prio.ifpriomap", format!("{} {}", p.name, p.priority)));
    (class.into_iter().collect(), priorities.collect())
}

const LIMIT: &str = "memory.limit_in_bytes";
const LIMIT_WITH_SWAP: &str = "memory.memsw.limit_in_bytes";

/// Memory limits in an order that the kernel accepts: at no moment may the limit with swap be
/// below the one without. `current` is the limit with swap now, `None` for none.
pub(super) fn memory(memory: &Memory, current_with_swap: Option<u64>) -> Vec<Setting> {
    let mut out = Vec::new();
    let limit = memory.limit.filter(|&n| n != 0);
    let mut swap = memory.swap.filter(|&n| n != 0);
    if limit == Some(-1) && swap.is_none() {
        // No limit for memory alone means none for both.
        swap = Some(-1);
    }
    let limit_first = match (limit, current_with_swap) {
        (Some(limit), Some(now)) => limit != -1 && u64::try_from(limit).is_ok_and(|l| l <= now),
        (_, None) => true,
        (None, _) => false,
    };
    let limit = limit.map(|n| Setting::new(LIMIT, n));
    let swap = swap.map(|n| Setting::new(LIMIT_WITH_SWAP, n));
    if limit_first {
        out.extend(limit.into_iter().chain(swap));
    } else {
        out.extend(swap.into_iter().chain(limit));
    }
    let mut put = |file: &str, value: Option<String>| {
        out.extend(value.map(|v| Setting::new(file, v)));
    };
    let reservation = memory.reservation.filter(|&n| n != 0);
    put(
        "memory.soft_limit_in_bytes",
        reservation.map(|n| n.to_string()),
    );
    let tcp = memory.kernel_tcp.filter(|&n| n != 0);
    put("memory.kmem.tcp.limit_in_bytes", tcp.map(|n| n.to_string()));
    put(
        "memory.swappiness",
        memory
            .swappiness
            .filter(|&s| s <= 200)
            .map(|s| s.to_string()),
    );
    let oom = memory
        .disable_oom_killer
        .map(|off| u8::from(off).to_string());
    put("memory.oom_control", oom);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(settings: &[Setting]) -> Vec<String> {
        settings
            .iter()
            .map(|s| format!("{}={}", s.file, s.value))
            .collect()
    }

    #[test]
    fn memory_order() {
        let of = |limit, swap, now| {
            let memory_ = Memory {
                limit,
                swap,
                ..Memory::default()
            };
            lines(&memory(&memory_, now))
        };
        let limit = |n: i64| format!("memory.limit_in_bytes={n}");
        let both = |n: i64| format!("memory.memsw.limit_in_bytes={n}");
        // A new cgroup, and a lower limit: memory first.
        assert_eq!(of(Some(10), Some(20), None), [limit(10), both(20)]);
        assert_eq!(of(Some(10), Some(20), Some(90)), [limit(10), both(20)]);
        // A higher one: the sum first.
        assert_eq!(of(Some(99), Some(120), Some(90)), [both(120), limit(99)]);
        assert_eq!(of(Some(-1), None, Some(90)), [both(-1), limit(-1)]);
        assert_eq!(of(Some(5), None, None), [limit(5)]);
        assert_eq!(of(None, Some(5), Some(1)), [both(5)]);
    }

    #[test]
    fn only_what_is_asked_for_is_written() {
        assert!(plain(&LinuxResources::default(), |_, _| true).is_empty());
        let resources = LinuxResources {
            cpu: Some(Cpu {
                shares: Some(512),
                quota: Some(-1),
                cpus: "0".to_owned(),
                ..Cpu::default()
            }),
            ..LinuxResources::default()
        };
        let wanted = plain(&resources, |_, _| true);
        assert_eq!(wanted.len(), 2);
        assert_eq!(
            lines(&wanted[0].settings),
            ["cpu.shares=512", "cpu.cfs_quota_us=-1"]
        );
        assert_eq!(lines(&wanted[1].settings), ["cpuset.cpus=0"]);
    }

    #[test]
    fn weights_follow_the_scheduler() {
        let io = BlockIo {
            weight: Some(300),
            ..BlockIo::default()
        };
        assert_eq!(lines(&blkio(&io, true)), ["blkio.bfq.weight=300"]);
        assert_eq!(lines(&blkio(&io, false)), ["blkio.weight=300"]);
    }
}
