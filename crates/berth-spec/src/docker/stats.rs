//! Resource use of a container (`GET /containers/{id}/stats`), one record per second.

use std::collections::BTreeMap;

wire! {
    /// One sample, with the previous one's processor figures so that a rate can be told.
    pub struct Stats {
        pub name: String,
        pub id: String,
        /// RFC 3339.
        pub read: String,
        /// RFC 3339; the zero time in the first sample.
        pub preread: String,
        pub pids_stats: PidsStats,
        pub blkio_stats: BlkioStats,
        pub num_procs: u32,
        pub storage_stats: Storage,
        pub cpu_stats: CpuStats,
        pub precpu_stats: CpuStats,
        pub memory_stats: MemoryStats,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub networks: Option<BTreeMap<String, NetworkStats>>,
    }

    /// Unused on Linux.
    pub struct Storage {}

    /// Number of processes.
    pub struct PidsStats {
        #[serde(skip_serializing_if = "Option::is_none")]
        pub current: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub limit: Option<u64>,
    }

    /// Processor time.
    pub struct CpuStats {
        pub cpu_usage: CpuUsage,
        /// Nanoseconds the whole machine spent.
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub system_cpu_usage: u64,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub online_cpus: u32,
        pub throttling_data: Throttling,
    }

    /// Nanoseconds this container spent.
    pub struct CpuUsage {
        pub total_usage: u64,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub percpu_usage: Vec<u64>,
        pub usage_in_kernelmode: u64,
        pub usage_in_usermode: u64,
    }

    /// How often the quota stopped it.
    pub struct Throttling {
        pub periods: u64,
        pub throttled_periods: u64,
        pub throttled_time: u64,
    }

    /// Bytes.
    pub struct MemoryStats {
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub usage: u64,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub max_usage: u64,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub stats: BTreeMap<String, u64>,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub failcnt: u64,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub limit: u64,
    }

    /// Block devices.
    pub struct BlkioStats {
        pub io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
        pub io_serviced_recursive: Option<Vec<BlkioEntry>>,
        pub io_queue_recursive: Option<Vec<BlkioEntry>>,
        pub io_service_time_recursive: Option<Vec<BlkioEntry>>,
        pub io_wait_time_recursive: Option<Vec<BlkioEntry>>,
        pub io_merged_recursive: Option<Vec<BlkioEntry>>,
        pub io_time_recursive: Option<Vec<BlkioEntry>>,
        pub sectors_recursive: Option<Vec<BlkioEntry>>,
    }

    /// One device and operation.
    pub struct BlkioEntry {
        pub major: u64,
        pub minor: u64,
        pub op: String,
        pub value: u64,
    }

    /// One interface.
    pub struct NetworkStats {
        pub rx_bytes: u64,
        pub rx_packets: u64,
        pub rx_errors: u64,
        pub rx_dropped: u64,
        pub tx_bytes: u64,
        pub tx_packets: u64,
        pub tx_errors: u64,
        pub tx_dropped: u64,
    }
}
