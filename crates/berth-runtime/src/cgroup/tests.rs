//! On the cgroups of this machine, whatever their layout.

use super::*;
use berth_spec::oci::runtime::{Cpu, Memory, Pids};
use std::io::Write;
use std::process::{Child, Command, Stdio};

/// A cgroup that goes away with the test.
struct Scratch {
    cgroups: Cgroups,
    path: String,
}

impl Scratch {
    /// One for the machine as it is, and on a hybrid one also for its v1 trees alone.
    fn each(name: &str) -> Vec<Scratch> {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts = layout::parse(&text);
        let v1: Vec<_> = mounts.iter().filter(|m| !m.v2).cloned().collect();
        let mut sets = vec![mounts.clone()];
        if !v1.is_empty() && v1.len() != mounts.len() {
            sets.push(v1);
        }
        let found: Vec<Cgroups> = sets
            .into_iter()
            .filter_map(|mounts| Cgroups::from_mounts(mounts).ok())
            .filter(|_| rustix::process::geteuid().is_root())
            .collect();
        if found.is_empty() {
            testkit::skipped("no cgroups, or not root");
        }
        found
            .into_iter()
            .map(|cgroups| {
                let pid = std::process::id();
                let path = format!("berth-test-{pid}-{name}-{:?}/one", cgroups.layout());
                Scratch { cgroups, path }
            })
            .collect()
    }

    fn create(&self, resources: &LinuxResources) -> Cgroup {
        self.cgroups.create(&self.path, resources).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Ok(cgroup) = self.cgroups.open(&self.path) {
            cgroup.remove().unwrap();
        }
        let parent = self.path.split('/').next().unwrap();
        self.cgroups.remove_if_empty(parent).unwrap();
        assert!(self.cgroups.open(parent).is_err());
    }
}

/// A shell that waits for a line before it goes on, inside the cgroup.
fn shell(cgroup: &Cgroup, script: &str) -> Child {
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(format!("read line; {script}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    cgroup.add(child.id() as i32).unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    child
}

#[test]
fn limits_are_written_and_counted() {
    for scratch in Scratch::each("limits") {
        let cgroup = scratch.create(&LinuxResources {
            memory: Some(Memory {
                limit: Some(64 << 20),
                swap: Some(128 << 20),
                ..Memory::default()
            }),
            cpu: Some(Cpu {
                quota: Some(50_000),
                shares: Some(512),
                ..Cpu::default()
            }),
            pids: Some(Pids { limit: 32 }),
            ..LinuxResources::default()
        });
        let mut child = shell(
            &cgroup,
            "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; sleep 60",
        );
        let mut line = [0; 5];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        let stats = cgroup.stats();
        let support = scratch.cgroups.support();
        if support.memory_limit && cgroup.warnings().is_empty() {
            assert_eq!(stats.memory.limit, Some(64 << 20));
            assert!(stats.memory.usage > 0);
        }
        assert_eq!(stats.pids.limit, Some(32));
        assert!(stats.pids.current >= 1);
        assert!(stats.cpu.total > 0);
        let lower = LinuxResources {
            memory: Some(Memory {
                limit: Some(256 << 20),
                swap: Some(512 << 20),
                ..Memory::default()
            }),
            pids: Some(Pids { limit: -1 }),
            ..LinuxResources::default()
        };
        cgroup.update(&lower).unwrap();
        assert_eq!(cgroup.stats().pids.limit, None);
        if support.memory_limit && cgroup.warnings().is_empty() {
            assert_eq!(cgroup.stats().memory.limit, Some(256 << 20));
        }
        cgroup.kill_all().unwrap();
        assert!(!child.wait().unwrap().success());
    }
}

#[test]
fn a_process_limit_holds() {
    for scratch in Scratch::each("pids") {
        let cgroup = scratch.create(&LinuxResources {
            pids: Some(Pids { limit: 1 }),
            ..LinuxResources::default()
        });
        let child = shell(&cgroup, "sleep 0 & wait; echo came here");
        let output = child.wait_with_output().unwrap();
        assert!(!output.status.success(), "{output:?}");
    }
}

#[test]
fn devices_are_closed() {
    for scratch in Scratch::each("devices") {
        let cgroup = scratch.create(&LinuxResources {
            devices: crate::defaults::device_rules(),
            ..LinuxResources::default()
        });
        let script =
            "echo x >/dev/null && echo null; head -c1 /dev/kmsg >/dev/null && echo kmsg; echo end";
        let output = shell(&cgroup, script).wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "null\nend\n");
        let mut open = LinuxResources::default();
        open.devices.push(crate::defaults::all_devices_rule());
        cgroup.update(&open).unwrap();
        let script = "exec 3</dev/kmsg && echo kmsg";
        let output = shell(&cgroup, script).wait_with_output().unwrap();
        let as_here = std::fs::File::open("/dev/kmsg").is_ok();
        assert_eq!(output.stdout == b"kmsg\n", as_here);
    }
}

#[test]
fn freeze_thaw_and_kill_while_frozen() {
    for scratch in Scratch::each("freeze") {
        let cgroup = scratch.create(&LinuxResources::default());
        let mut child = shell(&cgroup, "while :; do sleep 0.01; done");
        cgroup.freeze().unwrap();
        assert!(cgroup.frozen());
        cgroup.thaw().unwrap();
        assert!(!cgroup.frozen());
        cgroup.freeze().unwrap();
        assert!(!cgroup.pids().unwrap().is_empty());
        cgroup.kill_all().unwrap();
        assert!(cgroup.pids().unwrap().is_empty());
        child.wait().unwrap();
    }
}

#[test]
fn a_fork_storm_is_killed_with_nested_cgroups() {
    for scratch in Scratch::each("storm") {
        let cgroup = scratch.create(&LinuxResources {
            pids: Some(Pids { limit: 200 }),
            ..LinuxResources::default()
        });
        // Under v2 a cgroup that hands controllers down has no processes of its own.
        let nested = |name: &str| {
            let path = format!("{}/{name}", scratch.path);
            let resources = LinuxResources::default();
            scratch.cgroups.create(&path, &resources).unwrap()
        };
        let mut below = shell(&nested("below/deeper"), "sleep 100");
        let mut child = shell(&nested("storm"), "f() { f | f & }; f; wait; sleep 100");
        cgroup.remove().unwrap();
        assert!(matches!(
            scratch.cgroups.open(&scratch.path),
            Err(Error::NotFound(_))
        ));
        child.wait().unwrap();
        below.wait().unwrap();
        cgroup.remove().unwrap();
    }
}

#[test]
fn a_busy_path_is_refused_and_a_leftover_made_anew() {
    for scratch in Scratch::each("again") {
        let limited = LinuxResources {
            pids: Some(Pids { limit: 7 }),
            ..LinuxResources::default()
        };
        let cgroup = scratch.create(&limited);
        let mut child = shell(&cgroup, "sleep 100");
        let error = scratch.cgroups.create(&scratch.path, &limited).unwrap_err();
        assert!(matches!(error, Error::Busy { .. }), "{error}");
        cgroup.kill_all().unwrap();
        child.wait().unwrap();
        let again = scratch.create(&LinuxResources::default());
        assert_eq!(again.stats().pids.limit, None);
    }
}

#[test]
fn a_refused_limit_leaves_nothing() {
    for scratch in Scratch::each("refused") {
        let bad = LinuxResources {
            cpu: Some(Cpu {
                cpus: "4000-5000".to_owned(),
                ..Cpu::default()
            }),
            ..LinuxResources::default()
        };
        let error = scratch.cgroups.create(&scratch.path, &bad).unwrap_err();
        assert!(matches!(error, Error::Limit { .. }), "{error}");
        assert!(scratch.cgroups.open(&scratch.path).is_err());
    }
}

#[test]
fn a_child_joins_by_descriptors() {
    for scratch in Scratch::each("join") {
        let cgroup = scratch.create(&LinuxResources::default());
        let join = cgroup.join().unwrap();
        assert_eq!(join.into.is_some(), join.unified_procs.is_some());
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        let pid = child.id().to_string();
        for file in join.all_procs() {
            rustix::io::write(file, pid.as_bytes()).unwrap();
        }
        assert_eq!(cgroup.pids().unwrap(), [child.id() as i32]);
        let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(own.contains(&scratch.path), "{own}");
        cgroup.kill_all().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_memory_limit_kills_and_says_so() {
    for scratch in Scratch::each("oom") {
        let cgroup = scratch.create(&LinuxResources {
            memory: Some(Memory {
                limit: Some(16 << 20),
                swap: Some(16 << 20),
                ..Memory::default()
            }),
            ..LinuxResources::default()
        });
        let event = match cgroup.oom_event().unwrap() {
            Some(event) if cgroup.warnings().is_empty() => event,
            _ => {
                testkit::skipped("no memory controller");
                continue;
            }
        };
        // The shell's variable grows until the limit is met.
        let mut child = shell(&cgroup, "x=0123456789abcdef; while :; do x=$x$x; done");
        assert!(!child.wait().unwrap().success());
        let timeout = rustix::event::Timespec {
            tv_sec: 10,
            tv_nsec: 0,
        };
        let mut wait = [rustix::event::PollFd::new(
            &event,
            rustix::event::PollFlags::IN,
        )];
        assert_eq!(rustix::event::poll(&mut wait, Some(&timeout)).unwrap(), 1);
        event.drain();
        assert_eq!(cgroup.oom_kills(), 1);
        assert_eq!(cgroup.stats().memory.oom_kills, 1);
    }
}
