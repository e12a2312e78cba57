//! A registry of berth's own: `berth registry serve` in a throw-away root.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A running `berth registry serve`; gone when dropped.
pub struct Served {
    berth: PathBuf,
    dir: tempfile::TempDir,
    args: Vec<String>,
    child: Option<Child>,
    address: String,
}

impl Served {
    /// Starts the built binary `berth` with further flags.
    pub fn start(berth: &str, args: &[&str]) -> Self {
        Self::start_with(berth, args, |_| {})
    }

    /// The same; `prepare` puts files into the test's directory first. `{dir}` in a flag is that
    /// directory.
    pub fn start_with(berth: &str, args: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("berth-served-")
            .tempdir()
            .expect("a directory");
        prepare(dir.path());
        let here = dir.path().display().to_string();
        let mut served = Self {
            berth: berth.into(),
            args: args.iter().map(|a| a.replace("{dir}", &here)).collect(),
            dir,
            child: None,
            address: "127.0.0.1:0".into(),
        };
        served.launch();
        served
    }

    /// Starts it again on the same root and address.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "the registry runs already");
        let mut child = Command::new(&self.berth)
            .args(["registry", "serve", "--addr", &self.address, "--root"])
            .arg(self.dir.path().join("root"))
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the berth binary");
        let mut line = String::new();
        let said = BufReader::new(child.stdout.take().expect("its output"))
            .read_line(&mut line)
            .expect("its first line");
        assert!(said > 0, "the registry ended at once: {:?}", child.wait());
        let address = line
            .strip_prefix("listening on ")
            .and_then(|rest| rest.split(',').next())
            .unwrap_or_else(|| panic!("it said {line:?}"));
        self.address = address.to_owned();
        self.child = Some(child);
    }

    /// `127.0.0.1:port`, as an image name begins.
    pub fn host(&self) -> &str {
        &self.address
    }

    /// The test's directory; the registry's root is `root` in it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The registry's process ID.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running registry").id()
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("a running registry");
        child.kill().expect("a kill");
        child.wait().expect("its end");
    }

    /// Asks it to end; its exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("a running registry");
        kill_process(Pid::from_child(&child), Signal::TERM).expect("a signal");
        child.wait().expect("its end").code()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Already gone is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
