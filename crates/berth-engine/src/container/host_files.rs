//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a container: files in its directory,
//! written at each start and mounted over those of the image.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use berth_network::SandboxRecord;
use berth_network::hosts::{self, ExtraHost};
use berth_network::resolv_conf::{self, ResolvConfRequest};
use berth_spec::oci::runtime::Mount;

use super::plan::NetworkMode;
use super::record::Record;
use super::sandbox;
use crate::{Engine, Error, Result};

/// Where a container's files are.
pub(crate) struct HostFiles {
    pub hosts: PathBuf,
    pub hostname: PathBuf,
    pub resolv_conf: PathBuf,
}

impl HostFiles {
    /// The files of a container, below its directory.
    pub fn below(dir: &Path) -> Self {
        Self {
            hosts: dir.join("hosts"),
            hostname: dir.join("hostname"),
            resolv_conf: dir.join("resolv.conf"),
        }
    }
}

/// Writes the files for a start. One who shares a network shares its owner's files.
pub(crate) fn write(
    engine: &Engine,
    record: &Record,
    network: &NetworkMode,
    joined: Option<&SandboxRecord>,
    dir: &Path,
) -> Result<HostFiles> {
    if let NetworkMode::Container(id) = network {
        let owner = engine.0.containers.find(id)?;
        return Ok(HostFiles::below(&engine.container_dir(&owner.id)));
    }
    let files = HostFiles::below(dir);
    put(&files.hostname, format!("{}\n", record.config.hostname))?;
    put(&files.hosts, hosts_text(engine, record, network, joined)?)?;
    put(&files.resolv_conf, resolv_text(engine, record, network))?;
    Ok(files)
}

/// Bytes of a file of names that are looked at: the container may write to its own.
const HOSTS_MAX: u64 = 1 << 20;

/// Adds and removes addresses of a running container in its file of names, which keeps what else was
/// written to it.
pub(crate) fn change_hosts(
    engine: &Engine,
    record: &Record,
    gone: &[IpAddr],
    new: &[IpAddr],
) -> Result<()> {
    let path = HostFiles::below(&engine.container_dir(&record.id)).hosts;
    let failed = |e| Error::io(format_args!("cannot read {}", path.display()), e);
    let mut before = String::new();
    OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
        .open(&path)
        .and_then(|file| file.take(HOSTS_MAX + 1).read_to_string(&mut before))
        .map_err(failed)?;
    if before.len() as u64 > HOSTS_MAX {
        return Ok(());
    }
    let (name, domain) = (&record.config.hostname, &record.config.domainname);
    let fresh = hosts::build(new, name, domain, &[]);
    put(&path, changed_hosts(&before, gone, &fresh, new))
}

/// `before` without the lines of `gone`, and with those that `fresh` has for `new`.
fn changed_hosts(before: &str, gone: &[IpAddr], fresh: &str, new: &[IpAddr]) -> String {
    let of = |line: &str| {
        line.split_whitespace()
            .next()
            .and_then(|ip| ip.parse::<IpAddr>().ok())
    };
    let kept = before
        .lines()
        .filter(|line| of(line).is_none_or(|ip| !gone.contains(&ip)));
    let added = fresh
        .lines()
        .filter(|line| of(line).is_some_and(|ip| new.contains(&ip)));
    kept.chain(added).map(|line| format!("{line}\n")).collect()
}

fn put(path: &Path, text: String) -> Result<()> {
    // Written in place: a mount of a running container must see it. Never through a link: the
    // directory is ours.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| Error::io(format_args!("cannot write {}", path.display()), e))
}

fn hosts_text(
    engine: &Engine,
    record: &Record,
    network: &NetworkMode,
    joined: Option<&SandboxRecord>,
) -> Result<String> {
    let gateways = engine.0.networks.host_gateways();
    let mut extra: Vec<ExtraHost> = Vec::new();
    for text in record.host.extra_hosts.iter().flatten() {
        extra.push(hosts::parse_extra_host(text, gateways.first().copied())?);
        // What stands for the host stands for all its addresses.
        let others = gateways.iter().skip(1);
        for gateway in others.filter(|_| text.ends_with("host-gateway")) {
            extra.push(hosts::parse_extra_host(text, Some(*gateway))?);
        }
    }
    for link in record.host.links.iter().flatten() {
        extra.extend(linked(engine, link)?);
    }
    if *network == NetworkMode::Host {
        // The host's own names, as Docker gives them.
        let mut text = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        for host in extra {
            text.push_str(&format!("{}\t{}\n", host.address, host.name));
        }
        return Ok(text);
    }
    let own: Vec<IpAddr> = sandbox::addresses(joined).into_values().flatten().collect();
    Ok(hosts::build(
        &own,
        &record.config.hostname,
        &record.config.domainname,
        &extra,
    ))
}

/// The names that `--link container:alias` gives.
fn linked(engine: &Engine, link: &str) -> Result<Vec<ExtraHost>> {
    let (name, alias) = link.split_once(':').unwrap_or((link, link));
    let alias = alias.rsplit('/').next().unwrap_or(alias);
    let other = engine.0.containers.find(name).map_err(|_| {
        Error::invalid(format!(
            "could not get container for {name}: No such container: {name}"
        ))
    })?;
    let (names, address) = other.read(|r| {
        let names = [alias.to_owned(), r.config.hostname.clone(), r.name.clone()];
        let address = r
            .sandbox
            .as_ref()
            .and_then(|s| s.endpoints.first())
            .map(|e| IpAddr::V4(e.ip));
        (names, address)
    });
    let Some(address) = address else {
        return Err(Error::invalid(format!(
            "Cannot link to a non running container: /{} AS /{alias}",
            other.name()
        )));
    };
    let mut seen = std::collections::BTreeSet::new();
    Ok(names
        .into_iter()
        .filter(|name| !name.is_empty() && seen.insert(name.clone()))
        .map(|name| ExtraHost { name, address })
        .collect())
}

fn resolv_text(engine: &Engine, record: &Record, network: &NetworkMode) -> String {
    let settings = &engine.0.settings;
    let or = |asked: &Option<Vec<String>>, default: &[String]| match asked.as_deref() {
        None | Some([]) => default.to_vec(),
        Some(list) => list.to_vec(),
    };
    let servers = or(&record.host.dns, &settings.dns);
    let host = resolv_conf::host_text();
    let ipv6 = record.networks.keys().any(|name| {
        let network = engine.0.networks.get(name);
        network.is_ok_and(|n| n.subnet6.is_some())
    });
    let embedded = match network {
        NetworkMode::Network(_) => record
            .networks
            .keys()
            .any(|name| engine.0.networks.get(name).is_ok_and(|n| n.dns)),
        _ => false,
    };
    resolv_conf::build(
        &host,
        &ResolvConfRequest {
            servers: servers.iter().filter_map(|s| s.parse().ok()).collect(),
            search: or(&record.host.dns_search, &settings.dns_search),
            options: or(&record.host.dns_options, &settings.dns_options),
            embedded,
            ipv6: *network == NetworkMode::Host || ipv6,
        },
    )
}

/// The mounts of the files, but for those whose place is taken. In a user namespace they belong to its
/// root.
pub(crate) fn mounts(record: &Record, files: &HostFiles, mapped: bool) -> Vec<Mount> {
    [
        ("/etc/resolv.conf", &files.resolv_conf),
        ("/etc/hostname", &files.hostname),
        ("/etc/hosts", &files.hosts),
    ]
    .into_iter()
    .filter(|(target, _)| !record.mounts.iter().any(|m| m.target == *target))
    .map(|(target, source)| {
        let mut options = vec!["rbind".to_owned(), "rprivate".to_owned()];
        if record.host.readonly_rootfs {
            options.push("ro".to_owned());
        }
        if mapped {
            options.push("idmap".to_owned());
        }
        Mount {
            destination: target.to_owned(),
            kind: "bind".to_owned(),
            source: source.display().to_string(),
            options,
            ..Mount::default()
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_changed_line_by_line() {
        let ip = |text: &str| [text.parse::<IpAddr>().unwrap()];
        let before = "127.0.0.1\tlocalhost\n10.0.0.2\tweb\n# a note\n10.0.0.9 mine";
        let fresh = "127.0.0.1\tlocalhost\n10.1.0.2\tweb\n";
        assert_eq!(
            changed_hosts(before, &[], fresh, &ip("10.1.0.2")),
            "127.0.0.1\tlocalhost\n10.0.0.2\tweb\n# a note\n10.0.0.9 mine\n10.1.0.2\tweb\n"
        );
        assert_eq!(
            changed_hosts(before, &ip("10.0.0.2"), fresh, &[]),
            "127.0.0.1\tlocalhost\n# a note\n10.0.0.9 mine\n"
        );
    }
}
