//! What Docker refuses, in its words.

use berth_spec::docker::config::{HealthConfig, RestartPolicy};
use berth_spec::docker::{ContainerConfig, HostConfig, Words};

use super::namespace::{JoinedMode, NetworkMode, UsersMode};
use super::{Defaults, SecurityOptions, port, resources};
use crate::{Error, Result};

/// Checks a request before the image is looked at; answers warnings.
pub(super) fn check(
    config: &ContainerConfig,
    host: &HostConfig,
    defaults: &Defaults,
) -> Result<Vec<String>> {
    check_config(config)?;
    check_restart_policy(&host.restart_policy)?;
    if host.auto_remove && host.restart_policy.name != "no" {
        return Err(Error::invalid(
            "can't create 'AutoRemove' container with restart policy",
        ));
    }
    check_modes(config, host)?;
    if match UsersMode::parse(&host.userns_mode)? {
        UsersMode::Host => false,
        UsersMode::Auto => true,
        UsersMode::Default => defaults.remap,
    } {
        check_users(host)?;
    }
    check_names(host)?;
    port::exposed(config)?;
    port::requested(config, host)?;
    SecurityOptions::parse(host.security_opt.as_deref().unwrap_or_default())?;
    let words = |words: &Option<Words>| words.as_ref().map_or(Vec::new(), |w| w.0.clone());
    berth_runtime::capability::docker(
        &words(&host.cap_add),
        &words(&host.cap_drop),
        host.privileged,
    )
    .map_err(|e| Error::invalid(e.to_string()))?;
    if host.storage_opt.as_ref().is_some_and(|o| !o.is_empty()) {
        return Err(Error::invalid(
            "--storage-opt is not supported by this engine: a container's files have no limit of their own",
        ));
    }
    if !matches!(host.isolation.as_str(), "" | "default") {
        return Err(Error::invalid(format!(
            "invalid isolation '{}' on linux",
            host.isolation
        )));
    }
    crate::container::log_driver::check(&host.log_config)?;
    resources::check_limits(host, defaults.machine)
}

fn check_config(config: &ContainerConfig) -> Result<()> {
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    for variable in config.env.iter().flatten() {
        if variable.is_empty() || variable.starts_with('=') {
            return Err(Error::invalid(format!(
                "invalid environment variable: {variable}"
            )));
        }
    }
    if !config.stop_signal.is_empty() {
        parse_signal(&config.stop_signal)?;
    }
    if config.hostname.len() > 64 {
        return Err(Error::invalid(format!(
            "invalid hostname: {}: longer than 64 bytes",
            config.hostname
        )));
    }
    config.healthcheck.as_ref().map_or(Ok(()), check_health)
}

/// Docker's least interval, in nanoseconds.
const HEALTH_MIN: i64 = 1_000_000;

fn check_health(health: &HealthConfig) -> Result<()> {
    for (name, value) in [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ] {
        if value != 0 && value < HEALTH_MIN {
            return Err(Error::invalid(format!(
                "{name} in Healthcheck cannot be less than 1ms"
            )));
        }
    }
    if health.retries < 0 {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    Ok(())
}

/// Checks that a container with a user namespace shares nothing with the host that its root must not
/// rule.
pub(crate) fn check_users(host: &HostConfig) -> Result<()> {
    let refused = |text: &str| Err(Error::invalid(text));
    if host.privileged {
        return refused(
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode",
        );
    }
    if NetworkMode::parse(&host.network_mode)? == NetworkMode::Host {
        return refused(
            "cannot share the host's network namespace when user namespaces are enabled",
        );
    }
    if JoinedMode::pid(&host.pid_mode)? == JoinedMode::Host {
        return refused("cannot share the host PID namespace when user namespaces are enabled");
    }
    Ok(())
}

/// Checks a restart policy by itself.
pub(crate) fn check_restart_policy(policy: &RestartPolicy) -> Result<()> {
    let count = policy.maximum_retry_count;
    let refused = |text: &str| Err(Error::invalid(format!("invalid restart policy: {text}")));
    match policy.name.as_str() {
        "always" | "unless-stopped" | "no" | "" if count < 0 => {
            refused("maximum retry count can only be used with 'on-failure' and cannot be negative")
        }
        "always" | "unless-stopped" | "no" | "" if count != 0 => {
            refused("maximum retry count can only be used with 'on-failure'")
        }
        "always" | "unless-stopped" | "no" | "" => Ok(()),
        "on-failure" if count < 0 => refused("maximum retry count cannot be negative"),
        "on-failure" => Ok(()),
        other => refused(&format!(
            "unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )),
    }
}

fn check_modes(config: &ContainerConfig, host: &HostConfig) -> Result<()> {
    let conflict = |what: &str| Err(Error::invalid(format!("conflicting options: {what}")));
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
    JoinedMode::ipc(&host.ipc_mode)?;
    JoinedMode::pid(&host.pid_mode)?;
    if !matches!(host.uts_mode.as_str(), "" | "host") {
        return Err(Error::invalid(format!(
            "invalid UTS mode: {}",
            host.uts_mode
        )));
    }
    if !matches!(host.cgroupns_mode.as_str(), "" | "private" | "host") {
        return Err(Error::invalid(format!(
            "invalid cgroup namespace mode: {}",
            host.cgroupns_mode
        )));
    }
    if host.uts_mode == "host" && !config.hostname.is_empty() {
        return conflict("hostname and the UTS mode");
    }
    match NetworkMode::parse(&host.network_mode)? {
        NetworkMode::Container(_) => {
            if !config.hostname.is_empty() {
                return conflict("hostname and the network mode");
            }
            if some(&host.links) {
                return conflict(
                    "container type network can't be used with links. This would result in undefined behavior",
                );
            }
            if some(&host.dns) {
                return conflict("dns and the network mode");
            }
            if some(&host.extra_hosts) {
                return conflict("custom host-to-IP mapping and the network mode");
            }
            if !config.mac_address.is_empty() {
                return conflict("mac-address and the network mode");
            }
            if host.port_bindings.as_ref().is_some_and(|p| !p.is_empty()) || host.publish_all_ports
            {
                return conflict("port publishing and the container type network mode");
            }
            if !config.exposed_ports.is_empty() {
                return conflict("port exposing and the container type network mode");
            }
        }
        NetworkMode::Host if some(&host.links) => {
            return conflict(
                "host type networking can't be used with links. This would result in undefined behavior",
            );
        }
        _ => {}
    }
    Ok(())
}

fn check_names(host: &HostConfig) -> Result<()> {
    for server in host.dns.iter().flatten() {
        if server.parse::<std::net::IpAddr>().is_err() {
            return Err(Error::invalid(format!("{server} is not an ip address")));
        }
    }
    for extra in host.extra_hosts.iter().flatten() {
        let good = extra
            .split_once([':', '='])
            .is_some_and(|(name, address)| !name.is_empty() && !address.is_empty());
        if !good {
            return Err(Error::invalid(format!(
                "bad format for add-host: {extra:?}"
            )));
        }
        let address = extra.split_once([':', '=']).map_or("", |(_, a)| a);
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        if address != "host-gateway" && bare.parse::<std::net::IpAddr>().is_err() {
            return Err(Error::invalid(format!(
                "invalid IP address in add-host: {address:?}"
            )));
        }
    }
    for link in host.links.iter().flatten() {
        let parts = link.split(':').count();
        if link.is_empty() || parts > 2 {
            return Err(Error::invalid(format!("bad format for links: {link}")));
        }
    }
    Ok(())
}

/// Linux's signals by name, in the order of their numbers from 1.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// A signal's name, `SIGTERM` say; `signal 40` where it has none.
pub(crate) fn signal_name(signal: i32) -> String {
    let name = usize::try_from(signal - 1)
        .ok()
        .and_then(|n| SIGNALS.get(n));
    name.map_or_else(|| format!("signal {signal}"), |name| format!("SIG{name}"))
}

/// Reads a signal: a number, or a name with or without `SIG`.
pub(crate) fn parse_signal(text: &str) -> Result<i32> {
    let refused = || Error::invalid(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64)
            .contains(&number)
            .then_some(number)
            .ok_or_else(refused);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(position) = SIGNALS.iter().position(|s| *s == name) {
        return i32::try_from(position + 1).map_err(|_| refused());
    }
    match name {
        "IOT" => return Ok(6),
        "CLD" => return Ok(17),
        "POLL" => return Ok(29),
        _ => {}
    }
    let offset = |text: &str| text.parse::<i32>().ok().filter(|n| *n > 0);
    let real_time = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => Some(34),
        (_, Some("")) => Some(64),
        (Some(rest), _) => rest.strip_prefix('+').and_then(offset).map(|n| 34 + n),
        (_, Some(rest)) => rest.strip_prefix('-').and_then(offset).map(|n| 64 - n),
        _ => None,
    };
    real_time
        .filter(|n| (34..=64).contains(n))
        .ok_or_else(refused)
}
