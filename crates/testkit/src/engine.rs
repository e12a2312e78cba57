//! A berth engine of a test's own: throw-away roots, its own socket and bridge address.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::DEADLINE;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A running engine. Dropping it removes its containers and ends it.
pub struct Engine {
    berth: PathBuf,
    dir: tempfile::TempDir,
    child: Option<Child>,
    bip: String,
    /// Its cgroups' parent, below each hierarchy's root.
    cgroup_parent: String,
    extra: Vec<String>,
    /// What the engine is run with: a program and arguments before it.
    prefix: Vec<String>,
}

/// What a command printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// The exit code; 128 + n after signal n.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Engine {
    /// Starts the built binary `berth` with `busybox:latest` loaded.
    pub fn start(berth: &str) -> Self {
        let engine = Self::start_empty(berth, &[]);
        engine.load_busybox();
        engine
    }

    /// Starts it with no image, and `extra` flags for `berth engine`.
    pub fn start_empty(berth: &str, extra: &[&str]) -> Self {
        Self::start_under(berth, extra, &[])
    }

    /// The same, run by the program and arguments `prefix`: on a machine that differs, as
    /// [`crate::etc::PrivateEtc`].
    pub fn start_under(berth: &str, extra: &[&str], prefix: &[String]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("berth-test-")
            .tempdir()
            .expect("a directory");
        let mut engine = Engine {
            berth: berth.into(),
            dir,
            child: None,
            bip: own_bip(),
            cgroup_parent: own_cgroup_parent(),
            extra: extra.iter().map(|s| (*s).to_owned()).collect(),
            prefix: prefix.to_vec(),
        };
        engine.launch();
        engine
    }

    /// Starts the engine again on the same roots.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "the engine runs already");
        let notify = self.path("notify");
        // A socket of an earlier start may be there.
        let _ = fs::remove_file(&notify);
        let ready = UnixDatagram::bind(&notify).expect("a notify socket");
        ready.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())
            .expect("a log");
        let mut command = match self.prefix.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(&self.berth);
                command
            }
            None => Command::new(&self.berth),
        };
        let mut child = command
            .args(["engine", "-H", &self.host(), "--bip", &self.bip])
            .arg("--data-root")
            .arg(self.path("data"))
            .arg("--exec-root")
            .arg(self.path("run"))
            .arg("--pidfile")
            .arg(self.path("engine.pid"))
            .args(["--cgroup-parent", &format!("/{}", self.cgroup_parent)])
            .args(&self.extra)
            .env("BERTH_FAIL_POINTS", self.path("fail"))
            .env("NOTIFY_SOCKET", &notify)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the berth binary");
        let mut message = [0; 256];
        // An engine that ends meanwhile says so at the same place.
        let said = loop {
            match ready.recv(&mut message) {
                Ok(_) if message.starts_with(b"STOPPING=1") => {}
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                said => break said,
            }
        };
        if let Err(e) = said {
            let _ = child.kill();
            let _ = child.wait();
            panic!(
                "the engine did not get ready ({e}); it said:\n{}",
                fs::read_to_string(self.log()).unwrap_or_default()
            );
        }
        self.child = Some(child);
    }

    /// Ends the engine as a power cut would; its containers go on.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("a running engine");
        child.kill().expect("a kill");
        child.wait().expect("its end");
    }

    /// Asks the engine to end and waits until it has.
    pub fn terminate(&mut self) {
        let mut child = self.child.take().expect("a running engine");
        let pid = Pid::from_child(&child);
        kill_process(pid, Signal::TERM).expect("a signal");
        child.wait().expect("its end");
    }

    /// Asks the engine to end and starts another at once, which has to wait for it.
    pub fn relaunch(&mut self) {
        let mut ending = self.child.take().expect("a running engine");
        kill_process(Pid::from_child(&ending), Signal::TERM).expect("a signal");
        self.launch();
        ending.wait().expect("its end");
    }

    /// The engine's process ID.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running engine").id()
    }

    /// Lets the engine note which fail points it passes, and end at `point`.
    pub fn fail_at(&self, point: Option<&str>) {
        let dir = self.path("fail");
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(dir.join("at"), point.unwrap_or("")).expect("a file");
        // There is none before a point is passed.
        let _ = fs::remove_file(dir.join("passed"));
    }

    /// The fail points that it has passed, each once, in the order of their first time.
    pub fn passed(&self) -> Vec<String> {
        let passed = fs::read_to_string(self.path("fail/passed")).unwrap_or_default();
        let mut points: Vec<String> = Vec::new();
        for point in passed.lines() {
            if !points.iter().any(|p| p == point) {
                points.push(point.to_owned());
            }
        }
        points
    }

    /// Whether it has ended by itself; it is waited for then.
    pub fn died(&mut self) -> bool {
        let died = match &mut self.child {
            None => true,
            Some(child) => child.try_wait().expect("its state").is_some(),
        };
        if died {
            self.child = None;
        }
        died
    }

    /// What its kernel objects carry in their names: a hash of its data root.
    pub fn instance(&self) -> String {
        let root = self.path("data");
        let bytes = root.as_os_str().as_encoded_bytes().iter();
        let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        });
        format!("{hash:08x}")
    }

    /// The same in the names of its network interfaces.
    pub fn tag(&self) -> String {
        let bytes = self.instance();
        let hash = bytes.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let digit = |i: u32| b"abcdefghijklmnopqrstuvwxyz234567"[(hash >> (5 * i)) as usize % 32];
        (0..6).map(|i| char::from(digit(i))).collect()
    }

    /// The directory in the cgroup trees that its containers are in.
    pub fn cgroup_parent(&self) -> &str {
        &self.cgroup_parent
    }

    /// `unix://…`, for `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.path("berth.sock").display())
    }

    /// Its API without a client.
    pub fn api(&self) -> crate::api::Api {
        crate::api::Api::new(self.path("berth.sock"))
    }

    /// A path in the test's own directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The engine's own log.
    pub fn log(&self) -> PathBuf {
        self.path("engine.log")
    }

    /// The address of the default bridge, `a.b.c.1/24`.
    pub fn bip(&self) -> &str {
        &self.bip
    }

    /// A directory for a build context or the like, with these files.
    pub fn dir_with(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let dir = self.path(name);
        for (file, text) in files {
            let path = dir.join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, text).expect("a file");
        }
        dir
    }

    /// `busybox:latest`, from the root that [`crate::rootfs::busybox_tar`] makes.
    pub fn load_busybox(&self) {
        let tar = self.path("busybox.tar");
        fs::write(&tar, crate::rootfs::busybox_tar()).expect("busybox.tar");
        self.ok(&[
            "import",
            "--change",
            "CMD [\"sh\"]",
            "--change",
            "ENV PATH=/usr/local/bin:/usr/bin:/bin",
            &tar.display().to_string(),
            "busybox:latest",
        ]);
    }

    /// A command of berth against this engine.
    pub fn berth(&self) -> Command {
        self.client(&self.berth)
    }

    /// A command of the official client against this engine, if it is on this machine.
    pub fn docker(&self) -> Option<Command> {
        match crate::find_command("docker") {
            Some(docker) => Some(self.client(&docker)),
            None => {
                crate::skipped("the official docker client is not on this machine");
                None
            }
        }
    }

    fn client(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("DOCKER_HOST", self.host())
            .env("DOCKER_CONFIG", self.path("config"))
            .env("DOCKER_BUILDKIT", "0")
            .env_remove("DOCKER_CONTEXT")
            .env_remove("DOCKER_API_VERSION")
            .stdin(Stdio::null());
        command
    }

    /// Runs `berth ARGS`.
    pub fn run(&self, args: &[&str]) -> Ran {
        ran(self.berth().args(args), None)
    }

    /// Runs `berth ARGS` with `input` on standard input.
    pub fn run_with_input(&self, args: &[&str], input: &[u8]) -> Ran {
        ran(self.berth().args(args), Some(input))
    }

    /// Runs `berth ARGS`, which must succeed; its output without the last newline.
    pub fn ok(&self, args: &[&str]) -> String {
        self.check(args, self.run(args))
    }

    /// Runs `docker ARGS` of the official client, which must succeed.
    pub fn docker_ok(&self, args: &[&str]) -> Option<String> {
        let ran = ran(self.docker()?.args(args), None);
        Some(self.check(args, ran))
    }

    /// The same for what older clients do otherwise: with one of at least this major version.
    pub fn docker_ok_since(&self, major: u32, args: &[&str]) -> Option<String> {
        let version = self.docker_ok(&["--version"])?;
        let found = version
            .strip_prefix("Docker version ")
            .and_then(|v| v.split('.').next()?.parse::<u32>().ok());
        if found.is_none_or(|found| found < major) {
            crate::skipped(&format!("{version}: older than {major}"));
            return None;
        }
        self.docker_ok(args)
    }

    fn check(&self, args: &[&str], ran: Ran) -> String {
        assert!(
            ran.code == 0,
            "{args:?} ended with {}\nstdout: {}\nstderr: {}\nengine: {}",
            ran.code,
            ran.out,
            ran.err,
            fs::read_to_string(self.log()).unwrap_or_default()
        );
        ran.out.trim_end_matches('\n').to_owned()
    }

    /// Runs `berth ARGS`, which must end with `code`; its standard error.
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(
            ran.code, code,
            "{args:?}: stdout: {}\nstderr: {}",
            ran.out, ran.err
        );
        ran.err
    }
}

/// Runs a command to its end.
pub fn ran(command: &mut Command, input: Option<&[u8]>) -> Ran {
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a command");
    if let Some(input) = input {
        // A command may end without reading what it was given.
        let _ = child.stdin.take().expect("its input").write_all(input);
    }
    let output: Output = child.wait_with_output().expect("its output");
    use std::os::unix::process::ExitStatusExt;
    let code = output
        .status
        .code()
        .unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
    Ran {
        code,
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A /24 that no other test of this run has: from the process and a count.
fn own_bip() -> String {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let pick = std::process::id().wrapping_mul(16).wrapping_add(number) % (16 * 250);
    format!("10.{}.{}.1/24", 200 + pick / 250, pick % 250)
}

/// A name that no other engine of this run has.
fn own_cgroup_parent() -> String {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("berth-test-{}-{number}", std::process::id())
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.child.is_none() {
            // The test ended it; its containers must still go.
            self.launch();
        }
        let ids = self.run(&["ps", "-aq"]).out;
        let mut args = vec!["rm", "-fv"];
        args.extend(ids.lines());
        if args.len() > 2 {
            let removed = self.run(&args);
            if removed.code != 0 {
                eprintln!("cleaning up: {}", removed.err);
            }
        }
        self.terminate();
        // Other runtimes make it in trees that berth does not use; where it is gone already, so much the better.
        for tree in fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
        {
            let _ = fs::remove_dir(tree.path().join(&self.cgroup_parent));
        }
        if std::thread::panicking() {
            eprintln!(
                "engine log:\n{}",
                fs::read_to_string(self.log()).unwrap_or_default()
            );
        }
    }
}
