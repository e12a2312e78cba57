//! A real registry on loopback: Debian's `docker-registry`.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::http::free_port;

/// The name `user` with bcrypt of "secret", as `htpasswd -nbB user secret` prints it.
pub const USERS: &str = "user:$2y$05$c4WoMPo3SXsafkva.HHa6u7b1XOWKqA7XZANDrnv4IVny/8ABNR66\n";

/// A running registry with its own storage; gone when dropped.
pub struct Registry {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Registry {
    /// Starts one on a free port, or says why not.
    pub fn start() -> Option<Self> {
        Self::start_with("", None)
    }

    /// Starts one that wants the name `user` and password `secret`.
    pub fn start_with_password() -> Option<Self> {
        Self::start_with(USERS, None)
    }

    /// The same by TLS, with the certificate and key in these files.
    pub fn start_with_tls(certificate: &Path, key: &Path) -> Option<Self> {
        Self::start_with(USERS, Some((certificate, key)))
    }

    fn start_with(htpasswd: &str, tls: Option<(&Path, &Path)>) -> Option<Self> {
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
        if let Some((certificate, key)) = tls {
            config.push_str(&format!(
                "  tls:\n    certificate: {}\n    key: {}\n",
                certificate.display(),
                key.display()
            ));
        }
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
