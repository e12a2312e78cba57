//! What a Docker container has when nothing else is asked for (moby `oci/defaults.go`, v28), as
//! pieces of a `config.json`, and what the runtime adds to any bundle.

use berth_spec::oci::runtime::{
    Capabilities, Device, DeviceKind, DeviceRule, Linux, LinuxResources, Mount, Namespace,
    NamespaceKind, OCI_VERSION, Process, Rlimit, Root, Spec,
};

use crate::capability::CapSet;

/// `PATH` of a container whose image names none.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes of `/dev/shm` when nothing else is asked for.
pub const SHM_SIZE: u64 = 64 << 20;

/// Hidden from the container: they tell of the host, or act on it.
const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    // GHSA-6fw5-f8r9-fgfm: timing of interrupts.
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    // GHSA-jq35-85cj-fj4p: power readings.
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The whole default document; the caller adds arguments, root and what is asked for.
pub fn docker_spec() -> Spec {
    let caps = CapSet::docker_default().names();
    Spec {
        oci_version: OCI_VERSION.to_owned(),
        process: Some(Process {
            cwd: "/".to_owned(),
            capabilities: Some(Capabilities {
                bounding: caps.clone(),
                permitted: caps.clone(),
                effective: caps,
                ..Capabilities::default()
            }),
            ..Process::default()
        }),
        root: Some(Root::default()),
        mounts: mounts(SHM_SIZE),
        linux: Some(Linux {
            namespaces: namespaces(),
            masked_paths: masked_paths(),
            readonly_paths: readonly_paths(),
            resources: Some(LinuxResources {
                devices: device_rules(),
                ..LinuxResources::default()
            }),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

/// What `--privileged` changes beside capabilities, devices and seccomp: nothing is hidden, and
/// sysfs and the cgroup tree are writable.
pub fn open_up(spec: &mut Spec) {
    for mount in &mut spec.mounts {
        if mount.kind == "sysfs" || mount.kind == "cgroup" {
            mount.options.retain(|option| option != "ro");
        }
    }
    if let Some(linux) = &mut spec.linux {
        linux.masked_paths.clear();
        linux.readonly_paths.clear();
    }
}

/// The mounts below the root, with `/dev/shm` of this size in bytes.
pub fn mounts(shm_size: u64) -> Vec<Mount> {
    let shm = format!("size={shm_size}");
    let safe = ["nosuid", "noexec", "nodev"];
    vec![
        mount("/proc", "proc", "proc", &safe),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", "ro"],
        ),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["ro", "nosuid", "noexec", "nodev"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &safe),
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", &shm],
        ),
    ]
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        options: options.iter().map(|o| (*o).to_owned()).collect(),
        ..Mount::default()
    }
}

/// The paths that are hidden on every machine; [`thermal_paths`] adds those of this one.
pub fn masked_paths() -> Vec<String> {
    MASKED_PATHS.map(str::to_owned).to_vec()
}

/// Per-CPU thermal counters to be hidden where the machine has them (GHSA-6fw5-f8r9-fgfm). They
/// do not change while it runs: ask once.
pub fn thermal_paths() -> Vec<String> {
    let Ok(cpus) = std::fs::read_dir("/sys/devices/system/cpu") else {
        return Vec::new();
    };
    let mut found: Vec<String> = cpus
        .flatten()
        .filter_map(|cpu| cpu.file_name().into_string().ok())
        .filter(|name| {
            name.strip_prefix("cpu")
                .is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()) && !n.is_empty())
        })
        .map(|name| format!("/sys/devices/system/cpu/{name}/thermal_throttle"))
        .filter(|path| std::path::Path::new(path).exists())
        .collect();
    found.sort();
    found
}

/// The paths that are mounted read-only over themselves.
pub fn readonly_paths() -> Vec<String> {
    READONLY_PATHS.map(str::to_owned).to_vec()
}

/// The namespaces that every container has of its own.
pub fn namespaces() -> Vec<Namespace> {
    [
        NamespaceKind::Mount,
        NamespaceKind::Network,
        NamespaceKind::Uts,
        NamespaceKind::Pid,
        NamespaceKind::Ipc,
    ]
    .map(|kind| Namespace {
        kind,
        path: String::new(),
    })
    .to_vec()
}

/// The nodes that every container's `/dev` has (config-linux.md, "Default Devices"); `console` and
/// `ptmx` are made by the runtime from the terminal and from `/dev/pts`.
pub fn devices() -> Vec<Device> {
    [
        ("/dev/null", 1, 3),
        ("/dev/zero", 1, 5),
        ("/dev/full", 1, 7),
        ("/dev/random", 1, 8),
        ("/dev/urandom", 1, 9),
        ("/dev/tty", 5, 0),
    ]
    .map(|(path, major, minor)| Device {
        path: path.to_owned(),
        kind: DeviceKind::Char,
        major,
        minor,
        file_mode: Some(0o666),
        uid: Some(0),
        gid: Some(0),
    })
    .to_vec()
}

/// Docker's device rules, first to last.
pub fn device_rules() -> Vec<DeviceRule> {
    let char = |allow, major, minor| rule(allow, DeviceKind::Char, Some(major), Some(minor), "rwm");
    vec![
        rule(false, DeviceKind::All, None, None, "rwm"),
        char(true, 1, 5),
        char(true, 1, 3),
        char(true, 1, 9),
        char(true, 1, 8),
        char(true, 5, 0),
        char(true, 5, 1),
        char(false, 10, 229),
    ]
}

/// The rule of `--privileged`: every device.
pub fn all_devices_rule() -> DeviceRule {
    rule(true, DeviceKind::All, None, None, "rwm")
}

/// What the runtime allows after a bundle's own rules, whatever they say (as runc does): making
/// any node, the default devices, pseudo-terminals and tun.
pub fn implied_device_rules() -> Vec<DeviceRule> {
    let char = |major, minor| rule(true, DeviceKind::Char, Some(major), minor, "rwm");
    vec![
        rule(true, DeviceKind::Char, None, None, "m"),
        rule(true, DeviceKind::Block, None, None, "m"),
        char(1, Some(3)),
        char(1, Some(8)),
        char(1, Some(7)),
        char(5, Some(0)),
        char(1, Some(5)),
        char(1, Some(9)),
        char(136, None),
        char(5, Some(2)),
        char(10, Some(200)),
    ]
}

fn rule(
    allow: bool,
    kind: DeviceKind,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> DeviceRule {
    DeviceRule {
        allow,
        kind,
        major,
        minor,
        access: access.to_owned(),
    }
}

/// Limits where none are asked for: those of a systemd service, whatever shell the engine was
/// started from, and no more than this process may hand on.
pub fn rlimits() -> Vec<Rlimit> {
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let hard = own.maximum.unwrap_or(u64::MAX).min(524_288);
    vec![Rlimit {
        kind: "RLIMIT_NOFILE".to_owned(),
        hard,
        soft: hard.min(1024),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_spec_hides_and_closes() {
        let spec = docker_spec();
        let linux = spec.linux.as_ref().unwrap();
        for path in [
            "/proc/interrupts",
            "/proc/keys",
            "/sys/devices/virtual/powercap",
        ] {
            assert!(linux.masked_paths.iter().any(|p| p == path), "{path}");
        }
        assert_eq!(linux.namespaces.len(), 5);
        let sys = spec.mounts.iter().find(|m| m.destination == "/sys");
        assert!(sys.unwrap().options.iter().any(|o| o == "ro"));
        let caps = spec.process.unwrap().capabilities.unwrap();
        assert_eq!(caps.effective.len(), 14);
        assert!(caps.inheritable.is_empty() && caps.ambient.is_empty());
    }

    #[test]
    fn privileged_hides_nothing() {
        let mut spec = docker_spec();
        open_up(&mut spec);
        let linux = spec.linux.as_ref().unwrap();
        assert!(linux.masked_paths.is_empty() && linux.readonly_paths.is_empty());
        assert!(
            spec.mounts
                .iter()
                .all(|m| !m.options.contains(&"ro".into()))
        );
    }

    #[test]
    fn rlimits_can_be_set_by_this_process() {
        for limit in rlimits() {
            assert!(limit.soft <= limit.hard && limit.soft > 0);
        }
    }
}
