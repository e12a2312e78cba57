//! A real registry on loopback: Debian's `docker-registry`.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::http::free_port;

/// A running registry with its own storage; gone when dropped.
pub struct Registry {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Registry {
    /// Starts one on a free port, or says why not.
    pub fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// Starts one that wants the name `user` and password `secret`.
    pub fn start_with_password() -> Option<Self> {
        // bcrypt of "secret", as `htpasswd -nbB user secret` prints it.
        Self::start_with("user:$2y$05$c4WoMPo3SXsafkva.HHa6u7b1XOWKqA7XZANDrnv4IVny/8ABNR66\n")
    }

    fn start_with(htpasswd: &str) -> Option<Self> {
        let Some(program) = crate::find_command("docker-registry") else {
            crate::skipped("docker-registry is missing: run scripts/prepare test");
            return None;
        };
        let dir = tempfile::Builder::new()
            .prefix("berth-registry-")
            .tempdir()
            .expect("a directory");
        let port = free_port();
        let mut config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{port}\n",
            dir.path().join("data").display()
        );
        if !htpasswd.is_empty() {
            let file = dir.path().join("htpasswd");
            fs::write(&file, htpasswd).expect("htpasswd");
            config.push_str(&format!(
                "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
                file.display()
            ));
        }
        let file = dir.path().join("config.yml");
        fs::write(&file, config).expect("config.yml");
        let child = Command::new(program)
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry");
        let registry = Registry {
            child,
            port,
            _dir: dir,
        };
        crate::wait::until("docker-registry", || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Some(registry)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// `127.0.0.1:port`, as an image name begins.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
