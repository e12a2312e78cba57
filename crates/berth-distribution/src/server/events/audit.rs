//! The audit log: one line of JSON per event, appended to a file.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use serde::Deserialize;

use super::{Action, Event};
use crate::server::fault::{Fault, Reply};
use crate::server::storage::files;

/// Where to write what happened.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AuditSettings {
    /// The file; rotated by whoever rotates logs, with `copytruncate`.
    pub file: PathBuf,
    /// Whether pulls are written too.
    #[serde(default)]
    pub pulls: bool,
}

pub(crate) struct Audit {
    file: File,
    pulls: bool,
}

impl Audit {
    pub(crate) fn open(settings: &AuditSettings) -> Reply<Self> {
        let file = files::private()
            .append(true)
            .create(true)
            .open(&settings.file)
            .map_err(|e| {
                Fault::io(
                    format_args!("cannot open the audit log {}", settings.file.display()),
                    e,
                )
            })?;
        Ok(Self {
            file,
            pulls: settings.pulls,
        })
    }

    pub(crate) fn wants(&self, action: Action) -> bool {
        action != Action::Pull || self.pulls
    }

    /// One write of one line: the kernel keeps lines of several threads apart.
    pub(crate) fn write(&self, event: &Event) {
        if !self.wants(event.action) {
            return;
        }
        let mut line = serde_json::to_vec(event).unwrap_or_default();
        line.push(b'\n');
        if let Err(error) = (&self.file).write_all(&line) {
            tracing::error!(%error, "cannot write the audit log");
        }
    }
}
