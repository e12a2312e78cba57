//! The OCI document of one start.

use berth_runtime::capability::{self, CapSet};
use berth_runtime::defaults;
use berth_spec::docker::config::HostConfig;
use berth_spec::docker::{ContainerConfig, Words};
use berth_spec::oci::runtime::{
    Capabilities, ConsoleSize, Device, DeviceRule, Linux, LinuxResources, LinuxSeccomp, Mount,
    Namespace, NamespaceKind, Process, Rlimit, Root, Spec, User as OciUser,
};

use super::namespace::{JoinedMode, NetworkMode};
use super::security::SecurityOptions;
use super::user::User;
use super::{MountKind, MountRecord, overlay, process_env};
use crate::container::cdi::Additions;
use crate::ids::IdMaps;
use crate::{Error, Result};

/// What is known only when a container starts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub user: User,
    /// Of the container whose PID namespace is joined.
    pub pid_namespace: Option<String>,
    /// Of the container whose IPC namespace is joined.
    pub ipc_namespace: Option<String>,
    /// Of the container whose UTS namespace goes with its network; a path too.
    pub cgroup_path: String,
    /// The IDs of its user namespace, if it has one.
    pub ids: Option<IdMaps>,
    /// Limits with their device rules left out.
    pub resources: LinuxResources,
    /// What devices that a vendor described add.
    pub additions: Additions,
    /// Nodes asked for, and the rules that let them be used.
    pub devices: Vec<Device>,
    pub device_rules: Vec<DeviceRule>,
    pub seccomp: Option<LinuxSeccomp>,
    pub rlimits: Vec<Rlimit>,
    /// Below `/proc` and `/sys`, of this machine only.
    pub more_masked: Vec<String>,
    /// Mounts with sources found, in the order they were asked for.
    pub mounts: Vec<Mount>,
}

fn words(words: &Option<Words>) -> &[String] {
    words.as_ref().map_or(&[], |w| w.0.as_slice())
}

/// The program and its arguments.
pub(crate) fn args(config: &ContainerConfig) -> Vec<String> {
    [words(&config.entrypoint), words(&config.cmd)].concat()
}

/// The working directory of a process.
pub(crate) fn cwd(config: &ContainerConfig) -> String {
    match config.working_dir.as_str() {
        "" => "/".to_owned(),
        dir => dir.to_owned(),
    }
}

/// The environment of a process, with `HOME` of its user.
pub(crate) fn env(
    config: &ContainerConfig,
    asked: &[String],
    tty: bool,
    home: &str,
) -> Vec<String> {
    let mut env = process_env(asked, &config.hostname, tty);
    if !env.iter().any(|v| v.starts_with("HOME=")) {
        env.push(format!("HOME={home}"));
    }
    env
}

/// The capabilities of a process of the container.
pub(crate) fn capabilities(host: &HostConfig, privileged: bool) -> Result<CapSet> {
    capability::docker(words(&host.cap_add), words(&host.cap_drop), privileged)
        .map_err(|e| Error::invalid(e.to_string()))
}

/// A set as the document has it. Inheritable and ambient stay empty; a process that is not root has
/// nothing effective at first, as the kernel will see to at its exec.
pub(crate) fn capability_sets(set: CapSet) -> Capabilities {
    let names = set.names();
    Capabilities {
        bounding: names.clone(),
        effective: names.clone(),
        permitted: names,
        ..Capabilities::default()
    }
}

/// The user in the document's words.
pub(crate) fn oci_user(user: &User) -> OciUser {
    OciUser {
        uid: user.uid,
        gid: user.gid,
        additional_gids: user.groups.clone(),
        ..OciUser::default()
    }
}

/// A terminal's size (height, width); none where it was not told.
pub(crate) fn console_size(size: [u32; 2]) -> Option<ConsoleSize> {
    let [height, width] = size.map(|n| u16::try_from(n).unwrap_or(u16::MAX));
    (height > 0 && width > 0).then_some(ConsoleSize { height, width })
}

/// Makes the document.
pub(crate) fn build(config: &ContainerConfig, host: &HostConfig, facts: Facts) -> Result<Spec> {
    let security = SecurityOptions::parse(host.security_opt.as_deref().unwrap_or_default())?;
    let mut spec = defaults::docker_spec();
    let hooks = facts.additions.hooks();
    spec.process = Some(process(config, host, &facts, &security)?);
    spec.root = Some(Root {
        path: "rootfs".to_owned(),
        readonly: host.readonly_rootfs,
    });
    let network = NetworkMode::parse(&host.network_mode)?;
    if host.uts_mode != "host" {
        spec.hostname.clone_from(&config.hostname);
        spec.domainname.clone_from(&config.domainname);
    }
    let linux = spec.linux.get_or_insert_default();
    fill_linux(linux, host, &facts, &network)?;
    if host.privileged || security.system_paths {
        defaults::open_up(&mut spec);
    }
    if security.writable_cgroups {
        for mount in spec.mounts.iter_mut().filter(|m| m.kind == "cgroup") {
            mount.options.retain(|o| o != "ro");
        }
    }
    spec.mounts = mounts(std::mem::take(&mut spec.mounts), host, facts.mounts)?;
    spec.hooks = hooks;
    for (name, value) in host.annotations.iter().flatten() {
        spec.annotations.insert(name.clone(), value.clone());
    }
    Ok(spec)
}

fn process(
    config: &ContainerConfig,
    host: &HostConfig,
    facts: &Facts,
    security: &SecurityOptions,
) -> Result<Process> {
    let asked = config.env.as_deref().unwrap_or_default();
    let mut env = env(config, asked, config.tty, &facts.user.home);
    overlay(&mut env, &facts.additions.env);
    Ok(Process {
        user: oci_user(&facts.user),
        args: args(config),
        cwd: cwd(config),
        terminal: config.tty,
        console_size: console_size(host.console_size),
        env,
        capabilities: Some(capability_sets(capabilities(host, host.privileged)?)),
        rlimits: facts.rlimits.clone(),
        no_new_privileges: security.no_new_privileges,
        oom_score_adj: i32::try_from(host.oom_score_adj).ok().filter(|n| *n != 0),
        ..Process::default()
    })
}

fn fill_linux(
    linux: &mut Linux,
    host: &HostConfig,
    facts: &Facts,
    network: &NetworkMode,
) -> Result<()> {
    let namespaces = &mut linux.namespaces;
    let mut join = |kind: NamespaceKind, mode: &JoinedMode, path: &Option<String>| match mode {
        JoinedMode::Host => namespaces.retain(|n| n.kind != kind),
        JoinedMode::Container(_) => {
            for namespace in namespaces.iter_mut().filter(|n| n.kind == kind) {
                namespace.path = path.clone().unwrap_or_default();
            }
        }
        JoinedMode::Private | JoinedMode::Bare => {}
    };
    join(
        NamespaceKind::Pid,
        &JoinedMode::pid(&host.pid_mode)?,
        &facts.pid_namespace,
    );
    join(
        NamespaceKind::Ipc,
        &JoinedMode::ipc(&host.ipc_mode)?,
        &facts.ipc_namespace,
    );
    if *network == NetworkMode::Host {
        namespaces.retain(|n| n.kind != NamespaceKind::Network);
    }
    if host.uts_mode == "host" {
        namespaces.retain(|n| n.kind != NamespaceKind::Uts);
    }
    if host.cgroupns_mode == "private" {
        namespaces.push(Namespace {
            kind: NamespaceKind::Cgroup,
            path: String::new(),
        });
    }
    linux.cgroups_path.clone_from(&facts.cgroup_path);
    linux.devices = [&facts.devices[..], &facts.additions.nodes].concat();
    linux.seccomp.clone_from(&facts.seccomp);
    let mut rules = match host.privileged {
        true => vec![defaults::all_devices_rule()],
        false => defaults::device_rules(),
    };
    rules.extend(facts.device_rules.iter().cloned());
    rules.extend(facts.additions.rules.iter().cloned());
    for rule in host.device_cgroup_rules.iter().flatten() {
        rules.push(super::resources::device_rule(rule)?);
    }
    linux.resources = Some(LinuxResources {
        devices: rules,
        ..facts.resources.clone()
    });
    if let Some(paths) = &host.masked_paths {
        linux.masked_paths.clone_from(paths);
        if !paths.is_empty() {
            linux.masked_paths.extend(facts.more_masked.iter().cloned());
        }
    }
    if let Some(paths) = &host.readonly_paths {
        linux.readonly_paths.clone_from(paths);
    }
    linux.sysctl = sysctls(host, network);
    if let Some(ids) = &facts.ids {
        linux.namespaces.push(Namespace {
            kind: NamespaceKind::User,
            path: String::new(),
        });
        linux.uid_mappings.clone_from(&ids.uids);
        linux.gid_mappings.clone_from(&ids.gids);
        let asked = host.sysctls.as_ref();
        // Its own root could not write that, whose groups end before; its network came with it.
        if !asked.is_some_and(|s| s.contains_key(PING)) {
            linux.sysctl.remove(PING);
        }
    }
    linux.rootfs_propagation = propagation(&facts.mounts);
    Ok(())
}

/// Groups that may ping.
const PING: &str = "net.ipv4.ping_group_range";

/// Asked for, over what Docker sets in a network of its own: low ports and ping for everyone.
fn sysctls(host: &HostConfig, network: &NetworkMode) -> std::collections::BTreeMap<String, String> {
    let mut sysctls = std::collections::BTreeMap::new();
    if matches!(network, NetworkMode::Network(_) | NetworkMode::None) {
        sysctls.insert(
            "net.ipv4.ip_unprivileged_port_start".to_owned(),
            "0".to_owned(),
        );
        sysctls.insert(PING.to_owned(), "0 2147483647".to_owned());
    }
    for (name, value) in host.sysctls.iter().flatten() {
        sysctls.insert(name.clone(), value.clone());
    }
    sysctls
}

/// The root must share what a mount of it shall share.
fn propagation(mounts: &[Mount]) -> String {
    let any = |words: [&str; 2]| {
        mounts
            .iter()
            .any(|m| m.options.iter().any(|o| words.contains(&o.as_str())))
    };
    if any(["shared", "rshared"]) {
        "shared".to_owned()
    } else if any(["slave", "rslave"]) {
        "slave".to_owned()
    } else {
        String::new()
    }
}

/// Whether `path` is `above` or below it.
fn within(path: &str, above: &str) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The default mounts less those that are asked for otherwise, then the others: the shallow before
/// the deep, each in its order.
fn mounts(mut mounts: Vec<Mount>, host: &HostConfig, mut asked: Vec<Mount>) -> Result<Vec<Mount>> {
    let ipc = JoinedMode::ipc(&host.ipc_mode)?;
    mounts.retain(|mount| {
        let shm = mount.destination == "/dev/shm";
        let queue = mount.destination == "/dev/mqueue";
        match ipc {
            JoinedMode::Host => !shm && !queue,
            // The other container's is mounted in its place.
            JoinedMode::Container(_) | JoinedMode::Bare => !shm,
            JoinedMode::Private => true,
        }
    });
    for mount in &mut mounts {
        if mount.destination == "/dev/shm" && host.shm_size > 0 {
            mount.options.retain(|o| !o.starts_with("size="));
            mount.options.push(format!("size={}", host.shm_size));
        }
        if host.readonly_rootfs
            && !host.privileged
            && (mount.destination == "/sys" || mount.destination == "/sys/fs/cgroup")
            && !mount.options.iter().any(|o| o == "ro")
        {
            mount.options.push("ro".to_owned());
        }
    }
    mounts.retain(|mount| {
        !asked.iter().any(|a| {
            a.destination == mount.destination
                || (a.destination == "/dev" && within(&mount.destination, "/dev"))
        })
    });
    asked.sort_by_key(|m| m.destination.split('/').filter(|p| !p.is_empty()).count());
    mounts.append(&mut asked);
    Ok(mounts)
}

/// A mount of the record whose source has been found (`source` is a path of the host).
pub(crate) fn oci_mount(mount: &MountRecord, source: &str) -> Mount {
    let mut options = Vec::new();
    match mount.kind {
        MountKind::Tmpfs => return tmpfs(mount),
        MountKind::Bind | MountKind::Volume | MountKind::Image => {
            options.push(if mount.non_recursive { "bind" } else { "rbind" }.to_owned());
            options.push(match mount.propagation.as_str() {
                "" => "rprivate".to_owned(),
                other => other.to_owned(),
            });
            if mount.read_only {
                options.push("ro".to_owned());
                if !mount.non_recursive && !mount.read_only_non_recursive {
                    // Mounts below it, too.
                    options.push("rro".to_owned());
                }
            }
        }
    }
    Mount {
        destination: mount.target.clone(),
        kind: "bind".to_owned(),
        source: source.to_owned(),
        options,
        ..Mount::default()
    }
}

/// A tmpfs: Docker's options, those asked for over them.
fn tmpfs(mount: &MountRecord) -> Mount {
    let mut options: Vec<String> = ["noexec", "nosuid", "nodev"].map(str::to_owned).to_vec();
    for option in &mount.options {
        let opposite = match option.strip_prefix("no") {
            Some(positive) => positive.to_owned(),
            None => format!("no{option}"),
        };
        let key = option.split('=').next().unwrap_or(option);
        options.retain(|o| *o != opposite && o.split('=').next() != Some(key));
        if !matches!(option.as_str(), "exec" | "suid" | "dev" | "rw") {
            options.push(option.clone());
        }
    }
    Mount {
        destination: mount.target.clone(),
        kind: "tmpfs".to_owned(),
        source: "tmpfs".to_owned(),
        options,
        ..Mount::default()
    }
}
