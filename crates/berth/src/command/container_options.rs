//! The options of `run` and `create`, and what they make of the API's body.

use std::collections::BTreeMap;

use berth_spec::docker::config::{
    DeviceRequest, HealthConfig, LogConfig, Mount, ThrottleDevice, Ulimit, WeightDevice,
};
use berth_spec::docker::{ContainerConfig, ContainerCreateBody, HostConfig, NetworkingConfig};

use crate::option::device::{self, Device};
use crate::option::key_value::{self, to_map};
use crate::option::network::{self, Attachment, Older};
use crate::option::value;
use crate::option::volume::{self, Volume};
use crate::option::{gpu, limit, mount, port, security};

/// One uniform table: every option, as Docker's help describes it.
#[derive(Debug, Clone, clap::Args)]
pub struct ContainerOptions {
    /// Add a custom host-to-IP mapping (host:ip)
    #[arg(long, value_name = "list", value_parser = value::extra_host)]
    add_host: Vec<String>,
    /// Add an annotation to the container (passed through to the OCI runtime) (default map[])
    #[arg(long, value_name = "map")]
    annotation: Vec<String>,
    /// Attach to STDIN, STDOUT or STDERR
    #[arg(short, long, value_name = "list", value_parser = value::stream)]
    pub attach: Vec<String>,
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)
    #[arg(long, value_name = "uint16", value_parser = value::uint16)]
    blkio_weight: Option<u16>,
    /// Block IO weight (relative device weight) (default [])
    #[arg(long, value_name = "list", value_parser = device::weight)]
    blkio_weight_device: Vec<WeightDevice>,
    /// Add Linux capabilities
    #[arg(long, value_name = "list")]
    cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "list")]
    cap_drop: Vec<String>,
    /// Optional parent cgroup for the container
    #[arg(long, value_name = "string", default_value = "")]
    cgroup_parent: String,
    #[arg(
        long,
        value_name = "string",
        default_value = "",
        help = "Cgroup namespace to use (host|private)\n'host':    Run the container in the Docker host's cgroup namespace\n'private': Run the container in its own private cgroup namespace\n'':        Use the cgroup namespace as configured by the\n           default-cgroupns-mode option on the daemon (default)"
    )]
    cgroupns: String,
    /// Write the container ID to the file
    #[arg(long, value_name = "string", default_value = "")]
    cidfile: String,
    /// CPU count (Windows only)
    #[arg(long, value_name = "int", value_parser = value::int, hide = true)]
    cpu_count: Option<i64>,
    /// CPU percent (Windows only)
    #[arg(long, value_name = "int", value_parser = value::int, hide = true)]
    cpu_percent: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "int", value_parser = value::int)]
    cpu_period: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "int", value_parser = value::int)]
    cpu_quota: Option<i64>,
    /// Limit CPU real-time period in microseconds
    #[arg(long, value_name = "int", value_parser = value::int)]
    cpu_rt_period: Option<i64>,
    /// Limit CPU real-time runtime in microseconds
    #[arg(long, value_name = "int", value_parser = value::int)]
    cpu_rt_runtime: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "int", value_parser = value::int)]
    cpu_shares: Option<i64>,
    /// Number of CPUs
    #[arg(long, value_name = "decimal", value_parser = value::nano_cpus)]
    cpus: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string", default_value = "")]
    cpuset_cpus: String,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string", default_value = "")]
    cpuset_mems: String,
    /// Add a host device to the container
    #[arg(long, value_name = "list")]
    device: Vec<String>,
    /// Add a rule to the cgroup allowed devices list
    #[arg(long, value_name = "list", value_parser = value::device_rule)]
    device_cgroup_rule: Vec<String>,
    /// Limit read rate (bytes per second) from a device (default [])
    #[arg(long, value_name = "list", value_parser = device::throttle_bytes)]
    device_read_bps: Vec<ThrottleDevice>,
    /// Limit read rate (IO per second) from a device (default [])
    #[arg(long, value_name = "list", value_parser = device::throttle_operations)]
    device_read_iops: Vec<ThrottleDevice>,
    /// Limit write rate (bytes per second) to a device (default [])
    #[arg(long, value_name = "list", value_parser = device::throttle_bytes)]
    device_write_bps: Vec<ThrottleDevice>,
    /// Limit write rate (IO per second) to a device (default [])
    #[arg(long, value_name = "list", value_parser = device::throttle_operations)]
    device_write_iops: Vec<ThrottleDevice>,
    /// Skip image verification
    #[arg(long, default_value = "true")]
    disable_content_trust: bool,
    /// Set custom DNS servers
    #[arg(long, value_name = "list", value_parser = value::ip)]
    dns: Vec<String>,
    /// Set DNS options
    #[arg(long = "dns-option", alias = "dns-opt", value_name = "list")]
    dns_option: Vec<String>,
    /// Set custom DNS search domains
    #[arg(long, value_name = "list", value_parser = value::dns_search)]
    dns_search: Vec<String>,
    /// Container NIS domain name
    #[arg(long, value_name = "string", default_value = "")]
    domainname: String,
    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long, value_name = "string")]
    entrypoint: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "list", value_parser = key_value::env)]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list")]
    env_file: Vec<String>,
    /// Expose a port or a range of ports
    #[arg(long, value_name = "list")]
    expose: Vec<String>,
    /// GPU devices to add to the container ('all' to pass all GPUs)
    #[arg(long, value_name = "gpu-request", value_parser = gpu::parse)]
    gpus: Vec<DeviceRequest>,
    /// Add additional groups to join
    #[arg(long, value_name = "list")]
    group_add: Vec<String>,
    /// Command to run to check health
    #[arg(long, value_name = "string", default_value = "")]
    health_cmd: String,
    /// Time between running the check (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", value_parser = value::duration)]
    health_interval: Option<i64>,
    /// Restart the container when it is unhealthy
    #[arg(long)]
    health_restart: bool,
    /// Consecutive failures needed to report unhealthy
    #[arg(long, value_name = "int", value_parser = value::int)]
    health_retries: Option<i64>,
    /// Time between running the check during the start period (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", value_parser = value::duration)]
    health_start_interval: Option<i64>,
    /// Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", value_parser = value::duration)]
    health_start_period: Option<i64>,
    /// Maximum time to allow one check to run (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", value_parser = value::duration)]
    health_timeout: Option<i64>,
    /// Container host name
    #[arg(short = 'h', long, value_name = "string", default_value = "")]
    hostname: String,
    /// Run an init inside the container that forwards signals and reaps processes
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = value::go_bool)]
    init: Option<bool>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    interactive: bool,
    /// Maximum IO bandwidth limit for the system drive (Windows only)
    #[arg(long, value_name = "bytes", value_parser = value::memory, hide = true)]
    io_maxbandwidth: Option<i64>,
    /// Maximum IOps limit for the system drive (Windows only)
    #[arg(long, value_name = "uint", hide = true)]
    io_maxiops: Option<u64>,
    /// IPv4 address (e.g., 172.30.100.104)
    #[arg(long, value_name = "string", default_value = "")]
    ip: String,
    /// IPv6 address (e.g., 2001:db8::33)
    #[arg(long, value_name = "string", default_value = "")]
    ip6: String,
    /// IPC mode to use
    #[arg(long, value_name = "string", default_value = "")]
    ipc: String,
    /// Container isolation technology
    #[arg(long, value_name = "string", default_value = "")]
    isolation: String,
    /// Kernel memory limit
    #[arg(long, value_name = "bytes", value_parser = value::memory)]
    kernel_memory: Option<i64>,
    /// Set meta data on a container
    #[arg(short, long, value_name = "list", value_parser = key_value::label)]
    label: Vec<String>,
    /// Read in a line delimited file of labels
    #[arg(long, value_name = "list")]
    label_file: Vec<String>,
    /// Add link to another container
    #[arg(long, value_name = "list", value_parser = value::link)]
    link: Vec<String>,
    /// Container IPv4/IPv6 link-local addresses
    #[arg(long, value_name = "list")]
    link_local_ip: Vec<String>,
    /// Logging driver for the container
    #[arg(long, value_name = "string", default_value = "")]
    log_driver: String,
    /// Log driver options
    #[arg(long, value_name = "list")]
    log_opt: Vec<String>,
    /// Container MAC address (e.g., 92:d0:c6:0a:29:33)
    #[arg(long, value_name = "string", default_value = "")]
    mac_address: String,
    /// Memory limit
    #[arg(short, long, value_name = "bytes", value_parser = value::memory)]
    memory: Option<i64>,
    /// Memory soft limit
    #[arg(long, value_name = "bytes", value_parser = value::memory)]
    memory_reservation: Option<i64>,
    /// Swap limit equal to memory plus swap: '-1' to enable unlimited swap
    #[arg(long, value_name = "bytes", value_parser = value::memory_swap)]
    memory_swap: Option<i64>,
    /// Tune container memory swappiness (0 to 100)
    #[arg(long, value_name = "int", value_parser = value::int, default_value = "-1")]
    memory_swappiness: i64,
    /// Attach a filesystem mount to the container
    #[arg(long, value_name = "mount", value_parser = mount::parse)]
    mount: Vec<Mount>,
    /// Connect a container to a network
    #[arg(long = "network", alias = "net", value_name = "network", value_parser = network::parse)]
    network: Vec<Attachment>,
    /// Add network-scoped alias for the container
    #[arg(long = "network-alias", alias = "net-alias", value_name = "list")]
    network_alias: Vec<String>,
    /// Disable any container-specified HEALTHCHECK
    #[arg(long)]
    no_healthcheck: bool,
    /// Disable OOM Killer
    #[arg(long)]
    oom_kill_disable: bool,
    /// Tune host's OOM preferences (-1000 to 1000)
    #[arg(long, value_name = "int", value_parser = value::int)]
    oom_score_adj: Option<i64>,
    /// PID namespace to use
    #[arg(long, value_name = "string", default_value = "")]
    pid: String,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "int", value_parser = value::int)]
    pids_limit: Option<i64>,
    /// Give extended privileges to this container
    #[arg(long)]
    privileged: bool,
    /// Publish a container's port(s) to the host
    #[arg(short, long, value_name = "list")]
    publish: Vec<String>,
    /// Publish all exposed ports to random ports
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Mount the container's root filesystem as read only
    #[arg(long)]
    read_only: bool,
    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "string", default_value = "no")]
    restart: String,
    /// Automatically remove the container and its associated anonymous volumes when it exits
    #[arg(long)]
    pub rm: bool,
    /// Runtime to use for this container
    #[arg(long, value_name = "string", default_value = "")]
    runtime: String,
    /// Security Options
    #[arg(long, value_name = "list")]
    security_opt: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "bytes", value_parser = value::memory)]
    shm_size: Option<i64>,
    /// Signal to stop the container
    #[arg(long, value_name = "string", default_value = "")]
    stop_signal: String,
    /// Timeout (in seconds) to stop a container
    #[arg(long, value_name = "int", value_parser = value::int)]
    stop_timeout: Option<i64>,
    /// Storage driver options for the container
    #[arg(long, value_name = "list")]
    storage_opt: Vec<String>,
    /// Sysctl options (default map[])
    #[arg(long, value_name = "map", value_parser = value::sysctl)]
    sysctl: Vec<String>,
    /// Mount a tmpfs directory
    #[arg(long, value_name = "list")]
    tmpfs: Vec<String>,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    tty: bool,
    /// Ulimit options (default [])
    #[arg(long, value_name = "ulimit", value_parser = limit::ulimit)]
    ulimit: Vec<Ulimit>,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long, value_name = "string", default_value = "")]
    user: String,
    /// User namespace to use
    #[arg(long, value_name = "string", default_value = "")]
    userns: String,
    /// UTS namespace to use
    #[arg(long, value_name = "string", default_value = "")]
    uts: String,
    /// Bind mount a volume
    #[arg(short, long, value_name = "list")]
    volume: Vec<String>,
    /// Optional volume driver for the container
    #[arg(long, value_name = "string", default_value = "")]
    volume_driver: String,
    /// Mount volumes from the specified container(s)
    #[arg(long, value_name = "list")]
    volumes_from: Vec<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string", default_value = "")]
    workdir: String,
}

/// A list that is `null` where it is empty.
fn some<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

impl ContainerOptions {
    /// An option that Docker has for containers of another system.
    pub fn of_another_system(&self) -> Option<&'static str> {
        [
            ("cpu-count", self.cpu_count.is_some()),
            ("cpu-percent", self.cpu_percent.is_some()),
            ("io-maxbandwidth", self.io_maxbandwidth.is_some()),
            ("io-maxiops", self.io_maxiops.is_some()),
        ]
        .into_iter()
        .find_map(|(name, given)| given.then_some(name))
    }

    /// The body of `POST /containers/create`. `proxies` are variables that the user's own
    /// override.
    pub fn body(
        &self,
        image: &str,
        command: &[String],
        proxies: &[(String, String)],
    ) -> Result<ContainerCreateBody, String> {
        if self.memory_swappiness != -1 && !(0..=100).contains(&self.memory_swappiness) {
            return Err(format!(
                "invalid value: {}. Valid memory swappiness range is 0-100",
                self.memory_swappiness
            ));
        }
        if !self.mac_address.is_empty() && !value::is_mac(&self.mac_address) {
            return Err(format!("{} is not a valid mac address", self.mac_address));
        }
        let (binds, volumes) = self.volumes()?;
        let ports = port::parse(&self.publish, &self.expose)?;
        let mut config = self.config(image, command, proxies)?;
        config.volumes = Some(volumes);
        config.exposed_ports = ports
            .exposed
            .into_iter()
            .map(|port| (port, Default::default()))
            .collect();
        let mut host = self.host_config()?;
        host.binds = some(&binds);
        host.port_bindings = Some(ports.published);
        let endpoints = network::endpoints(&self.network, &self.older_network())?;
        if let Some(Some(main)) = endpoints.get(&host.network_mode) {
            config.mac_address.clone_from(&main.mac_address);
        }
        Ok(ContainerCreateBody {
            config,
            host_config: host,
            networking_config: NetworkingConfig {
                endpoints_config: endpoints,
            },
        })
    }

    fn older_network(&self) -> Older<'_> {
        Older {
            aliases: &self.network_alias,
            links: &self.link,
            ipv4: &self.ip,
            ipv6: &self.ip6,
            link_local: &self.link_local_ip,
            mac: &self.mac_address,
        }
    }

    #[allow(clippy::type_complexity)]
    fn volumes(
        &self,
    ) -> Result<(Vec<String>, BTreeMap<String, berth_spec::docker::Empty>), String> {
        let (mut binds, mut volumes) = (Vec::new(), BTreeMap::new());
        for text in &self.volume {
            match volume::parse(text)? {
                Volume::Anonymous(path) => {
                    volumes.insert(path, Default::default());
                }
                Volume::Bind(bind) if binds.contains(&bind) => {}
                Volume::Bind(bind) => binds.push(bind),
            }
        }
        Ok((binds, volumes))
    }

    fn config(
        &self,
        image: &str,
        command: &[String],
        proxies: &[(String, String)],
    ) -> Result<ContainerConfig, String> {
        let attached = |name: &str| self.attach.iter().any(|stream| stream == name);
        let all = self.attach.is_empty();
        let attach_stdin = attached("stdin") || self.interactive;
        let mut given: Vec<String> = proxies
            .iter()
            .filter(|(name, _)| !names(&self.env, name))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        given.extend_from_slice(&self.env);
        let mut labels = key_value::collect(&self.label_file, &self.label, false)?;
        if self.health_restart {
            labels.push("berth.health.restart=true".to_owned());
        }
        Ok(ContainerConfig {
            hostname: self.hostname.clone(),
            domainname: self.domainname.clone(),
            user: self.user.clone(),
            tty: self.tty,
            open_stdin: self.interactive,
            stdin_once: self.interactive && attach_stdin,
            attach_stdin,
            attach_stdout: all || attached("stdout"),
            attach_stderr: all || attached("stderr"),
            env: Some(key_value::collect(&self.env_file, &given, true)?),
            cmd: some(command).map(Into::into),
            image: image.to_owned(),
            mac_address: self.mac_address.clone(),
            entrypoint: self.entrypoint.clone().map(|e| vec![e].into()),
            working_dir: self.workdir.clone(),
            labels: Some(to_map(&labels)),
            stop_signal: self.stop_signal.clone(),
            stop_timeout: self.stop_timeout,
            healthcheck: self.health()?,
            ..ContainerConfig::default()
        })
    }

    fn health(&self) -> Result<Option<HealthConfig>, String> {
        let times = [
            ("interval", self.health_interval),
            ("timeout", self.health_timeout),
            ("retries", self.health_retries),
            ("start-period", self.health_start_period),
            ("start-interval", self.health_start_interval),
        ];
        let given = !self.health_cmd.is_empty()
            || times.iter().any(|(_, value)| value.is_some_and(|v| v != 0));
        if self.no_healthcheck {
            return if given {
                Err("--no-healthcheck conflicts with --health-* options".to_owned())
            } else {
                Ok(Some(HealthConfig {
                    test: vec!["NONE".to_owned()],
                    ..HealthConfig::default()
                }))
            };
        }
        if !given {
            return Ok(None);
        }
        if let Some((name, _)) = times.iter().find(|(_, v)| v.is_some_and(|v| v < 0)) {
            return Err(format!("--health-{name} cannot be negative"));
        }
        let test = if self.health_cmd.is_empty() {
            Vec::new()
        } else {
            vec!["CMD-SHELL".to_owned(), self.health_cmd.clone()]
        };
        Ok(Some(HealthConfig {
            test,
            interval: self.health_interval.unwrap_or(0),
            timeout: self.health_timeout.unwrap_or(0),
            start_period: self.health_start_period.unwrap_or(0),
            start_interval: self.health_start_interval.unwrap_or(0),
            retries: self.health_retries.unwrap_or(0),
        }))
    }

    fn check_modes(&self) -> Result<(), String> {
        let container = |mode: &str| {
            mode.strip_prefix("container:")
                .is_some_and(|c| !c.is_empty())
        };
        if !matches!(self.pid.as_str(), "" | "host") && !container(&self.pid) {
            return Err("--pid: invalid PID mode".to_owned());
        }
        if !matches!(self.uts.as_str(), "" | "host") {
            return Err("--uts: invalid UTS mode".to_owned());
        }
        if !matches!(self.userns.as_str(), "" | "host" | "auto") {
            return Err("--userns: invalid USER mode".to_owned());
        }
        if !matches!(self.cgroupns.as_str(), "" | "host" | "private") {
            return Err("--cgroupns: invalid CGROUP mode".to_owned());
        }
        Ok(())
    }

    fn host_config(&self) -> Result<HostConfig, String> {
        self.check_modes()?;
        let restart_policy = limit::restart_policy(&self.restart)?;
        if self.rm && !matches!(restart_policy.name.as_str(), "" | "no") {
            return Err("conflicting options: cannot specify both --restart and --rm".to_owned());
        }
        if self.log_driver == "none" && !self.log_opt.is_empty() {
            return Err("invalid logging opts for driver none".to_owned());
        }
        if self.storage_opt.iter().any(|option| !option.contains('=')) {
            return Err("invalid storage option".to_owned());
        }
        let security = security::parse(&self.security_opt)?;
        let unmasked = security.unmasked.then(Vec::new);
        let tmpfs = self.tmpfs.iter().map(|text| {
            let (path, options) = text.split_once(':').unwrap_or((text, ""));
            (path.to_owned(), options.to_owned())
        });
        let network_mode = self.network.first().map(|n| n.target.clone());
        let mut host = HostConfig {
            container_id_file: self.cidfile.clone(),
            log_config: LogConfig {
                kind: self.log_driver.clone(),
                config: to_map(&self.log_opt),
            },
            network_mode: network_mode.unwrap_or_else(|| "default".to_owned()),
            restart_policy,
            auto_remove: self.rm,
            volume_driver: self.volume_driver.clone(),
            volumes_from: some(&self.volumes_from),
            annotations: (!self.annotation.is_empty()).then(|| to_map(&self.annotation)),
            cap_add: some(&self.cap_add).map(Into::into),
            cap_drop: some(&self.cap_drop).map(Into::into),
            cgroupns_mode: self.cgroupns.clone(),
            dns: Some(self.dns.clone()),
            dns_options: Some(self.dns_option.clone()),
            dns_search: Some(self.dns_search.clone()),
            extra_hosts: some(&self.add_host),
            group_add: some(&self.group_add),
            ipc_mode: self.ipc.clone(),
            links: some(&self.link),
            oom_score_adj: self.oom_score_adj.unwrap_or(0),
            pid_mode: self.pid.clone(),
            privileged: self.privileged,
            publish_all_ports: self.publish_all,
            readonly_rootfs: self.read_only,
            security_opt: some(&security.options),
            storage_opt: (!self.storage_opt.is_empty()).then(|| to_map(&self.storage_opt)),
            tmpfs: (!self.tmpfs.is_empty()).then(|| tmpfs.collect()),
            uts_mode: self.uts.clone(),
            userns_mode: self.userns.clone(),
            shm_size: self.shm_size.unwrap_or(0),
            sysctls: (!self.sysctl.is_empty()).then(|| to_map(&self.sysctl)),
            runtime: self.runtime.clone(),
            isolation: self.isolation.clone(),
            mounts: some(&self.mount),
            masked_paths: unmasked.clone(),
            readonly_paths: unmasked,
            init: self.init,
            ..HostConfig::default()
        };
        self.set_resources(&mut host)?;
        Ok(host)
    }

    fn set_resources(&self, host: &mut HostConfig) -> Result<(), String> {
        let mut requests = self.gpus.clone();
        let (mut devices, mut cdi) = (Vec::new(), Vec::new());
        for text in &self.device {
            match device::parse(text)? {
                Device::Host(found) => devices.push(Device::mapping(&found)),
                Device::Cdi(name) => cdi.push(name),
            }
        }
        if !cdi.is_empty() {
            requests.push(DeviceRequest {
                driver: "cdi".to_owned(),
                device_ids: Some(cdi),
                ..DeviceRequest::default()
            });
        }
        // The last of a name wins; the list is sorted by it.
        let ulimits: BTreeMap<_, _> = self.ulimit.iter().map(|u| (&u.name, u)).collect();
        host.cgroup_parent.clone_from(&self.cgroup_parent);
        host.memory = self.memory.unwrap_or(0);
        host.memory_reservation = self.memory_reservation.unwrap_or(0);
        host.memory_swap = self.memory_swap.unwrap_or(0);
        host.memory_swappiness = Some(self.memory_swappiness);
        host.kernel_memory = self.kernel_memory.unwrap_or(0);
        host.oom_kill_disable = Some(self.oom_kill_disable);
        host.nano_cpus = self.cpus.unwrap_or(0);
        host.cpu_count = self.cpu_count.unwrap_or(0);
        host.cpu_percent = self.cpu_percent.unwrap_or(0);
        host.cpu_shares = self.cpu_shares.unwrap_or(0);
        host.cpu_period = self.cpu_period.unwrap_or(0);
        host.cpu_quota = self.cpu_quota.unwrap_or(0);
        host.cpuset_cpus.clone_from(&self.cpuset_cpus);
        host.cpuset_mems.clone_from(&self.cpuset_mems);
        host.cpu_realtime_period = self.cpu_rt_period.unwrap_or(0);
        host.cpu_realtime_runtime = self.cpu_rt_runtime.unwrap_or(0);
        host.pids_limit = Some(self.pids_limit.unwrap_or(0));
        host.blkio_weight = self.blkio_weight.unwrap_or(0);
        host.blkio_weight_device = Some(self.blkio_weight_device.clone());
        host.blkio_device_read_bps = Some(self.device_read_bps.clone());
        host.blkio_device_write_bps = Some(self.device_write_bps.clone());
        host.blkio_device_read_iops = Some(self.device_read_iops.clone());
        host.blkio_device_write_iops = Some(self.device_write_iops.clone());
        host.io_maximum_iops = self.io_maxiops.unwrap_or(0);
        host.io_maximum_bandwidth = self
            .io_maxbandwidth
            .and_then(|limit| limit.try_into().ok())
            .unwrap_or(0);
        host.ulimits = Some(ulimits.into_values().cloned().collect());
        host.device_cgroup_rules = some(&self.device_cgroup_rule);
        host.devices = Some(devices);
        host.device_requests = some(&requests);
        Ok(())
    }
}

/// Whether a list of variables sets this one.
fn names(env: &[String], name: &str) -> bool {
    env.iter().any(|pair| pair.split('=').next() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, FromArgMatches};

    fn body(args: &[&str]) -> Result<ContainerCreateBody, String> {
        let command =
            crate::usage::adapt(ContainerOptions::augment_args(clap::Command::new("run")));
        let matches = command
            .try_get_matches_from(args)
            .map_err(|e| e.to_string())?;
        ContainerOptions::from_arg_matches(&matches).unwrap().body(
            "i",
            &[],
            &[("HTTP_PROXY".into(), "p".into())],
        )
    }

    #[test]
    fn without_options_the_body_is_dockers() {
        let body = body(&[]).unwrap();
        let config = body.config;
        assert!(config.attach_stdout && config.attach_stderr && !config.attach_stdin);
        assert_eq!(config.env.unwrap(), ["HTTP_PROXY=p"]);
        let host = body.host_config;
        assert_eq!(host.network_mode, "default");
        assert_eq!(host.restart_policy.name, "no");
        assert_eq!(host.memory_swappiness, Some(-1));
        assert_eq!(host.pids_limit, Some(0));
        assert!(
            body.networking_config
                .endpoints_config
                .contains_key("default")
        );
    }

    #[test]
    fn bundles_and_booleans_are_pflags() {
        let both = body(&["-it", "--rm=false", "-eHTTP_PROXY=x", "-e=B=2"]).unwrap();
        assert!(both.config.tty && both.config.open_stdin && both.config.stdin_once);
        assert!(!both.host_config.auto_remove);
        assert_eq!(both.config.env.unwrap(), ["HTTP_PROXY=x", "B=2"]);
        let swap = body(&["--memory-swap", "-1", "-m", "64m"])
            .unwrap()
            .host_config;
        assert_eq!((swap.memory_swap, swap.memory), (-1, 64 << 20));
    }

    #[test]
    fn options_that_exclude_each_other() {
        for (args, error) in [
            (
                &["--rm", "--restart", "always"][..],
                "conflicting options: cannot specify both --restart and --rm",
            ),
            (
                &["--no-healthcheck", "--health-cmd", "x"],
                "--no-healthcheck conflicts with --health-* options",
            ),
            (&["--pid", "x"], "--pid: invalid PID mode"),
            (
                &["--health-interval", "-1s"],
                "--health-interval cannot be negative",
            ),
            (
                &["--memory-swappiness", "101"],
                "invalid value: 101. Valid memory swappiness range is 0-100",
            ),
        ] {
            assert_eq!(body(args).unwrap_err(), error, "{args:?}");
        }
    }
}
