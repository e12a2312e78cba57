//! update: other limits and another restart policy.

use std::collections::BTreeMap;

use berth_spec::docker::container::UpdateResponse;
use berth_spec::docker::{HostConfig, Resources};

use super::device;
use super::plan::{adapt_limits, check_limits, check_restart_policy, linux_resources};
use super::state::Status;
use crate::crossing::blocking;
use crate::{Engine, Error, Result};

/// Changes limits of a container, at once where it runs.
pub async fn update(engine: &Engine, id: &str, changes: Resources) -> Result<UpdateResponse> {
    let container = engine.0.containers.find(id)?;
    let _key = container.key.lock().await;
    let (status, name, before, auto_remove) = container.read(|r| {
        (
            r.life.status,
            r.name.clone(),
            r.host.clone(),
            r.host.auto_remove,
        )
    });
    if matches!(status, Status::Removing | Status::Dead) {
        return Err(Error::conflict(format!(
            "Cannot update container {id}: Container is marked for removal and cannot be \"update\"."
        )));
    }
    if let Some(policy) = &changes.restart_policy {
        check_restart_policy(policy)?;
        if auto_remove && !matches!(policy.name.as_str(), "" | "no") {
            return Err(Error::invalid(format!(
                "Cannot update container {id}: Restart policy cannot be updated because AutoRemove is enabled for the container"
            )));
        }
    }
    if changes.memory > 0
        && changes.memory_swap == 0
        && before.memory_swap > 0
        && changes.memory > before.memory_swap
    {
        return Err(Error::invalid(format!(
            "Cannot update container {id}: Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )));
    }
    let mut host = before;
    apply(&mut host, &changes);
    let warnings = check_limits(&host, engine.0.defaults.cpus)?;
    adapt_limits(&mut host);
    let mut warnings = warnings;
    if status.alive() {
        let resources = linux_resources(&host, &device::numbers)?;
        let path = container.read(|r| engine.cgroup_path(r));
        let cgroups = engine.0.cgroups.clone();
        let discarded = blocking(move || {
            let group = cgroups.open(&path);
            group
                .and_then(|group| group.update(&resources))
                .map_err(|e| Error::internal(format!("Cannot update container {name}: {e}")))
        })
        .await?;
        warnings.extend(discarded);
    }
    container.change(&engine.0.db, |r| r.host = host)?;
    super::tell(engine, &container, "update", BTreeMap::new());
    Ok(UpdateResponse { warnings })
}

/// A zero leaves a limit as it is.
fn apply(host: &mut HostConfig, changes: &Resources) {
    macro_rules! numbers {
        ($($field:ident),*) => {$(
            if changes.$field != 0 {
                host.$field = changes.$field;
            }
        )*};
    }
    numbers!(
        cpu_shares,
        memory,
        blkio_weight,
        cpu_period,
        cpu_quota,
        cpu_realtime_period,
        cpu_realtime_runtime,
        memory_reservation,
        memory_swap
    );
    if changes.nano_cpus != 0 {
        host.nano_cpus = changes.nano_cpus;
        // They say the same thing in two ways.
        (host.cpu_period, host.cpu_quota) = (0, 0);
    } else if changes.cpu_period != 0 || changes.cpu_quota != 0 {
        host.nano_cpus = 0;
    }
    for (field, change) in [
        (&mut host.cpuset_cpus, &changes.cpuset_cpus),
        (&mut host.cpuset_mems, &changes.cpuset_mems),
    ] {
        if !change.is_empty() {
            field.clone_from(change);
        }
    }
    if changes.memory_swappiness.is_some() {
        host.memory_swappiness = changes.memory_swappiness;
    }
    if changes.oom_kill_disable.is_some() {
        host.oom_kill_disable = changes.oom_kill_disable;
    }
    if changes.pids_limit.is_some_and(|limit| limit != 0) {
        host.pids_limit = changes.pids_limit;
    }
    if let Some(policy) = changes
        .restart_policy
        .as_ref()
        .filter(|p| !p.name.is_empty())
    {
        host.restart_policy = policy.clone();
    }
}
