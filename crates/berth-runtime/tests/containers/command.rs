//! `berth runtime` as containerd, podman and people use it. This program plays its part.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use berth_runtime::launcher::Launcher;
use serde_json::Value;

use crate::bundle::Bundle;

/// A bundle on disk with a state root of its own.
pub struct Place {
    bundle: Bundle,
}

impl Place {
    fn new(script: &str) -> Self {
        Self::with(Bundle::new(script))
    }

    pub fn with(mut bundle: Bundle) -> Self {
        bundle.spec().root.as_mut().unwrap().path = "root".into();
        let text = serde_json::to_string(&bundle.task.spec).unwrap();
        std::fs::write(bundle.temp.path().join("config.json"), text).unwrap();
        Self { bundle }
    }

    pub fn dir(&self) -> &Path {
        self.bundle.temp.path()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("/proc/self/exe");
        let log = self.dir().join("log");
        command
            .arg("berth-runtime")
            .arg("--root")
            .arg(self.dir().join("state"))
            .args(["--log-format", "json", "--log"])
            .arg(log)
            .args(arguments)
            .current_dir(self.dir())
            .stdin(Stdio::null());
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub fn good(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn bad(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn status(&self) -> String {
        let state: Value = serde_json::from_str(&self.good(&["state", "c1"])).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }

    fn await_status(&self, wanted: &str) {
        testkit::wait::until(wanted, || (self.status() == wanted).then_some(()));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.output(&["delete", "--force", "c1"]);
    }
}

/// Its standard streams are the caller's, and they stay open as long as it runs: files, not pipes.
pub fn create(place: &Place, more: &[&str]) {
    let out = std::fs::File::create(place.dir().join("out")).unwrap();
    let arguments = [&["create", "--pid-file", "pid"][..], more, &["c1"]].concat();
    let status = place
        .command(&arguments)
        .stdout(out.try_clone().unwrap())
        .stderr(out)
        .status()
        .unwrap();
    let text = std::fs::read_to_string(place.dir().join("out")).unwrap();
    assert!(status.success(), "{text}");
}

pub fn run_is_all_in_one(_: &Launcher) {
    let place = Place::new("echo out; echo err >&2; exit 4");
    let output = place.output(&["run", "c1"]);
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(output.stdout, b"out\n");
    assert_eq!(output.stderr, b"err\n");
    assert!(
        place
            .bad(&["state", "c1"])
            .contains("container does not exist")
    );
    assert_eq!(place.good(&["list", "-q"]), "");
}

pub fn a_life_in_steps(_: &Launcher) {
    let place = Place::new("echo started; exec sleep 1000");
    create(&place, &[]);
    assert_eq!(place.status(), "created");
    assert_eq!(
        std::fs::read_to_string(place.dir().join("out")).unwrap(),
        ""
    );
    let pid = std::fs::read_to_string(place.dir().join("pid")).unwrap();
    let state: Value = serde_json::from_str(&place.good(&["state", "c1"])).unwrap();
    assert_eq!(state["pid"].to_string(), pid);
    assert!(place.bad(&["create", "c1"]).contains("already exists"));
    place.good(&["start", "c1"]);
    assert_eq!(place.status(), "running");
    assert!(place.bad(&["start", "c1"]).contains("already running"));
    testkit::wait::until("output", || {
        let text = std::fs::read_to_string(place.dir().join("out")).unwrap();
        (text == "started\n").then_some(())
    });

    let output = place.output(&[
        "exec",
        "-e",
        "A=b",
        "--cwd",
        "/tmp",
        "-u",
        "7:8",
        "c1",
        "sh",
        "-c",
        "echo $A; pwd; id -u; id -g; exit 3",
    ]);
    assert_eq!(
        output.status.code(),
        Some(3),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), "b\n/tmp\n7\n8\n");
    let pids: Vec<i32> = serde_json::from_str(&place.good(&["ps", "-f", "json", "c1"])).unwrap();
    assert_eq!(pids, [pid.parse::<i32>().unwrap()]);
    assert!(place.good(&["list"]).contains("running"));

    place.good(&["pause", "c1"]);
    assert_eq!(place.status(), "paused");
    assert!(place.bad(&["exec", "c1", "true"]).contains("paused"));
    place.good(&["resume", "c1"]);
    assert!(place.bad(&["resume", "c1"]).contains("not paused"));
    place.good(&["update", "--memory", "64m", "--pids-limit", "77", "c1"]);

    assert!(
        place
            .bad(&["delete", "c1"])
            .contains("not stopped: running")
    );
    assert!(
        place
            .bad(&["kill", "c1", "NOTHING"])
            .contains("unknown signal")
    );
    place.good(&["kill", "c1", "KILL"]);
    place.await_status("stopped");
    assert!(
        place
            .bad(&["kill", "c1", "9"])
            .contains("container not running")
    );
    assert!(place.bad(&["exec", "c1", "true"]).contains("stopped"));
    place.good(&["delete", "c1"]);
    assert!(place.bad(&["delete", "c1"]).contains("does not exist"));
    place.good(&["delete", "-f", "c1"]);
}

pub fn failures_leave_nothing(_: &Launcher) {
    let mut bundle = Bundle::new("");
    bundle.spec().process.as_mut().unwrap().args = vec!["nothing".into()];
    let place = Place::with(bundle);
    let text = r#"exec: "nothing": executable file not found in $PATH"#;
    assert!(place.bad(&["create", "c1"]).contains(text));
    let log = std::fs::read_to_string(place.dir().join("log")).unwrap();
    let entry: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&entry["level"], &entry["msg"]),
        (&"error".into(), &text.into())
    );
    assert_eq!(place.good(&["list", "-q"]), "");
    for arguments in [
        &["create", "--bundle", "/nowhere", "c1"][..],
        &["create", "../c1"],
        &["create", "--unknown", "c1"],
        &["nonsense"],
        &["start", "c1"],
        &["kill", "c1"],
    ] {
        place.bad(arguments);
    }
    std::fs::write(place.dir().join("config.json"), "null").unwrap();
    assert!(place.bad(&["create", "c1"]).contains("config.json"));
}

pub fn a_created_one_can_be_deleted(_: &Launcher) {
    let place = Place::new("echo never");
    create(&place, &[]);
    place.good(&["delete", "c1"]);
    assert_eq!(
        std::fs::read_to_string(place.dir().join("out")).unwrap(),
        ""
    );
}

pub fn a_terminal_goes_to_the_console_socket(_: &Launcher) {
    let mut bundle = Bundle::new("tty; read x; echo got $x");
    bundle.spec().process.as_mut().unwrap().terminal = true;
    let place = Place::with(bundle);
    assert!(place.bad(&["create", "c1"]).contains("console socket"));
    let listener = UnixListener::bind(place.dir().join("console")).unwrap();
    create(&place, &["--console-socket", "console"]);
    let (socket, _) = listener.accept().unwrap();
    let mut name = [0; 64];
    let (_, fds) = berth_sys::socket::receive(&socket, &mut name).unwrap();
    let mut master = std::fs::File::from(fds.into_iter().next().unwrap());
    place.good(&["start", "c1"]);
    crate::bundle::await_text(&mut master, "/dev/pts/0");
    std::io::Write::write_all(&mut master, b"it\n").unwrap();
    crate::bundle::await_text(&mut master, "got it");
    place.await_status("stopped");
}

pub fn it_tells_of_itself(_: &Launcher) {
    let place = Place::new("");
    let features: Value = serde_json::from_str(&place.good(&["features"])).unwrap();
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
    assert!(place.good(&["--version"]).contains("spec: 1."));
    assert!(place.good(&["--help"]).contains("   delete "));
    assert!(place.bad(&["spec"]).contains("config.json"));
    std::fs::remove_file(place.dir().join("config.json")).unwrap();
    place.good(&["spec"]);
    let text = std::fs::read_to_string(place.dir().join("config.json")).unwrap();
    assert!(text.contains("\"rootfs\""));
}

/// Removes what podman shares between containers.
struct Podman<'a>(&'a Path);

impl Podman<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("podman");
        for (flag, dir) in [("--root", "r"), ("--runroot", "rr"), ("--tmpdir", "t")] {
            command.arg(flag).arg(self.0.join(dir));
        }
        command
            .args(["--cgroup-manager", "cgroupfs", "--events-backend", "none"])
            .arg("--runtime")
            .arg(self.0.join("runtime"))
            .args(arguments)
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        let _ = self
            .command(&["rm", "--all", "--force", "--time", "0"])
            .output();
        // Its database and locks are in the directory that goes.
        let _ = self.command(&["system", "renumber"]).output();
    }
}

pub fn podman_can_use_it(_: &Launcher) {
    use std::os::unix::fs::PermissionsExt;
    if !testkit::has_command("podman") || !testkit::has_command("conmon") {
        testkit::skipped("podman is not installed");
        return;
    }
    let place = Bundle::new("");
    let program = std::env::args().next().unwrap();
    let program = std::fs::canonicalize(program).unwrap();
    let runtime = place.temp.path().join("runtime");
    let script = format!(
        "#!/bin/sh\nexec {} berth-runtime \"$@\"\n",
        program.display()
    );
    std::fs::write(&runtime, script).unwrap();
    std::fs::set_permissions(&runtime, PermissionsExt::from_mode(0o755)).unwrap();
    let podman = Podman(place.temp.path());
    let root = place.root.display().to_string();
    let cgroup = place.task.id.clone();
    let parent = format!("/{cgroup}");
    let run = ["run", "--network", "none", "--cgroup-parent", &parent];
    let once = [
        &run[..],
        &[
            "--rm",
            "--read-only",
            "--rootfs",
            &root,
            "sh",
            "-c",
            "echo hi; exit 3",
        ],
    ];
    let output = podman.command(&once.concat()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert_eq!(output.stdout, b"hi\n", "{errors}");

    let stay = [
        &run[..],
        &["-d", "--name", "c1", "--rootfs", &root, "sleep", "1000"],
    ]
    .concat();
    assert!(podman.command(&stay).output().unwrap().status.success());
    let output = podman
        .command(&["exec", "c1", "cat", "/proc/1/comm"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "sleep\n");
    let output = podman.command(&["exec", "c1", "nothing"]).output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    let output = podman
        .command(&["rm", "-f", "-t", "0", "c1"])
        .output()
        .unwrap();
    assert!(output.status.success());
    drop(podman);
    // conmon ends a moment after its container.
    testkit::wait::until("podman's cgroups to be empty", || remove_cgroups(&cgroup));
}

/// Removes the cgroups of a name, which podman leaves; none while one is still in use.
fn remove_cgroups(name: &str) -> Option<()> {
    fn remove(dir: &Path) -> Option<()> {
        for entry in std::fs::read_dir(dir).ok()?.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path())?;
            }
        }
        std::fs::remove_dir(dir).ok()
    }
    let base = Path::new("/sys/fs/cgroup");
    let trees = std::fs::read_dir(base).ok()?.flatten().map(|e| e.path());
    for dir in trees.chain([base.to_owned()]).map(|tree| tree.join(name)) {
        if dir.is_dir() {
            remove(&dir)?;
        }
    }
    Some(())
}

/// What a terminal program shows: `script` is one, and gives what it runs a terminal.
pub fn without_a_console_socket_ours_shows_its_terminal(_: &Launcher) {
    if !testkit::has_command("script") {
        return testkit::skipped("no script");
    }
    let mut bundle = Bundle::new("tty; stty size; echo end; exit 6");
    bundle.spec().process.as_mut().unwrap().terminal = true;
    let place = Place::with(bundle);
    // Its program, for `script` has its own /proc/self/exe.
    let own = std::env::args_os().next().unwrap();
    let own = Path::new(&own).canonicalize().unwrap();
    let state = place.dir().join("state");
    let line = format!(
        "stty rows 33 cols 44; {} berth-runtime --root {} run c1",
        own.display(),
        state.display()
    );
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .current_dir(place.dir())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("/dev/pts/0\r\n33 44\r\nend"), "{shown:?}");
    assert_eq!(output.status.code(), Some(6));
    // Whoever goes away cannot show it.
    let refused = place.bad(&["run", "--detach", "c1"]);
    assert!(
        refused.contains("without setting console socket"),
        "{refused}"
    );
}

pub fn events_are_told(_: &Launcher) {
    use std::io::BufRead;
    let place = Place::new("echo started; exec sleep 1000");
    create(&place, &[]);
    place.good(&["start", "c1"]);
    let line = place.good(&["events", "--stats", "c1"]);
    assert!(
        line.starts_with(r#"{"type":"stats","id":"c1","data":{"#),
        "{line}"
    );
    let event: Value = serde_json::from_str(&line).unwrap();
    assert!(event["data"]["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
    let mut told = place
        .command(&["events", "--interval", "50ms", "c1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(told.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        assert!(lines.next().unwrap().unwrap().contains("stats"));
    }
    place.good(&["kill", "c1", "KILL"]);
    assert!(told.wait().unwrap().success());
    assert!(place.bad(&["events", "c1"]).contains("is not running"));
    assert!(
        place
            .bad(&["events", "--interval", "0s", "c1"])
            .contains("greater than 0")
    );
}

pub fn nothing_of_the_host_is_open_while_it_waits(_: &Launcher) {
    use std::os::fd::AsRawFd;
    let place = Place::new("true");
    // One that the caller forgot to close.
    let left = std::fs::File::open("/etc/passwd").unwrap();
    rustix::io::fcntl_setfd(&left, rustix::io::FdFlags::empty()).unwrap();
    create(&place, &[]);
    drop(left);
    let pid = std::fs::read_to_string(place.dir().join("pid")).unwrap();
    let open: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .parse::<i32>()
                .unwrap()
                > 2
        })
        .map(|path| std::fs::read_link(path).unwrap().display().to_string())
        .collect();
    let known = |target: &str| {
        target.ends_with("/exec.fifo") || target == "/" || target.starts_with("socket:")
    };
    assert!(open.iter().all(|target| known(target)), "{open:?}");
    assert!(std::io::stdin().as_raw_fd() == 0);
}

pub fn hooks_and_programs_have_their_environment(_: &Launcher) {
    let mut bundle = Bundle::new("env | grep -c ONE; echo $ONE $HOME");
    std::fs::write(
        bundle.root.join("hook"),
        "#!/bin/sh -ue\ntest $ONE = two; test -n $HOME; test -z ${OUTER-}\n",
    )
    .unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bundle.root.join("hook"), executable).unwrap();
    let process = bundle.spec().process.as_mut().unwrap();
    process
        .env
        .extend(["ONE=x", "HOME=", "ONE=two"].map(str::to_owned));
    let hook = |path: &str, args: &[&str]| berth_spec::oci::runtime::Hook {
        path: path.into(),
        args: args.iter().map(|a| (*a).to_owned()).collect(),
        ..Default::default()
    };
    bundle.spec().hooks = Some(berth_spec::oci::runtime::Hooks {
        prestart: vec![hook("/bin/sh", &["sh", "-c", "test $OUTER = yes"])],
        start_container: vec![hook("/hook", &[])],
        ..Default::default()
    });
    let place = Place::with(bundle);
    let output = place
        .command(&["run", "c1"])
        .env("OUTER", "yes")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "1\ntwo /root\n",
        "{errors}"
    );

    // What fails after it was let go is told by who let it go.
    let mut bundle = Bundle::new("true");
    bundle.spec().hooks = Some(berth_spec::oci::runtime::Hooks {
        start_container: vec![hook("/bin/busybox", &["cat", "/nosuchfile"])],
        ..Default::default()
    });
    let errors = Place::with(bundle).bad(&["run", "c1"]);
    assert!(errors.contains("startContainer hook #0"), "{errors}");
    assert!(errors.contains("can't open '/nosuchfile'"), "{errors}");
}

pub fn codes_and_texts_are_runcs(_: &Launcher) {
    let place = Place::new("exec sleep 1000");
    create(&place, &[]);
    place.good(&["start", "c1"]);
    let failed = place.output(&["exec", "--pid-file", "/no/such/dir", "c1", "true"]);
    assert_eq!(failed.status.code(), Some(255));
    place.good(&["pause", "c1"]);
    assert_eq!(
        place.output(&["exec", "c1", "true"]).status.code(),
        Some(255)
    );
    place.good(&["resume", "c1"]);
    assert!(
        place
            .bad(&["foo", "-h"])
            .contains("No help topic for 'foo'")
    );
    let page = place.good(&["delete", "-h"]);
    assert!(page.starts_with("NAME:\n   runc delete - "), "{page}");
    assert!(place.bad(&["checkpoint", "c1"]).contains("criu"));
    let output = place.output(&["--debug", "exec", "c1", "true"]);
    // The log has them, for there is one; standard error is the program's.
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let log = std::fs::read_to_string(place.dir().join("log")).unwrap();
    assert!(log.contains(r#""level":"debug""#), "{log}");
    let refused = place.bad(&["--systemd-cgroup", "create", "c2"]);
    assert!(refused.contains("systemd not running"), "{refused}");
    let list = place.good(&["list", "--format", "json"]);
    assert!(list.starts_with(r#"[{"ociVersion":""#), "{list}");
    // A signal of nothing asks whether there is somebody.
    place.good(&["kill", "c1", "0"]);
    // The last one counts, and one of a host's own name has to be asked for by its field.
    let mut bundle = Bundle::new("true");
    let linux = bundle.spec().linux.as_mut().unwrap();
    linux.sysctl.insert("kernel.hostname".into(), "x".into());
    let errors = Place::with(bundle).bad(&["run", "c2"]);
    assert!(errors.contains("conflicts with"), "{errors}");
}

pub fn without_pids_of_its_own_all_are_killed(_: &Launcher) {
    use berth_spec::oci::runtime::NamespaceKind;
    let mut bundle = Bundle::new("sleep 98761 & sleep 98762 & echo ready; wait");
    let linux = bundle.spec().linux.as_mut().unwrap();
    linux.namespaces.retain(|n| n.kind != NamespaceKind::Pid);
    let place = Place::with(bundle);
    create(&place, &[]);
    place.good(&["start", "c1"]);
    let asleep = || {
        let of = |seconds| testkit::proc::with_arguments(&["sleep", seconds]).len();
        of("98761") + of("98762")
    };
    testkit::wait::until("both to sleep", || (asleep() == 2).then_some(()));
    place.good(&["kill", "c1", "KILL"]);
    testkit::wait::until("all to end", || (asleep() == 0).then_some(()));
    place.await_status("stopped");
    assert!(
        place
            .bad(&["kill", "c1", "KILL"])
            .contains("container not running")
    );
}

pub fn one_in_a_user_namespace_waits_for_its_start(_: &Launcher) {
    use berth_spec::oci::runtime::{IdMapping, Namespace, NamespaceKind};
    let mut bundle = Bundle::new("cat /proc/self/uid_map");
    let linux = bundle.spec().linux.as_mut().unwrap();
    linux.namespaces.push(Namespace {
        kind: NamespaceKind::User,
        path: String::new(),
    });
    let mapping = IdMapping {
        container_id: 0,
        host_id: 100_000,
        size: 65_536,
    };
    linux.uid_mappings = vec![mapping];
    linux.gid_mappings = vec![mapping];
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bundle.temp.path(), readable).unwrap();
    // It makes its mount points itself.
    std::os::unix::fs::chown(&bundle.root, Some(100_000), Some(100_000)).unwrap();
    let place = Place::with(bundle);
    create(&place, &[]);
    assert_eq!(place.status(), "created");
    place.good(&["start", "c1"]);
    place.await_status("stopped");
    let out = std::fs::read_to_string(place.dir().join("out")).unwrap();
    assert!(out.contains("100000"), "{out}");
}

/// With it: `ci/checks/systemd`, in a machine that has it.
pub fn without_systemd_it_makes_no_cgroup(_: &Launcher) {
    if Path::new("/run/systemd/system").exists() {
        testkit::skipped("systemd runs here");
        return;
    }
    let place = Place::new("true");
    let refusal = place.bad(&["--systemd-cgroup", "run", "c1"]);
    assert!(refusal.contains("systemd not running"), "{refusal}");
    assert_eq!(place.good(&["list", "-q"]), "");
}

pub fn limits_change_by_flags(_: &Launcher) {
    let place = Place::new("exec sleep 1000");
    create(&place, &[]);
    place.good(&["update", "--cpu-period", "90000", "--cpu-burst", "0", "c1"]);
    let refusal = place.bad(&["update", "--l3-cache-schema", "L3:0=f", "c1"]);
    assert!(refusal.contains("Intel RDT"), "{refusal}");
    let directories = v1_directories(&place);
    if let Some(cpu) = directories
        .iter()
        .find(|d| d.starts_with("/sys/fs/cgroup/cpu"))
    {
        let period = std::fs::read_to_string(cpu.join("cpu.cfs_period_us")).unwrap();
        assert_eq!(period.trim(), "90000");
    }
}

/// The directories of its cgroup in the v1 trees.
fn v1_directories(place: &Place) -> Vec<std::path::PathBuf> {
    let path = &place.bundle.task.spec.linux.as_ref().unwrap().cgroups_path;
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let points = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let point = words.nth(1)?;
        (words.next() == Some("cgroup")).then(|| format!("{point}{path}").into())
    });
    points.collect()
}

pub fn execs_join_cgroups_below(_: &Launcher) {
    let place = Place::new("exec sleep 1000");
    create(&place, &[]);
    place.good(&["start", "c1"]);
    let exec = |arguments: &[&str]| {
        let words = [&["exec"], arguments, &["c1", "cat", "/proc/self/cgroup"]].concat();
        place.output(&words)
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let error = text(exec(&["--cgroup", "../.."]).stderr);
    assert!(error.contains("bad sub cgroup path"), "{error}");
    let error = text(exec(&["--cgroup", "absent"]).stderr);
    assert!(error.contains("adding pid to cgroups"), "{error}");
    assert!(error.contains("no such file or directory"), "{error}");
    let error = text(exec(&["--cgroup", "nonsense:/"]).stderr);
    assert!(error.contains("unknown controller"), "{error}");
    let directories = v1_directories(&place);
    let Some(memory) = directories
        .iter()
        .find(|d| d.starts_with("/sys/fs/cgroup/memory"))
    else {
        testkit::skipped("no v1 tree of the memory controller");
        return;
    };
    std::fs::create_dir(memory.join("below")).unwrap();
    let output = exec(&["--cgroup", "memory:/below"]);
    let listed = text(output.stdout);
    let below = |controller: &str| {
        let mut lines = listed.lines().filter(|line| line.contains(controller));
        lines.all(|line| line.ends_with("/below"))
    };
    assert!(below(":memory:") && !below(":pids:"), "{listed}");
}

pub fn a_frozen_cgroup_is_refused(_: &Launcher) {
    let place = Place::new("true");
    let directories = v1_directories(&place);
    let Some(freezer) = directories
        .iter()
        .find(|d| d.starts_with("/sys/fs/cgroup/freezer"))
    else {
        testkit::skipped("no v1 tree of the freezer");
        return;
    };
    std::fs::create_dir_all(freezer).unwrap();
    std::fs::write(freezer.join("freezer.state"), "FROZEN").unwrap();
    let refusal = place.bad(&["run", "c1"]);
    assert!(refusal.contains("unexpectedly frozen"), "{refusal}");
    std::fs::write(freezer.join("freezer.state"), "THAWED").unwrap();
    std::fs::remove_dir(freezer).unwrap();
}

pub fn it_runs_where_its_cgroup_lets_it(_: &Launcher) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let place = Place::new("exec sleep 1000");
    create(&place, &[]);
    place.good(&["start", "c1"]);
    let whole = sched_getaffinity(None).unwrap();
    let first = (0..CpuSet::MAX_CPU).find(|cpu| whole.is_set(*cpu)).unwrap();
    let mut narrow = CpuSet::new();
    narrow.set(first);
    sched_setaffinity(None, &narrow).unwrap();
    let seen = place.good(&["exec", "c1", "grep", "-c", "^processor", "/proc/cpuinfo"]);
    let allowed = place.good(&["exec", "c1", "nproc"]);
    sched_setaffinity(None, &whole).unwrap();
    assert_eq!(seen, allowed);
}

pub fn a_failed_hook_after_the_start_ends_it(_: &Launcher) {
    let mut bundle = Bundle::new("exec sleep 1000");
    let hooks = bundle.spec().hooks.get_or_insert_default();
    hooks.poststart.push(berth_spec::oci::runtime::Hook {
        path: "/bin/false".into(),
        ..berth_spec::oci::runtime::Hook::default()
    });
    let place = Place::with(bundle);
    let refusal = place.bad(&["run", "c1"]);
    assert!(
        refusal.contains("error running poststart hook #0"),
        "{refusal}"
    );
    assert_eq!(place.good(&["list", "-q"]), "");
    create(&place, &[]);
    assert!(place.bad(&["start", "c1"]).contains("poststart"));
    place.await_status("stopped");
}

pub fn execs_follow_where_their_cgroup_is_closed(_: &Launcher) {
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        testkit::skipped("no pure cgroup v2");
        return;
    }
    let mut bundle = Bundle::new("exec sleep 1000");
    let linux = bundle.spec().linux.as_mut().unwrap();
    linux.namespaces.push(berth_spec::oci::runtime::Namespace {
        kind: berth_spec::oci::runtime::NamespaceKind::Cgroup,
        path: String::new(),
    });
    linux.resources.get_or_insert_default().unified =
        [("memory.high".to_owned(), "50000000".to_owned())].into();
    for mount in &mut bundle.spec().mounts {
        if mount.kind == "cgroup" {
            mount.options.retain(|option| option != "ro");
        }
    }
    let place = Place::with(bundle);
    create(&place, &[]);
    place.good(&["start", "c1"]);
    let sh = |script: &str| place.good(&["exec", "c1", "sh", "-ec", script]);
    sh("mkdir /sys/fs/cgroup/below; echo 1 > /sys/fs/cgroup/below/cgroup.procs");
    assert!(sh("cat /proc/self/cgroup").ends_with("::/\n"));
    // From here on no process may be in the container's own.
    sh(
        "echo $$ > /sys/fs/cgroup/below/cgroup.procs; echo +memory > /sys/fs/cgroup/cgroup.subtree_control",
    );
    assert!(sh("cat /proc/self/cgroup").ends_with("::/below\n"));
    let refusal = place.bad(&["exec", "--cgroup", "/", "c1", "true"]);
    assert!(refusal.contains("adding pid to cgroups"), "{refusal}");
}
