//! Reading v1's counters.

use super::super::dir::Dir;
use super::super::stats::{
    BlkioStats, CpuStats, MemoryStats, PidsStats, Stats, blkio_v1, flat, keyed,
};

/// Nanoseconds of a clock tick (USER_HZ is 100 on every architecture we know).
const TICK: u64 = 10_000_000;
/// Values from here up are "no limit": the largest number of bytes in whole pages.
const NO_LIMIT: u64 = i64::MAX as u64 & !0xffff;

/// Reads what the controllers that are there have counted.
pub(super) fn read<'a>(dir: impl Fn(&str) -> Option<&'a Dir>) -> Stats {
    Stats {
        cpu: cpu(dir("cpuacct"), dir("cpu")),
        memory: dir("memory").map(memory).unwrap_or_default(),
        pids: dir("pids").map(pids).unwrap_or_default(),
        blkio: dir("blkio").map(blkio).unwrap_or_default(),
    }
}

pub(super) fn cpu(account: Option<&Dir>, cpu: Option<&Dir>) -> CpuStats {
    let mut stats = CpuStats::default();
    if let Some(dir) = account {
        stats.total = dir.number("cpuacct.usage").unwrap_or(0);
        let ticks = dir.read_if_there("cpuacct.stat").unwrap_or_default();
        let exact = |file, key| {
            dir.number(file)
                .or_else(|| keyed(&ticks, key).map(|t| t * TICK))
                .unwrap_or(0)
        };
        stats.user = exact("cpuacct.usage_user", "user");
        stats.system = exact("cpuacct.usage_sys", "system");
        stats.per_cpu = dir
            .read_if_there("cpuacct.usage_percpu")
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
    }
    if let Some(text) = cpu.and_then(|d| d.read_if_there("cpu.stat")) {
        stats.periods = keyed(&text, "nr_periods").unwrap_or(0);
        stats.throttled_periods = keyed(&text, "nr_throttled").unwrap_or(0);
        stats.throttled_time = keyed(&text, "throttled_time").unwrap_or(0);
    }
    stats
}

/// A limit in bytes; `None` for none.
pub(super) fn limit(dir: &Dir, file: &str) -> Option<u64> {
    dir.number(file).filter(|&n| n < NO_LIMIT)
}

fn memory(dir: &Dir) -> MemoryStats {
    MemoryStats {
        usage: dir.number("memory.usage_in_bytes").unwrap_or(0),
        max_usage: dir.number("memory.max_usage_in_bytes"),
        limit: limit(dir, "memory.limit_in_bytes"),
        swap_usage: dir.number("memory.memsw.usage_in_bytes"),
        failures: dir.number("memory.failcnt").unwrap_or(0),
        oom_kills: dir.keyed("memory.oom_control", "oom_kill").unwrap_or(0),
        detail: flat(&dir.read_if_there("memory.stat").unwrap_or_default()),
    }
}

fn pids(dir: &Dir) -> PidsStats {
    PidsStats {
        current: dir.number("pids.current").unwrap_or(0),
        limit: dir.number("pids.max"),
    }
}

fn blkio(dir: &Dir) -> BlkioStats {
    // BFQ's counters are empty where another scheduler is in use; throttling counts always.
    let read = |what: &str| {
        ["bfq", "throttle"]
            .iter()
            .filter_map(|kind| dir.read_if_there(&format!("blkio.{kind}.{what}_recursive")))
            .map(|text| blkio_v1(&text))
            .find(|entries| !entries.is_empty())
            .unwrap_or_default()
    };
    BlkioStats {
        bytes: read("io_service_bytes"),
        operations: read("io_serviced"),
    }
}
