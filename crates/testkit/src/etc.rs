//! A machine that differs from this one in `/etc`: a mount namespace with a copy of it.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The namespace; it goes when this is dropped, or with the last process in it.
pub struct PrivateEtc {
    dir: tempfile::TempDir,
    holder: Child,
}

impl PrivateEtc {
    /// A copy of `/etc` in which these files have these texts. `None` where there are no tools for it.
    pub fn new(files: &[(&str, &str)]) -> Option<Self> {
        let tools = ["unshare", "nsenter", "cp", "mount"];
        if let Some(missing) = tools.into_iter().find(|t| !crate::has_command(t)) {
            crate::skipped(&format!("there is no {missing}"));
            return None;
        }
        let dir = tempfile::Builder::new()
            .prefix("berth-test-etc-")
            .tempdir()
            .expect("a directory");
        let etc = dir.path().join("etc");
        let copied = Command::new("cp").args(["-a", "/etc"]).arg(&etc).status();
        assert!(copied.expect("cp").success(), "a copy of /etc");
        for (name, text) in files {
            fs::write(etc.join(name), text).expect("a file");
        }
        let script = "mount --bind \"$0\" /etc && echo up && exec cat";
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "slave", "sh", "-c", script])
            .arg(&etc)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut up = [0; 3];
        let out = holder.stdout.as_mut().expect("its output");
        out.read_exact(&mut up).expect("the mount namespace");
        Some(Self { dir, holder })
    }

    /// What a command is run with to be on that machine.
    pub fn prefix(&self) -> Vec<String> {
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.holder.id());
        vec!["nsenter".to_owned(), namespace, "--".to_owned()]
    }

    /// A file of that `/etc`, as it is seen here.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("etc").join(name)
    }
}

impl Drop for PrivateEtc {
    fn drop(&mut self) {
        // It reads from us, and ends with that.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
