//! What the environment says, read once.

use std::env;
use std::path::PathBuf;

/// The variables that the command line obeys.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `DOCKER_HOST`: where the engine is.
    pub host: Option<String>,
    /// `DOCKER_CONTEXT`: which context to use.
    pub context: Option<String>,
    /// `DOCKER_TLS_VERIFY`: speak TLS and check the engine's certificate.
    pub tls_verify: bool,
    /// `DOCKER_TLS`: speak TLS.
    pub tls: bool,
    /// `DOCKER_CERT_PATH`: where `ca.pem`, `cert.pem` and `key.pem` are.
    pub cert_path: Option<PathBuf>,
    /// `DOCKER_API_VERSION`: a fixed version.
    pub api_version: Option<String>,
    /// `DOCKER_CONFIG`, else `~/.docker`.
    pub config_dir: PathBuf,
    /// `DOCKER_DEFAULT_PLATFORM`: the platform of images.
    pub default_platform: Option<String>,
}

impl Environment {
    /// Reads it.
    pub fn read() -> Self {
        let text = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let home = || PathBuf::from(text("HOME").unwrap_or_else(|| "/".to_owned()));
        let config_dir =
            text("DOCKER_CONFIG").map_or_else(|| home().join(".docker"), PathBuf::from);
        Environment {
            host: text("DOCKER_HOST"),
            context: text("DOCKER_CONTEXT"),
            tls_verify: text("DOCKER_TLS_VERIFY").is_some(),
            tls: text("DOCKER_TLS").is_some(),
            cert_path: text("DOCKER_CERT_PATH").map(PathBuf::from),
            api_version: text("DOCKER_API_VERSION"),
            config_dir,
            default_platform: text("DOCKER_DEFAULT_PLATFORM"),
        }
    }
}

/// A variable of the user's, for `--env NAME` and `--build-arg NAME`.
pub fn lookup(name: &str) -> Option<String> {
    env::var(name).ok()
}
