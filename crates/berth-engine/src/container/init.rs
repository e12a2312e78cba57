//! `--init`: a first process that hands signals on and takes in orphans.
//!
//! The runtime has one of its own. Where the engine was given a program of the host for it
//! (`--init-path`), that is bound over a place of its own in the container, as Docker does it.

use std::path::Path;

use berth_spec::oci::runtime::{Mount, Spec};

use crate::{Error, Result};

/// Where a program of the host is found inside.
const INSIDE: &str = "/sbin/docker-init";

/// Whether the init that is asked for can be had: the host's program, if one is named, else the
/// runtime's own, which a `foreign` runtime has not.
pub(super) fn check(program: Option<&Path>, foreign: bool) -> Result<()> {
    match program {
        None if foreign => Err(Error::invalid(
            "--init with another runtime than berth's own needs a program of this host: name one with the engine's --init-path",
        )),
        None => Ok(()),
        Some(program) if program.is_file() => Ok(()),
        Some(program) => Err(Error::invalid(format!(
            "failed to add docker-init: {} (--init-path) is no file of this host",
            program.display()
        ))),
    }
}

/// Puts the host's program before the container's own.
pub(super) fn add(spec: &mut Spec, program: &Path) -> Result<()> {
    check(Some(program), false)?;
    spec.mounts.push(Mount {
        destination: INSIDE.to_owned(),
        kind: "bind".to_owned(),
        source: program.display().to_string(),
        options: ["bind", "ro", "rprivate"].map(str::to_owned).to_vec(),
        ..Mount::default()
    });
    if let Some(process) = &mut spec.process {
        let own = [INSIDE.to_owned(), "--".to_owned()];
        process.args.splice(0..0, own);
    }
    Ok(())
}
