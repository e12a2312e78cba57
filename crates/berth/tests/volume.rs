//! `berth volume` and volumes of containers.

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

#[test]
fn from_create_to_prune() {
    let engine = Engine::start(BERTH);
    assert_eq!(
        engine.ok(&["volume", "create", "--label", "team=a", "data"]),
        "data"
    );
    let anonymous = engine.ok(&["volume", "create"]);
    assert_eq!(anonymous.len(), 64);
    let mount = engine.ok(&[
        "volume",
        "inspect",
        "-f",
        "{{.Driver}} {{.Scope}} {{.Mountpoint}}",
        "data",
    ]);
    let path = engine.path("data").join("volumes/data/_data");
    assert_eq!(mount, format!("local local {}", path.display()));
    engine.ok(&[
        "run",
        "--rm",
        "-v",
        "data:/v",
        "busybox",
        "sh",
        "-c",
        "echo kept > /v/file",
    ]);
    assert_eq!(
        std::fs::read_to_string(path.join("file")).expect("the file"),
        "kept\n"
    );
    assert_eq!(
        engine.ok(&["run", "--rm", "-v", "data:/v", "busybox", "cat", "/v/file"]),
        "kept"
    );
    let ro = engine.run(&[
        "run",
        "--rm",
        "-v",
        "data:/v:ro",
        "busybox",
        "touch",
        "/v/x",
    ]);
    assert!(
        ro.code == 1 && ro.err.contains("Read-only file system"),
        "{}",
        ro.err
    );

    let id = engine.ok(&[
        "create",
        "--name",
        "user",
        "--mount",
        "type=volume,src=data,dst=/v",
        "busybox",
    ]);
    let err = engine.fails(1, &["volume", "rm", "data"]);
    assert!(
        err.contains(&format!("remove data: volume is in use - [{id}]")),
        "{err}"
    );
    let err = engine.fails(1, &["volume", "inspect", "absent"]);
    assert!(err.contains("get absent: no such volume"), "{err}");
    assert_eq!(
        engine.ok(&["volume", "ls", "-q", "--filter", "dangling=true"]),
        anonymous
    );
    assert_eq!(
        engine.ok(&[
            "volume",
            "ls",
            "--format",
            "{{.Name}} {{.Label \"team\"}}",
            "--filter",
            "label=team=a"
        ]),
        "data a"
    );
    let pruned = engine.ok(&["volume", "prune", "-f"]);
    assert!(
        pruned.contains(&anonymous) && pruned.contains("Total reclaimed space:"),
        "{pruned}"
    );
    assert_eq!(engine.ok(&["volume", "ls", "-q"]), "data");
    engine.ok(&["rm", "user"]);
    assert_eq!(engine.ok(&["volume", "rm", "data"]), "data");
    assert!(!path.exists());
}

#[test]
fn a_fresh_volume_holds_what_the_image_has() {
    let engine = Engine::start(BERTH);
    let passwd = engine.ok(&[
        "run",
        "--rm",
        "-v",
        "etc:/etc",
        "busybox",
        "cat",
        "/etc/passwd",
    ]);
    assert!(passwd.starts_with("root:"), "{passwd}");
    let path = engine.path("data").join("volumes/etc/_data/passwd");
    assert!(path.exists());
    // From then on it is the volume's.
    std::fs::write(&path, "changed\n").expect("a file of the volume");
    assert_eq!(
        engine.ok(&[
            "run",
            "--rm",
            "-v",
            "etc:/etc",
            "busybox",
            "cat",
            "/etc/passwd"
        ]),
        "changed"
    );
    let empty = engine.run(&[
        "run",
        "--rm",
        "-v",
        "bare:/etc:nocopy",
        "busybox",
        "cat",
        "/etc/passwd",
    ]);
    assert_ne!(empty.code, 0);
}

#[test]
fn anonymous_volumes_go_with_their_container() {
    let engine = Engine::start(BERTH);
    engine.ok(&["run", "--rm", "-v", "/v", "busybox", "touch", "/v/x"]);
    assert_eq!(engine.ok(&["volume", "ls", "-q"]), "");
    engine.ok(&[
        "run", "--name", "box", "-v", "/v", "-v", "named:/n", "busybox", "true",
    ]);
    assert_eq!(engine.ok(&["volume", "ls", "-q"]).lines().count(), 2);
    engine.ok(&["rm", "-v", "box"]);
    assert_eq!(engine.ok(&["volume", "ls", "-q"]), "named");
}

#[test]
fn volumes_from_and_the_local_drivers_options() {
    let engine = Engine::start(BERTH);
    engine.ok(&["create", "--name", "owner", "-v", "shared:/s", "busybox"]);
    engine.ok(&[
        "run",
        "--rm",
        "--volumes-from",
        "owner",
        "busybox",
        "sh",
        "-c",
        "echo x > /s/f",
    ]);
    let ro = engine.run(&[
        "run",
        "--rm",
        "--volumes-from",
        "owner:ro",
        "busybox",
        "sh",
        "-c",
        "cat /s/f; echo y > /s/f",
    ]);
    assert!(ro.out == "x\n" && ro.code != 0, "{} {}", ro.out, ro.err);
    let host = engine.dir_with("host", &[("file", "of the host\n")]);
    let device = format!("device={}", host.display());
    engine.ok(&[
        "volume",
        "create",
        "--opt",
        "type=none",
        "--opt",
        "o=bind",
        "--opt",
        &device,
        "bound",
    ]);
    assert_eq!(
        engine.ok(&["run", "--rm", "-v", "bound:/b", "busybox", "cat", "/b/file"]),
        "of the host"
    );
    engine.ok(&[
        "volume",
        "create",
        "-o",
        "type=tmpfs",
        "-o",
        "device=tmpfs",
        "-o",
        "o=size=1m",
        "memory",
    ]);
    let mounts = engine.ok(&[
        "run",
        "--rm",
        "-v",
        "memory:/m",
        "busybox",
        "grep",
        " /m ",
        "/proc/mounts",
    ]);
    assert!(
        mounts.starts_with("tmpfs /m tmpfs") && mounts.contains("size=1024k"),
        "{mounts}"
    );
    engine.ok(&["rm", "owner"]);
    engine.ok(&["volume", "prune", "-af"]);
    assert!(host.join("file").exists());
}
