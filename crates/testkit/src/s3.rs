//! A real S3-compatible server: s3rver, which `scripts/prepare test` brings from npm.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

/// The one bucket.
pub const BUCKET: &str = "blobs";
/// Its key and secret: both are this.
pub const KEY: &str = "S3RVER";

/// A running server with an empty bucket; gone when dropped. It dies of some requests that others make
/// impossible (a GET of what is being deleted), and is started again then: what it had answered is on disk.
pub struct S3 {
    running: Arc<Running>,
    watcher: Option<JoinHandle<()>>,
    dir: tempfile::TempDir,
    port: u16,
}

/// The process to end; nothing once that has been done.
struct Running(Mutex<Option<Pid>>);

impl Running {
    fn lock(&self) -> MutexGuard<'_, Option<Pid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl S3 {
    /// Starts one, or says why not.
    pub fn start() -> Option<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../target/tools/s3rver/node_modules/s3rver/bin/s3rver.js");
        if !program.is_file() || !crate::has_command("node") {
            crate::skipped("s3rver is missing: run scripts/prepare test");
            return None;
        }
        let dir = tempfile::Builder::new()
            .prefix("berth-s3-")
            .tempdir()
            .expect("a directory");
        let root = dir.path().to_owned();
        let (mut child, port) = launch(&program, &root, 0).expect("s3rver");
        let running = Arc::new(Running(Mutex::new(Some(Pid::from_child(&child)))));
        let of = running.clone();
        let watcher = std::thread::spawn(move || {
            loop {
                let _ = child.wait();
                let mut wanted = of.lock();
                if wanted.is_none() {
                    return;
                }
                match launch(&program, &root, port) {
                    Some((again, _)) => child = again,
                    None => return,
                }
                *wanted = Some(Pid::from_child(&child));
            }
        });
        Some(Self {
            running,
            watcher: Some(watcher),
            dir,
            port,
        })
    }

    /// `http://127.0.0.1:port`
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Names of the objects that are in the bucket, sorted.
    pub fn objects(&self) -> Vec<String> {
        let root = self.dir.path().join(BUCKET);
        let mut names = Vec::new();
        let mut todo = vec![PathBuf::from(&root)];
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    todo.push(path);
                } else if let Ok(name) = path.strip_prefix(&root) {
                    names.push(name.display().to_string());
                }
            }
        }
        // One file has the bytes of an object, others tell about it.
        names.retain(|name| name.ends_with("._S3rver_object"));
        names.sort();
        names
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        if let Some(pid) = self.running.lock().take() {
            // Already gone is as good.
            let _ = kill_process(pid, Signal::KILL);
        }
        if let Some(watcher) = self.watcher.take() {
            let _ = watcher.join();
        }
    }
}

/// Starts the server on `port`, 0 for a free one; which it is.
fn launch(program: &Path, root: &Path, port: u16) -> Option<(Child, u16)> {
    let mut child = Command::new("node")
        .arg(program)
        .args(["--address", "127.0.0.1", "--silent", "--port"])
        .arg(port.to_string())
        .args(["--configure-bucket", BUCKET, "--directory"])
        .arg(root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("node");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let port = lines
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| line.rsplit_once(':')?.1.trim().parse().ok());
    // It must not wait for somebody to read what else it says.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    match port {
        Some(port) => Some((child, port)),
        None => {
            let _ = child.wait();
            None
        }
    }
}
