//! What was asked becomes what will be done, without doing anything: pure functions, table tests.
//!
//! At creation, [`prepare`] checks a request and fills in what the image and the engine say; the
//! result is kept as the container's record. At each start, [`spec::build`] makes the OCI document
//! of the record and of facts gathered then (user, paths, devices). Nothing past it looks at
//! Docker's configuration.

mod env;
mod merge;
mod mount;
mod namespace;
mod port;
mod processes;
mod resources;
mod security;
pub(crate) mod spec;
mod text;
pub(crate) mod user;
mod validate;

use std::collections::BTreeMap;

use berth_spec::docker::config::{LogConfig, Ulimit};
use berth_spec::docker::{ContainerConfig, ContainerCreateBody, EndpointSettings, HostConfig};
use berth_spec::oci::image::ImageConfig;

pub(crate) use env::{overlay, process_env};
pub(crate) use merge::merge_committed;
pub(crate) use mount::{MountKind, MountRecord, check_volume_name, parse_volumes_from};
pub(crate) use namespace::{JoinedMode, NetworkMode, UsersMode, check_endpoint};
pub(crate) use port::{exposed, requested};
pub(crate) use processes::{bound_processes, default_limit};
pub(crate) use resources::{
    adapt_limits, check_device_access, check_limits, linux_resources, rlimits,
};
pub(crate) use security::{SeccompChoice, SecurityOptions};
pub(crate) use text::check_console_size;
pub(crate) use validate::{check_restart_policy, check_users, parse_signal, signal_name};

use crate::{Error, Result};

/// What the machine has that containers can be bound to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Machine {
    /// Processors.
    pub cpus: u32,
    /// The highest of the nodes that have memory.
    pub memory_node: u32,
    /// Whether the scheduler of its disks knows weights.
    pub blkio_weight: bool,
}

/// What the engine adds where nothing is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Defaults {
    pub log: LogConfig,
    pub shm_size: i64,
    pub ulimits: Vec<Ulimit>,
    /// Processes and threads of a container, at most; none where they are not bounded.
    pub pids_limit: Option<i64>,
    pub machine: Machine,
    /// Whether cgroups are of version 2: containers have a cgroup namespace then.
    pub cgroup_v2: bool,
    pub init: bool,
    pub runtime: String,
    /// Whether containers that do not say otherwise have a user namespace.
    pub remap: bool,
}

/// A request that has been checked, with everything filled in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prepared {
    pub config: ContainerConfig,
    pub host: HostConfig,
    /// By name of the network.
    pub networks: BTreeMap<String, EndpointSettings>,
    pub mounts: Vec<MountRecord>,
    pub warnings: Vec<String>,
}

/// Checks a request and merges the image's configuration and the engine's defaults into it. `id` is
/// the container's, from which its host name is taken.
pub(crate) fn prepare(
    id: &str,
    body: ContainerCreateBody,
    image: Option<&ImageConfig>,
    defaults: &Defaults,
) -> Result<Prepared> {
    text::check_body(&body)?;
    let ContainerCreateBody {
        mut config,
        mut host_config,
        networking_config,
    } = body;
    merge::fill_host(&mut host_config, defaults);
    let mut warnings = validate::check(&config, &host_config, defaults)?;
    if let Some(image) = image {
        merge::merge_image(&mut config, image);
        // An image's words are somebody's as well.
        text::check_config(&config)?;
    }
    merge::finish_config(&mut config, &host_config, id);
    let command = config.entrypoint.iter().chain(&config.cmd);
    if command.map(|words| words.0.len()).sum::<usize>() == 0 {
        return Err(Error::invalid("no command specified"));
    }
    let mounts = mount::plan(&config, &host_config)?;
    let networks = namespace::networks(&host_config, networking_config, &mut warnings)?;
    Ok(Prepared {
        config,
        host: host_config,
        networks,
        mounts,
        warnings,
    })
}

#[cfg(test)]
mod tests;
