//! Containers in user namespaces: what they see, what the host sees, and what is on disk.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use testkit::engine::Engine;
use testkit::etc::PrivateEtc;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// The first ID of the user whose ranges are used.
const BASE: u32 = 700_000;

/// An engine with `--userns-remap` on a machine with a user `mapped`.
struct World {
    engine: Engine,
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

fn world(flags: &[&str]) -> Option<World> {
    let etc = etc()?;
    let engine = Engine::start_under(BERTH, flags, &etc.prefix());
    engine.load_busybox();
    Some(World { engine, _etc: etc })
}

fn remapped() -> Option<World> {
    world(&["--userns-remap=mapped"])
}

impl World {
    fn pid(&self, name: &str) -> String {
        self.engine.ok(&["inspect", "-f", "{{.State.Pid}}", name])
    }

    /// A file of a container as it is on disk.
    fn on_disk(&self, name: &str, path: &str) -> PathBuf {
        let id = self.engine.ok(&["inspect", "-f", "{{.Id}}", name]);
        let upper = format!("data/containers/{id}/upper/{path}");
        self.engine.path(&upper)
    }
}

/// Real, effective, saved and file system user of a process, as the host sees it.
fn users_of(pid: &str) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find(|l| l.starts_with("Uid:"));
    let numbers = line.expect("its users").split_whitespace().skip(1);
    numbers.map(|n| n.parse().expect("a number")).collect()
}

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
fn programs_gain_what_their_files_say() {
    let Some(world) = remapped() else { return };
    let engine = &world.engine;
    // A program with the set-user-ID bit of root makes its user root inside: busybox keeps that for
    // `ping`, which may need it.
    let script =
        "mkdir /s; cp /bin/busybox /s/busybox; chmod 4755 /s/busybox; stat -c %a /s/busybox";
    assert_eq!(
        engine.ok(&["run", "--name", "c1", "busybox", "sh", "-c", script]),
        "4755"
    );
    engine.ok(&["commit", "c1", "setuid"]);
    let show = "/s/busybox ping 127.0.0.1 > /dev/null & until grep -q busybox /proc/$!/comm; do :; done; \
        grep Uid /proc/$!/status; kill -9 $! 2>&1 | grep -c permitted";
    let ran = engine.run(&[
        "run", "--rm", "-u", "1000", "setuid", "timeout", "20", "sh", "-c", show,
    ]);
    assert!(ran.out.starts_with("Uid:\t1000\t0\t0\t0\n"), "{ran:?}");
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
fn files_are_copied_in_and_out() {
    let Some(world) = remapped() else { return };
    let engine = &world.engine;
    let dir = engine.dir_with("in", &[("a", "one\n"), ("sub/b", "two\n")]);
    let from = dir.display().to_string();
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "up",
        "-v",
        "data:/data",
        "--tmpfs",
        "/ram",
        "busybox",
        "sleep",
        "1000",
    ]);
    engine.ok(&[
        "create",
        "--name",
        "down",
        "busybox",
        "stat",
        "-c",
        "%u:%g",
        "/in/a",
        "/in/sub/b",
    ]);
    for target in ["up:/in", "up:/data/in", "up:/ram/in", "down:/in"] {
        engine.ok(&["cp", &from, target]);
    }
    let stat = |path: &str| engine.ok(&["exec", "up", "stat", "-c", "%u:%g", path]);
    for path in ["/in", "/in/a", "/in/sub/b", "/data/in/a", "/ram/in/a"] {
        assert_eq!(stat(path), "0:0", "{path}");
    }
    assert_eq!(engine.ok(&["exec", "up", "cat", "/data/in/sub/b"]), "two");
    assert_eq!(engine.ok(&["start", "-a", "down"]), "0:0\n0:0");
    let file = std::fs::metadata(world.on_disk("up", "in/a")).expect("a file");
    assert_eq!(file.uid(), 0);
    engine.ok(&[
        "exec",
        "up",
        "sh",
        "-c",
        "echo three > /in/c; chown 7:8 /in/c",
    ]);
    let tar = engine
        .berth()
        .args(["cp", "up:/in", "-"])
        .output()
        .expect("cp");
    let mut archive = tar::Archive::new(&tar.stdout[..]);
    let mut owners: Vec<(String, u64, u64)> = Vec::new();
    for entry in archive.entries().expect("an archive") {
        let entry = entry.expect("an entry");
        let header = entry.header();
        let name = entry.path().expect("a name").display().to_string();
        owners.push((
            name,
            header.uid().expect("a user"),
            header.gid().expect("a group"),
        ));
    }
    owners.sort();
    assert_eq!(owners[1], ("in/a".to_owned(), 0, 0), "{owners:?}");
    assert!(owners.contains(&("in/c".to_owned(), 7, 8)), "{owners:?}");
    assert_eq!(
        engine
            .ok(&["diff", "up"])
            .lines()
            .filter(|l| l.starts_with("A /in"))
            .count(),
        5
    );
}

#[test]
fn images_built_and_committed_are_those_of_any_engine() {
    let Some(world) = remapped() else { return };
    let engine = &world.engine;
    let dockerfile = "FROM busybox AS base\n\
        RUN id -u > /who && tr -s ' ' < /proc/self/uid_map >> /who && mkdir /own && chown 5:6 /own && echo k > /own/key && chmod 600 /own/key\n\
        FROM busybox\n\
        COPY --chown=9:9 f /f\n\
        WORKDIR /w\n\
        COPY --from=base /who /who\n\
        RUN --mount=type=bind,from=base,source=/own,target=/m --mount=type=cache,target=/c \
          cat /m/key && stat -c %u:%g /m /m/key /c /f /w > /seen && echo c > /c/x && touch /w/made\n\
        USER 1000\n\
        RUN id -u > /tmp/user\n";
    let dir = engine.dir_with("ctx", &[("Dockerfile", dockerfile), ("f", "f\n")]);
    let dir = dir.display().to_string();
    engine.ok(&["build", "-q", "-t", "built", &dir]);
    let out = engine.ok(&["run", "--rm", "built", "cat", "/who", "/seen", "/tmp/user"]);
    assert_eq!(
        out,
        format!("0\n 0 {BASE} 65536\n5:6\n0:0\n0:0\n9:9\n0:0\n1000")
    );
    // The same bytes as seen by a container of the host's user namespace.
    let stat = ["stat", "-c", "%u:%g", "/f", "/w/made", "/tmp/user"];
    let host = engine.ok(&[&["run", "--rm", "--userns=host", "built"], &stat[..]].concat());
    let own = engine.ok(&[&["run", "--rm", "built"], &stat[..]].concat());
    assert_eq!(host, "9:9\n0:0\n1000:1000");
    assert_eq!(own, host);
    let error = engine.run(&["build", "--network=host", "--no-cache", &dir]);
    assert!(
        error
            .err
            .contains("cannot share the host's network namespace"),
        "{error:?}"
    );
    // Commit.
    engine.ok(&[
        "run",
        "--name",
        "c1",
        "busybox",
        "sh",
        "-c",
        "echo x > /x; chown 11:12 /x; rm -r /home",
    ]);
    engine.ok(&["commit", "c1", "committed"]);
    let out = engine.ok(&[
        "run",
        "--rm",
        "--userns=host",
        "committed",
        "sh",
        "-c",
        "stat -c %u:%g /x; ls -d /home 2>/dev/null || echo gone",
    ]);
    assert_eq!(out, "11:12\ngone");
}

#[test]
fn volumes_are_mapped_and_binds_are_not() {
    let Some(world) = remapped() else { return };
    let engine = &world.engine;
    let dir = engine.dir_with("bound", &[("f", "f\n")]);
    let bind = format!("{}:/bound", dir.display());
    let script = "stat -c %u:%g /vol /anon /bound; touch /vol/f; chown 3:4 /vol/f; touch /anon/f; touch /bound/x 2>/dev/null || echo refused";
    let out = engine.ok(&[
        "run", "--name", "c1", "-v", "vol:/vol", "-v", "/anon", "-v", &bind, "busybox", "sh", "-c",
        script,
    ]);
    assert_eq!(out, "0:0\n0:0\n65534:65534\nrefused");
    let file = std::fs::metadata(engine.path("data/volumes/vol/_data/f")).expect("a file");
    assert_eq!((file.uid(), file.gid()), (3, 4));
    let out = engine.ok(&[
        "run",
        "--rm",
        "--userns=host",
        "-v",
        "vol:/vol",
        "busybox",
        "stat",
        "-c",
        "%u:%g",
        "/vol/f",
    ]);
    assert_eq!(out, "3:4");
    let out = engine.ok(&[
        "run",
        "--rm",
        "--volumes-from",
        "c1",
        "busybox",
        "stat",
        "-c",
        "%u:%g",
        "/vol/f",
    ]);
    assert_eq!(out, "3:4");
    let mount = ["--mount", "type=image,source=busybox,target=/img"];
    let out = engine.run(
        &[
            &["run", "--rm"],
            &mount[..],
            &["busybox", "stat", "-c", "%u:%g", "/img/bin"],
        ]
        .concat(),
    );
    assert!(out.out == "0:0\n" || out.code == 125, "{out:?}");
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
