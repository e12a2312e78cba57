//! From a record to a running task, step by step; what was acquired is given back when a later step
//! fails. Blocks.

use std::path::Path;
use std::sync::Arc;

use berth_network::SandboxRecord;
use berth_spec::docker::ContainerConfig;
use berth_spec::oci::runtime::Spec;
use berth_sys::root::RootFd;

use super::log_driver;
use super::plan::spec::{self, Facts};
use super::plan::user::Accounts;
use super::plan::{
    JoinedMode, NetworkMode, SecurityOptions, bound_processes, linux_resources, rlimits,
};
use super::record::{Attaching, Container, Record};
use super::sandbox::Joined;
use super::sources::Handles;
use super::users::{self, Users};
use super::{cdi, device, foreign, host_files, init, profile, sandbox, sources};
use crate::ids::IdMaps;
use crate::task::{Task, TaskRequest};
use crate::undo::Undo;
use crate::volume::registry::make_dir;
use crate::{Engine, Error, Result};

/// A container that runs now.
pub(super) struct Launched {
    pub task: Task,
    pub sandbox: Option<SandboxRecord>,
    pub sandbox_key: String,
    /// Of its user namespace.
    pub ids: Option<IdMaps>,
    /// With the host name that it has in the end.
    pub config: ContainerConfig,
}

/// Runs the container.
pub(super) fn launch(
    engine: &Engine,
    container: &Arc<Container>,
    attaching: Vec<Attaching>,
) -> Result<Launched> {
    let mut record = container.snapshot();
    let mut undo = Undo::new();
    let network = NetworkMode::parse(&record.host.network_mode)?;
    take_shared_names(engine, &mut record, &network)?;
    let runtime = foreign::find(&record.host.runtime, &engine.0.settings.runtimes)?;
    let mut users = users::prepare(engine, &record, &network)?;
    if users.is_some() && runtime.is_some() {
        return Err(Error::invalid(format!(
            "the runtime {} runs no containers in user namespaces here: use --userns=host",
            record.host.runtime
        )));
    }
    let netns = users.as_mut().and_then(|users| users.network.take());
    let joined = sandbox::join(engine, &record, &network, netns, &mut undo)?;
    berth_sys::fail_point("container.start.network");
    let snapshots = engine.0.store.snapshots();
    // What it writes goes with it: nothing of that need ever reach the disk.
    let volatile = record.host.auto_remove;
    let mut root = snapshots.mount_as(&record.id, users::mount_options(None, volatile)?)?;
    let inside = root.root()?;
    let parts = (&network, &joined, users.as_ref());
    let (mut spec, handles) = document(engine, &record, &inside, parts)?;
    let with_init = record.host.init == Some(true);
    let init_path = engine.0.settings.init_path.as_deref();
    if let Some(program) = init_path.filter(|_| with_init) {
        init::add(&mut spec, program)?;
    }
    drop(inside);
    if users.is_some() {
        // What we made in it was made by us: the other mount knows only the container's users.
        drop(root);
        root = snapshots.mount_as(&record.id, users::mount_options(users.as_ref(), volatile)?)?;
    }
    berth_sys::fail_point("container.start.mounted");
    let sources = handles.place(&spec);
    let log = log_driver::target(&record, &engine.container_dir(&record.id))?;
    let dir = engine.task_dir(&record.id);
    make_dir(&dir, 0o700)?;
    berth_sys::fail_point("container.start.directory");
    let Joined {
        netns,
        sandbox,
        sandbox_key,
    } = joined;
    let (userns, ids) = users.map(|users| (users.namespace, users.maps)).unzip();
    let task = engine.0.tasks.spawn(TaskRequest {
        id: record.id.clone(),
        dir,
        spec,
        root: root.into_fd(),
        netns,
        userns,
        sources,
        open_stdin: record.config.open_stdin,
        stdin_once: record.config.stdin_once,
        runtime,
        init: with_init && init_path.is_none(),
        log,
        attaching,
    })?;
    berth_sys::fail_point("container.start.spawned");
    undo.keep();
    Ok(Launched {
        task,
        sandbox,
        sandbox_key,
        ids,
        config: record.config,
    })
}

/// The host name of a container that shares a network is that of its owner.
fn take_shared_names(engine: &Engine, record: &mut Record, network: &NetworkMode) -> Result<()> {
    match network {
        NetworkMode::Container(id) => {
            let other = running(engine, id, "network")?;
            record.config.hostname = other.read(|r| r.config.hostname.clone());
        }
        NetworkMode::Host if record.config.hostname.is_empty() => {
            record.config.hostname = host_name();
        }
        _ if record.config.hostname.is_empty() => record.config.hostname = host_name(),
        _ => {}
    }
    Ok(())
}

/// This machine's name.
pub(super) fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// A container whose namespace is to be joined; Docker's words where it does not run.
pub(super) fn running(engine: &Engine, id: &str, what: &str) -> Result<Arc<Container>> {
    let container = engine.0.containers.find(id)?;
    if !container.status().alive() {
        return Err(Error::conflict(format!(
            "cannot join {what} namespace of a non running container: container {} is {}",
            container.id,
            container.status().as_str()
        )));
    }
    Ok(container)
}

fn namespace_of(
    engine: &Engine,
    mode: &JoinedMode,
    what: &str,
    file: &str,
) -> Result<Option<String>> {
    let JoinedMode::Container(id) = mode else {
        return Ok(None);
    };
    let task = running(engine, id, what)?.task()?;
    Ok(Some(format!("/proc/{}/ns/{file}", task.pid())))
}

/// The OCI document, and what is mounted by handle.
fn document(
    engine: &Engine,
    record: &Record,
    root: &RootFd,
    (network, joined, users): (&NetworkMode, &Joined, Option<&Users>),
) -> Result<(Spec, Handles)> {
    let (config, host) = (&record.config, &record.host);
    let add = host.group_add.as_deref().unwrap_or_default();
    let mut user = Accounts::read(root)?.resolve(&config.user, add)?;
    make_work_dir(root, &spec::cwd(config))?;
    mark(root)?;
    let dir = engine.container_dir(&record.id);
    let files = host_files::write(engine, record, network, joined.sandbox.as_ref(), &dir)?;
    let (mut mounts, mut handles) = sources::find(engine, record, users)?;
    mounts.extend(host_files::mounts(record, &files, users.is_some()));
    let ipc = JoinedMode::ipc(&host.ipc_mode)?;
    sources::shared_memory(engine, &ipc, &mut mounts, &mut handles)?;
    let devices = device::find(host)?;
    let additions = cdi::additions(host, &engine.0.settings.cdi_dirs)?;
    mounts.extend(additions.mounts.iter().cloned());
    user.groups.extend(&additions.groups);
    let security = SecurityOptions::parse(host.security_opt.as_deref().unwrap_or_default())?;
    let capabilities = spec::capabilities(host, host.privileged)?;
    let facts = Facts {
        user,
        pid_namespace: namespace_of(engine, &JoinedMode::pid(&host.pid_mode)?, "PID", "pid")?,
        ipc_namespace: namespace_of(engine, &ipc, "IPC", "ipc")?,
        ids: users.map(|users| users.maps.clone()),
        cgroup_path: engine.cgroup_path(record),
        resources: bound_processes(
            linux_resources(host, &device::numbers)?,
            engine.0.defaults.pids_limit,
        ),
        additions,
        devices: devices.nodes,
        device_rules: devices.rules,
        seccomp: profile::seccomp(&security.seccomp, host.privileged, capabilities)?,
        rlimits: rlimits(
            host.ulimits.as_deref().unwrap_or_default(),
            &engine.0.defaults.ulimits,
        )?,
        more_masked: engine.0.settings.thermal_paths.clone(),
        mounts,
    };
    Ok((spec::build(config, host, facts)?, handles))
}

/// What every container of Docker has: `/.dockerenv`, by which programs tell that they are in one, and
/// `/etc/mtab`. Neither shows in `diff`, nor goes into a commit. Where the image has something else it stays.
fn mark(root: &RootFd) -> Result<()> {
    let failed = |name: &str, e: std::io::Error| Error::io(format_args!("cannot make {name}"), e);
    let env = Path::new("/.dockerenv");
    if root.stat_nofollow(env).is_err() {
        root.create_file(env, 0o755)
            .map_err(|e| failed("/.dockerenv", e))?;
    }
    let mtab = Path::new("/etc/mtab");
    if root.stat_nofollow(mtab).is_err() {
        root.mkdir_all(Path::new("/etc"), 0o755)
            .map_err(|e| failed("/etc", e))?;
        let (etc, name) = root.parent(mtab).map_err(|e| failed("/etc/mtab", e))?;
        rustix::fs::symlinkat("/proc/mounts", &etc, name)
            .map_err(|e| failed("/etc/mtab", e.into()))?;
    }
    Ok(())
}

/// Makes the working directory where the image has none. A read-only root has what it has.
pub(crate) fn make_work_dir(root: &RootFd, cwd: &str) -> Result<()> {
    let path = Path::new(cwd);
    match root.stat(path) {
        Ok(stat) if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() => Ok(()),
        Ok(_) => Err(Error::invalid(format!(
            "Cannot mkdir: {cwd} is not a directory"
        ))),
        Err(_) => root
            .mkdir_all(path, 0o755)
            .map(drop)
            .map_err(|e| Error::io(format_args!("cannot make the working directory {cwd}"), e)),
    }
}

impl Engine {
    /// The cgroup of a container.
    pub(crate) fn cgroup_path(&self, record: &Record) -> String {
        let parent = match record.host.cgroup_parent.as_str() {
            "" => self.0.settings.cgroup_parent.as_str(),
            parent => parent,
        };
        format!("/{}/{}", parent.trim_matches('/'), record.id)
    }
}
