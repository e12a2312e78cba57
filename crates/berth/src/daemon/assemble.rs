//! From settings to the options of each part.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use berth_build::{BuilderOptions, HostAccess};
use berth_distribution::{Client, ClientOptions};
use berth_engine::{Engine, EngineOptions, RuntimeProgram};
use berth_network::{AddressPool, NetworkOptions};
use berth_server::EngineExecutor;
use berth_spec::docker::config::Ulimit;

use super::Forked;
use super::environment::Environment;
use super::settings::Settings;
use super::subordinate::Users;

const DATA_ROOT: &str = "/var/lib/berth";
const EXEC_ROOT: &str = "/run/berth";
const SOCKET: &str = "unix:///run/berth/berth.sock";
const DOCKER_SOCKET: &str = "unix:///var/run/docker.sock";

/// Where this engine lives.
pub struct Places {
    /// What must survive a restart of the machine.
    pub data_root: PathBuf,
    /// What need not.
    pub exec_root: PathBuf,
    /// Where the process ID is written.
    pub pidfile: Option<PathBuf>,
    /// Where the API is served.
    pub hosts: Vec<String>,
    /// The group that owns Unix sockets.
    pub group: Option<u32>,
}

impl Places {
    /// What the settings say, with defaults.
    pub fn new(settings: &Settings, as_dockerd: bool) -> anyhow::Result<Self> {
        let absolute = |path: &Path, what: &str| {
            if path.is_absolute() {
                return Ok(path.to_owned());
            }
            std::env::current_dir()
                .map(|dir| dir.join(path))
                .with_context(|| format!("cannot find {what} {}", path.display()))
        };
        let data_root = absolute(
            settings.data_root.as_deref().unwrap_or(DATA_ROOT.as_ref()),
            "--data-root",
        )?;
        let exec_root = absolute(
            settings.exec_root.as_deref().unwrap_or(EXEC_ROOT.as_ref()),
            "--exec-root",
        )?;
        let default_pidfile = if as_dockerd {
            PathBuf::from("/var/run/docker.pid")
        } else {
            exec_root.join("engine.pid")
        };
        let hosts = match &settings.hosts[..] {
            [] if as_dockerd => vec![DOCKER_SOCKET.to_owned()],
            [] if settings.exec_root.is_some() => {
                vec![format!("unix://{}", exec_root.join("berth.sock").display())]
            }
            [] => vec![SOCKET.to_owned()],
            hosts => hosts.to_vec(),
        };
        let group = match settings.group.as_deref() {
            Some("") => None,
            Some(name) => Some(group_id(name).with_context(|| {
                format!("group {name} not found: create it, or leave out --group")
            })?),
            None => group_id("docker"),
        };
        Ok(Self {
            data_root,
            exec_root,
            pidfile: Some(settings.pidfile.clone().unwrap_or(default_pidfile)),
            hosts,
            group,
        })
    }

    /// What tells this engine's kernel objects from those of others on the same machine: nothing for the default root,
    /// else eight digits that stay the same as long as the root does.
    fn instance(&self) -> String {
        if self.data_root == Path::new(DATA_ROOT) {
            return String::new();
        }
        // FNV-1a, 32 bits: short, and the same in every version of berth.
        let hash = self
            .data_root
            .as_os_str()
            .as_encoded_bytes()
            .iter()
            .fold(0x811c_9dc5_u32, |hash, byte| {
                (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
            });
        format!("{hash:08x}")
    }
}

/// The number of a group, or of a name in `/etc/group`.
fn group_id(name: &str) -> Option<u32> {
    if let Ok(id) = name.parse() {
        return Some(id);
    }
    let text = std::fs::read_to_string("/etc/group").ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

/// How registries are reached.
pub fn client(settings: &Settings, environment: &Environment) -> anyhow::Result<Client> {
    let proxies = settings.proxies.clone().unwrap_or_default();
    let proxy = |flag: &Option<String>, file: Option<String>, name| {
        flag.clone().or(file).or_else(|| environment.proxy(name))
    };
    let options = ClientOptions {
        mirrors: settings.registry_mirrors.clone(),
        prefix_mirrors: settings.registry_mirror_map.clone().into_iter().collect(),
        insecure_registries: settings.insecure_registries.clone(),
        certs_dirs: vec![
            "/etc/berth/certs.d".into(),
            "/etc/docker/certs.d".into(),
            "/etc/containerd/certs.d".into(),
        ],
        http_proxy: proxy(&settings.http_proxy, proxies.http_proxy, "HTTP_PROXY"),
        https_proxy: proxy(&settings.https_proxy, proxies.https_proxy, "HTTPS_PROXY"),
        no_proxy: proxy(&settings.no_proxy, proxies.no_proxy, "NO_PROXY"),
        user_agent: format!("berth/{} (linux)", super::VERSION),
        max_concurrent_downloads: settings.max_concurrent_downloads.unwrap_or(0),
        max_concurrent_uploads: settings.max_concurrent_uploads.unwrap_or(0),
        signatures: super::signature_policy::policies(&settings.signature_policy)?,
        retry_pause: None,
    };
    Client::new(options).context("cannot set up the registry client")
}

/// Everything of containers.
pub fn engine(
    settings: &Settings,
    environment: &Environment,
    places: &Places,
    client: Client,
    forked: Forked,
) -> anyhow::Result<EngineOptions> {
    let ulimit = |u: &super::settings::Ulimit| Ulimit {
        name: u.name.clone(),
        hard: u.hard,
        soft: u.soft,
    };
    let users = Users::of_this_machine();
    Ok(EngineOptions {
        root: places.data_root.clone(),
        run_dir: places.exec_root.clone(),
        network: network(settings, places)?,
        client,
        launcher: forked.launcher,
        extractor: forked.extractor,
        blobs: super::budget::blobs(settings.kept_blobs.as_ref())?,
        images: super::budget::images(settings.unused_images.as_ref())?,
        cgroup_parent: settings.cgroup_parent.clone().unwrap_or_default(),
        log_opts: settings.log_opts.iter().cloned().collect(),
        log_driver: settings.log_driver.clone().unwrap_or_default(),
        dns: settings.dns.clone(),
        dns_search: settings.dns_search.clone(),
        dns_options: settings.dns_opts.clone(),
        labels: settings.labels.clone(),
        remap: users.remap(settings.userns_remap.as_deref().unwrap_or(""))?,
        auto_ids: users.auto(),
        ulimits: settings.default_ulimits.iter().map(ulimit).collect(),
        pids_limit: settings.default_pids_limit.unwrap_or(0),
        shm_size: settings
            .default_shm_size
            .as_deref()
            .map(bytes)
            .transpose()?
            .unwrap_or(0),
        init: settings.init.unwrap_or(false),
        init_path: settings
            .init_path
            .clone()
            .filter(|path| !path.as_os_str().is_empty()),
        runtimes: settings
            .runtimes
            .iter()
            .map(|(name, runtime)| {
                let program = RuntimeProgram {
                    path: runtime.path.clone(),
                    args: runtime.args.clone(),
                };
                (name.clone(), program)
            })
            .collect(),
        default_runtime: settings.default_runtime.clone().unwrap_or_default(),
        cdi_dirs: cdi_dirs(&settings.cdi_spec_dirs),
        proxies: environment.proxies.clone(),
        version: super::VERSION.to_owned(),
        commit: super::COMMIT.to_owned(),
    })
}

/// Docker's directories where none are named; a single empty name is none at all.
fn cdi_dirs(named: &[PathBuf]) -> Vec<PathBuf> {
    match named {
        [] => ["/etc/cdi", "/var/run/cdi"].map(PathBuf::from).to_vec(),
        named => named
            .iter()
            .filter(|p| !p.as_os_str().is_empty())
            .cloned()
            .collect(),
    }
}

fn network(settings: &Settings, places: &Places) -> anyhow::Result<NetworkOptions> {
    let address = |text: &str, flag| -> anyhow::Result<IpAddr> {
        text.parse()
            .with_context(|| format!("invalid IP address {text:?} of {flag}"))
    };
    let mut options = NetworkOptions::new(places.instance(), &places.exec_root);
    options.bip = settings
        .bip
        .as_deref()
        .map(|bip| bip.parse().with_context(|| format!("invalid --bip {bip:?}: expected an address and a prefix length, as in 172.17.0.1/16")))
        .transpose()?;
    options.fixed_cidr = settings
        .fixed_cidr
        .as_deref()
        .map(|net| {
            net.parse().with_context(|| {
                format!(
                    "invalid --fixed-cidr {net:?}: expected an IPv4 network, as in 172.17.1.0/24"
                )
            })
        })
        .transpose()?;
    options.ipv6 = settings.ipv6 == Some(true);
    options.fixed_cidr6 = settings
        .fixed_cidr_v6
        .as_deref()
        .map(|net| net.parse().with_context(|| format!("invalid --fixed-cidr-v6 {net:?}: expected an IPv6 network, as in 2001:db8:1::/64")))
        .transpose()?;
    options.bridge_name = settings.bridge.clone();
    options.pools = settings
        .default_address_pools
        .iter()
        .map(|pool| {
            let base = pool.base.parse().with_context(|| {
                format!("invalid base {:?} of --default-address-pool", pool.base)
            })?;
            Ok(AddressPool {
                base,
                size: pool.size,
            })
        })
        .collect::<anyhow::Result<_>>()?;
    options.mtu = settings.mtu.filter(|mtu| *mtu > 0);
    options.default_binding = settings
        .ip
        .as_deref()
        .map(|ip| address(ip, "--ip"))
        .transpose()?
        .filter(|ip| !ip.is_unspecified());
    options.icc = settings.icc.unwrap_or(true);
    options.masquerade = settings.ip_masq.unwrap_or(true);
    options.ip_forward = settings.ip_forward.unwrap_or(true);
    options.host_gateway = settings
        .host_gateway_ips
        .iter()
        .map(|ip| address(ip, "--host-gateway-ip"))
        .collect::<anyhow::Result<_>>()?;
    options.dns = settings
        .dns
        .iter()
        .map(|dns| address(dns, "--dns"))
        .collect::<anyhow::Result<_>>()?;
    Ok(options)
}

/// The builder over an open engine.
pub fn builder(
    settings: &Settings,
    environment: &Environment,
    places: &Places,
    engine: &Engine,
) -> anyhow::Result<BuilderOptions> {
    let trust = settings.build_host_trust.unwrap_or(true);
    let host = if trust {
        HostAccess {
            env: environment.proxies.clone(),
            ca_bundle: environment.ca_bundle.clone(),
        }
    } else {
        HostAccess {
            env: BTreeMap::new(),
            ca_bundle: None,
        }
    };
    Ok(BuilderOptions {
        cache: super::budget::cache(settings.builder.as_ref())?,
        policy: super::budget::policy(settings.builder.as_ref())?,
        store: engine.store().clone(),
        root: places.data_root.clone(),
        client: engine.client().clone(),
        executor: Arc::new(EngineExecutor(engine.clone())),
        host,
        git: PathBuf::new(),
    })
}

/// `64m`, `1g`, `1024`: bytes.
pub(super) fn bytes(text: &str) -> anyhow::Result<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text
        .trim_end_matches('b')
        .trim_end_matches(['k', 'm', 'g', 't']);
    let shift = match text.trim_end_matches('b').as_bytes().last() {
        Some(b'k') => 10,
        Some(b'm') => 20,
        Some(b'g') => 30,
        Some(b't') => 40,
        _ => 0,
    };
    let number: u64 = digits
        .parse()
        .with_context(|| format!("invalid size {text:?}"))?;
    number
        .checked_mul(1 << shift)
        .with_context(|| format!("size {text:?} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("1024", 1024),
            ("64m", 64 << 20),
            ("1G", 1 << 30),
            ("2kb", 2048),
        ] {
            assert_eq!(bytes(text).unwrap(), expected, "{text}");
        }
        assert!(bytes("x").is_err() && bytes("99999999999t").is_err());
    }

    #[test]
    fn engines_of_different_roots_have_different_names() {
        let places = |root: &str| {
            let settings = Settings {
                data_root: Some(root.into()),
                group: Some(String::new()),
                ..Settings::default()
            };
            Places::new(&settings, false).unwrap()
        };
        assert_eq!(places(DATA_ROOT).instance(), "");
        assert_eq!(places("/a").instance().len(), 8);
        assert_ne!(places("/a").instance(), places("/b").instance());
    }
}
