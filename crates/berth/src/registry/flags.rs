//! The registry's command line, and how it goes together with its file: a flag that is given wins.

use std::path::PathBuf;

use anyhow::Context;
use berth_distribution::ClientOptions;
use berth_distribution::server::{Settings, TlsSettings};
use clap::{Args, Parser, Subcommand};

use crate::daemon::environment::Environment;

/// Serve images to container engines
#[derive(Debug, Parser)]
#[command(name = "berth registry", disable_help_subcommand = true)]
pub struct Flags {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a registry in the foreground
    Serve(Serve),
}

/// `registry serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// Address to listen on (default 127.0.0.1:5000; port 0 takes a free one)
    #[arg(long, value_name = "HOST:PORT")]
    pub addr: Option<String>,
    /// Directory where everything is stored (default /var/lib/berth-registry)
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Configuration file (JSON)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Serve the images of an engine too, from its store: its data root (default /var/lib/berth)
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = "/var/lib/berth")]
    pub share_engine: Option<PathBuf>,
    /// Certificate for https, with --tls-key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Users and their bcrypt hashes, as htpasswd -B writes them: from now on others may nothing
    #[arg(long, value_name = "FILE")]
    pub htpasswd: Option<PathBuf>,
    /// Refuse pushes and deletions
    #[arg(long)]
    pub read_only: bool,
    /// Logging level
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = ["error", "warn", "info", "debug"])]
    pub log_level: String,
}

impl Serve {
    /// File and flags together.
    pub fn settings(&self, environment: &Environment) -> anyhow::Result<Settings> {
        let mut settings = match &self.config {
            Some(path) => {
                let text = std::fs::read(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                Settings::parse(&text)
                    .with_context(|| format!("cannot use the configuration {}", path.display()))?
            }
            None => Settings::default(),
        };
        if let Some(addr) = &self.addr {
            settings.address = addr.clone();
        }
        if let Some(root) = &self.root {
            settings.root = root.clone();
        }
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            settings.tls = Some(TlsSettings {
                certificate: certificate.clone(),
                key: key.clone(),
                client_ca: settings.tls.take().and_then(|tls| tls.client_ca),
            });
        }
        if let Some(htpasswd) = &self.htpasswd {
            settings.auth.get_or_insert_default().htpasswd = Some(htpasswd.clone());
        }
        if let Some(root) = &self.share_engine {
            settings.share_engine = Some(root.clone());
        }
        settings.client = client(environment);
        settings.read_only |= self.read_only;
        Ok(settings)
    }
}

/// How caches reach other registries.
fn client(environment: &Environment) -> ClientOptions {
    ClientOptions {
        certs_dirs: vec!["/etc/berth/certs.d".into(), "/etc/docker/certs.d".into()],
        http_proxy: environment.proxy("HTTP_PROXY"),
        https_proxy: environment.proxy("HTTPS_PROXY"),
        no_proxy: environment.proxy("NO_PROXY"),
        user_agent: format!("berth/{} (linux)", env!("CARGO_PKG_VERSION")),
        ..ClientOptions::default()
    }
}
