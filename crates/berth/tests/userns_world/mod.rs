//! An engine with user namespaces, on a machine whose `/etc` has users for that.
#![allow(dead_code)]

use std::path::PathBuf;

use testkit::engine::Engine;
use testkit::etc::PrivateEtc;

pub const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// The first ID of the user whose ranges are used.
pub const BASE: u32 = 700_000;

/// An engine with `--userns-remap` on a machine with a user `mapped`.
pub struct World {
    pub engine: Engine,
    _etc: PrivateEtc,
}

fn etc() -> Option<PrivateEtc> {
    let add = |file: &str, line: &str| {
        let text = std::fs::read_to_string(format!("/etc/{file}")).unwrap_or_default();
        format!("{text}{line}\n")
    };
    let ranges = format!("mapped:{BASE}:65536\ncontainers:1000000:131072\n");
    PrivateEtc::new(&[
        ("passwd", &add("passwd", "mapped:x:7001:7001::/:/bin/false")),
        ("group", &add("group", "mapped:x:7001:")),
        ("subuid", &ranges),
        ("subgid", &ranges),
    ])
}

pub fn world(flags: &[&str]) -> Option<World> {
    let etc = etc()?;
    let engine = Engine::start_under(BERTH, flags, &etc.prefix());
    engine.load_busybox();
    Some(World { engine, _etc: etc })
}

pub fn remapped() -> Option<World> {
    world(&["--userns-remap=mapped"])
}

impl World {
    pub fn pid(&self, name: &str) -> String {
        self.engine.ok(&["inspect", "-f", "{{.State.Pid}}", name])
    }

    /// A file of a container as it is on disk.
    pub fn on_disk(&self, name: &str, path: &str) -> PathBuf {
        let id = self.engine.ok(&["inspect", "-f", "{{.Id}}", name]);
        let upper = format!("data/containers/{id}/upper/{path}");
        self.engine.path(&upper)
    }
}

/// Real, effective, saved and file system user of a process, as the host sees it.
pub fn users_of(pid: &str) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find(|l| l.starts_with("Uid:"));
    let numbers = line.expect("its users").split_whitespace().skip(1);
    numbers.map(|n| n.parse().expect("a number")).collect()
}
