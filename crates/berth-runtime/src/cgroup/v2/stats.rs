//! Reading v2's counters.

use super::super::dir::Dir;
use super::super::stats::{CpuStats, MemoryStats, PidsStats, Stats, flat, io_stat, keyed};

/// Reads what the controllers that are there have counted.
pub(super) fn read(dir: &Dir) -> Stats {
    Stats {
        cpu: read_cpu(dir),
        memory: memory(dir),
        pids: PidsStats {
            current: dir.number("pids.current").unwrap_or(0),
            limit: dir.number("pids.max"),
        },
        blkio: io_stat(&dir.read_if_there("io.stat").unwrap_or_default()),
    }
}

/// Reads what the processors have counted.
pub(super) fn read_cpu(dir: &Dir) -> CpuStats {
    cpu(&dir.read_if_there("cpu.stat").unwrap_or_default())
}

/// `cpu.stat` counts microseconds.
fn cpu(text: &str) -> CpuStats {
    let time = |key| keyed(text, key).unwrap_or(0) * 1000;
    CpuStats {
        total: time("usage_usec"),
        user: time("user_usec"),
        system: time("system_usec"),
        per_cpu: Vec::new(),
        periods: keyed(text, "nr_periods").unwrap_or(0),
        throttled_periods: keyed(text, "nr_throttled").unwrap_or(0),
        throttled_time: time("throttled_usec"),
    }
}

fn memory(dir: &Dir) -> MemoryStats {
    let events = dir.read_if_there("memory.events").unwrap_or_default();
    MemoryStats {
        usage: dir.number("memory.current").unwrap_or(0),
        max_usage: dir.number("memory.peak"),
        limit: dir.number("memory.max"),
        swap_usage: dir.number("memory.swap.current"),
        failures: keyed(&events, "max").unwrap_or(0),
        oom_kills: keyed(&events, "oom_kill").unwrap_or(0),
        detail: flat(&dir.read_if_there("memory.stat").unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_times_are_nanoseconds() {
        let stats = cpu("usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_throttled 1\n");
        assert_eq!((stats.total, stats.user, stats.system), (5000, 3000, 2000));
        assert_eq!(stats.throttled_periods, 1);
    }
}
