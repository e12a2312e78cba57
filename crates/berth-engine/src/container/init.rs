//! `--init`: a first process that hands signals on and takes in orphans.
//!
//! It is a program of the host (`docker-init`, `tini`, `catatonit`), bound over a place of its own in
//! the container, as Docker does it.

use std::path::Path;

use berth_spec::oci::runtime::{Mount, Spec};

use crate::{Error, Result};

/// Where it is found inside.
const INSIDE: &str = "/sbin/docker-init";

/// Where distributions put such a program. Each of these is static, so that it needs nothing of the
/// container.
const PROGRAMS: [&str; 7] = [
    "/usr/libexec/docker/docker-init",
    "/usr/bin/docker-init",
    "/usr/sbin/docker-init",
    "/usr/bin/tini-static",
    "/usr/bin/catatonit",
    "/usr/libexec/podman/catatonit",
    "/usr/libexec/catatonit/catatonit",
];

/// The host's program; an error that names those that would do.
pub(super) fn find() -> Result<&'static str> {
    PROGRAMS
        .into_iter()
        .find(|path| Path::new(path).is_file())
        .ok_or_else(|| {
            Error::invalid(
                "--init needs a program of the host that there is none of here: install tini (for tini-static) or catatonit",
            )
        })
}

/// Puts the program before the container's own.
pub(super) fn add(spec: &mut Spec) -> Result<()> {
    let program = find()?;
    spec.mounts.push(Mount {
        destination: INSIDE.to_owned(),
        kind: "bind".to_owned(),
        source: program.to_owned(),
        options: ["bind", "ro", "rprivate"].map(str::to_owned).to_vec(),
        ..Mount::default()
    });
    if let Some(process) = &mut spec.process {
        let own = [INSIDE.to_owned(), "--".to_owned()];
        process.args.splice(0..0, own);
    }
    Ok(())
}
