//! What a process becomes: its identity, rights, limits and program, checked before it exists.

use std::ffi::CString;

use berth_spec::oci::runtime::{Capabilities, ConsoleSize, Process, Rlimit};
use berth_sys::seccomp::Instruction;
use rustix::process::Resource;

use super::scheduling::SchedulingPlan;
use crate::capability::CapSet;
use crate::defaults;
use crate::error::{Error, Result};
use crate::seccomp_filter::Filter;

/// Bytes of arguments and environment together; the kernel's own bound is lower or equal.
const ARGS_MAX: usize = 6 << 20;

/// Supplementary groups that a process can have (`NGROUPS_MAX` of the kernel).
const GROUPS_MAX: usize = 65_536;

/// A checked [`Process`].
#[derive(Debug)]
pub(crate) struct ProcessPlan {
    pub args: Vec<CString>,
    pub env: Vec<CString>,
    /// `PATH` of `env`.
    pub path: String,
    /// Whether `env` has a `HOME`.
    pub has_home: bool,
    pub cwd: String,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub umask: Option<u32>,
    pub capabilities: CapabilitySets,
    pub rlimits: Vec<(Resource, rustix::process::Rlimit)>,
    pub no_new_privileges: bool,
    pub filter: Option<(Vec<Instruction>, u32)>,
    pub terminal: bool,
    pub console_size: Option<ConsoleSize>,
    pub oom_score_adj: Option<i32>,
    pub scheduling: SchedulingPlan,
}

/// The five sets of capabilities(7), as masks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CapabilitySets {
    pub bounding: u64,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

impl ProcessPlan {
    /// Whether the filter has a listener.
    pub fn notifies(&self) -> bool {
        let flags = self.filter.as_ref().map_or(0, |(_, flags)| *flags);
        flags & berth_sys::seccomp::FLAG_NEW_LISTENER != 0
    }

    /// Checks a process; `warnings` are told what will be less than was asked. With `own_user`, it
    /// is root of a user namespace of its own, where it has every capability.
    pub fn new(
        process: &Process,
        filter: Option<&Filter>,
        own_user: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        if process.args.is_empty() {
            return Err(Error::invalid("args must not be empty"));
        }
        if !process.cwd.starts_with('/') {
            return Err(Error::invalid("Cwd must be an absolute path"));
        }
        let user = &process.user;
        let mut ids = user.additional_gids.iter().chain([&user.uid, &user.gid]);
        if ids.any(|id| *id == u32::MAX) {
            return Err(Error::invalid("the user or group ID 4294967295 means none"));
        }
        if user.additional_gids.len() > GROUPS_MAX {
            let text = format!("process.user has more than {GROUPS_MAX} additional groups");
            return Err(Error::invalid(text));
        }
        let variable = |name: &str| process.env.iter().rev().find_map(|v| v.strip_prefix(name));
        Ok(Self {
            args: strings(&process.args, "args")?,
            env: strings(&environment(&process.env), "env")?,
            path: variable("PATH=").unwrap_or(defaults::PATH).to_owned(),
            has_home: variable("HOME=").is_some_and(|home| !home.is_empty()),
            cwd: process.cwd.clone(),
            uid: user.uid,
            gid: user.gid,
            groups: user.additional_gids.clone(),
            umask: user.umask,
            capabilities: sets(process.capabilities.as_ref(), own_user, warnings)?,
            rlimits: rlimits(&process.rlimits, warnings)?,
            no_new_privileges: process.no_new_privileges,
            filter: filter.map(|f| (f.program(), f.flags)),
            terminal: process.terminal,
            console_size: process.console_size,
            oom_score_adj: process.oom_score_adj,
            scheduling: SchedulingPlan::new(process)?,
        })
    }
}

/// The last of each name counts; a `HOME` of nothing is none.
fn environment(asked: &[String]) -> Vec<String> {
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let mut seen = std::collections::HashSet::new();
    let last = asked.iter().rev().filter(|v| seen.insert(name(v)));
    let mut kept: Vec<String> = last.filter(|v| *v != "HOME=").cloned().collect();
    kept.reverse();
    kept
}

fn strings(words: &[String], what: &str) -> Result<Vec<CString>> {
    if words.iter().map(|w| w.len() + 1).sum::<usize>() > ARGS_MAX {
        return Err(Error::invalid(format!("process.{what} is too long")));
    }
    words
        .iter()
        .map(|word| {
            CString::new(word.as_str())
                .map_err(|_| Error::invalid(format!("process.{what} has a NUL byte")))
        })
        .collect()
}

fn sets(
    asked: Option<&Capabilities>,
    own_user: bool,
    warnings: &mut Vec<String>,
) -> Result<CapabilitySets> {
    let Some(asked) = asked else {
        return Ok(CapabilitySets::default());
    };
    let bound = if own_user {
        CapSet::all()
    } else {
        CapSet::available().map_err(|e| Error::internal(format!("own capabilities: {e}")))?
    };
    let mut cut = CapSet::EMPTY;
    let mut mask = |names: &[String]| {
        let mut set = CapSet::EMPTY;
        for name in names {
            match CapSet::from_names(&[name]) {
                Ok(one) => set = set.union(one),
                Err(e) => warnings.push(format!("{e} is left out")),
            }
        }
        let (kept, more) = set.clamp(bound);
        cut = cut.union(more);
        kept.bits()
    };
    let sets = CapabilitySets {
        bounding: mask(&asked.bounding),
        effective: mask(&asked.effective),
        permitted: mask(&asked.permitted),
        inheritable: mask(&asked.inheritable),
        ambient: mask(&asked.ambient),
    };
    let without = sets.ambient & !(sets.inheritable & sets.permitted);
    for name in CapSet::from_bits(without).names() {
        warnings.push(format!(
            "can't raise ambient capability {name}: operation not permitted"
        ));
    }
    if !cut.is_empty() {
        warnings.push(format!(
            "capabilities that this process may not give are left out: {}",
            cut.names().join(", ")
        ));
    }
    Ok(sets)
}

/// Numbers of the limits; a limit above what this process may set is lowered to that.
fn rlimits(
    asked: &[Rlimit],
    warnings: &mut Vec<String>,
) -> Result<Vec<(Resource, rustix::process::Rlimit)>> {
    // Raising a hard limit takes CAP_SYS_RESOURCE in the first user namespace.
    let free = CapSet::available().is_ok_and(|set| set.has("CAP_SYS_RESOURCE"));
    let mut limits: Vec<(Resource, rustix::process::Rlimit)> = Vec::new();
    for limit in asked {
        let resource = resource(&limit.kind)
            .ok_or_else(|| Error::invalid(format!("invalid rlimit type: {}", limit.kind)))?;
        if limits.iter().any(|(r, _)| *r == resource) {
            let text = format!("rlimit {} is given twice", limit.kind);
            return Err(Error::invalid(text));
        }
        let ceiling = match rustix::process::getrlimit(resource).maximum {
            Some(ceiling) if !free => ceiling,
            // Nobody may open more.
            _ if resource == Resource::Nofile => nr_open(),
            _ => u64::MAX,
        };
        if limit.hard > ceiling {
            warnings.push(format!(
                "{} is lowered to {ceiling}: more cannot be given here",
                limit.kind
            ));
        }
        // All ones is infinity, which rustix writes as none.
        let value = |n: u64| Some(n.min(ceiling)).filter(|n| *n != u64::MAX);
        let (current, maximum) = (value(limit.soft.min(limit.hard)), value(limit.hard));
        limits.push((resource, rustix::process::Rlimit { current, maximum }));
    }
    Ok(limits)
}

/// Descriptors that a process may have at most on this machine.
fn nr_open() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/fs/nr_open");
    text.ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1 << 20)
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "RLIMIT_CPU" => Resource::Cpu,
        "RLIMIT_FSIZE" => Resource::Fsize,
        "RLIMIT_DATA" => Resource::Data,
        "RLIMIT_STACK" => Resource::Stack,
        "RLIMIT_CORE" => Resource::Core,
        "RLIMIT_RSS" => Resource::Rss,
        "RLIMIT_NPROC" => Resource::Nproc,
        "RLIMIT_NOFILE" => Resource::Nofile,
        "RLIMIT_MEMLOCK" => Resource::Memlock,
        "RLIMIT_AS" => Resource::As,
        "RLIMIT_LOCKS" => Resource::Locks,
        "RLIMIT_SIGPENDING" => Resource::Sigpending,
        "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
        "RLIMIT_NICE" => Resource::Nice,
        "RLIMIT_RTPRIO" => Resource::Rtprio,
        "RLIMIT_RTTIME" => Resource::Rttime,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> Process {
        Process {
            args: vec!["true".to_owned()],
            cwd: "/".to_owned(),
            ..Process::default()
        }
    }

    fn refusal(change: impl Fn(&mut Process)) -> String {
        let mut process = process();
        change(&mut process);
        ProcessPlan::new(&process, None, false, &mut Vec::new())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(refusal(|p| p.args.clear()), "args must not be empty");
        assert!(refusal(|p| p.cwd = "tmp".into()).contains("absolute"));
        assert!(refusal(|p| p.args.push("a\0b".into())).contains("NUL"));
        assert!(refusal(|p| p.user.uid = u32::MAX).contains("4294967295"));
        assert!(refusal(|p| p.user.additional_gids = vec![u32::MAX]).contains("4294967295"));
        assert!(refusal(|p| p.user.additional_gids = vec![1; 65_537]).contains("65536"));
        let limit = |kind: &str| Rlimit {
            kind: kind.into(),
            hard: 1,
            soft: 1,
        };
        assert!(refusal(|p| p.rlimits = vec![limit("RLIMIT_X")]).contains("RLIMIT_X"));
        let twice = vec![limit("RLIMIT_CPU"), limit("RLIMIT_CPU")];
        assert!(refusal(|p| p.rlimits.clone_from(&twice)).contains("twice"));
    }

    #[test]
    fn the_last_path_counts() {
        let mut asked = process();
        asked.env = vec!["PATH=/a".into(), "PATH=/b".into(), "HOME=/".into()];
        let plan = ProcessPlan::new(&asked, None, false, &mut Vec::new()).unwrap();
        assert_eq!(plan.path, "/b");
        assert_eq!(plan.env, [c"PATH=/b".to_owned(), c"HOME=/".to_owned()]);
        assert!(plan.has_home);
        let plan = ProcessPlan::new(&process(), None, false, &mut Vec::new()).unwrap();
        assert_eq!(plan.path, defaults::PATH);
    }

    #[test]
    fn unknown_capabilities_are_told() {
        let mut asked = process();
        asked.capabilities = Some(Capabilities {
            bounding: vec!["CAP_CHOWN".into(), "CAP_FLY".into()],
            ..Capabilities::default()
        });
        let mut warnings = Vec::new();
        let plan = ProcessPlan::new(&asked, None, true, &mut warnings).unwrap();
        assert_eq!(plan.capabilities.bounding, 1);
        assert!(warnings[0].contains("CAP_FLY"), "{warnings:?}");
    }
}
