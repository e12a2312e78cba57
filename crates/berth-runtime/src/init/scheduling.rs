//! When and where a process runs: scheduler, I/O priority, CPUs.

use berth_spec::oci::runtime::{IoPriority, Process, Scheduler};
use berth_sys::scheduling::{self, Attributes};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::error::{Context, Error, Result};

/// What is set of it, checked.
#[derive(Debug, Clone, Default)]
pub(crate) struct SchedulingPlan {
    attributes: Option<Attributes>,
    /// Class and level.
    io: Option<(u32, u32)>,
    /// CPUs of an exec'ed process while it is made, and then.
    initial: Option<CpuSet>,
    last: Option<CpuSet>,
}

impl SchedulingPlan {
    pub fn new(process: &Process) -> Result<Self> {
        let cpus = process.exec_cpu_affinity.clone().unwrap_or_default();
        Ok(Self {
            attributes: process.scheduler.as_ref().map(attributes).transpose()?,
            io: process.io_priority.as_ref().map(io).transpose()?,
            initial: cpu_set(&cpus.initial)?,
            last: cpu_set(&cpus.final_)?,
        })
    }

    /// Of an exec'ed process, before it is in the container's cgroup.
    pub fn place(&self) -> Result<()> {
        set_cpus(self.initial.as_ref())
    }

    /// With root's rights, in the container's cgroup.
    pub fn apply(&self) -> Result<()> {
        match (&self.initial, &self.last) {
            // Where whoever starts it may run says nothing about the container: its cgroup does. A
            // machine that refuses has its reasons.
            (None, None) => drop(sched_setaffinity(None, &all_cpus())),
            (_, last) => set_cpus(last.as_ref())?,
        }
        if let Some(attributes) = &self.attributes {
            scheduling::set_attributes(attributes)
                .context(|| "error setting scheduler".to_owned())?;
        }
        if let Some((class, level)) = self.io {
            scheduling::set_io_priority(class, level)
                .context(|| "error setting ioPriority".to_owned())?;
        }
        Ok(())
    }
}

fn all_cpus() -> CpuSet {
    let mut all = CpuSet::new();
    for cpu in 0..CpuSet::MAX_CPU {
        all.set(cpu);
    }
    all
}

fn set_cpus(cpus: Option<&CpuSet>) -> Result<()> {
    let Some(cpus) = cpus else {
        return Ok(());
    };
    sched_setaffinity(None, cpus).context(|| "error setting CPU affinity".to_owned())
}

/// Numbers of linux/sched.h.
fn attributes(asked: &Scheduler) -> Result<Attributes> {
    let policy = match asked.policy.as_str() {
        "SCHED_OTHER" => 0,
        "SCHED_FIFO" => 1,
        "SCHED_RR" => 2,
        "SCHED_BATCH" => 3,
        "SCHED_ISO" => 4,
        "SCHED_IDLE" => 5,
        "SCHED_DEADLINE" => 6,
        other => return Err(Error::invalid(format!("invalid scheduler policy: {other}"))),
    };
    let (real_time, deadline) = (matches!(policy, 1 | 2), policy == 6);
    let ordinary = !real_time && !deadline;
    if !(-20..=19).contains(&asked.nice) {
        return Err(Error::invalid(format!(
            "invalid scheduler.nice: {}",
            asked.nice
        )));
    }
    if asked.priority != 0 && ordinary {
        return Err(Error::invalid(
            "scheduler.priority can only be specified for SchedFIFO or SchedRR policy",
        ));
    }
    if (asked.runtime, asked.deadline, asked.period) != (0, 0, 0) && !deadline {
        return Err(Error::invalid(
            "scheduler runtime/deadline/period can only be specified for SchedDeadline policy",
        ));
    }
    let mut flags = 0;
    for flag in &asked.flags {
        flags |= match flag.as_str() {
            "SCHED_FLAG_RESET_ON_FORK" => 0x01,
            "SCHED_FLAG_RECLAIM" => 0x02,
            "SCHED_FLAG_DL_OVERRUN" => 0x04,
            "SCHED_FLAG_KEEP_POLICY" => 0x08,
            "SCHED_FLAG_KEEP_PARAMS" => 0x10,
            "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
            "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
            other => return Err(Error::invalid(format!("invalid scheduler flag: {other}"))),
        };
    }
    let priority = u32::try_from(asked.priority)
        .map_err(|_| Error::invalid(format!("invalid scheduler.priority: {}", asked.priority)))?;
    Ok(Attributes {
        policy,
        flags,
        nice: asked.nice,
        priority,
        runtime: asked.runtime,
        deadline: asked.deadline,
        period: asked.period,
        ..Attributes::default()
    })
}

fn io(asked: &IoPriority) -> Result<(u32, u32)> {
    let class = match asked.class.as_str() {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        other => return Err(Error::invalid(format!("invalid ioPriority.class: {other}"))),
    };
    match u32::try_from(asked.priority) {
        Ok(level) if level <= 7 => Ok((class, level)),
        _ => Err(Error::invalid(format!(
            "invalid ioPriority.priority: {} (0 to 7)",
            asked.priority
        ))),
    }
}

/// A list such as `0-3,7`; none where it is empty.
fn cpu_set(list: &str) -> Result<Option<CpuSet>> {
    if list.trim().is_empty() {
        return Ok(None);
    }
    let bad = || Error::invalid(format!("invalid CPU list {list:?}"));
    let mut cpus = CpuSet::new();
    for part in list.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (
            first.trim().parse().map_err(|_| bad())?,
            last.trim().parse().map_err(|_| bad())?,
        );
        if first > last || last >= CpuSet::MAX_CPU {
            return Err(bad());
        }
        (first..=last).for_each(|cpu| cpus.set(cpu));
    }
    Ok(Some(cpus))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read() {
        let cpus = cpu_set("0-1, 3").unwrap().unwrap();
        let set: Vec<bool> = (0..5).map(|cpu| cpus.is_set(cpu)).collect();
        assert_eq!(set, [true, true, false, true, false]);
        assert!(cpu_set("").unwrap().is_none());
        for list in ["x", "3-1", "1,", "99999", "0-99999"] {
            assert!(cpu_set(list).is_err(), "{list}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let scheduler = |policy: &str, priority, runtime| {
            attributes(&Scheduler {
                policy: policy.into(),
                priority,
                runtime,
                ..Scheduler::default()
            })
        };
        assert_eq!(scheduler("SCHED_FIFO", 7, 0).unwrap().priority, 7);
        assert!(scheduler("SCHED_NEW", 0, 0).is_err());
        assert!(scheduler("SCHED_OTHER", 7, 0).is_err());
        assert!(scheduler("SCHED_BATCH", 0, 7).is_err());
        assert!(scheduler("SCHED_RR", -1, 0).is_err());
        let priority = |class: &str, priority| {
            io(&IoPriority {
                class: class.into(),
                priority,
            })
        };
        assert_eq!(priority("IOPRIO_CLASS_BE", 7).unwrap(), (2, 7));
        assert!(priority("IOPRIO_CLASS_BE", 8).is_err());
        assert!(priority("IOPRIO_CLASS_NONE", 1).is_err());
    }
}
