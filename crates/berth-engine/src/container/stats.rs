//! stats: what a container uses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_runtime::cgroup::{self, Cgroup};
use berth_spec::docker::ZERO_TIME;
use berth_spec::docker::stats::{
    BlkioEntry, BlkioStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats, Stats,
    Throttling,
};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::record::Container;
use crate::crossing::blocking;
use crate::{Engine, Error, Result, time};

/// Time between two samples.
const EVERY: Duration = Duration::from_secs(1);
/// Nanoseconds of a tick of `/proc/stat`: the kernel's `USER_HZ` is 100 everywhere.
const TICK: u64 = 10_000_000;

/// How [`stats`] samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatsOptions {
    /// A sample a second, until the reader leaves; else one.
    pub stream: bool,
    /// One sample, without waiting for a second to compare with.
    pub one_shot: bool,
}

/// Samples as they are taken.
pub type StatsStream = std::pin::Pin<Box<dyn futures_util::Stream<Item = Stats> + Send>>;

/// Samples the use of resources.
pub async fn stats(engine: &Engine, id: &str, options: StatsOptions) -> Result<StatsStream> {
    let container = engine.0.containers.find(id)?;
    let (sender, receiver) = mpsc::channel(2);
    let engine = engine.clone();
    tokio::spawn(async move {
        let mut previous: Option<Stats> = None;
        let mut group = None;
        loop {
            // A rate needs two samples: the first is kept back where only one is asked for, and only times are read for it.
            let hold = previous.is_none()
                && !options.stream
                && !options.one_shot
                && container.status().alive();
            let Ok(mut sample) = take(&engine, &container, &mut group, hold).await else {
                return;
            };
            if let Some(previous) = &previous {
                sample.precpu_stats = previous.cpu_stats.clone();
                sample.preread.clone_from(&previous.read);
            }
            if hold {
                previous = Some(sample);
            } else {
                previous = options.stream.then(|| sample.clone());
                if sender.send(sample).await.is_err() || !options.stream {
                    return;
                }
            }
            if container.pulse.borrow().removed {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = sender.closed() => return,
                () = engine.0.leaving.cancelled() => return,
            }
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

/// One sample, or of the processors only; all zero for a container that does not run.
async fn take(
    engine: &Engine,
    container: &Arc<Container>,
    group: &mut Option<(i32, Arc<Cgroup>)>,
    times_only: bool,
) -> Result<Stats> {
    let mut sample = Stats {
        name: format!("/{}", container.name()),
        id: container.id.clone(),
        read: ZERO_TIME.to_owned(),
        preread: ZERO_TIME.to_owned(),
        ..Stats::default()
    };
    let Ok(task) = container.task() else {
        return Ok(sample);
    };
    let pid = task.pid();
    // Kept from one sample to the next: a cgroup is a dozen directories. Another run has another one.
    let known = group.take().filter(|(of, _)| *of == pid);
    let path = container.read(|r| engine.cgroup_path(r));
    let own_network = container.read(|r| r.sandbox.is_some());
    let (cgroups, cpus) = (engine.0.cgroups.clone(), engine.0.defaults.machine.cpus);
    let (sample, opened) = blocking(move || {
        let group = match known {
            Some((_, group)) => group,
            None => Arc::new(
                cgroups
                    .open(&path)
                    .map_err(|e| Error::internal(e.to_string()))?,
            ),
        };
        if times_only {
            sample.read = time::text(Some(Timestamp::now()));
            sample.cpu_stats = cpu(&group.cpu_stats(), cpus);
            return Ok((sample, group));
        }
        let read = group.stats();
        sample.read = time::text(Some(Timestamp::now()));
        sample.cpu_stats = cpu(&read.cpu, cpus);
        sample.memory_stats = memory(&read.memory);
        sample.pids_stats = PidsStats {
            current: Some(read.pids.current),
            limit: read.pids.limit,
        };
        sample.blkio_stats = blkio(&read.blkio);
        if own_network {
            sample.networks = Some(networks(pid));
        }
        Ok::<_, Error>((sample, group))
    })
    .await?;
    *group = Some((pid, opened));
    Ok(sample)
}

fn cpu(cpu: &cgroup::CpuStats, cpus: u32) -> CpuStats {
    CpuStats {
        cpu_usage: CpuUsage {
            total_usage: cpu.total,
            percpu_usage: cpu.per_cpu.clone(),
            usage_in_kernelmode: cpu.system,
            usage_in_usermode: cpu.user,
        },
        system_cpu_usage: machine_time().unwrap_or(0),
        online_cpus: cpus,
        throttling_data: Throttling {
            periods: cpu.periods,
            throttled_periods: cpu.throttled_periods,
            throttled_time: cpu.throttled_time,
        },
    }
}

/// Nanoseconds that all processors have spent, idle time included.
fn machine_time() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    // Guest times are in the user times already.
    let ticks: u64 = line
        .split_whitespace()
        .take(8)
        .filter_map(|n| n.parse::<u64>().ok())
        .sum();
    Some(ticks * TICK)
}

fn memory(memory: &cgroup::MemoryStats) -> MemoryStats {
    let limit = memory
        .limit
        .filter(|l| *l < 1 << 60)
        .or_else(machine_memory);
    MemoryStats {
        usage: memory.usage,
        max_usage: memory.max_usage.unwrap_or(0),
        stats: memory.detail.clone(),
        failcnt: memory.failures,
        limit: limit.unwrap_or(0),
    }
}

/// Bytes of memory of the machine.
pub(crate) fn machine_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}

fn blkio(blkio: &cgroup::BlkioStats) -> BlkioStats {
    let entries = |list: &[cgroup::BlkioEntry]| {
        let entries: Vec<_> = list
            .iter()
            .map(|e| BlkioEntry {
                major: e.major,
                minor: e.minor,
                op: e.op.clone(),
                value: e.value,
            })
            .collect();
        (!entries.is_empty()).then_some(entries)
    };
    BlkioStats {
        io_service_bytes_recursive: entries(&blkio.bytes),
        io_serviced_recursive: entries(&blkio.operations),
        ..BlkioStats::default()
    }
}

/// Counters of the interfaces of a process's network, loopback left out.
fn networks(pid: i32) -> BTreeMap<String, NetworkStats> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    let mut networks = BTreeMap::new();
    for line in text.lines() {
        let Some((name, numbers)) = line.split_once(':') else {
            continue;
        };
        let numbers: Vec<u64> = numbers
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        if name.trim() == "lo" || numbers.len() < 12 {
            continue;
        }
        networks.insert(
            name.trim().to_owned(),
            NetworkStats {
                rx_bytes: numbers[0],
                rx_packets: numbers[1],
                rx_errors: numbers[2],
                rx_dropped: numbers[3],
                tx_bytes: numbers[8],
                tx_packets: numbers[9],
                tx_errors: numbers[10],
                tx_dropped: numbers[11],
            },
        );
    }
    networks
}
