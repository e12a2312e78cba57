//! Text that no container may have: NUL bytes anywhere, line ends where a file would take them for
//! another line.

use berth_spec::docker::{ContainerConfig, ContainerCreateBody};

use crate::{Error, Result};

/// Bytes of one text.
const TEXT_MAX: usize = 1 << 20;

/// Refuses a text with a NUL byte.
fn plain(what: &str, text: &str) -> Result<()> {
    if text.contains('\0') {
        return Err(Error::invalid(format!(
            "invalid {what}: contains a NUL byte"
        )));
    }
    if text.len() > TEXT_MAX {
        return Err(Error::invalid(format!("invalid {what}: too long")));
    }
    Ok(())
}

/// Refuses a text with a NUL byte or a line end.
fn line(what: &str, text: &str) -> Result<()> {
    plain(what, text)?;
    if text.contains(['\n', '\r']) {
        return Err(Error::invalid(format!(
            "invalid {what} {text:?}: contains a line end"
        )));
    }
    Ok(())
}

fn all<'a>(
    check: fn(&str, &str) -> Result<()>,
    what: &str,
    texts: impl IntoIterator<Item = &'a String>,
) -> Result<()> {
    texts.into_iter().try_for_each(|text| check(what, text))
}

/// Checks every text of a process's configuration: that of a request, and again when the image's is
/// part of it.
pub(super) fn check_config(config: &ContainerConfig) -> Result<()> {
    for (what, words) in [
        ("command", &config.cmd),
        ("entrypoint", &config.entrypoint),
        ("shell", &config.shell),
    ] {
        all(plain, what, words.iter().flat_map(|w| &w.0))?;
    }
    all(plain, "environment variable", config.env.iter().flatten())?;
    for (what, text) in [
        ("user", &config.user),
        ("hostname", &config.hostname),
        ("domainname", &config.domainname),
        ("working directory", &config.working_dir),
        ("MAC address", &config.mac_address),
    ] {
        line(what, text)?;
    }
    let volumes = config.volumes.iter().flat_map(|volumes| volumes.keys());
    all(line, "volume", volumes)?;
    let probe = config.healthcheck.iter().flat_map(|health| &health.test);
    all(plain, "health check", probe)
}

/// The largest size of a terminal that the kernel has, in characters.
const CONSOLE_MAX: u32 = u16::MAX as u32;

/// Refuses a size, height and width, that no terminal has.
pub(crate) fn check_console_size(size: [u32; 2]) -> Result<()> {
    match size.iter().find(|n| **n > CONSOLE_MAX) {
        Some(n) => Err(Error::invalid(format!(
            "invalid console size {n}: a terminal has at most {CONSOLE_MAX} lines or columns"
        ))),
        None => Ok(()),
    }
}

/// Refuses a cgroup that is none of this engine's own, by its name.
fn check_cgroup_parent(parent: &str) -> Result<()> {
    line("cgroup parent", parent)?;
    if parent.split('/').any(|part| part == "..") {
        return Err(Error::invalid(format!(
            "invalid cgroup parent {parent:?}: it leads out of the tree"
        )));
    }
    Ok(())
}

/// Checks every text of a request.
pub(super) fn check_body(body: &ContainerCreateBody) -> Result<()> {
    let (config, host) = (&body.config, &body.host_config);
    check_config(config)?;
    check_console_size(host.console_size)?;
    check_cgroup_parent(&host.cgroup_parent)?;
    for (what, text) in [
        ("network mode", &host.network_mode),
        ("cpuset", &host.cpuset_cpus),
        ("cpuset", &host.cpuset_mems),
    ] {
        line(what, text)?;
    }
    all(line, "masked path", host.masked_paths.iter().flatten())?;
    all(line, "read-only path", host.readonly_paths.iter().flatten())?;
    for device in host.devices.iter().flatten() {
        line("device", &device.path_on_host)?;
        line("device", &device.path_in_container)?;
    }
    all(line, "dns", host.dns.iter().flatten())?;
    all(line, "dns option", host.dns_options.iter().flatten())?;
    all(line, "dns search domain", host.dns_search.iter().flatten())?;
    all(line, "extra host", host.extra_hosts.iter().flatten())?;
    all(line, "link", host.links.iter().flatten())?;
    all(line, "group", host.group_add.iter().flatten())?;
    all(line, "bind", host.binds.iter().flatten())?;
    all(plain, "security option", host.security_opt.iter().flatten())?;
    for (name, value) in host.sysctls.iter().flatten() {
        line("sysctl", name)?;
        plain("sysctl", value)?;
        if name.contains("..") || name.starts_with('/') {
            return Err(Error::invalid(format!("invalid sysctl {name:?}")));
        }
    }
    for (target, options) in host.tmpfs.iter().flatten() {
        line("tmpfs", target)?;
        line("tmpfs options", options)?;
    }
    for mount in host.mounts.iter().flatten() {
        line("mount source", &mount.source)?;
        line("mount target", &mount.target)?;
    }
    for (name, endpoint) in &body.networking_config.endpoints_config {
        line("network name", name)?;
        let aliases = endpoint.iter().filter_map(|e| e.aliases.as_ref()).flatten();
        all(line, "alias", aliases)?;
    }
    Ok(())
}
