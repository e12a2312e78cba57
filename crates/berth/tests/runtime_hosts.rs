//! `berth runtime`, as `runc`, under Debian's containerd and dockerd: each in namespaces of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use testkit::engine::{Engine, Ran, ran};
use testkit::wait::until;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// A foreign engine that knows berth as its runtime. Its processes end with it, its mounts and links go with
/// its namespaces.
struct Host {
    process: Child,
    /// PID 1 of its PID namespace.
    init: u32,
    dir: tempfile::TempDir,
    /// The cgroup that its containers are below, in each tree.
    cgroup: String,
    /// An engine of berth's on the same machine, which must not be in its way.
    _engine: Engine,
}

impl Host {
    /// `command` is given the directory, where `runc` is berth and `image.tar` holds busybox, and the cgroup.
    fn start(command: impl FnOnce(&Path, &str) -> Vec<String>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::symlink(BERTH, dir.path().join("runc")).expect("a link");
        let engine = Engine::start(BERTH);
        let tar = dir.path().join("image.tar").display().to_string();
        engine.ok(&["save", "-o", &tar, "busybox"]);
        let cgroup = format!("{}-host", engine.cgroup_parent());
        let log = fs::File::create(dir.path().join("log")).expect("a log");
        let process = Command::new("unshare")
            .args([
                "--mount",
                "--net",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ])
            .args(["--propagation", "private", "sh", "-c"])
            .arg("mount -t tmpfs tmpfs /run && ip link set lo up && exec \"$@\"")
            .arg("sh")
            .args(command(dir.path(), &cgroup))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("unshare");
        let children = format!("/proc/{0}/task/{0}/children", process.id());
        let init = until("unshare to fork", || {
            fs::read_to_string(&children).ok()?.trim().parse().ok()
        });
        Self {
            process,
            init,
            dir,
            cgroup,
            _engine: engine,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a program beside it.
    fn run(&self, words: &[&str]) -> Ran {
        let mut command = Command::new("nsenter");
        command
            .args([
                "--target",
                &self.init.to_string(),
                "--mount",
                "--net",
                "--pid",
            ])
            .args(words)
            .env(
                "DOCKER_HOST",
                format!("unix://{}", self.path("socket").display()),
            )
            .env("DOCKER_CONFIG", self.path("config"));
        ran(&mut command, None)
    }

    fn ok(&self, words: &[&str]) -> String {
        let ran = self.run(words);
        assert_eq!(ran.code, 0, "{words:?}: {}\n{}", ran.err, self.log());
        ran.out
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The kernel ends all in its PID namespace before `unshare` can be waited for.
        let _ = self.process.kill();
        let _ = self.process.wait();
        until("its cgroups to be empty", || {
            let mut trees = fs::read_dir("/sys/fs/cgroup").ok()?.flatten();
            trees
                .all(|tree| removed(&tree.path().join(&self.cgroup)))
                .then_some(())
        });
    }
}

/// Removes a cgroup with what is below; whether it is gone.
fn removed(dir: &Path) -> bool {
    for below in fs::read_dir(dir).into_iter().flatten().flatten() {
        if below.file_type().is_ok_and(|kind| kind.is_dir()) {
            removed(&below.path());
        }
    }
    let _ = fs::remove_dir(dir);
    !dir.exists()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn missing(programs: &[&str]) -> bool {
    let missing = programs
        .iter()
        .find(|program| !testkit::has_command(program));
    if let Some(program) = missing {
        testkit::skipped(&format!("{program} is not on this machine"));
    }
    missing.is_some()
}

/// The memory limit that the kernel knows for a container: v1, then v2.
const LIMIT: &str =
    "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";

#[test]
fn containerd_runs_it() {
    if missing(&["containerd", "ctr", "unshare", "nsenter"]) {
        return;
    }
    let host = Host::start(|dir, _| {
        let config = format!(
            "version = 2\nroot = \"{0}/root\"\nstate = \"/run/state\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{0}/socket\"\n",
            dir.display()
        );
        fs::write(dir.join("config.toml"), config).expect("its configuration");
        vec![
            "containerd".into(),
            "-c".into(),
            text(&dir.join("config.toml")),
        ]
    });
    let socket = text(&host.path("socket"));
    let ctr = |words: &[&str]| {
        host.run(&[&["ctr", "-a", &socket, "-n", &host.cgroup][..], words].concat())
    };
    let good = |words: &[&str]| {
        let ran = ctr(words);
        assert_eq!(ran.code, 0, "{words:?}: {}\n{}", ran.err, host.log());
        ran.out
    };
    until("containerd to answer", || {
        (ctr(&["version"]).code == 0).then_some(())
    });
    good(&["image", "import", &text(&host.path("image.tar"))]);
    let runc = text(&host.path("runc"));
    let image = "docker.io/library/busybox:latest";
    let run = ["run", "--runc-binary", &runc];

    let once = [
        "--rm",
        image,
        "once",
        "sh",
        "-c",
        "echo out; echo err >&2; exit 7",
    ];
    let ran = ctr(&[&run[..], &once].concat());
    assert_eq!((ran.code, &*ran.out), (7, "out\n"), "{}", ran.err);
    assert!(ran.err.contains("err\n"), "{}", ran.err);
    let ran = ctr(&[&run[..], &["--rm", image, "none", "no-such-program"]].concat());
    assert_ne!(ran.code, 0);
    assert!(
        ran.err.contains("executable file not found in $PATH"),
        "{}",
        ran.err
    );

    let long = [
        "-d",
        "--memory-limit",
        "67108864",
        image,
        "long",
        "sleep",
        "1000",
    ];
    good(&[&run[..], &long].concat());
    let ran = ctr(&[
        "task",
        "exec",
        "--exec-id",
        "e",
        "long",
        "sh",
        "-c",
        "echo in it; exit 3",
    ]);
    assert_eq!((ran.code, &*ran.out), (3, "in it\n"), "{}", ran.err);
    assert!(good(&["task", "metrics", "long"]).contains("67108864"));
    good(&["task", "pause", "long"]);
    assert!(good(&["task", "ls"]).contains("PAUSED"));
    good(&["task", "resume", "long"]);
    assert!(good(&["task", "ls"]).contains("RUNNING"));
    good(&["task", "kill", "--signal", "KILL", "long"]);
    until("its end", || {
        good(&["task", "ls"]).contains("STOPPED").then_some(())
    });
    // Says 137, which it ended with.
    ctr(&["task", "delete", "long"]);
    good(&["container", "delete", "long"]);
    assert_eq!(good(&["task", "ls", "-q"]), "");
}

#[test]
fn dockerd_runs_it() {
    if missing(&["dockerd", "containerd", "docker", "unshare", "nsenter"]) {
        return;
    }
    let host = Host::start(|dir, cgroup| {
        let at = |name: &str| text(&dir.join(name));
        let mut words = vec![
            "dockerd".to_owned(),
            "-H".to_owned(),
            format!("unix://{}", at("socket")),
        ];
        for (flag, value) in [
            ("--data-root", at("root")),
            ("--exec-root", "/run/docker".to_owned()),
            ("--pidfile", "/run/docker.pid".to_owned()),
            ("--bip", "10.99.1.1/24".to_owned()),
            ("--cgroup-parent", format!("/{cgroup}")),
            ("--add-runtime", format!("berth={}", at("runc"))),
            ("--default-runtime", "berth".to_owned()),
        ] {
            words.extend([flag.to_owned(), value]);
        }
        words
    });
    let docker = |more: &[&str]| host.ok(&[&["docker"][..], more].concat());
    until("dockerd to answer", || {
        (host.run(&["docker", "version"]).code == 0).then_some(())
    });
    assert!(docker(&["info"]).contains("Default Runtime: berth"));
    docker(&["load", "-i", &text(&host.path("image.tar"))]);

    let ran = host.run(&[
        "docker",
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "echo out; echo err >&2; exit 7",
    ]);
    assert_eq!((ran.code, &*ran.out, &*ran.err), (7, "out\n", "err\n"));
    let ran = host.run(&["docker", "run", "--rm", "busybox", "no-such-program"]);
    assert_eq!(ran.code, 127, "{}", ran.err);
    assert!(
        ran.err.contains("executable file not found in $PATH"),
        "{}",
        ran.err
    );
    assert_eq!(
        docker(&["run", "--rm", "-t", "busybox", "tty"]).trim(),
        "/dev/pts/0"
    );

    docker(&[
        "run",
        "-d",
        "--name",
        "long",
        "-m",
        "64m",
        "busybox",
        "sh",
        "-c",
        "echo logged; sleep 1000",
    ]);
    assert_eq!(
        docker(&["exec", "long", "sh", "-c", LIMIT]).trim(),
        "67108864"
    );
    docker(&["update", "-m", "128m", "--memory-swap", "128m", "long"]);
    assert_eq!(
        docker(&["exec", "long", "sh", "-c", LIMIT]).trim(),
        "134217728"
    );
    let ran = host.run(&[
        "docker",
        "exec",
        "-u",
        "1000",
        "long",
        "sh",
        "-c",
        "id -u; exit 3",
    ]);
    assert_eq!((ran.code, &*ran.out), (3, "1000\n"), "{}", ran.err);
    assert_eq!(docker(&["logs", "long"]), "logged\n");
    docker(&["pause", "long"]);
    assert!(docker(&["ps"]).contains("(Paused)"));
    docker(&["unpause", "long"]);
    docker(&["stop", "-t", "0", "long"]);
    assert!(docker(&["ps", "-a"]).contains("Exited (137)"));
    docker(&["rm", "long"]);
}
