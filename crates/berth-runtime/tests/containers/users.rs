//! User namespaces, mounts whose owners are mapped, and clocks.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use berth_runtime::capability::CapSet;
use berth_runtime::launcher::Launcher;
use berth_runtime::task::{AttachOptions, ExecSpec, TaskFds};
use berth_spec::oci::runtime::{IdMapping, Mount, Namespace, NamespaceKind, Rlimit, TimeOffset};
use berth_sys::mount::{self, Attributes};

use crate::bundle::{Bundle, Running, await_text, frames, root_of};

/// IDs from 300000 on.
const BASE: u32 = 300_000;

fn mapping() -> Vec<IdMapping> {
    vec![IdMapping {
        container_id: 0,
        host_id: BASE,
        size: 65_536,
    }]
}

fn add_namespace(bundle: &mut Bundle, kind: NamespaceKind, path: &str) {
    let path = path.to_owned();
    let linux = bundle.spec().linux.as_mut().unwrap();
    linux.namespaces.push(Namespace { kind, path });
}

/// Starts a bundle in a user namespace that was made first, with its network and its root mapped.
fn spawn_mapped(launcher: &Launcher, mut bundle: Bundle) -> Running {
    let made = launcher
        .user_namespace(&mapping(), &mapping(), true)
        .unwrap();
    let root = root_of(&bundle.root);
    let change = Attributes {
        idmap: Some(made.user.as_fd()),
        ..Attributes::default()
    };
    mount::set_attributes(&root, false, &change).unwrap();
    add_namespace(&mut bundle, NamespaceKind::User, "");
    let (here, there) = UnixStream::pair().unwrap();
    here.set_read_timeout(Some(testkit::wait::DEADLINE))
        .unwrap();
    let mut fds = TaskFds::new(root);
    fds.netns = made.network;
    fds.userns = Some(made.user);
    fds.attach.push((AttachOptions::OUTPUT, there.into()));
    let task = launcher.spawn(bundle.task.clone(), fds).unwrap();
    let linux = bundle.task.spec.linux.as_ref().unwrap();
    Running {
        cgroup: linux.cgroups_path.clone(),
        terminal: bundle.task.spec.process.as_ref().unwrap().terminal,
        task,
        client: here,
        temp: bundle.temp,
    }
}

/// Standard output up to the word `ready`, which is written last.
fn until_ready(running: &mut Running) -> String {
    frames(await_text(&mut running.client, "ready\n").as_bytes()).0
}

/// The user of a process, seen from here.
fn uid_of(pid: i32) -> u32 {
    std::fs::metadata(format!("/proc/{pid}")).map_or(0, |_| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|l| l.starts_with("Uid:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    })
}

pub fn a_given_one_is_joined(launcher: &Launcher) {
    let script = "id -u; stat -c '%u:%g' / /dev /dev/null /proc/self/fd/1; echo x > /dev/null && echo y > /root/f; \
        echo again > /dev/stdout; stat -c %u /root/f; mount | grep -c ' /sys '; \
        cat /proc/sys/net/ipv4/ip_unprivileged_port_start; cat /proc/1/net/dev | grep -c lo; \
        chown 33:44 /root/f && stat -c '%u:%g' /root/f; ulimit -Hn; echo ready; exec sleep 1000";
    let mut bundle = Bundle::new(script);
    let root = bundle.root.clone();
    let linux = bundle.spec().linux.as_mut().unwrap();
    let name = "net.ipv4.ip_unprivileged_port_start".to_owned();
    linux.sysctl.insert(name, "0".into());
    let process = bundle.spec().process.as_mut().unwrap();
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let hard = hard.maximum.unwrap_or(1 << 20) + 100;
    process.rlimits.push(Rlimit {
        kind: "RLIMIT_NOFILE".into(),
        hard,
        soft: 1024,
    });
    process.oom_score_adj = Some(5);
    let mut running = spawn_mapped(launcher, bundle);
    let seen = until_ready(&mut running);
    for line in ["0\n", "0:0\n0:0\n0:0\n0:0\n", "again\n", "33:44\n"] {
        assert!(seen.contains(line), "{line:?} is not in {seen}");
    }
    let nr_open = std::fs::read_to_string("/proc/sys/fs/nr_open").unwrap();
    let most: u64 = match CapSet::available().unwrap().has("CAP_SYS_RESOURCE") {
        true => nr_open.trim().parse().unwrap(),
        // It cannot be raised here, which is told.
        false => hard - 100,
    };
    let hard = hard.min(most);
    assert!(seen.contains(&format!("\n{hard}\n")), "{seen}");
    let pid = running.task.pid();
    assert_eq!(uid_of(pid), BASE);
    let score = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    assert_eq!(score.trim(), "5");
    // On disk nothing is shifted.
    let file = std::fs::metadata(root.join("root/f")).unwrap();
    assert_eq!((file.uid(), file.gid()), (33, 44));
}

pub fn execs_are_in_it(launcher: &Launcher) {
    let mut running = spawn_mapped(launcher, Bundle::new("echo ready; exec sleep 1000"));
    until_ready(&mut running);
    let exec = |script: &str, terminal: bool, uid: u32| {
        let mut process = Bundle::new("").task.spec.process.unwrap();
        process.args = ["sh", "-c", script].map(str::to_owned).to_vec();
        process.terminal = terminal;
        process.user.uid = uid;
        let exec = running.task.exec(ExecSpec {
            id: format!("e-{uid}-{terminal}"),
            process,
            attach: AttachOptions::OUTPUT,
        });
        let mut raw = Vec::new();
        let mut stream: UnixStream = exec.unwrap().stream.unwrap().into();
        stream.read_to_end(&mut raw).unwrap();
        match terminal {
            true => String::from_utf8(raw).unwrap().replace('\r', ""),
            false => frames(&raw).0,
        }
    };
    let links = "for n in user net pid mnt; do [ $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) ] && echo $n; done; grep CapEff /proc/self/status";
    assert_eq!(
        exec(links, false, 0),
        "user\nnet\npid\nmnt\nCapEff:\t00000000a80425fb\n"
    );
    let streams = "id -u; echo again > /dev/stdout";
    assert_eq!(exec(streams, false, 1000), "1000\nagain\n");
    let terminal = "stat -c %u $(tty); echo again > $(tty)";
    assert_eq!(exec(terminal, true, 0), "0\nagain\n");
    assert_eq!(exec(terminal, true, 1000), "1000\nagain\n");
}

pub fn one_of_another_is_joined_by_its_path(launcher: &Launcher) {
    let mut first = spawn_mapped(launcher, Bundle::new("echo ready; exec sleep 1000"));
    until_ready(&mut first);
    let script = "readlink /proc/self/ns/user; readlink /proc/self/ns/net; cat /proc/self/uid_map | tr -s ' '";
    let mut second = Bundle::new(script);
    open_to_all(&second);
    let ns = |name: &str| format!("/proc/{}/ns/{name}", first.task.pid());
    let namespaces = &mut second.spec().linux.as_mut().unwrap().namespaces;
    namespaces.retain(|n| n.kind != NamespaceKind::Network);
    add_namespace(&mut second, NamespaceKind::User, &ns("user"));
    add_namespace(&mut second, NamespaceKind::Network, &ns("net"));
    let link = |name: &str| std::fs::read_link(ns(name)).unwrap().display().to_string();
    let expected = format!("{}\n{}\n 0 {BASE} 65536\n", link("user"), link("net"));
    // The root is not its own: mount points that are missing cannot be made.
    for name in ["proc", "sys", "dev"] {
        std::fs::create_dir_all(second.root.join(name)).unwrap();
    }
    assert_eq!(second.output(launcher), expected);
    let mut ours = Bundle::new("true");
    add_namespace(&mut ours, NamespaceKind::User, "/proc/self/ns/user");
    let error = ours.refusal(launcher).to_string();
    assert!(error.contains("joining the user namespace"), "{error}");
}

/// Lets other users through to the root.
fn open_to_all(bundle: &Bundle) {
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(bundle.temp.path(), mode).unwrap();
}

fn bind(source: &Path, target: &str, options: &[&str]) -> Mount {
    Mount {
        destination: target.to_owned(),
        kind: "bind".to_owned(),
        source: source.display().to_string(),
        options: options.iter().map(|o| (*o).to_owned()).collect(),
        ..Mount::default()
    }
}

pub fn owners_of_mounts_are_mapped(launcher: &Launcher) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("d");
    std::fs::create_dir(&dir).unwrap();
    std::os::unix::fs::chown(&dir, Some(7), Some(8)).unwrap();
    // Without a user namespace, by mappings of its own.
    let mut bundle = Bundle::new("stat -c '%u:%g' /plain /mapped; touch /mapped/f");
    let mut mapped = bind(&dir, "/mapped", &["rbind"]);
    let by = |container_id, host_id| IdMapping {
        container_id,
        host_id,
        size: 10,
    };
    mapped.uid_mappings = vec![by(0, 0)];
    mapped.uid_mappings[0].size = 1;
    mapped.uid_mappings.push(by(7, 1007));
    mapped.gid_mappings = vec![by(0, 0)];
    let plain = bind(&dir, "/plain", &["rbind"]);
    bundle.spec().mounts.extend([mapped, plain]);
    assert_eq!(bundle.output(launcher), "7:8\n1007:8\n");
    assert_eq!(std::fs::metadata(dir.join("f")).unwrap().uid(), 0);
    // With one, by the container's.
    let script = "stat -c '%u:%g' /plain /mapped; touch /mapped/g && echo ready; exec sleep 1000";
    let mut bundle = Bundle::new(script);
    let mapped = bind(&dir, "/mapped", &["rbind", "idmap"]);
    let plain = bind(&dir, "/plain", &["rbind"]);
    bundle.spec().mounts.extend([mapped, plain]);
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).unwrap();
    let mut running = spawn_mapped(launcher, bundle);
    let seen = until_ready(&mut running);
    assert!(seen.contains("65534:65534\n7:8\n"), "{seen}");
    assert_eq!(std::fs::metadata(dir.join("g")).unwrap().uid(), 0);
    let mut bundle = Bundle::new("true");
    let idmap = bind(&dir, "/mapped", &["rbind", "idmap"]);
    bundle.spec().mounts.push(idmap);
    let error = bundle.refusal(launcher).to_string();
    assert!(error.contains("need mappings"), "{error}");
}

pub fn clocks_are_set_off(launcher: &Launcher) {
    if !Path::new("/proc/self/ns/time").exists() {
        return testkit::skipped("this kernel has no time namespaces");
    }
    let script = "cat /proc/self/timens_offsets | tr -s ' '; echo ready; exec sleep 1000";
    let mut bundle = Bundle::new(script);
    add_namespace(&mut bundle, NamespaceKind::Time, "");
    let offset = |secs| TimeOffset { secs, nanosecs: 0 };
    let linux = bundle.spec().linux.as_mut().unwrap();
    let offsets = &mut linux.time_offsets;
    offsets.insert("boottime".into(), offset(1_000_000_000));
    offsets.insert("monotonic".into(), offset(86_400));
    let mut running = bundle.spawn(launcher).unwrap();
    let seen = until_ready(&mut running);
    assert!(seen.contains("boottime 1000000000 0"), "{seen}");
    assert!(seen.contains("monotonic 86400 0"), "{seen}");
    // A process that comes later has the same clocks.
    let mut process = Bundle::new("").task.spec.process.unwrap();
    let script =
        "[ $(readlink /proc/1/ns/time) = $(readlink /proc/self/ns/time) ] && cat /proc/uptime";
    process.args = ["sh", "-c", script].map(str::to_owned).to_vec();
    let exec = running.task.exec(ExecSpec {
        id: "e".into(),
        process,
        attach: AttachOptions::OUTPUT,
    });
    let mut raw = Vec::new();
    let mut stream: UnixStream = exec.unwrap().stream.unwrap().into();
    stream.read_to_end(&mut raw).unwrap();
    assert!(frames(&raw).0.starts_with("10000"), "{:?}", frames(&raw));
    // Joined by its path.
    let mut second = Bundle::new("cut -c1-5 /proc/uptime");
    let path = format!("/proc/{}/ns/time", running.task.pid());
    add_namespace(&mut second, NamespaceKind::Time, &path);
    assert_eq!(second.output(launcher), "10000\n");
    let mut without = Bundle::new("true");
    let linux = without.spec().linux.as_mut().unwrap();
    linux.time_offsets.insert("boottime".into(), offset(1));
    let error = without.refusal(launcher).to_string();
    assert!(error.contains("time namespace is not enabled"), "{error}");
}

pub fn ranges_are_refused(launcher: &Launcher) {
    let overlapping = [mapping(), mapping()].concat();
    let error = launcher
        .user_namespace(&overlapping, &mapping(), false)
        .unwrap_err();
    assert!(error.to_string().contains("uid_map"), "{error}");
    let made = launcher.user_namespace(&mapping(), &mapping(), false);
    assert!(made.unwrap().network.is_none());
}
