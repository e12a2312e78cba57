//! What a container can see and do.

use berth_runtime::capability::CapSet;
use berth_runtime::launcher::Launcher;
use berth_spec::oci::runtime::{
    Device, DeviceKind, IdMapping, Memory, Mount, Namespace, NamespaceKind, Rlimit, User,
};
use berth_sys::{mount, root::RootFd};
use rustix::fs::CWD;

use crate::bundle::Bundle;

pub fn identity_and_capabilities(launcher: &Launcher) {
    let mut bundle =
        Bundle::new("id; umask; grep -E 'Cap|NoNew|Seccomp:' /proc/self/status; echo $HOME; pwd");
    let process = bundle.spec().process.as_mut().unwrap();
    process.user = User {
        uid: 1000,
        gid: 1000,
        umask: Some(0o027),
        additional_gids: vec![50, 77],
        ..User::default()
    };
    process.cwd = "/made/for/it".into();
    let out = bundle.output(launcher);
    let expected = "uid=1000(alice) gid=1000(alice) groups=50(staff),77\n0027\n\
        CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
        CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\n\
        /home/alice\n/made/for/it\n";
    assert_eq!(out, expected);
    let out = Bundle::new("grep CapEff /proc/self/status; echo $HOME; id -u").output(launcher);
    assert_eq!(out, "CapEff:\t00000000a80425fb\n/root\n0\n");
}

pub fn no_new_privileges_and_ambient(launcher: &Launcher) {
    let mut bundle = Bundle::new("grep -E 'Cap|NoNew|Seccomp:' /proc/self/status");
    let process = bundle.spec().process.as_mut().unwrap();
    process.no_new_privileges = true;
    process.user.uid = 1000;
    let names = vec!["CAP_NET_BIND_SERVICE".to_owned()];
    let sets = process.capabilities.as_mut().unwrap();
    sets.ambient.clone_from(&names);
    sets.inheritable.clone_from(&names);
    let out = bundle.output(launcher);
    assert!(out.contains("CapEff:\t0000000000000400"), "{out}");
    assert!(out.contains("CapAmb:\t0000000000000400"), "{out}");
    assert!(out.contains("NoNewPrivs:\t1\nSeccomp:\t2"), "{out}");
}

pub fn calls_are_filtered(launcher: &Launcher) {
    // Without CAP_SYS_ADMIN the default profile allows no new user namespace.
    let script = "busybox unshare -U true; busybox unshare -m true; mount -t tmpfs x /tmp";
    let (_, errors, status) = Bundle::new(script).run(launcher);
    assert_ne!(status.code, 0);
    assert_eq!(errors.matches("not permitted").count(), 2, "{errors}");
}

pub fn paths_are_hidden_and_protected(launcher: &Launcher) {
    let script = "cat /proc/keys | wc -c; cat /proc/timer_list | wc -c; ls /sys/firmware | wc -l; \
        for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel/uevent_helper; do (echo x > $f) 2>&1 | grep -o 'Read-only file system'; done; \
        grep -c ' /proc/' /proc/self/mountinfo; ls -l /dev/core";
    let out = Bundle::new(script).output(launcher);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..3], ["0", "0", "0"], "{out}");
    assert!(out.matches("Read-only file system").count() >= 2, "{out}");
    assert!(out.contains("/dev/core -> /proc/kcore"), "{out}");
    // Nothing of the host below the root.
    let out = Bundle::new("cut -d' ' -f5 /proc/self/mountinfo | sort").output(launcher);
    let allowed = ["/", "/proc", "/sys", "/dev"];
    for point in out.lines() {
        assert!(
            allowed
                .iter()
                .any(|a| point == *a || point.starts_with(&format!("{a}/"))),
            "{out}"
        );
    }
}

pub fn descriptors_do_not_leak(launcher: &Launcher) {
    let out = Bundle::new("ls /proc/self/fd | wc -l; for f in 0 1 2; do readlink /proc/$$/fd/$f; done; ls /proc/$$/fd")
        .output(launcher);
    // Three, and the directory that is listed.
    assert!(out.starts_with("4\n"), "{out}");
    assert!(
        out.matches("pipe:").count() == 2 && out.contains("/dev/null"),
        "{out}"
    );
}

pub fn devices_are_what_they_seem(launcher: &Launcher) {
    let script = "for d in null zero full random urandom tty fuse; do stat -c '%n %t %T %a' /dev/$d; done; \
        for l in fd ptmx stdin; do readlink /dev/$l; done; echo x > /dev/null; head -c 3 /dev/zero | wc -c; \
        ls -d /dev/pts/ptmx /dev/shm /dev/mqueue; cat /dev/fuse 2>&1 | grep -o 'not permitted'; mount | grep -c ' /dev/shm .*size=65536k'";
    let mut bundle = Bundle::new(script);
    bundle.spec().linux.as_mut().unwrap().devices = vec![Device {
        kind: DeviceKind::Char,
        path: "/dev/fuse".into(),
        major: 10,
        minor: 229,
        file_mode: Some(0o640),
        ..Device::default()
    }];
    let out = bundle.output(launcher);
    let expected = "/dev/null 1 3 666\n/dev/zero 1 5 666\n/dev/full 1 7 666\n/dev/random 1 8 666\n/dev/urandom 1 9 666\n\
        /dev/tty 5 0 666\n/dev/fuse a e5 640\n/proc/self/fd\npts/ptmx\n/proc/self/fd/0\n3\n\
        /dev/mqueue\n/dev/pts/ptmx\n/dev/shm\nnot permitted\n1\n";
    assert_eq!(out, expected);
}

pub fn limits_and_names(launcher: &Launcher) {
    let script = "hostname; ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max; \
        echo 1 > /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || echo refused";
    let mut bundle = Bundle::new(script);
    bundle.spec().hostname = "box".into();
    bundle.spec().domainname = "example".into();
    let process = bundle.spec().process.as_mut().unwrap();
    process.rlimits = vec![Rlimit {
        kind: "RLIMIT_NOFILE".into(),
        hard: u64::MAX,
        soft: 999,
    }];
    process.oom_score_adj = Some(321);
    let linux = bundle.spec().linux.as_mut().unwrap();
    linux.namespaces.push(Namespace {
        kind: NamespaceKind::Cgroup,
        path: String::new(),
    });
    linux.resources.as_mut().unwrap().memory = Some(Memory {
        limit: Some(64 << 20),
        ..Memory::default()
    });
    let running = bundle.spawn(launcher).unwrap();
    // Not even CAP_SYS_RESOURCE makes it limitless.
    let told = running.task.warnings();
    assert!(told.iter().any(|w| w.contains("RLIMIT_NOFILE")), "{told:?}");
    let (out, errors, _) = running.finish();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..2], ["box", "999"], "{out}{errors}");
    assert_eq!(lines[3..], ["321", "67108864", "refused"], "{out}{errors}");
}

fn bind(source: &str, destination: &str, options: &[&str]) -> Mount {
    Mount {
        source: source.into(),
        destination: destination.into(),
        options: options.iter().map(|o| (*o).to_owned()).collect(),
        ..Mount::default()
    }
}

pub fn mounts_of_all_kinds(launcher: &Launcher) {
    let script = "cat /scratch/from-image; cat /data/file /etc/one; echo new > /data/new; (echo x > /ro/file) 2>&1 | grep -o 'Read-only.*'; \
        echo t > /scratch/t; (echo 12345678901234567890 > /full/x) ; cat /handle/file; mount | grep -c '/scratch type tmpfs (rw,nosuid,nodev,noexec'; \
        (echo x > /ro/sub/file) 2>&1 | grep -o 'Read-only.*'";
    let mut bundle = Bundle::new(script);
    let data = bundle.temp.path().join("data");
    std::fs::create_dir_all(data.join("sub")).unwrap();
    std::fs::write(data.join("file"), "data\n").unwrap();
    let source = data.display().to_string();
    let file = data.join("file").display().to_string();
    let mut tmpfs = bind(
        "tmpfs",
        "/scratch",
        &["nosuid", "nodev", "noexec", "size=1m", "tmpcopyup"],
    );
    std::fs::create_dir(bundle.root.join("scratch")).unwrap();
    std::fs::write(bundle.root.join("scratch/from-image"), "copied\n").unwrap();
    tmpfs.kind = "tmpfs".into();
    let mounts = [
        bind(&source, "/data", &["rbind", "rprivate"]),
        bind(&source, "/ro", &["rbind", "rro", "rprivate"]),
        bind(&file, "/etc/one", &["bind", "ro"]),
        tmpfs,
        bind("given as a handle", "/handle", &["bind"]),
        bind(&source, "/full", &["bind"]),
    ];
    bundle.spec().mounts.extend(mounts);
    let index = bundle.task.spec.mounts.len() - 2;
    // Once a handle, once a detached mount.
    let handle = RootFd::open(&data).unwrap().into_fd();
    bundle.sources.push((index, handle));
    let detached = mount::clone_path(CWD, &data, false).unwrap();
    bundle.sources.push((index + 1, detached));
    let running = bundle.spawn(launcher).unwrap();
    let data = running.temp.path().join("data");
    let mut client = running.client.try_clone().unwrap();
    running.task.wait().unwrap();
    let mut raw = Vec::new();
    std::io::Read::read_to_end(&mut client, &mut raw).unwrap();
    let (out, errors) = crate::bundle::frames(&raw);
    assert_eq!(errors, "");
    assert_eq!(
        out,
        "copied\ndata\ndata\nRead-only file system\ndata\n1\nRead-only file system\n"
    );
    assert_eq!(std::fs::read_to_string(data.join("new")).unwrap(), "new\n");

    let mut bundle = Bundle::new("");
    bundle
        .spec()
        .mounts
        .push(bind("/no/such", "/x", &["rbind"]));
    let error = bundle.refusal(launcher);
    assert!(error.to_string().contains("/no/such"), "{error}");
}

pub fn the_root_can_be_read_only(launcher: &Launcher) {
    let mut bundle = Bundle::new(
        "(echo x > /x) 2>&1 | grep -o 'Read-only.*'; echo y > /dev/shm/y; touch /dev/z && echo dev",
    );
    bundle.spec().root.as_mut().unwrap().readonly = true;
    assert_eq!(bundle.output(launcher), "Read-only file system\ndev\n");
}

pub fn a_user_namespace_can_be_made_inside(launcher: &Launcher) {
    // The root is no chroot for the kernel, else this would be refused.
    let mut bundle = Bundle::new(
        "busybox unshare -Ur id -u && busybox unshare -m sh -c 'mount -t tmpfs x /tmp && echo mounted'",
    );
    let names = CapSet::all().names();
    let linux = bundle.spec().linux.as_mut().unwrap();
    linux.seccomp = None;
    let sets = bundle
        .spec()
        .process
        .as_mut()
        .unwrap()
        .capabilities
        .as_mut()
        .unwrap();
    sets.bounding.clone_from(&names);
    sets.permitted.clone_from(&names);
    sets.effective = names;
    let (out, errors, _) = bundle.run(launcher);
    assert_eq!(out, "0\nmounted\n", "{errors}");
}

pub fn a_user_namespace_of_its_own(launcher: &Launcher) {
    let script = "id -u; cat /proc/self/uid_map | tr -s ' '; stat -c '%U %t %T' /dev/null; echo x > /dev/null; echo ok > /root/x; grep CapEff /proc/self/status; tty -s || echo no tty";
    let mut bundle = Bundle::new(script);
    let mapping = vec![IdMapping {
        container_id: 0,
        host_id: 200_000,
        size: 65_536,
    }];
    // The root belongs to the container's root.
    own(&bundle.root, 200_000);
    std::fs::set_permissions(
        bundle.temp.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let linux = bundle.spec().linux.as_mut().unwrap();
    linux.uid_mappings.clone_from(&mapping);
    linux.gid_mappings = mapping;
    linux.namespaces.push(Namespace {
        kind: NamespaceKind::User,
        path: String::new(),
    });
    let mut running = bundle.spawn(launcher).unwrap();
    let seen = crate::bundle::await_text(&mut running.client, "no tty");
    for text in [" 0 200000 65536", "1 3", "CapEff:\t00000000a80425fb"] {
        assert!(seen.contains(text), "{seen}");
    }
}

fn own(dir: &std::path::Path, id: u32) {
    std::os::unix::fs::lchown(dir, Some(id), Some(id)).unwrap();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            own(&entry.path(), id);
        } else if entry.file_name() != "busybox" {
            std::os::unix::fs::lchown(entry.path(), Some(id), Some(id)).unwrap();
        }
    }
}

pub fn sysctls_are_of_the_container(launcher: &Launcher) {
    let before = std::fs::read_to_string("/proc/sys/kernel/shmmni").unwrap();
    let mut bundle = Bundle::new("cat /proc/sys/kernel/shmmni /proc/sys/net/ipv4/ip_forward");
    let sysctl = &mut bundle.spec().linux.as_mut().unwrap().sysctl;
    sysctl.insert("kernel.shmmni".into(), "1234".into());
    sysctl.insert("net.ipv4.ip_forward".into(), "1".into());
    assert_eq!(bundle.output(launcher), "1234\n1\n");
    assert_eq!(
        std::fs::read_to_string("/proc/sys/kernel/shmmni").unwrap(),
        before
    );
    let mut bundle = Bundle::new("");
    let sysctl = &mut bundle.spec().linux.as_mut().unwrap().sysctl;
    sysctl.insert("kernel.core_pattern".into(), "|/x".into());
    let error = bundle.refusal(launcher);
    assert!(
        error
            .to_string()
            .contains("not in a separate kernel namespace"),
        "{error}"
    );
}

/// Takes a namespace of the document away, or sets its path.
fn namespace(bundle: &mut Bundle, kind: NamespaceKind, path: Option<String>) {
    let namespaces = &mut bundle.spec().linux.as_mut().unwrap().namespaces;
    namespaces.retain(|n| n.kind != kind);
    namespaces.extend(path.map(|path| Namespace { kind, path }));
}

pub fn namespaces_of_others_are_joined(launcher: &Launcher) {
    let mut first = Bundle::new("hostname first; echo ready; exec sleep 1000");
    first.spec().hostname = "x".into();
    let sets = first
        .spec()
        .process
        .as_mut()
        .unwrap()
        .capabilities
        .as_mut()
        .unwrap();
    sets.effective.push("CAP_SYS_ADMIN".into());
    sets.permitted.push("CAP_SYS_ADMIN".into());
    sets.bounding.push("CAP_SYS_ADMIN".into());
    first.spec().linux.as_mut().unwrap().seccomp = None;
    let mut first = first.spawn(launcher).unwrap();
    first.await_output("ready");
    let kinds = [
        (NamespaceKind::Pid, "pid"),
        (NamespaceKind::Network, "net"),
        (NamespaceKind::Ipc, "ipc"),
        (NamespaceKind::Uts, "uts"),
    ];
    let script = "hostname; for n in pid net ipc uts; do readlink /proc/self/ns/$n; done";
    let mut second = Bundle::new(script);
    let ns = |name: &str| format!("/proc/{}/ns/{name}", first.task.pid());
    for (kind, name) in kinds {
        namespace(&mut second, kind, Some(ns(name)));
    }
    let out = second.output(launcher);
    let links: Vec<String> = kinds
        .iter()
        .map(|(_, name)| std::fs::read_link(ns(name)).unwrap().display().to_string())
        .collect();
    assert_eq!(out, format!("first\n{}\n", links.join("\n")));
    // Execs go there as well.
    let mut third = Bundle::new("echo ready; exec sleep 1000");
    namespace(&mut third, NamespaceKind::Pid, Some(ns("pid")));
    let mut third = third.spawn(launcher).unwrap();
    third.await_output("ready");
    let mut process = Bundle::new("").task.spec.process.unwrap();
    process.args = ["readlink", "/proc/self/ns/pid"]
        .map(str::to_owned)
        .to_vec();
    let exec = third.task.exec(berth_runtime::task::ExecSpec {
        id: "e".into(),
        process,
        attach: berth_runtime::task::AttachOptions::OUTPUT,
    });
    let mut stream: std::os::unix::net::UnixStream = exec.unwrap().stream.unwrap().into();
    let seen = crate::bundle::await_text(&mut stream, "]");
    assert!(seen.contains(&links[0]), "{seen}");
}

pub fn the_hosts_namespaces_are_shared(launcher: &Launcher) {
    let mut bundle = Bundle::new(
        "for n in pid net ipc uts; do readlink /proc/self/ns/$n; done; sleep 1000 & echo end",
    );
    for kind in [
        NamespaceKind::Pid,
        NamespaceKind::Network,
        NamespaceKind::Ipc,
        NamespaceKind::Uts,
    ] {
        namespace(&mut bundle, kind, None);
    }
    // mqueue and its like belong to the namespace that is shared.
    let (out, errors, status) = bundle.run(launcher);
    let links: Vec<String> = ["pid", "net", "ipc", "uts"]
        .iter()
        .map(|n| {
            std::fs::read_link(format!("/proc/self/ns/{n}"))
                .unwrap()
                .display()
                .to_string()
        })
        .collect();
    // What it left behind has ended with it, else this would not have.
    assert_eq!(out, format!("{}\nend\n", links.join("\n")), "{errors}");
    assert_eq!(status.code, 0);
    let mut bundle = Bundle::new("");
    namespace(&mut bundle, NamespaceKind::Uts, None);
    bundle.spec().hostname = "host".into();
    let error = bundle.refusal(launcher).to_string();
    assert!(error.contains("private UTS namespace"), "{error}");
}

pub fn keyrings_are_its_own(launcher: &Launcher) {
    if std::fs::metadata("/proc/keys").is_err() {
        testkit::skipped("this kernel has no keyrings");
        return;
    }
    // Those of others that belong to the same user are seen as well.
    let serials = |text: &str| -> std::collections::BTreeSet<String> {
        text.lines()
            .filter(|line| line.contains(" _ses"))
            .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
            .collect()
    };
    let before = serials(&std::fs::read_to_string("/proc/keys").unwrap());
    let mut bundle = Bundle::new("cat /proc/keys");
    let linux = bundle.spec().linux.as_mut().unwrap();
    linux.masked_paths.clear();
    linux.seccomp = None;
    let inside = serials(&bundle.output(launcher));
    assert!(inside.difference(&before).next().is_some(), "{inside:?}");
}

pub fn devices_may_stand_elsewhere(launcher: &Launcher) {
    use berth_spec::oci::runtime::{Device, DeviceKind};
    let mut bundle = Bundle::new(
        "ls -l /some/where/null | cut -c1-10; echo x > /some/where/null; ls /dev | grep -c where",
    );
    bundle.spec().linux.as_mut().unwrap().devices.push(Device {
        path: "/some/where/null".into(),
        kind: DeviceKind::Char,
        major: 1,
        minor: 3,
        ..Device::default()
    });
    let (out, errors, _) = bundle.run(launcher);
    assert_eq!(out, "crw-rw-rw-\n0\n", "{errors}");
}

pub fn scheduling_is_as_asked(launcher: &Launcher) {
    use berth_spec::oci::runtime::{IoPriority, Scheduler};
    let mut bundle = Bundle::new("cut -d' ' -f19 /proc/self/stat; ionice -p $$");
    let process = bundle.spec().process.as_mut().unwrap();
    process.scheduler = Some(Scheduler {
        policy: "SCHED_BATCH".into(),
        nice: 7,
        ..Scheduler::default()
    });
    process.io_priority = Some(IoPriority {
        class: "IOPRIO_CLASS_BE".into(),
        priority: 6,
    });
    assert_eq!(bundle.output(launcher), "7\nbest-effort: prio 6\n");
    let mut bundle = Bundle::new("true");
    let process = bundle.spec().process.as_mut().unwrap();
    process.scheduler = Some(Scheduler {
        policy: "SCHED_WHATEVER".into(),
        ..Scheduler::default()
    });
    let error = bundle.refusal(launcher).to_string();
    assert!(error.contains("SCHED_WHATEVER"), "{error}");
}
