//! Which system call filter a container gets.

use berth_runtime::capability::CapSet;
use berth_runtime::seccomp::{Host, default_profile, from_docker_json};
use berth_spec::oci::runtime::LinuxSeccomp;

use super::plan::SeccompChoice;
use crate::{Error, Result};

/// The filter; none where it is unconfined, as a privileged container is that names no profile.
pub(crate) fn seccomp(
    choice: &SeccompChoice,
    privileged: bool,
    capabilities: CapSet,
) -> Result<Option<LinuxSeccomp>> {
    match choice {
        SeccompChoice::Unconfined => Ok(None),
        SeccompChoice::Default if privileged => Ok(None),
        SeccompChoice::Default => Ok(Some(default_profile(capabilities))),
        SeccompChoice::Profile(text) => from_docker_json(text, capabilities, &Host::detect())
            .map_err(|e| Error::invalid(e.to_string())),
    }
}
