//! The registry's command line, and how it goes together with its file: a flag that is given wins.

use std::path::PathBuf;

use anyhow::Context;
use berth_distribution::server::Settings;
use clap::{Args, Parser, Subcommand};

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
    /// Refuse pushes and deletions
    #[arg(long)]
    pub read_only: bool,
    /// Logging level
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = ["error", "warn", "info", "debug"])]
    pub log_level: String,
}

impl Serve {
    /// File and flags together.
    pub fn settings(&self) -> anyhow::Result<Settings> {
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
        settings.read_only |= self.read_only;
        Ok(settings)
    }
}
