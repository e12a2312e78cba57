//! Becoming who the program runs as. Runs in the container, last.

use berth_sys::seccomp;
use rustix::process::{Pid, Resource, getrlimit, prlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use super::process::ProcessPlan;
use super::program::change_directory;
use crate::error::{Context, Result};

/// Capabilities a kernel can have, as bits.
const CAPABILITIES: u32 = 64;

/// Sets limits; they were lowered to what can be set when they were planned.
pub(super) fn limit(rlimits: &[(Resource, rustix::process::Rlimit)]) -> Result<()> {
    for (resource, limit) in rlimits {
        setrlimit(*resource, *limit).context(|| format!("error setting rlimit {resource:?}"))?;
    }
    Ok(())
}

/// Raises the hard limits of a process that may not do so itself, as far as it will set them.
pub(super) fn raise_limits(
    process: Pid,
    rlimits: &[(Resource, rustix::process::Rlimit)],
) -> Result<()> {
    let above = |asked: Option<u64>, now: Option<u64>| match (asked, now) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(asked), Some(now)) => asked > now,
    };
    for (resource, limit) in rlimits {
        let mut now = getrlimit(*resource);
        if above(limit.maximum, now.maximum) {
            now.maximum = limit.maximum;
            prlimit(Some(process), *resource, now)
                .context(|| format!("error setting rlimit {resource:?}"))?;
        }
    }
    Ok(())
}

/// Gives up everything the program is not to have, in the order in which that can be done, and goes
/// to the working directory. What is done after this is done with the program's own rights.
pub(super) fn assume(plan: &ProcessPlan) -> Result<()> {
    let arrived = change_directory(&plan.cwd)?;
    if plan.no_new_privileges {
        set_no_new_privs(true).context(|| "no_new_privs".to_owned())?;
    } else {
        // Without no_new_privs it takes CAP_SYS_ADMIN, which is still there.
        filter(plan)?;
    }
    drop_bounding(plan.capabilities.bounding)?;
    set_keep_capabilities(true).context(|| "keeping capabilities".to_owned())?;
    set_user(plan)?;
    set_keep_capabilities(false).context(|| "keeping capabilities".to_owned())?;
    set_capability_sets(plan)?;
    if !arrived && !change_directory(&plan.cwd)? {
        return Err(crate::Error::invalid(format!(
            "chdir to cwd ({:?}) set in config.json failed: permission denied",
            plan.cwd
        )));
    }
    if plan.no_new_privileges {
        filter(plan)?;
    }
    Ok(())
}

fn filter(plan: &ProcessPlan) -> Result<()> {
    // One with a listener is on already.
    let Some((program, flags)) = plan.filter.as_ref().filter(|_| !plan.notifies()) else {
        return Ok(());
    };
    seccomp::set_filter(program, *flags)
        .map(drop)
        .context(|| "error loading seccomp filter".to_owned())
}

fn drop_bounding(keep: u64) -> Result<()> {
    for n in 0..CAPABILITIES {
        let bit = 1_u64 << n;
        if keep & bit != 0 {
            continue;
        }
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(bit)) {
            Ok(()) => {}
            // The kernel knows no more.
            Err(rustix::io::Errno::INVAL) => break,
            Err(e) => return Err(e).context(|| format!("dropping capability {n}")),
        }
    }
    Ok(())
}

fn set_user(plan: &ProcessPlan) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(plan.uid), Gid::from_raw(plan.gid));
    let groups: Vec<Gid> = plan.groups.iter().map(|g| Gid::from_raw(*g)).collect();
    set_thread_groups(&groups).context(|| "setgroups".to_owned())?;
    set_thread_res_gid(gid, gid, gid).context(|| format!("setgid {}", plan.gid))?;
    set_thread_res_uid(uid, uid, uid).context(|| format!("setuid {}", plan.uid))
}

fn set_capability_sets(plan: &ProcessPlan) -> Result<()> {
    let asked = &plan.capabilities;
    let now = capabilities(None).context(|| "own capabilities".to_owned())?;
    let permitted = asked.permitted & now.permitted.bits();
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(asked.effective & permitted),
        permitted: CapabilitySet::from_bits_retain(permitted),
        inheritable: CapabilitySet::from_bits_retain(asked.inheritable),
    };
    set_capabilities(None, sets).context(|| "unable to apply caps".to_owned())?;
    clear_ambient_capability_set().context(|| "clearing ambient capabilities".to_owned())?;
    for n in 0..CAPABILITIES {
        let bit = 1_u64 << n;
        if asked.ambient & asked.inheritable & permitted & bit != 0 {
            configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(bit), true)
                .context(|| format!("raising ambient capability {n}"))?;
        }
    }
    Ok(())
}
