//! dockerd's flags and `daemon.json`: one structure, filled from both, each setting from one side only.
//! One uniform table of settings, each with its flag and its key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, parser::ValueSource};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Bytes a configuration file may have.
const CONFIG_MAX: u64 = 1 << 20;

/// The engine in the foreground, with dockerd's flags.
#[derive(Debug, Parser)]
#[command(
    name = "berth engine",
    about = "Runs the engine in the foreground, with dockerd's flags",
    disable_version_flag = true
)]
pub struct Invocation {
    /// The settings that a configuration file may hold as well.
    #[command(flatten)]
    pub settings: Settings,
    /// Daemon configuration file
    #[arg(long, value_name = "string", default_value = "/etc/docker/daemon.json")]
    pub config_file: PathBuf,
    /// Validate daemon configuration and exit
    #[arg(long)]
    pub validate: bool,
    /// Print version information and quit
    #[arg(short = 'v', long)]
    pub version: bool,
    /// Leave when there is nothing to look after
    #[arg(long, hide = true)]
    pub on_demand: bool,
}

/// A range that networks are cut from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AddressPool {
    /// CIDR of the whole range.
    pub base: String,
    /// Prefix length of each network.
    pub size: u8,
}

/// A default resource limit (`nofile=1024:2048`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ulimit {
    /// `nofile`, `nproc` …
    pub name: String,
    /// The most a process may raise it to.
    pub hard: i64,
    /// What a process begins with.
    pub soft: i64,
}

/// An OCI runtime that containers may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Runtime {
    /// The program.
    #[serde(default)]
    pub path: PathBuf,
    /// Arguments before the command.
    #[serde(default, rename = "runtimeArgs")]
    pub args: Vec<String>,
}

/// Proxies of the engine's own requests.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Proxies {
    /// For http URLs.
    pub http_proxy: Option<String>,
    /// For https URLs.
    pub https_proxy: Option<String>,
    /// Hosts that need none.
    pub no_proxy: Option<String>,
}

/// Every setting; an absent one has its default.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Settings {
    /// Daemon socket(s) to connect to
    #[arg(short = 'H', long = "host", value_name = "list")]
    pub hosts: Vec<String>,
    /// Group for the unix socket
    #[arg(short = 'G', long, value_name = "string")]
    pub group: Option<String>,
    /// Root directory of persistent state
    #[arg(long, value_name = "string")]
    pub data_root: Option<PathBuf>,
    /// Root directory for execution state files
    #[arg(long, value_name = "string")]
    pub exec_root: Option<PathBuf>,
    /// Path to use for daemon PID file
    #[arg(short = 'p', long, value_name = "string")]
    pub pidfile: Option<PathBuf>,
    /// Enable debug mode
    #[arg(short = 'D', long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub debug: Option<bool>,
    /// Set the logging level ("debug"|"info"|"warn"|"error"|"fatal")
    #[arg(short = 'l', long, value_name = "string")]
    pub log_level: Option<String>,
    /// Set the logging format ("text"|"json")
    #[arg(long, value_name = "string")]
    pub log_format: Option<String>,
    /// Full timestamps without ANSI coloring
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub raw_logs: Option<bool>,

    /// Use TLS; implied by --tlsverify
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub tls: Option<bool>,
    /// Use TLS and verify the remote
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub tlsverify: Option<bool>,
    /// Trust certs signed only by this CA
    #[arg(long, value_name = "string")]
    pub tlscacert: Option<PathBuf>,
    /// Path to TLS certificate file
    #[arg(long, value_name = "string")]
    pub tlscert: Option<PathBuf>,
    /// Path to TLS key file
    #[arg(long, value_name = "string")]
    pub tlskey: Option<PathBuf>,

    /// Attach containers to a network bridge
    #[arg(short = 'b', long, value_name = "string")]
    pub bridge: Option<String>,
    /// IPv4 address for the default bridge
    #[arg(long, value_name = "string")]
    pub bip: Option<String>,
    /// IPv4 subnet for the default bridge network
    #[arg(long, value_name = "string")]
    pub fixed_cidr: Option<String>,
    /// IPv6 subnet for the default bridge network
    #[arg(long, value_name = "string")]
    pub fixed_cidr_v6: Option<String>,
    /// Enable IPv6 networking
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ipv6: Option<bool>,
    /// Default address pools for node specific local networks (base=CIDR,size=N)
    #[arg(long = "default-address-pool", value_name = "pool-options", value_parser = parse_pool)]
    pub default_address_pools: Vec<AddressPool>,
    /// Default IP when binding container ports
    #[arg(long, value_name = "ip")]
    pub ip: Option<String>,
    /// Set the MTU for the default bridge network
    #[arg(long, value_name = "int")]
    pub mtu: Option<u32>,
    /// Enable inter-container communication
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub icc: Option<bool>,
    /// Enable IP forwarding in system configuration
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ip_forward: Option<bool>,
    /// Enable IP masquerading for the default bridge network
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ip_masq: Option<bool>,
    /// IP address that host-gateway resolves to
    #[arg(long = "host-gateway-ip", value_name = "list")]
    #[serde(alias = "host-gateway-ip")]
    pub host_gateway_ips: Vec<String>,
    /// DNS server to use
    #[arg(long, value_name = "list")]
    pub dns: Vec<String>,
    /// DNS options to use
    #[arg(long = "dns-opt", value_name = "list")]
    pub dns_opts: Vec<String>,
    /// DNS search domains to use
    #[arg(long, value_name = "list")]
    pub dns_search: Vec<String>,

    /// Preferred registry mirror
    #[arg(long = "registry-mirror", value_name = "list")]
    pub registry_mirrors: Vec<String>,
    /// Mirrors by what an image's name begins with, as daemon.json has them:
    /// `{"quay.io": ["https://mirror.example/quay"]}`.
    #[arg(skip)]
    pub registry_mirror_map: BTreeMap<String, Vec<String>>,
    /// Enable insecure registry communication
    #[arg(long = "insecure-registry", value_name = "list")]
    pub insecure_registries: Vec<String>,
    /// Set the max concurrent downloads
    #[arg(long, value_name = "int")]
    pub max_concurrent_downloads: Option<usize>,
    /// Set the max concurrent uploads
    #[arg(long, value_name = "int")]
    pub max_concurrent_uploads: Option<usize>,
    /// Set the max download attempts for each pull
    #[arg(long, value_name = "int")]
    pub max_download_attempts: Option<usize>,
    /// HTTP proxy URL to use for outgoing traffic
    #[arg(long, value_name = "string")]
    pub http_proxy: Option<String>,
    /// HTTPS proxy URL to use for outgoing traffic
    #[arg(long, value_name = "string")]
    pub https_proxy: Option<String>,
    /// Comma-separated list of hosts or IP addresses for which the proxy is skipped
    #[arg(long, value_name = "string")]
    pub no_proxy: Option<String>,
    /// Proxies, as daemon.json has them.
    #[arg(skip)]
    pub proxies: Option<Proxies>,

    /// Default driver for container logs
    #[arg(long, value_name = "string")]
    pub log_driver: Option<String>,
    /// Default log driver options for containers
    #[arg(long = "log-opt", value_name = "map", value_parser = parse_pair)]
    #[serde(deserialize_with = "pairs")]
    pub log_opts: Vec<(String, String)>,
    /// Set parent cgroup for all containers
    #[arg(long, value_name = "string")]
    pub cgroup_parent: Option<String>,
    /// Default mode for containers cgroup namespace ("host" | "private")
    #[arg(long, value_name = "string")]
    pub default_cgroupns_mode: Option<String>,
    /// Default mode for containers ipc ("shareable" | "private")
    #[arg(long, value_name = "string")]
    pub default_ipc_mode: Option<String>,
    /// Default shm size for containers
    #[arg(long, value_name = "bytes")]
    pub default_shm_size: Option<String>,
    /// Default ulimits for containers
    #[arg(long = "default-ulimit", value_name = "ulimit", value_parser = parse_ulimit)]
    #[serde(deserialize_with = "ulimits")]
    pub default_ulimits: Vec<Ulimit>,
    /// Default limit of processes of a container (-1 for unlimited; by default a share of what the machine has room for)
    #[arg(long, value_name = "int", allow_negative_numbers = true)]
    pub default_pids_limit: Option<i64>,
    /// Default OCI runtime for containers
    #[arg(long, value_name = "string")]
    pub default_runtime: Option<String>,
    /// Register an additional OCI compatible runtime (name=path)
    #[arg(long = "add-runtime", value_name = "runtime", value_parser = parse_runtime)]
    #[serde(deserialize_with = "runtimes")]
    pub runtimes: Vec<(String, Runtime)>,
    /// CDI specification directories to use
    #[arg(long = "cdi-spec-dir", value_name = "list")]
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// Run an init in the container to forward signals and reap processes
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub init: Option<bool>,
    /// Path to the docker-init binary, instead of berth's own init
    #[arg(long, value_name = "string")]
    pub init_path: Option<PathBuf>,
    /// Set no-new-privileges by default for new containers
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub no_new_privileges: Option<bool>,
    /// Path to seccomp profile, or unconfined
    #[arg(long, value_name = "string")]
    pub seccomp_profile: Option<String>,
    /// User/Group setting for user namespaces
    #[arg(long, value_name = "string")]
    pub userns_remap: Option<String>,
    /// Set key=value labels to the daemon
    #[arg(long = "label", value_name = "list")]
    pub labels: Vec<String>,
    /// Set the default shutdown timeout in seconds
    #[arg(long, value_name = "int")]
    pub shutdown_timeout: Option<i64>,
    /// Storage driver to use
    #[arg(short = 's', long, value_name = "string")]
    pub storage_driver: Option<String>,
    /// `builder`, as daemon.json has it.
    #[arg(skip)]
    pub builder: Option<super::budget::Builder>,
    /// `kept-blobs`: how much room compressed layers may take that are here as layers too.
    #[arg(skip)]
    pub kept_blobs: Option<super::budget::Bounds>,
    /// `unused-images`: how much room images may take that no container uses and a registry has.
    #[arg(skip)]
    pub unused_images: Option<super::budget::Images>,
    /// `signature-policy`: whose signature a pull wants, by what the name begins with.
    #[arg(skip)]
    pub signature_policy: BTreeMap<String, super::signature_policy::Asked>,
    /// Whether build steps get the host's proxies and CA certificates
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub build_host_trust: Option<bool>,

    /// What dockerd has and berth has no use for: accepted, said in the log, without effect.
    #[command(flatten)]
    #[serde(skip)]
    pub ignored: Ignored,
}

/// Settings of dockerd's own parts, which berth does not have.
#[derive(Debug, Clone, Default, Args)]
pub struct Ignored {
    /// Keep containers alive while the engine is away: berth always does
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub live_restore: Option<bool>,
    /// No proxy process is ever used
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub userland_proxy: Option<bool>,
    /// No proxy process is ever used
    #[arg(long, hide = true)]
    pub userland_proxy_path: Option<String>,
    /// berth keeps rules of its own in nftables
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub iptables: Option<bool>,
    /// berth keeps rules of its own in nftables
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ip6tables: Option<bool>,
    /// berth keeps rules of its own in nftables
    #[arg(long, hide = true)]
    pub firewall_backend: Option<String>,
    /// There is no containerd
    #[arg(long, hide = true)]
    pub containerd: Option<String>,
    /// There is no containerd
    #[arg(long, hide = true)]
    pub containerd_namespace: Option<String>,
    /// Nothing here is experimental
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub experimental: Option<bool>,
    /// Runtime execution options
    #[arg(long = "exec-opt", hide = true)]
    pub exec_opts: Vec<String>,
    /// Storage driver options
    #[arg(long = "storage-opt", hide = true)]
    pub storage_opts: Vec<String>,
    /// Metrics are not served yet
    #[arg(long, hide = true)]
    pub metrics_addr: Option<String>,
    /// SELinux
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub selinux_enabled: Option<bool>,
    /// The engine keeps its own score
    #[arg(long, hide = true)]
    pub oom_score_adjust: Option<i64>,
}

/// Keys of `daemon.json` that berth reads over.
const IGNORED_KEYS: [&str; 19] = [
    "live-restore",
    "userland-proxy",
    "userland-proxy-path",
    "iptables",
    "ip6tables",
    "firewall-backend",
    "containerd",
    "containerd-namespace",
    "containerd-plugin-namespace",
    "experimental",
    "exec-opts",
    "storage-opts",
    "metrics-addr",
    "selinux-enabled",
    "oom-score-adjust",
    "features",
    "allow-nondistributable-artifacts",
    "ip-forward-no-drop",
    "swarm-default-advertise-addr",
];

impl Invocation {
    /// Reads the command line (without the program's name) and the configuration file.
    pub fn parse(args: &[std::ffi::OsString]) -> anyhow::Result<Result<Self, clap::Error>> {
        let named = std::iter::once("berth engine".into()).chain(args.iter().cloned());
        let matches = match Self::command().try_get_matches_from(named) {
            Ok(matches) => matches,
            Err(e) => return Ok(Err(e)),
        };
        let mut invocation = match Self::from_arg_matches(&matches) {
            Ok(invocation) => invocation,
            Err(e) => return Ok(Err(e)),
        };
        let named = matches.value_source("config_file") == Some(ValueSource::CommandLine);
        if let Some(file) = read_file(&invocation.config_file, named)? {
            invocation.settings.merge(file, &matches).with_context(|| {
                format!(
                    "unable to configure the engine with file {}",
                    invocation.config_file.display()
                )
            })?;
        }
        Ok(Ok(invocation))
    }
}

impl Settings {
    /// Fills what no flag said from the file; refuses what both say.
    fn merge(&mut self, file: Map<String, Value>, matches: &ArgMatches) -> anyhow::Result<()> {
        let known = Self::augment_args(clap::Command::new("settings"));
        let ids: BTreeMap<String, String> = known
            .get_arguments()
            .map(|arg| {
                (
                    arg.get_id().as_str().replace('_', "-"),
                    arg.get_id().to_string(),
                )
            })
            .collect();
        let mut both = Vec::new();
        let mut unknown = Vec::new();
        for key in file.keys() {
            match ids.get(key.as_str()) {
                Some(id) if matches.value_source(id) == Some(ValueSource::CommandLine) => {
                    both.push(key.as_str())
                }
                Some(_) => {}
                None if key == "proxies"
                    || key == "host-gateway-ip"
                    || key == "registry-mirror-map"
                    || key == "builder"
                    || key == "kept-blobs"
                    || key == "unused-images"
                    || key == "signature-policy"
                    || IGNORED_KEYS.contains(&key.as_str()) => {}
                None => unknown.push(key.as_str()),
            }
        }
        if !unknown.is_empty() {
            bail!(
                "the following directives don't match any configuration option: {}",
                unknown.join(", ")
            );
        }
        if !both.is_empty() {
            bail!(
                "the following directives are specified both as a flag and in the configuration file: {}",
                both.join(", ")
            );
        }
        let from_file: Settings = serde_json::from_value(Value::Object(file))?;
        self.take(from_file);
        Ok(())
    }

    /// Takes from `other` whatever is absent here.
    fn take(&mut self, other: Settings) {
        macro_rules! absent {
            (option: $($option:ident)*; list: $($list:ident)*) => {
                $( self.$option = self.$option.take().or(other.$option); )*
                $( if self.$list.is_empty() { self.$list = other.$list; } )*
            };
        }
        absent! {
            option: group data_root exec_root pidfile debug log_level log_format raw_logs tls tlsverify tlscacert tlscert
                tlskey bridge bip fixed_cidr fixed_cidr_v6 ipv6 ip mtu icc ip_forward ip_masq max_concurrent_downloads
                max_concurrent_uploads max_download_attempts http_proxy https_proxy no_proxy proxies log_driver
                cgroup_parent default_cgroupns_mode default_ipc_mode default_pids_limit default_shm_size default_runtime init init_path
                no_new_privileges seccomp_profile userns_remap shutdown_timeout storage_driver build_host_trust builder kept_blobs
                unused_images;
            list: hosts default_address_pools host_gateway_ips dns dns_opts dns_search registry_mirrors
                registry_mirror_map signature_policy insecure_registries cdi_spec_dirs log_opts default_ulimits runtimes labels
        }
    }
}

/// The file's top level; `None` where it does not exist and nobody named it.
fn read_file(path: &Path, named: bool) -> anyhow::Result<Option<Map<String, Value>>> {
    use std::io::Read;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !named => return Ok(None),
        Err(e) => {
            return Err(e).with_context(|| {
                format!(
                    "unable to configure the engine with file {}",
                    path.display()
                )
            });
        }
    };
    let mut text = String::new();
    file.take(CONFIG_MAX).read_to_string(&mut text)?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    serde_json::from_str(&text).map(Some).with_context(|| {
        format!(
            "unable to configure the engine with file {}: invalid JSON",
            path.display()
        )
    })
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("invalid option {text:?}: expected name=value"))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn parse_pool(text: &str) -> Result<AddressPool, String> {
    let mut pool = AddressPool {
        base: String::new(),
        size: 0,
    };
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("base", base)) => pool.base = base.to_owned(),
            Some(("size", size)) => {
                pool.size = size
                    .parse()
                    .map_err(|_| format!("invalid size {size:?} in {text:?}"))?
            }
            _ => {
                return Err(format!(
                    "invalid address pool {text:?}: expected base=CIDR,size=N"
                ));
            }
        }
    }
    if pool.base.is_empty() || pool.size == 0 {
        return Err(format!(
            "invalid address pool {text:?}: expected base=CIDR,size=N"
        ));
    }
    Ok(pool)
}

fn parse_ulimit(text: &str) -> Result<Ulimit, String> {
    let bad = || format!("invalid ulimit argument: {text}");
    let (name, limits) = text.split_once('=').ok_or_else(bad)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    Ok(Ulimit {
        name: name.to_owned(),
        soft: soft.parse().map_err(|_| bad())?,
        hard: hard.parse().map_err(|_| bad())?,
    })
}

fn parse_runtime(text: &str) -> Result<(String, Runtime), String> {
    let (name, path) = parse_pair(text)?;
    Ok((
        name,
        Runtime {
            path: path.into(),
            args: Vec::new(),
        },
    ))
}

fn pairs<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<(String, String)>, D::Error> {
    Ok(BTreeMap::<String, String>::deserialize(deserializer)?
        .into_iter()
        .collect())
}

fn ulimits<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Ulimit>, D::Error> {
    Ok(BTreeMap::<String, Ulimit>::deserialize(deserializer)?
        .into_values()
        .collect())
}

fn runtimes<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<(String, Runtime)>, D::Error> {
    Ok(BTreeMap::<String, Runtime>::deserialize(deserializer)?
        .into_iter()
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str], file: Option<&str>) -> anyhow::Result<Settings> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        let mut args: Vec<std::ffi::OsString> = args.iter().map(Into::into).collect();
        if let Some(file) = file {
            std::fs::write(&path, file).unwrap();
            args.extend(["--config-file".into(), path.into_os_string()]);
        } else {
            args.extend(["--config-file".into(), "/dev/null".into()]);
        }
        Ok(Invocation::parse(&args)??.settings)
    }

    #[test]
    fn the_command_is_consistent() {
        Invocation::command().debug_assert();
    }

    #[test]
    fn flags() {
        let settings = parse(
            &[
                "-H",
                "unix:///a",
                "-H",
                "tcp://127.0.0.1:1",
                "--icc=false",
                "-D",
                "--mtu",
                "1400",
                "--log-opt",
                "max-size=1m",
                "--default-address-pool",
                "base=10.0.0.0/8,size=24",
                "--default-ulimit",
                "nofile=1:2",
                "--default-pids-limit",
                "-1",
                "--live-restore",
            ],
            None,
        )
        .unwrap();
        assert_eq!(settings.hosts, ["unix:///a", "tcp://127.0.0.1:1"]);
        assert_eq!(
            (settings.icc, settings.debug, settings.mtu),
            (Some(false), Some(true), Some(1400))
        );
        assert_eq!(settings.log_opts, [("max-size".into(), "1m".into())]);
        assert_eq!(settings.default_address_pools[0].size, 24);
        assert_eq!(settings.default_pids_limit, Some(-1));
        assert_eq!(
            (
                settings.default_ulimits[0].soft,
                settings.default_ulimits[0].hard
            ),
            (1, 2)
        );
    }

    #[test]
    fn file() {
        let settings = parse(
            &["--bip", "10.9.0.1/24"],
            Some(r#"{"hosts":["unix:///b"],"icc":false,"log-opts":{"max-file":"3"},"insecure-registries":["r:5000"],
                "default-ulimits":{"nofile":{"Name":"nofile","Hard":5,"Soft":4}},"runtimes":{"crun":{"path":"/usr/bin/crun"}},
                "live-restore":true,"default-pids-limit":100,"proxies":{"http-proxy":"http://p"},"features":{"buildkit":true}}"#),
        )
        .unwrap();
        assert_eq!(settings.hosts, ["unix:///b"]);
        assert_eq!(settings.icc, Some(false));
        assert_eq!(settings.log_opts, [("max-file".into(), "3".into())]);
        assert_eq!(settings.runtimes[0].1.path, Path::new("/usr/bin/crun"));
        assert_eq!(settings.proxies.unwrap().http_proxy.unwrap(), "http://p");
        assert_eq!(settings.bip.unwrap(), "10.9.0.1/24");
        assert_eq!(settings.default_pids_limit, Some(100));
    }

    #[test]
    fn refused() {
        for (args, file, says) in [
            (
                &["--bip", "1.2.3.4/24"][..],
                r#"{"bip":"1.2.3.5/24"}"#,
                "specified both as a flag and in the configuration file: bip",
            ),
            (
                &[][..],
                r#"{"nonsense":1}"#,
                "don't match any configuration option: nonsense",
            ),
            (&[][..], "{", "invalid JSON"),
        ] {
            let error = format!("{:#}", parse(args, Some(file)).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
        assert!(parse(&["--config-file", "/does/not/exist"], None).is_err());
        assert!(parse(&["--no-such-flag"], None).is_err());
    }
}
