//! A real S3-compatible server: s3rver, which `scripts/prepare test` brings from npm.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The one bucket.
pub const BUCKET: &str = "blobs";
/// Its key and secret: both are this.
pub const KEY: &str = "S3RVER";

/// A running server with an empty bucket; gone when dropped.
pub struct S3 {
    child: Child,
    dir: tempfile::TempDir,
    endpoint: String,
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
        let mut child = Command::new("node")
            .arg(program)
            .args(["--address", "127.0.0.1", "--port", "0", "--silent"])
            .args(["--configure-bucket", BUCKET, "--directory"])
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let port = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.rsplit_once(':')?.1.trim().parse::<u16>().ok())
            .unwrap_or_else(|| panic!("s3rver ended at once: {:?}", child.wait()));
        // It must not wait for somebody to read what else it says.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Some(Self {
            child,
            dir,
            endpoint: format!("http://127.0.0.1:{port}"),
        })
    }

    /// `http://127.0.0.1:port`
    pub fn endpoint(&self) -> &str {
        &self.endpoint
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
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
