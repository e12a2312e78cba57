//! update: other limits and another restart policy.

use std::collections::BTreeMap;

use berth_spec::docker::container::UpdateResponse;
use berth_spec::docker::{HostConfig, Resources};

use super::device;
use super::plan::{adapt_limits, check_limits, check_restart_policy, linux_resources};
use super::remount::{self, Changes};
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
    let remount = Changes {
        add: changes.mounts_add.clone().unwrap_or_default(),
        add_binds: changes.binds_add.clone().unwrap_or_default(),
        remove: changes.mounts_remove.clone().unwrap_or_default(),
    };
    check_changes(&before, &changes)
        .map_err(|e| e.context(format_args!("Cannot update container {id}")))?;
    let mut host = before;
    apply(&mut host, &changes);
    let mut warnings = check_limits(&host, engine.0.defaults.machine)?;
    adapt_limits(&mut host);
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
    let mut mounts = None;
    if !remount.is_empty() {
        let (engine, changed) = (engine.clone(), container.clone());
        blocking(move || remount::apply(&engine, &changed, remount))
            .await
            .map_err(|e| e.context(format_args!("Cannot update container {id}")))?;
        mounts = Some(container.read(|r| r.mounts.iter().map(|m| m.target.clone()).collect()));
    }
    super::tell(engine, &container, "update", BTreeMap::new());
    Ok(UpdateResponse { warnings, mounts })
}

/// What cannot follow on the limits that are set; Docker's words.
fn check_changes(host: &HostConfig, changes: &Resources) -> Result<()> {
    let conflict = |changed: &str, set: &str| {
        Err(Error::conflict(format!(
            "Conflicting options: {changed} cannot be updated as {set} has already been set"
        )))
    };
    if changes.nano_cpus > 0 && host.cpu_period > 0 {
        return conflict("Nano CPUs", "CPU Period");
    }
    if changes.nano_cpus > 0 && host.cpu_quota > 0 {
        return conflict("Nano CPUs", "CPU Quota");
    }
    if changes.cpu_period > 0 && host.nano_cpus > 0 {
        return conflict("CPU Period", "NanoCPUs");
    }
    if changes.cpu_quota > 0 && host.nano_cpus > 0 {
        return conflict("CPU Quota", "NanoCPUs");
    }
    if changes.memory_swap == 0 && host.memory_swap > 0 && changes.memory > host.memory_swap {
        return Err(Error::invalid(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ));
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_that_contradict_what_is_set_are_refused() {
        let plain = HostConfig::default();
        let cpus = HostConfig {
            nano_cpus: 1_000_000_000,
            ..HostConfig::default()
        };
        let quota = HostConfig {
            cpu_period: 100_000,
            cpu_quota: 50_000,
            ..HostConfig::default()
        };
        let memory = HostConfig {
            memory: 100 << 20,
            memory_swap: 200 << 20,
            ..HostConfig::default()
        };
        let change = |set: fn(&mut Resources)| {
            let mut changes = Resources::default();
            set(&mut changes);
            changes
        };
        let more_cpus = change(|r| r.nano_cpus = 2_000_000_000);
        let more_memory = change(|r| r.memory = 300 << 20);
        for (host, changes, text) in [
            (&plain, &more_cpus, ""),
            (&cpus, &more_cpus, ""),
            (
                &quota,
                &more_cpus,
                "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set",
            ),
            (
                &cpus,
                &change(|r| r.cpu_quota = 1000),
                "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set",
            ),
            (
                &cpus,
                &change(|r| r.cpu_period = 1000),
                "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set",
            ),
            (&plain, &more_memory, ""),
            (&memory, &change(|r| r.memory = 150 << 20), ""),
            (
                &memory,
                &more_memory,
                "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
            ),
            (
                &memory,
                &change(|r| (r.memory, r.memory_swap) = (300 << 20, -1)),
                "",
            ),
        ] {
            let found =
                check_changes(host, changes).map_or_else(|e| e.to_string(), |()| String::new());
            assert_eq!(found, text);
        }
    }

    #[test]
    fn zeros_change_nothing() {
        let before = HostConfig {
            memory: 100 << 20,
            cpuset_cpus: "0".to_owned(),
            pids_limit: Some(9),
            ..HostConfig::default()
        };
        let mut host = before.clone();
        apply(&mut host, &Resources::default());
        assert_eq!(host, before);
        let changes = Resources {
            cpuset_cpus: "1".to_owned(),
            pids_limit: Some(-1),
            ..Resources::default()
        };
        apply(&mut host, &changes);
        assert_eq!(
            (&*host.cpuset_cpus, host.pids_limit, host.memory),
            ("1", Some(-1), 100 << 20)
        );
    }
}
