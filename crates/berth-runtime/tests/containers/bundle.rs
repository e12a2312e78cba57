//! What every test needs: a root, a document, and a container that is gone at the end.

use std::ffi::CString;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use berth_runtime::launcher::Launcher;
use berth_runtime::task::{AttachOptions, ExitStatus, LogSpec, Task, TaskFds, TaskSpec};
use berth_runtime::{Error, defaults};
use berth_spec::oci::runtime::Spec;
use berth_sys::{executable, mount};
use rustix::fs::CWD;

/// Runs on from a read-only mount of this program, as an engine does.
pub fn protect() {
    if executable::is_protected().unwrap() {
        return;
    }
    let string = |s: std::ffi::OsString| {
        use std::os::unix::ffi::OsStringExt;
        CString::new(s.into_vec()).unwrap()
    };
    let args: Vec<CString> = std::env::args_os().map(string).collect();
    let env: Vec<CString> = std::env::vars_os()
        .map(|(name, value)| {
            let mut variable = name;
            variable.push("=");
            variable.push(value);
            string(variable)
        })
        .collect();
    let error = executable::protect(&args, &env).unwrap_err();
    panic!("protecting the executable: {error}");
}

/// A busybox root, unpacked once and never written to by tests that share it.
pub fn busybox() -> &'static Path {
    static ROOT: OnceLock<tempfile::TempDir> = OnceLock::new();
    ROOT.get_or_init(unpack).path()
}

fn unpack() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let tar = testkit::rootfs::busybox_tar();
    let mut archive = tar::Archive::new(&tar[..]);
    archive.set_preserve_permissions(true);
    archive.unpack(dir.path()).unwrap();
    dir
}

/// A directory as a detached mount.
pub fn root_of(dir: &Path) -> OwnedFd {
    mount::clone_path(CWD, dir, true).unwrap()
}

/// A container to be.
pub struct Bundle {
    pub temp: tempfile::TempDir,
    pub task: TaskSpec,
    pub root: PathBuf,
    pub sources: Vec<(usize, OwnedFd)>,
}

impl Bundle {
    /// One that runs a shell script in a root of its own.
    pub fn new(script: &str) -> Self {
        let mut spec = defaults::docker_spec();
        let process = spec.process.as_mut().unwrap();
        process.args = ["sh", "-c", script].map(str::to_owned).to_vec();
        process.env = vec![format!("PATH={}", defaults::PATH)];
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let id = format!("berth-test-{}-{number}", std::process::id());
        let linux = spec.linux.as_mut().unwrap();
        linux.cgroups_path = format!("/berth-test/{id}");
        linux.seccomp = Some(berth_runtime::seccomp::default_profile(
            berth_runtime::capability::CapSet::docker_default(),
        ));
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("root");
        std::fs::create_dir(&root).unwrap();
        copy(busybox(), &root);
        Self {
            task: TaskSpec {
                id,
                dir: temp.path().join("run"),
                spec,
                ..TaskSpec::default()
            },
            root,
            temp,
            sources: Vec::new(),
        }
    }

    pub fn spec(&mut self) -> &mut Spec {
        &mut self.task.spec
    }

    pub fn log(&mut self, max_size: u64, max_file: u32) -> PathBuf {
        let path = self.temp.path().join("json.log");
        self.task.log = LogSpec::JsonFile {
            path: path.clone(),
            max_size,
            max_file,
            attributes: std::collections::BTreeMap::new(),
        };
        path
    }

    /// Starts it with a client that gets everything.
    pub fn spawn(self, launcher: &Launcher) -> Result<Running, Error> {
        let (here, there) = UnixStream::pair().unwrap();
        here.set_read_timeout(Some(testkit::wait::DEADLINE))
            .unwrap();
        let mut fds = TaskFds::new(root_of(&self.root));
        let options = AttachOptions {
            stdin: self.task.open_stdin,
            ..AttachOptions::OUTPUT
        };
        fds.attach.push((options, there.into()));
        fds.sources = self.sources;
        let task = launcher.spawn(self.task.clone(), fds)?;
        Ok(Running {
            cgroup: self.task.spec.linux.as_ref().unwrap().cgroups_path.clone(),
            terminal: self.task.spec.process.as_ref().unwrap().terminal,
            task,
            client: here,
            temp: self.temp,
        })
    }

    /// Runs it to its end: standard output, standard error, exit status.
    pub fn run(self, launcher: &Launcher) -> (String, String, ExitStatus) {
        self.spawn(launcher).unwrap().finish()
    }

    /// Runs it and answers what it wrote, which must be all that went well.
    pub fn output(self, launcher: &Launcher) -> String {
        let (out, errors, status) = self.run(launcher);
        assert_eq!((errors.as_str(), status.code), ("", 0), "{out}");
        out
    }

    /// The text of the error that its start ends in.
    pub fn refusal(self, launcher: &Launcher) -> Error {
        let dir = self.task.dir.clone();
        let cgroup = self.task.spec.linux.as_ref().unwrap().cgroups_path.clone();
        let error = match self.spawn(launcher) {
            Ok(_) => panic!("it started"),
            Err(error) => error,
        };
        assert!(!dir.join("shim.sock").exists());
        assert!(
            berth_runtime::cgroup::Cgroups::detect()
                .unwrap()
                .open(&cgroup)
                .is_err()
        );
        error
    }
}

/// A container that runs; killed when dropped.
pub struct Running {
    pub task: Task,
    pub client: UnixStream,
    pub cgroup: String,
    pub terminal: bool,
    pub temp: tempfile::TempDir,
}

impl Running {
    /// Waits for the end.
    pub fn finish(mut self) -> (String, String, ExitStatus) {
        let mut raw = Vec::new();
        self.client.read_to_end(&mut raw).unwrap();
        let status = self.task.wait().unwrap();
        let (out, errors) = if self.terminal {
            (String::from_utf8_lossy(&raw).into_owned(), String::new())
        } else {
            frames(&raw)
        };
        (out, errors, status)
    }

    /// Reads frames until standard output has had this text.
    pub fn await_output(&mut self, text: &str) {
        await_text(&mut self.client, text);
    }

    pub fn dir(&self) -> PathBuf {
        self.temp.path().join("run")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already in most tests.
        let _ = self.task.kill(9);
        let _ = self.task.wait();
        await_end(self.task.shim_pid());
    }
}

/// Removes what all tests shared.
pub fn clean_up() {
    if let Ok(cgroups) = berth_runtime::cgroup::Cgroups::detect_all() {
        let _ = cgroups.remove_if_empty("/berth-test");
    }
}

/// Waits for a process that is no child of ours.
pub fn await_end(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    testkit::wait::until("the shim to end", || {
        rustix::process::test_kill_process(pid)
            .is_err()
            .then_some(())
    });
}

/// Reads until a text has come.
pub fn await_text(from: &mut impl Read, text: &str) -> String {
    let mut seen = Vec::new();
    let mut chunk = [0; 4096];
    while !String::from_utf8_lossy(&seen).contains(text) {
        let n = from.read(&mut chunk).unwrap();
        assert!(
            n > 0,
            "the end came first: {}",
            String::from_utf8_lossy(&seen)
        );
        seen.extend_from_slice(&chunk[..n]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

/// Takes Docker's frames apart: standard output and standard error.
pub fn frames(mut raw: &[u8]) -> (String, String) {
    let mut texts = [Vec::new(), Vec::new()];
    while let Some((head, rest)) = raw.split_first_chunk::<8>() {
        let len = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        texts[usize::from(head[0]) - 1].extend_from_slice(&rest[..len]);
        raw = &rest[len..];
    }
    assert!(raw.is_empty(), "half a frame: {raw:?}");
    let [out, errors] = texts.map(|t| String::from_utf8_lossy(&t).into_owned());
    (out, errors)
}

/// Copies a tree with its links. The program is linked: nobody writes to it.
fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            std::fs::create_dir(&target).unwrap();
            std::fs::set_permissions(&target, entry.metadata().unwrap().permissions()).unwrap();
            copy(&entry.path(), &target);
        } else if kind.is_symlink() {
            let link = std::fs::read_link(entry.path()).unwrap();
            std::os::unix::fs::symlink(link, target).unwrap();
        } else if entry.file_name() == "busybox" {
            std::fs::hard_link(entry.path(), target).unwrap();
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
