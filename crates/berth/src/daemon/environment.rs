//! The engine's environment, read once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// Proxy variables that programs look at, in both spellings.
const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];
/// Variables that name a CA bundle, the more general first.
const CA_BUNDLES: [&str; 4] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
];

/// What the engine takes from its environment.
#[derive(Debug, Default)]
pub struct Environment {
    /// Where readiness is told.
    pub notify_socket: Option<OsString>,
    /// systemd's sockets.
    pub listen_pid: Option<String>,
    /// How many.
    pub listen_fds: Option<String>,
    /// Proxy variables that are set, by name.
    pub proxies: BTreeMap<String, String>,
    /// The host's own CA bundle, where it has one.
    pub ca_bundle: Option<PathBuf>,
    /// Where tests say at which fail point to end; nothing looks at it where there are none.
    pub fail_points: Option<PathBuf>,
}

impl Environment {
    /// Reads it.
    pub fn read() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            notify_socket: std::env::var_os("NOTIFY_SOCKET").filter(|s| !s.is_empty()),
            listen_pid: text("LISTEN_PID"),
            listen_fds: text("LISTEN_FDS"),
            proxies: PROXIES
                .iter()
                .filter_map(|name| Some(((*name).to_owned(), text(name)?)))
                .collect(),
            ca_bundle: CA_BUNDLES
                .iter()
                .filter_map(|name| text(name).map(PathBuf::from))
                .find(|path| path.is_file()),
            fail_points: text("BERTH_FAIL_POINTS").map(PathBuf::from),
        }
    }

    /// A proxy variable in either spelling.
    pub fn proxy(&self, name: &str) -> Option<String> {
        self.proxies
            .get(name)
            .or_else(|| self.proxies.get(&name.to_lowercase()))
            .cloned()
    }
}
