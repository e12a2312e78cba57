//! Mounts: `-v`, `--mount` of every type, and those that come and go while a container runs.

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

#[test]
fn mounts_come_and_go_while_a_container_runs() {
    let engine = Engine::start(BERTH);
    let dir = engine.dir_with("shared", &[("file", "here"), ("below/x", "y")]);
    let (dir, file) = (dir.display(), dir.join("file"));
    let file = file.display();
    engine.line("run -d --name c1 --network none --tmpfs /t busybox sleep 1000");
    let pid = engine.line("inspect -f {{.State.Pid}} c1");
    engine.line(&format!("update --mount-add {dir}:/some/where c1"));
    assert_eq!(engine.line("exec c1 cat /some/where/file"), "here");
    engine.line("exec c1 sh -c 'echo there > /some/where/new'");
    let new = std::fs::read_to_string(engine.path("shared/new"));
    assert_eq!(new.expect("what the container wrote"), "there\n");
    // A file, read-only; a volume with the image's files; a tmpfs; another image.
    engine.line(&format!("update --mount-add {file}:/etc/one:ro c1"));
    let ran = engine.run_line("exec c1 sh -c 'cat /etc/one; echo x > /etc/one'");
    assert!(ran.code != 0 && ran.out == "here", "{ran:?}");
    assert!(ran.err.contains("Read-only file system"), "{}", ran.err);
    engine.line("update --mount-add etc:/etc2 --mount-add type=tmpfs,target=/m,tmpfs-size=1m c1");
    engine.line("update --mount-add type=image,source=busybox,target=/image c1");
    assert_eq!(engine.line("exec c1 ls /image/bin/sh"), "/image/bin/sh");
    assert_eq!(
        engine.line("exec c1 sh -c 'df -k /m | tail -1 | awk \"{print \\$2}\"'"),
        "1024"
    );
    let listed = "inspect -f '{{range .Mounts}}{{.Type}}:{{.Destination}}:{{.RW}} {{end}}' c1";
    let all = "bind:/etc/one:false bind:/some/where:true image:/image:false tmpfs:/m:true volume:/etc2:true";
    let sorted = |text: String| {
        let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        words.sort();
        words.join(" ")
    };
    assert_eq!(sorted(engine.line(listed)), all);
    // Nothing of it is in the host's table, and it is the same process.
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    assert!(!mounts.contains("/some/where"));
    assert_eq!(engine.line("inspect -f {{.State.Pid}} c1"), pid);
    // It is there after a restart, too.
    engine.line("restart c1");
    assert_eq!(engine.line("exec c1 cat /some/where/file"), "here");
    assert_eq!(sorted(engine.line(listed)), all);

    engine.line("update --mount-rm /some/where --mount-rm /etc/one --mount-rm /t c1");
    assert_eq!(engine.line("exec c1 ls /some/where"), "");
    assert_eq!(engine.line("exec c1 cat /etc/one"), "");
    assert!(!engine.line("exec c1 cat /proc/mounts").contains(" /t "));
    engine.line("update --mount-rm /image --mount-rm /m --mount-rm /etc2 c1");
    assert_eq!(engine.line(listed), "");
    engine.line("restart c1");
    assert_eq!(engine.line(listed), "");
    assert_eq!(
        engine.line("inspect -f '{{.HostConfig.Binds}}{{.HostConfig.Mounts}}' c1"),
        "[][]"
    );

    for (change, words) in [
        ("--mount-rm /nowhere", "has no mount at /nowhere"),
        ("--mount-add /tmp:/proc/x", "cannot mount over /proc/x"),
        (
            "--mount-add type=bind,source=/no/such,target=/x",
            "bind source path does not exist: /no/such",
        ),
        ("--mount-add /tmp:relative", "mount path must be absolute"),
        ("--mount-add a:b:c:d", "too many colons"),
    ] {
        let ran = engine.run_line(&format!("update {change} c1"));
        assert!(
            ran.code != 0 && ran.err.contains(words),
            "{change}: {}",
            ran.err
        );
    }
    // A container that does not run has them at its next start.
    engine.line("stop c1");
    engine.line(&format!("update --mount-add {dir}:/later c1"));
    let err = engine.line_fails(1, &format!("update --mount-add {dir}:/later c1"));
    assert!(err.contains("Duplicate mount point: /later"), "{err}");
    engine.line("start c1");
    assert_eq!(engine.line("exec c1 cat /later/below/x"), "y");
}

#[test]
fn links_inside_do_not_lead_a_mount_astray() {
    let engine = Engine::start(BERTH);
    let dir = engine.dir_with("shared", &[("file", "here")]);
    let dir = dir.display();
    engine.line("run -d --name c1 --network none busybox sh -c 'mkdir /real; ln -s /real /link; ln -s /proc /p; sleep 1000'");
    testkit::wait::until("the links", || {
        (engine.run_line("exec c1 ls /p/self").code == 0).then_some(())
    });
    // Within its root a link is followed, as at a start; never out of it.
    engine.line(&format!("update --mount-add {dir}:/link/x c1"));
    assert_eq!(engine.line("exec c1 cat /real/x/file"), "here");
    let err = engine.line_fails(1, &format!("update --mount-add {dir}:/p/sys c1"));
    assert!(err.contains("the kernel's own files are there"), "{err}");
    let err = engine.line_fails(1, "update --mount-rm /link/x c1");
    assert!(
        err.contains("cannot take away the mount at /link/x"),
        "{err}"
    );
    assert_eq!(engine.line("exec c1 cat /real/x/file"), "here");
}

#[test]
fn each_type_of_mount_and_its_options() {
    let engine = Engine::start(BERTH);
    let dir = engine.dir_with("shared", &[("file", "here"), ("sub/inner", "deep")]);
    let dir = dir.display();
    let run = |line: &str| engine.line(&format!("run --rm --network none {line}"));
    let mounted = |flags: &str, target: &str| {
        run(&format!(
            "{flags} busybox sh -c 'grep \" {target} \" /proc/self/mountinfo'"
        ))
    };
    assert_eq!(run(&format!("-v {dir}:/x:ro busybox cat /x/file")), "here");
    assert!(mounted(&format!("-v {dir}:/x:ro"), "/x").contains(" ro,"));
    for mode in ["rshared", "rslave"] {
        // A mount is shared as far as its source is.
        let flags = format!("--mount type=bind,source={dir},target=/x,bind-propagation={mode}");
        assert!(!mounted(&flags, "/x").is_empty());
    }
    for recursive in [
        "enabled",
        "disabled",
        "writable,readonly",
        "readonly,readonly,bind-propagation=rprivate",
    ] {
        let flags = format!("--mount type=bind,source={dir},target=/x,bind-recursive={recursive}");
        assert_eq!(run(&format!("{flags} busybox cat /x/sub/inner")), "deep");
    }
    let tmpfs = mounted("--tmpfs /t:size=1m,mode=700,exec", "/t");
    assert!(
        tmpfs.contains("size=1024k") && tmpfs.contains("mode=700"),
        "{tmpfs}"
    );
    assert!(
        !tmpfs.contains("noexec") && tmpfs.contains("nosuid"),
        "{tmpfs}"
    );
    // A volume begins with what the image has there, unless it is told not to.
    assert_eq!(run("-v v1:/etc busybox ls /etc/passwd"), "/etc/passwd");
    assert_eq!(
        run("--mount source=v2,target=/etc/x,volume-nocopy busybox ls /etc/x"),
        ""
    );
    engine.line("run --rm -v v3:/data busybox sh -c 'mkdir /data/a; echo deep > /data/a/b'");
    assert_eq!(
        run("--mount type=volume,source=v3,target=/m,volume-subpath=a busybox cat /m/b"),
        "deep"
    );
    assert_eq!(
        run("--mount type=image,source=busybox,target=/i,image-subpath=bin busybox ls /i/sh"),
        "/i/sh"
    );
    engine.line(&format!("create --name c1 -v {dir}:/x -v v3:/data busybox"));
    assert_eq!(
        run("--volumes-from c1 busybox cat /x/file /data/a/b"),
        "heredeep"
    );
    let ran = engine.run_line("run --rm --volumes-from c1:ro busybox touch /data/new");
    assert!(ran.err.contains("Read-only file system"), "{}", ran.err);
    assert_eq!(
        run("--read-only --tmpfs /t busybox sh -c 'touch /t/x; touch /x || echo no'"),
        "no"
    );
    for (flags, words) in [
        (
            "--mount type=bind,source=/no/such,target=/x",
            "bind source path does not exist: /no/such",
        ),
        ("-v a:/x:bogus", "invalid mode"),
        ("-v /tmp:/", "destination can't be '/'"),
        ("--mount source=v3,target=/x,volume-subpath=../y", "subpath"),
        (
            "--volume-driver bogus -v v9:/x",
            "plugin \"bogus\" not found",
        ),
        ("--volumes-from nobody", "No such container: nobody"),
    ] {
        let err = engine.line_fails(
            125,
            &format!("run --rm --network none {flags} busybox true"),
        );
        assert!(err.contains(words), "{flags}: {err}");
    }
}
