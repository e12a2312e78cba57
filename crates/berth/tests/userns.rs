//! Containers in user namespaces: what they see, and what the host sees.

mod userns_world;

use std::os::unix::fs::MetadataExt;

use testkit::engine::Engine;
use testkit::etc::PrivateEtc;
use userns_world::{BASE, BERTH, remapped, users_of, world};

#[test]
fn a_container_is_root_inside_and_nobody_outside() {
    let Some(world) = remapped() else { return };
    let engine = &world.engine;
    let script = "id -u; id -g; tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map; \
        for f in / /bin/busybox /etc/hosts /etc/hostname /dev /dev/null /dev/shm /dev/pts; do \
          stat -c '%u:%g' $f; done; \
        echo x > /root/new; mkdir /made; chown 33:44 /made; stat -c '%u:%g' /root/new /made; \
        echo y > /dev/null; echo z > /dev/shm/z; echo w >> /etc/hosts; \
        rm /etc/passwd.gone 2>/dev/null; mv /bin/sh /bin/sh2; ls /bin/sh2; cat /proc/sys/kernel/ns_last_pid > /dev/null; \
        echo said > /dev/stdout";
    let out = engine.ok(&[
        "run",
        "--name",
        "c1",
        "busybox",
        "/bin/busybox",
        "sh",
        "-c",
        script,
    ]);
    let lines: Vec<&str> = out.lines().collect();
    let map = format!(" 0 {BASE} 65536");
    assert_eq!(lines[..4], ["0", "0", &map, &map], "{out}");
    assert!(lines[4..12].iter().all(|l| *l == "0:0"), "{out}");
    assert_eq!(lines[12..], ["0:0", "33:44", "/bin/sh2", "said"], "{out}");
    for (path, owner) in [
        ("root/new", (0, 0)),
        ("made", (33, 44)),
        ("bin/sh2", (0, 0)),
    ] {
        let file = std::fs::symlink_metadata(world.on_disk("c1", path)).expect(path);
        assert_eq!((file.uid(), file.gid()), owner, "{path}");
    }
    // Outside.
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "c2",
        "-u",
        "1000:1001",
        "busybox",
        "sleep",
        "1000",
    ]);
    assert_eq!(users_of(&world.pid("c2")), [BASE + 1000; 4]);
    engine.ok(&["run", "-d", "--name", "c3", "busybox", "sleep", "1000"]);
    assert_eq!(users_of(&world.pid("c3")), [BASE; 4]);
    let ours = std::fs::read_link("/proc/self/ns/user").expect("a namespace");
    let theirs = std::fs::read_link(format!("/proc/{}/ns/user", world.pid("c3")));
    assert_ne!(theirs.expect("a namespace"), ours);
    let info = engine.ok(&["info", "-f", "{{json .SecurityOptions}}"]);
    assert!(info.contains("\"name=userns\""), "{info}");
    let maps = engine.ok(&["inspect", "-f", "{{json .IDMappings}}", "c3"]);
    assert_eq!(
        maps,
        format!("{{\"UidMap\":[\"0:{BASE}:65536\"],\"GidMap\":[\"0:{BASE}:65536\"]}}")
    );
}

#[test]
fn execs_terminals_and_streams() {
    let Some(world) = remapped() else { return };
    let engine = &world.engine;
    engine.ok(&["run", "-d", "--name", "c1", "busybox", "sleep", "1000"]);
    let out = engine.ok(&[
        "exec",
        "-u",
        "1000:1000",
        "c1",
        "sh",
        "-c",
        "id -u; id -g; echo again > /dev/stdout",
    ]);
    assert_eq!(out, "1000\n1000\nagain");
    let out = engine.ok(&[
        "exec",
        "c1",
        "sh",
        "-c",
        "readlink /proc/1/ns/user; readlink /proc/self/ns/user",
    ]);
    let links: Vec<&str> = out.lines().collect();
    assert_eq!(links[0], links[1]);
    let out = engine.ok(&[
        "run",
        "--rm",
        "-t",
        "busybox",
        "sh",
        "-c",
        "stat -c %u:%g $(tty); echo yes > $(tty); stat -c %u /dev/console",
    ]);
    assert_eq!(out.replace('\r', ""), "0:5\nyes\n0");
    let out = engine.ok(&[
        "exec",
        "-t",
        "-u",
        "1000",
        "c1",
        "sh",
        "-c",
        "stat -c %u:%g $(tty); echo yes > $(tty)",
    ]);
    assert_eq!(out.replace('\r', ""), "1000:5\nyes");
}

#[test]
fn the_network_is_the_containers_own() {
    let Some(world) = remapped() else { return };
    let engine = &world.engine;
    let port = testkit::http::free_port();
    let publish = format!("127.0.0.1:{port}:80");
    let serve = "echo alive > /tmp/index.html; httpd -f -p 80 -h /tmp";
    engine.ok(&[
        "run", "-d", "--name", "web", "-p", &publish, "-u", "1000", "busybox", "sh", "-c", serve,
    ]);
    let address = format!("127.0.0.1:{port}").parse().expect("an address");
    assert_eq!(
        testkit::http::get_when_up(address, "/index.html"),
        "alive\n"
    );
    // Its root rules it, as far as its capabilities go.
    let script = "ip link add d0 type dummy 2>/dev/null || ip link set lo mtu 1000 && echo yes";
    let out = engine.ok(&[
        "run",
        "--rm",
        "--cap-add",
        "NET_ADMIN",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(out, "yes");
    let out = engine.ok(&[
        "run",
        "--rm",
        "--sysctl",
        "net.ipv4.ip_forward=0",
        "busybox",
        "cat",
        "/proc/sys/net/ipv4/ip_forward",
    ]);
    assert_eq!(out, "0");
    engine.ok(&["network", "create", "n1"]);
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "named",
        "--network",
        "n1",
        "busybox",
        "sh",
        "-c",
        serve,
    ]);
    let ask = "until wget -q -O - http://named/; do :; done";
    assert_eq!(
        engine.ok(&[
            "run",
            "--rm",
            "--network",
            "n1",
            "busybox",
            "timeout",
            "20",
            "sh",
            "-c",
            ask
        ]),
        "alive"
    );
    // Who shares a network shares the users, too.
    let out = engine.ok(&[
        "run",
        "--rm",
        "--network",
        "container:web",
        "--pid",
        "container:web",
        "busybox",
        "sh",
        "-c",
        "readlink /proc/self/ns/user; wget -q -O - http://127.0.0.1/; cat /proc/1/comm",
    ]);
    let theirs = std::fs::read_link(format!("/proc/{}/ns/user", world.pid("web")));
    let theirs = theirs.expect("a namespace").display().to_string();
    assert_eq!(out, format!("{theirs}\nalive\nhttpd"));
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "out",
        "--userns=host",
        "busybox",
        "sleep",
        "1000",
    ]);
    let error = engine.fails(
        125,
        &[
            "run",
            "--rm",
            "--network",
            "container:out",
            "busybox",
            "true",
        ],
    );
    assert!(
        error.contains("it runs in the host's user namespace"),
        "{error}"
    );
}

#[test]
fn a_container_can_opt_out_and_some_must() {
    let Some(world) = remapped() else { return };
    let engine = &world.engine;
    let out = engine.ok(&[
        "run",
        "-d",
        "--name",
        "c1",
        "--userns=host",
        "busybox",
        "sleep",
        "1000",
    ]);
    assert_eq!(users_of(&world.pid(&out)), [0; 4]);
    let ours = std::fs::read_link("/proc/self/ns/user").expect("a namespace");
    assert_eq!(
        std::fs::read_link(format!("/proc/{}/ns/user", world.pid("c1"))).expect("a namespace"),
        ours
    );
    for (flags, expected) in [
        (
            &["--privileged"][..],
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode",
        ),
        (
            &["--network", "host"],
            "cannot share the host's network namespace when user namespaces are enabled",
        ),
        (
            &["--pid", "host"],
            "cannot share the host PID namespace when user namespaces are enabled",
        ),
    ] {
        let error = engine.fails(
            125,
            &[&["run", "--rm"], flags, &["busybox", "true"]].concat(),
        );
        assert!(error.contains(expected), "{error}");
        engine.ok(&[
            &["run", "--rm", "--userns=host"],
            flags,
            &["busybox", "true"],
        ]
        .concat());
    }
    let error = engine.fails(125, &["run", "--userns=private", "busybox", "true"]);
    assert!(error.contains("invalid USER mode"), "{error}");
}

#[test]
fn containers_in_user_namespaces_outlive_the_engine() {
    let Some(mut world) = remapped() else { return };
    let port = testkit::http::free_port();
    let publish = format!("127.0.0.1:{port}:80");
    let serve = "echo alive > /tmp/index.html; httpd -f -p 80 -h /tmp";
    world.engine.ok(&[
        "run", "-d", "--name", "web", "-p", &publish, "busybox", "sh", "-c", serve,
    ]);
    let pid = world.pid("web");
    let address = format!("127.0.0.1:{port}").parse().expect("an address");
    assert_eq!(
        testkit::http::get_when_up(address, "/index.html"),
        "alive\n"
    );
    world.engine.kill();
    world.engine.launch();
    assert_eq!(world.pid("web"), pid);
    assert_eq!(
        testkit::http::get_when_up(address, "/index.html"),
        "alive\n"
    );
    let engine = &world.engine;
    assert_eq!(engine.ok(&["exec", "-u", "5", "web", "id", "-u"]), "5");
    let dir = engine.dir_with("in", &[("a", "one\n")]);
    engine.ok(&["cp", &dir.join("a").display().to_string(), "web:/a"]);
    assert_eq!(engine.ok(&["exec", "web", "stat", "-c", "%u", "/a"]), "0");
    engine.ok(&["restart", "-t", "0", "web"]);
    assert_eq!(users_of(&world.pid("web")), [BASE; 4]);
    assert_eq!(
        testkit::http::get_when_up(address, "/index.html"),
        "alive\n"
    );
    assert_eq!(engine.ok(&["exec", "web", "cat", "/a"]), "one");
}

#[test]
fn automatic_ranges_are_each_containers_own() {
    let Some(mut world) = world(&[]) else { return };
    let engine = &world.engine;
    let run = |name: &str| {
        engine.run(&[
            "run",
            "-d",
            "--userns=auto",
            "--name",
            name,
            "busybox",
            "sleep",
            "1000",
        ])
    };
    assert_eq!(run("c1").code, 0);
    assert_eq!(run("c2").code, 0);
    let error = run("c3");
    assert!(
        error
            .err
            .contains("all 2 ranges of /etc/subuid and /etc/subgid are in use"),
        "{error:?}"
    );
    assert_eq!(users_of(&world.pid("c1")), [1_000_000; 4]);
    assert_eq!(users_of(&world.pid("c2")), [1_065_536; 4]);
    assert_eq!(
        engine.ok(&[
            "inspect",
            "-f",
            "{{.HostConfig.UsernsMode}} {{.IDMappings.UidMap}}",
            "c2"
        ]),
        "auto [0:1065536:65536]"
    );
    let script = "id -u; echo x > /x; stat -c %u:%g /x /bin/busybox";
    assert_eq!(
        engine.ok(&["exec", "c2", "sh", "-c", script]),
        "0\n0:0\n0:0"
    );
    engine.ok(&["rm", "-f", "c1"]);
    world.engine.kill();
    world.engine.launch();
    let engine = &world.engine;
    // Without a remap others are as ever.
    engine.ok(&["run", "-d", "--name", "plain", "busybox", "sleep", "1000"]);
    assert_eq!(users_of(&world.pid("plain")), [0; 4]);
    engine.ok(&[
        "run",
        "-d",
        "--userns=auto",
        "--name",
        "c4",
        "busybox",
        "sleep",
        "1000",
    ]);
    assert_eq!(users_of(&world.pid("c4")), [1_000_000; 4]);
    assert_eq!(users_of(&world.pid("c2")), [1_065_536; 4]);
    let error = engine.fails(
        125,
        &["run", "--userns=auto", "--privileged", "busybox", "true"],
    );
    assert!(error.contains("privileged mode is incompatible"), "{error}");
}

#[test]
fn the_default_user_is_made() {
    let tools = ["useradd", "adduser", "usermod"];
    if tools.iter().any(|t| !testkit::has_command(t)) {
        return testkit::skipped("there is no usermod and the like");
    }
    let Some(etc) = PrivateEtc::new(&[
        ("subuid", "other:100000:65536\n"),
        ("subgid", "other:100000:65536\n"),
    ]) else {
        return;
    };
    let engine = Engine::start_under(BERTH, &["--userns-remap=default"], &etc.prefix());
    engine.load_busybox();
    let line = std::fs::read_to_string(etc.file("subuid")).expect("a file");
    assert!(line.contains("dockremap:165536:65536"), "{line}");
    let map = engine.ok(&["run", "--rm", "busybox", "cat", "/proc/self/uid_map"]);
    let fields: Vec<&str> = map.split_whitespace().collect();
    assert_eq!(fields, ["0", "165536", "65536"]);
}

#[test]
fn all_capabilities_are_those_of_the_namespace() {
    let Some(world) = remapped() else { return };
    // Protection of /proc/sys is its own to take away; what is behind belongs to another root.
    let script = "mount -o remount,rw /proc/sys; for c in 'mknod /tmp/disk b 8 0' 'mknod /dev/kmem c 1 2' 'chown 70000 /tmp' \
          'sh -c \"echo 1 > /proc/sys/kernel/panic\"' 'sh -c \"echo h > /proc/sysrq-trigger\"' 'dmesg' \
          'hwclock -w' 'mount -t ext4 /dev/null /mnt'; do \
          eval $c > /dev/null 2>&1 && echo \"possible: $c\"; done; \
        mkdir -p /mnt; mount -t tmpfs x /mnt && echo own mounts; hostname other && hostname; \
        umount -l /dev/pts; umount -l /; grep -c ' /etc ' /proc/self/mountinfo";
    let out = world.engine.run(&[
        "run",
        "--rm",
        "--cap-add",
        "ALL",
        "--security-opt",
        "seccomp=unconfined",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(out.out, "own mounts\nother\n0\n", "{out:?}");
}
