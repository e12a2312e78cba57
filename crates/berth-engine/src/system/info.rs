//! info: what the engine is, has and can.

use std::collections::BTreeMap;

use berth_runtime::cgroup::Layout;
use berth_spec::docker::SystemInfo;
use berth_spec::docker::system::{
    Commit, IndexConfig, PluginsInfo, RegistryConfig, RegistryQuota, RuntimeInfo, SwarmInfo,
};
use jiff::Timestamp;

use super::architecture;
use crate::container::log_driver;
use crate::container::state::Status;
use crate::crossing::blocking;
use crate::{Engine, Error, Result};

/// What the engine is, has and can.
pub async fn info(engine: &Engine) -> Result<SystemInfo> {
    let store = engine.0.store.clone();
    let images = blocking(move || Ok::<_, Error>(store.images().list()?.len())).await?;
    let settings = &engine.0.settings;
    let containers = engine.0.containers.all();
    let count = |wanted: fn(Status) -> bool| {
        containers.iter().filter(|c| wanted(c.status())).count() as i64
    };
    let support = engine.0.cgroups.support();
    let v2 = engine.0.cgroups.layout() == Layout::V2;
    let uname = rustix::system::uname();
    let text = |s: &std::ffi::CStr| s.to_string_lossy().into_owned();
    let proxy = |name: &str| settings.proxies.get(name).cloned().unwrap_or_default();
    let memory = crate::container::machine_memory().unwrap_or(0);
    Ok(SystemInfo {
        id: settings.id.clone(),
        containers: containers.len() as i64,
        containers_running: count(|s| matches!(s, Status::Running | Status::Restarting)),
        containers_paused: count(|s| s == Status::Paused),
        containers_stopped: count(|s| !s.running()),
        images: images as i64,
        driver: "overlay2".to_owned(),
        driver_status: driver_status(engine),
        cdi_spec_dirs: engine
            .0
            .settings
            .cdi_dirs
            .iter()
            .map(|dir| dir.display().to_string())
            .collect(),
        plugins: PluginsInfo {
            volume: vec!["local".to_owned()],
            network: ["bridge", "host", "null"].map(str::to_owned).to_vec(),
            authorization: None,
            log: log_driver::DRIVERS.map(str::to_owned).to_vec(),
        },
        memory_limit: support.memory_limit,
        swap_limit: support.swap_limit,
        cpu_cfs_period: support.cpu_quota,
        cpu_cfs_quota: support.cpu_quota,
        cpu_shares: support.cpu_shares,
        cpu_set: support.cpuset,
        pids_limit: support.pids_limit,
        oom_kill_disable: support.oom_kill_disable,
        ipv4_forwarding: read("/proc/sys/net/ipv4/ip_forward").trim() == "1",
        n_fd: open_files(),
        n_events_listener: engine.0.events.listeners() as i64,
        system_time: Timestamp::now().to_string(),
        logging_driver: engine.0.defaults.log.kind.clone(),
        cgroup_driver: "cgroupfs".to_owned(),
        cgroup_version: if v2 { "2" } else { "1" }.to_owned(),
        kernel_version: text(uname.release()),
        operating_system: os_release("PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()),
        os_version: os_release("VERSION_ID").unwrap_or_default(),
        os_type: "linux".to_owned(),
        architecture: machine(&text(uname.machine())),
        index_server_address: "https://index.docker.io/v1/".to_owned(),
        registry_config: Some(registries(engine)),
        registry_quotas: quotas(engine),
        ncpu: i64::from(engine.0.defaults.machine.cpus),
        mem_total: i64::try_from(memory).unwrap_or(i64::MAX),
        docker_root_dir: settings.root.display().to_string(),
        http_proxy: proxy("HTTP_PROXY"),
        https_proxy: proxy("HTTPS_PROXY"),
        no_proxy: proxy("NO_PROXY"),
        name: text(uname.nodename()),
        labels: settings.labels.clone(),
        server_version: settings.version.clone(),
        runtimes: runtimes(engine),
        default_runtime: engine.0.defaults.runtime.clone(),
        swarm: SwarmInfo {
            local_node_state: "inactive".to_owned(),
            ..SwarmInfo::default()
        },
        live_restore_enabled: true,
        init_binary: settings.init_path.as_ref().map_or_else(
            || "docker-init".to_owned(),
            |path| path.display().to_string(),
        ),
        runc_commit: Commit {
            id: settings.commit.clone(),
        },
        security_options: security_options(v2, settings.remap.is_some()),
        warnings: Some(engine.warnings()).filter(|w| !w.is_empty()),
        ..SystemInfo::default()
    })
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn driver_status(engine: &Engine) -> Vec<[String; 2]> {
    let pair = |name: &str, value: String| [name.to_owned(), value];
    vec![
        pair(
            "Layers",
            engine.0.store.layers().mounting().as_str().to_owned(),
        ),
        pair("Root Dir", engine.0.settings.root.display().to_string()),
    ]
}

fn security_options(v2: bool, remap: bool) -> Vec<String> {
    let mut options = vec!["name=seccomp,profile=builtin".to_owned()];
    if v2 {
        options.push("name=cgroupns".to_owned());
    }
    if remap {
        options.push("name=userns".to_owned());
    }
    options
}

fn runtimes(engine: &Engine) -> BTreeMap<String, RuntimeInfo> {
    let own = RuntimeInfo {
        path: "berth".to_owned(),
        ..RuntimeInfo::default()
    };
    let others = engine.0.settings.runtimes.iter().map(|(name, program)| {
        let info = RuntimeInfo {
            path: program.path.display().to_string(),
            ..RuntimeInfo::default()
        };
        (name.clone(), info)
    });
    [("berth".to_owned(), own.clone()), ("runc".to_owned(), own)]
        .into_iter()
        .chain(others)
        .collect()
}

/// What registries last said of how much may still be pulled.
fn quotas(engine: &Engine) -> Vec<RegistryQuota> {
    let quotas = engine.0.client.quotas().into_iter();
    quotas
        .map(|quota| RegistryQuota {
            registry: quota.registry,
            limit: quota.limit,
            remaining: quota.remaining,
            window: quota.window.map_or(0, |window| window.as_secs()),
            source: quota.source.unwrap_or_default(),
        })
        .collect()
}

fn registries(engine: &Engine) -> RegistryConfig {
    let options = engine.0.client.options();
    let (networks, hosts): (Vec<_>, Vec<_>) = options
        .insecure_registries
        .iter()
        .cloned()
        .partition(|r| r.contains('/'));
    let mut index_configs = BTreeMap::from([(
        "docker.io".to_owned(),
        IndexConfig {
            name: "docker.io".to_owned(),
            mirrors: options.mirrors.clone(),
            secure: true,
            official: true,
        },
    )]);
    for host in hosts {
        let config = IndexConfig {
            name: host.clone(),
            ..IndexConfig::default()
        };
        index_configs.insert(host, config);
    }
    // Loopback is meant as long as nothing is named.
    let cidrs = match options.insecure_registries.is_empty() {
        true => vec!["::1/128".to_owned(), "127.0.0.0/8".to_owned()],
        false => networks,
    };
    RegistryConfig {
        insecure_registry_cidrs: cidrs,
        index_configs,
        mirrors: options.mirrors.clone(),
    }
}

fn open_files() -> i64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |dir| dir.count() as i64)
}

/// A value of the host's `os-release`.
fn os_release(name: &str) -> Option<String> {
    let text = [read("/etc/os-release"), read("/usr/lib/os-release")].concat();
    text.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix('=')?;
        Some(value.trim_matches('"').to_owned())
    })
}

/// The kernel's word for the machine, as Docker shows it.
fn machine(kernel: &str) -> String {
    match kernel {
        "" => architecture().to_owned(),
        machine => machine.to_owned(),
    }
}
