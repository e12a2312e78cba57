//! `events`: what a container uses, again and again, and that it ran out of memory.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use berth_spec::oci::runtime::Status;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use serde_json::{Value, json};

use super::Global;
use super::flags::{Flag, Given};
use super::state::Directory;
use crate::cgroup::{BlkioEntry, Stats};
use crate::error::{Context, Error, Result};

const EVENTS: &[Flag] = &[(&["interval"], true), (&["stats"], false)];
const INTERVAL: Duration = Duration::from_secs(5);

/// A line of output, as runc's.
#[derive(Debug, Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

pub(super) fn events(
    global: &Global,
    arguments: impl Iterator<Item = OsString>,
) -> Result<ExitCode> {
    let given = Given::parse(arguments, EVENTS, false)?;
    let interval = match given.value("interval") {
        Some(text) => duration(text)?,
        None => INTERVAL,
    };
    let directory = Directory::of(&global.root, given.id()?);
    let saved = directory.load()?;
    let stopped = || Error::gone(format!("container with id {} is not running", saved.id));
    if saved.status(&directory) == Status::Stopped {
        return Err(stopped());
    }
    let cgroup = saved.open_cgroup()?;
    if given.on("stats") {
        tell("stats", &saved.id, Some(describe(&cgroup.stats())))?;
        return Ok(ExitCode::SUCCESS);
    }
    let pidfd = saved.pidfd().ok_or_else(stopped)?;
    let failed = |e: crate::cgroup::Error| Error::internal(e.to_string());
    let oom = cgroup.oom_event().map_err(failed)?;
    let mut killed = cgroup.oom_kills();
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).context(|| "interval".to_owned())?;
        let mut polls = vec![PollFd::new(&pidfd, PollFlags::IN)];
        let waiting = oom.iter().map(|oom| PollFd::new(oom, PollFlags::IN));
        polls.extend(waiting);
        let _ = poll(&mut polls, Some(&left));
        let happened = |at: usize| polls.get(at).is_some_and(|p| !p.revents().is_empty());
        if happened(1) {
            if let Some(oom) = &oom {
                oom.drain();
            }
            // Its removal wakes as well.
            let now = cgroup.oom_kills();
            if now > killed {
                tell("oom", &saved.id, None)?;
                killed = now;
            }
        }
        if happened(0) {
            return Ok(ExitCode::SUCCESS);
        }
        if Instant::now() >= next {
            tell("stats", &saved.id, Some(describe(&cgroup.stats())))?;
            next = Instant::now() + interval;
        }
    }
}

fn tell(kind: &str, id: &str, data: Option<Value>) -> Result<()> {
    let what = || "event".to_owned();
    let mut line = serde_json::to_vec(&Event { kind, id, data }).context(what)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)
        .and_then(|()| out.flush())
        .context(what)
}

/// In runc's form (its `types/events.go`): nanoseconds and bytes.
fn describe(stats: &Stats) -> Value {
    let (cpu, memory) = (&stats.cpu, &stats.memory);
    json!({
        "cpu": {
            "usage": {
                "total": cpu.total, "kernel": cpu.system, "user": cpu.user, "percpu": cpu.per_cpu,
            },
            "throttling": {
                "periods": cpu.periods,
                "throttledPeriods": cpu.throttled_periods,
                "throttledTime": cpu.throttled_time,
            },
        },
        "memory": {
            "usage": {
                "limit": memory.limit.unwrap_or(u64::MAX),
                "usage": memory.usage,
                "max": memory.max_usage.unwrap_or(0),
                "failcnt": memory.failures,
            },
            "swap": { "limit": 0, "usage": memory.swap_usage.unwrap_or(0), "failcnt": 0 },
            "cache": memory.detail.get("cache").or(memory.detail.get("file")).copied().unwrap_or(0),
            "raw": memory.detail,
        },
        "pids": { "current": stats.pids.current, "limit": stats.pids.limit.unwrap_or(0) },
        "blkio": {
            "ioServiceBytesRecursive": entries(&stats.blkio.bytes),
            "ioServicedRecursive": entries(&stats.blkio.operations),
        },
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

fn entries(list: &[BlkioEntry]) -> Vec<Value> {
    let title = |op: &str| {
        let mut chars = op.chars();
        let first = chars.next().map(|c| c.to_ascii_uppercase());
        first.into_iter().chain(chars).collect::<String>()
    };
    list.iter()
        .map(
            |e| json!({ "major": e.major, "minor": e.minor, "op": title(&e.op), "value": e.value }),
        )
        .collect()
}

/// A duration as Go writes it, in one unit: `5s`, `100ms`.
fn duration(text: &str) -> Result<Duration> {
    let bad = || Error::invalid(format!("invalid value {text:?} for flag -interval"));
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let number: u64 = text[..at].parse().map_err(|_| bad())?;
    let duration = match &text[at..] {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60).ok_or_else(bad)?),
        "h" => Duration::from_secs(number.checked_mul(3600).ok_or_else(bad)?),
        _ => return Err(bad()),
    };
    if duration.is_zero() {
        return Err(Error::invalid("duration interval must be greater than 0"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        assert_eq!(duration("100ms").unwrap(), Duration::from_millis(100));
        assert_eq!(duration("2m").unwrap(), Duration::from_secs(120));
        for text in ["", "5", "0s", "1d", "s", "-1s", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn events_have_runcs_order() {
        let event = Event {
            kind: "oom",
            id: "c1",
            data: None,
        };
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(line, r#"{"type":"oom","id":"c1"}"#);
    }
}
