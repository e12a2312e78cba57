//! What this machine's cgroups can do, for `info` and for warnings.

use super::{v1, v2};

/// Names as in Docker's `info`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Support {
    pub memory_limit: bool,
    pub swap_limit: bool,
    pub memory_reservation: bool,
    pub memory_swappiness: bool,
    pub kernel_memory_tcp: bool,
    pub oom_kill_disable: bool,
    pub cpu_shares: bool,
    pub cpu_quota: bool,
    pub cpu_realtime: bool,
    pub cpuset: bool,
    pub pids_limit: bool,
    pub blkio_weight: bool,
    pub blkio_throttle: bool,
    pub hugetlb: bool,
}

pub(super) fn probe(v1: Option<&v1::Trees>, v2: Option<&v2::Tree>) -> Support {
    match (v1, v2) {
        (Some(trees), v2) => {
            let mut support = probe_v1(trees);
            support.hugetlb |= v2.is_some_and(|t| t.controllers.iter().any(|c| c == "hugetlb"));
            support
        }
        (None, Some(tree)) => probe_v2(tree),
        (None, None) => Support::default(),
    }
}

fn probe_v1(trees: &v1::Trees) -> Support {
    let has = |controller, file| trees.tree(controller).is_some_and(|t| t.root.has(file));
    Support {
        memory_limit: has("memory", "memory.limit_in_bytes"),
        swap_limit: has("memory", "memory.memsw.limit_in_bytes"),
        memory_reservation: has("memory", "memory.soft_limit_in_bytes"),
        memory_swappiness: has("memory", "memory.swappiness"),
        kernel_memory_tcp: has("memory", "memory.kmem.tcp.limit_in_bytes"),
        oom_kill_disable: has("memory", "memory.oom_control"),
        cpu_shares: has("cpu", "cpu.shares"),
        cpu_quota: has("cpu", "cpu.cfs_quota_us"),
        cpu_realtime: has("cpu", "cpu.rt_runtime_us"),
        cpuset: trees.tree("cpuset").is_some(),
        pids_limit: trees.tree("pids").is_some(),
        // Roots have no weight; BFQ's files appear there with its scheduler.
        blkio_weight: has("blkio", "blkio.weight") || has("blkio", "blkio.bfq.io_serviced"),
        blkio_throttle: has("blkio", "blkio.throttle.read_bps_device"),
        hugetlb: trees.tree("hugetlb").is_some(),
    }
}

fn probe_v2(tree: &v2::Tree) -> Support {
    let has = |controller: &str| tree.controllers.iter().any(|c| c == controller);
    let memory = has("memory");
    Support {
        memory_limit: memory,
        // Files of the root do not tell; swap in the kernel does.
        swap_limit: memory && std::path::Path::new("/proc/swaps").exists(),
        memory_reservation: memory,
        cpu_shares: has("cpu"),
        cpu_quota: has("cpu"),
        cpuset: has("cpuset"),
        pids_limit: has("pids"),
        blkio_weight: has("io"),
        blkio_throttle: has("io"),
        hugetlb: has("hugetlb"),
        ..Support::default()
    }
}
