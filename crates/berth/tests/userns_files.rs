//! Containers in user namespaces: whose their files are, inside and on disk.

mod userns_world;

use std::os::unix::fs::MetadataExt;

use userns_world::{BASE, remapped};

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
fn devices_and_memory_belong_to_its_root() {
    let Some(world) = remapped() else { return };
    let script = "stat -c '%u:%g %a %t:%T' /dev/myzero /dev/null; head -c 2 /dev/myzero | od -An -tx1; \
        stat -c '%u:%g' /ram; touch /x 2>&1 | grep -o 'Read-only.*'; \
        stat -f -c %T /dev/shm; echo x > /dev/made 2>/dev/null && echo made; \
        ls /dev/fd /dev/stdin > /dev/null && echo links";
    let out = world.engine.ok(&[
        "run",
        "--rm",
        "--device",
        "/dev/zero:/dev/myzero",
        "--read-only",
        "--tmpfs",
        "/ram:uid=5,gid=6",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    let expected =
        "0:0 666 1:5\n0:0 666 1:3\n 00 00\n5:6\nRead-only file system\ntmpfs\nmade\nlinks";
    assert_eq!(out, expected);
}

/// `security.capability` of a file that gives CAP_NET_RAW (linux/capability.h, revision 2).
const NET_RAW: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

#[test]
fn capabilities_of_files_count() {
    let Some(world) = remapped() else { return };
    let Some(busybox) = testkit::find_command("busybox") else {
        return testkit::skipped("there is no busybox");
    };
    let engine = &world.engine;
    let mut archive = tar::Builder::new(Vec::new());
    let note = [("SCHILY.xattr.security.capability", &NET_RAW[..])];
    archive.append_pax_extensions(note).expect("a header");
    let content = std::fs::read(busybox).expect("busybox");
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(content.len() as u64);
    archive
        .append_data(&mut header, "c/busybox", &content[..])
        .expect("an entry");
    let dir = engine.dir_with("caps", &[("Dockerfile", "FROM busybox\nADD caps.tar /\n")]);
    let bytes = archive.into_inner().expect("an archive");
    std::fs::write(dir.join("caps.tar"), bytes).expect("a file");
    engine.ok(&["build", "-q", "-t", "caps", &dir.display().to_string()]);
    let has = |flags: &[&str], image: &[&str]| {
        let show = ["/c/busybox", "grep", "CapEff", "/proc/self/status"];
        engine.ok(&[flags, image, &show].concat())
    };
    let expected = "CapEff:\t0000000000002000";
    assert_eq!(has(&["run", "--rm", "-u", "1000"], &["caps"]), expected);
    engine.ok(&["run", "-d", "--name", "c1", "caps", "sleep", "1000"]);
    // Once it is in the container's own directory, too, and in an image made of that.
    engine.ok(&["exec", "c1", "touch", "/c/busybox"]);
    assert_eq!(has(&["exec", "-u", "1000"], &["c1"]), expected);
    engine.ok(&["commit", "c1", "again"]);
    assert_eq!(has(&["run", "--rm", "-u", "1000"], &["again"]), expected);
    let host = &["run", "--rm", "-u", "1000", "--userns=host"];
    assert_eq!(has(host, &["again"]), expected);
}

#[test]
fn mounts_come_to_a_running_container() {
    let Some(world) = remapped() else { return };
    let engine = &world.engine;
    let dir = engine.dir_with("bound", &[("f", "f\n")]);
    engine.ok(&["run", "-d", "--name", "c1", "busybox", "sleep", "1000"]);
    let bind = format!("{}:/bound", dir.display());
    for mount in [
        "vol:/a/vol",
        &bind,
        "type=tmpfs,target=/ram",
        "type=image,source=busybox,target=/img",
    ] {
        let ran = engine.run(&["update", "--mount-add", mount, "c1"]);
        assert!(ran.code == 0, "{mount}: {ran:?}");
    }
    let script = "touch /a/vol/f /ram/f; stat -c '%u:%g' /a /a/vol /a/vol/f /ram /ram/f /bound/f";
    let out = engine.ok(&["exec", "c1", "sh", "-c", script]);
    assert_eq!(out, "0:0\n0:0\n0:0\n0:0\n0:0\n65534:65534");
    let file = std::fs::metadata(engine.path("data/volumes/vol/_data/f")).expect("a file");
    assert_eq!(file.uid(), 0);
    engine.ok(&["update", "--mount-rm", "/ram", "c1"]);
    assert_eq!(engine.ok(&["exec", "c1", "ls", "/ram"]), "");
}

#[test]
fn a_volume_can_be_a_file_system_of_its_own() {
    let Some(world) = remapped() else { return };
    let engine = &world.engine;
    let tools = ["mkfs.ext4", "losetup"];
    if tools.iter().any(|t| !testkit::has_command(t)) {
        return testkit::skipped("there is no mkfs.ext4 or losetup");
    }
    let image = engine.path("disk");
    let file = std::fs::File::create(&image).expect("a file");
    file.set_len(8 << 20).expect("its size");
    let run = |program: &str, arguments: &[&str]| {
        let program = testkit::find_command(program).expect("a program");
        let output = std::process::Command::new(program).args(arguments).output();
        let output = output.expect("a run");
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )
    };
    let path = image.display().to_string();
    assert!(run("mkfs.ext4", &["-q", &path]).0, "a file system");
    let (attached, device) = run("losetup", &["--show", "-f", &path]);
    if !attached {
        return testkit::skipped("no loop device can be had here");
    }
    let option = format!("device={device}");
    engine.ok(&[
        "volume",
        "create",
        "--opt",
        "type=ext4",
        "--opt",
        &option,
        "disk",
    ]);
    let script = "stat -c %u:%g /disk; touch /disk/f; chown 3:4 /disk/f; stat -c %u:%g /disk/f; stat -f -c %T /disk";
    let ran = engine.run(&[
        "run",
        "--rm",
        "-v",
        "disk:/disk",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    let host = engine.run(&[
        "run",
        "--rm",
        "--userns=host",
        "-v",
        "disk:/disk",
        "busybox",
        "stat",
        "-c",
        "%u:%g",
        "/disk/f",
    ]);
    run("losetup", &["-d", &device]);
    assert_eq!(ran.out, "0:0\n3:4\next2/ext3\n", "{ran:?}");
    assert_eq!(host.out, "3:4\n", "{host:?}");
}
