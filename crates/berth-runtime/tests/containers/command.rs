//! `berth runtime` as containerd, podman and people use it. This program plays its part.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use berth_runtime::launcher::Launcher;
use serde_json::Value;

use crate::bundle::Bundle;

/// A bundle on disk with a state root of its own.
struct Place {
    bundle: Bundle,
}

impl Place {
    fn new(script: &str) -> Self {
        Self::with(Bundle::new(script))
    }

    fn with(mut bundle: Bundle) -> Self {
        bundle.spec().root.as_mut().unwrap().path = "root".into();
        let text = serde_json::to_string(&bundle.task.spec).unwrap();
        std::fs::write(bundle.temp.path().join("config.json"), text).unwrap();
        Self { bundle }
    }

    fn dir(&self) -> &Path {
        self.bundle.temp.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
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

    fn good(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn bad(&self, arguments: &[&str]) -> String {
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
fn create(place: &Place, more: &[&str]) {
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
    assert!(place.good(&["--help"]).contains("delete [--force]"));
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
