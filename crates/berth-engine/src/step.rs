//! Steps: one process over a snapshot, without a container's record. What a build runs.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use berth_spec::docker::config::{HostConfig, Ulimit};
use berth_spec::docker::{ContainerConfig, Frame, StreamKind, Words};
use berth_spec::oci::runtime::Mount;
use berth_sys::mount;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::container::host_files::{self, HostFiles};
use crate::container::launch::make_work_dir;
use crate::container::log_driver::Target;
use crate::container::plan::spec::{self, Facts};
use crate::container::plan::user::Accounts;
use crate::container::plan::{
    NetworkMode, SecurityOptions, bound_processes, check_limits, linux_resources, rlimits,
};
use crate::container::profile;
use crate::container::record::{Attaching, Record};
use crate::container::sources::Handles;
use crate::container::stream_of;
use crate::container::users::{self, Users};
use crate::crossing::blocking;
use crate::exec::registry::Execs;
use crate::task::{Exit, Task, TaskRequest};
use crate::undo::Undo;
use crate::volume::registry::make_dir;
use crate::{Engine, Error, Result};

/// A process to run over a snapshot.
#[derive(Debug, Clone, Default)]
pub struct StepRequest {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The snapshot that is its root, by its key in the store.
    pub snapshot: String,
    /// The program, found along `PATH` of `env`, and its arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Absolute; made where it is missing.
    pub cwd: String,
    /// `name`, `uid`, `user:group`; empty for root.
    pub user: String,
    /// A network mode; empty for the default network.
    pub network: String,
    /// `name:address`, more lines of `/etc/hosts`.
    pub extra_hosts: Vec<String>,
    /// Mounted in this order.
    pub mounts: Vec<StepMount>,
    /// Limits: memory, processor and so on, as of a container. The rest is ignored.
    pub limits: HostConfig,
    /// Limits of its processes.
    pub ulimits: Vec<Ulimit>,
    /// Bytes of `/dev/shm`; 0 for the default.
    pub shm_size: u64,
    /// As `--security-opt` of a container.
    pub security_opt: Vec<String>,
    /// Every privilege (`RUN --security=insecure`).
    pub privileged: bool,
}

/// Something mounted for the time of a step.
#[derive(Debug, Clone)]
pub enum StepMount {
    /// A file or directory: an `O_PATH` handle, or the root of a detached mount.
    Bind {
        source: Arc<OwnedFd>,
        /// Absolute, inside the root.
        target: String,
        read_only: bool,
        /// What the source is of, where that is a stack of layers: its owners can be mapped only by
        /// mounting it once more.
        tree: Option<StepTree>,
    },
    /// An empty tmpfs.
    Tmpfs {
        /// Absolute, inside the root.
        target: String,
        /// Bytes; 0 for no bound of its own.
        size: u64,
    },
}

/// Something in layers of the store.
#[derive(Debug, Clone, Default)]
pub struct StepTree {
    /// A snapshot, which is written to; else `layers` are looked at.
    pub snapshot: Option<String>,
    /// Lowest first.
    pub layers: Vec<berth_spec::Digest>,
    /// What of it is meant; empty for all.
    pub path: std::path::PathBuf,
}

/// What the process writes, piece by piece.
pub type StepOutput = mpsc::Sender<(StreamKind, Bytes)>;

/// Bytes of one piece.
const PIECE: usize = 32 << 10;

/// Runs the process to its end and answers its exit code (128 + n after signal n). Once `cancel`
/// fires it is killed, and this returns when nothing of it is left. The engine's end, and a caller
/// that is gone, are the same as `cancel`.
pub async fn run(
    engine: &Engine,
    request: StepRequest,
    output: StepOutput,
    cancel: CancellationToken,
) -> Result<i32> {
    let gone = cancel.child_token();
    let _caller = gone.clone().drop_guard();
    // The engine's end waits for it, whatever becomes of the caller.
    let step = to_its_end(engine.clone(), request, output, gone);
    match engine.0.sweeps.spawn(step).await {
        Ok(ended) => ended,
        Err(error) => Err(Error::internal(format!("a step failed: {error}"))),
    }
}

async fn to_its_end(
    engine: Engine,
    request: StepRequest,
    output: StepOutput,
    cancel: CancellationToken,
) -> Result<i32> {
    let engine = &engine;
    if engine.0.leaving.is_cancelled() {
        return Err(Error::new(
            crate::ErrorKind::Unavailable,
            "the engine is ending",
        ));
    }
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()
        .map_err(|e| Error::io("cannot make a stream for a step", e))?;
    let stream = stream_of(ours.into())?;
    let started = {
        let engine = engine.clone();
        blocking(move || start(&engine, request, theirs.into())).await?
    };
    let Started { task, undo } = started;
    let task = Arc::new(task);
    let execs = Execs::default();
    let stop = async {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = engine.0.leaving.cancelled() => {}
        }
    };
    let ended = end(&task, &execs, stop);
    // All output has been passed on before the end is told.
    let (exit, passed) = tokio::join!(ended, pass(stream, &output));
    berth_sys::fail_point("step.ended");
    // The sandbox goes, and the directory; what could not be undone is logged there.
    blocking(move || {
        drop(undo);
        Ok::<_, Error>(())
    })
    .await?;
    passed?;
    if engine.0.leaving.is_cancelled() {
        return Err(Error::new(
            crate::ErrorKind::Unavailable,
            "the engine is ending",
        ));
    }
    Ok(i32::try_from(exit.code).unwrap_or(255))
}

/// Waits for the end, and brings it about once `stop` is over.
async fn end(task: &Arc<Task>, execs: &Execs, stop: impl Future<Output = ()>) -> Exit {
    let exited = task.exited(execs);
    tokio::pin!(exited);
    tokio::select! {
        exit = &mut exited => return exit,
        () = stop => {}
    }
    let killed = task.clone();
    if let Err(error) = blocking(move || killed.kill(9)).await {
        // It ended by itself meanwhile, as a rule.
        tracing::debug!(%error, "a step could not be killed");
    }
    exited.await
}

/// Takes the frames of the output apart. A reader that left stops nothing.
async fn pass(mut stream: impl AsyncRead + Unpin, output: &StepOutput) -> Result<()> {
    let mut header = [0; 8];
    while stream.read_exact(&mut header).await.is_ok() {
        let Some(frame) = Frame::decode(header) else {
            return Err(Error::internal("the output of a step is not framed"));
        };
        let mut left = frame.length as usize;
        while left > 0 {
            let mut piece = vec![0; left.min(PIECE)];
            if stream.read_exact(&mut piece).await.is_err() {
                return Ok(());
            }
            left -= piece.len();
            let _ = output.send((frame.kind, piece.into())).await;
        }
    }
    Ok(())
}

/// A step that runs, with what it holds.
struct Started {
    task: Task,
    undo: Undo,
}

fn start(engine: &Engine, request: StepRequest, stream: OwnedFd) -> Result<Started> {
    let mut undo = Undo::new();
    let record = record(&request)?;
    check_limits(&record.host, engine.0.defaults.machine)?;
    let network = NetworkMode::parse(&record.host.network_mode)?;
    let dir = engine.task_dir(&request.id);
    make_dir(&dir, 0o700)?;
    undo.push({
        let dir = dir.clone();
        move || {
            std::fs::remove_dir_all(&dir)
                .map_err(|e| Error::io(format_args!("cannot remove {}", dir.display()), e))
        }
    });
    let mut users = users::prepare(engine, &record, &network)?;
    let own = users.as_mut().and_then(|users| users.network.take());
    let (netns, sandbox) = join(engine, &record, &network, own, &mut undo)?;
    let snapshots = engine.0.store.snapshots();
    let mut root = snapshots.mount_as(&request.snapshot, users::mount_options(None, true)?)?;
    let inside = root.root()?;
    let user = Accounts::read(&inside)?.resolve(&request.user, &[])?;
    make_work_dir(&inside, &spec::cwd(&record.config))?;
    drop(inside);
    if users.is_some() {
        // As of a container: that mount was ours.
        drop(root);
        let options = users::mount_options(users.as_ref(), true)?;
        root = snapshots.mount_as(&request.snapshot, options)?;
    }
    let files = host_files::write(engine, &record, &network, sandbox.as_ref(), &dir)?;
    let (mounts, handles) = mounts(engine, &request, &record, &files, users.as_ref())?;
    let security = SecurityOptions::parse(&request.security_opt)?;
    let capabilities = spec::capabilities(&record.host, request.privileged)?;
    let facts = Facts {
        user,
        ids: users.as_ref().map(|users| users.maps.clone()),
        cgroup_path: engine.cgroup_path(&record),
        resources: bound_processes(
            linux_resources(&record.host, &|path| {
                Err(Error::invalid(format!(
                    "a step has no limits of the device {path}"
                )))
            })?,
            engine.0.defaults.pids_limit,
        ),
        seccomp: profile::seccomp(&security.seccomp, request.privileged, capabilities)?,
        rlimits: rlimits(&request.ulimits, &engine.0.defaults.ulimits)?,
        more_masked: engine.0.settings.thermal_paths.clone(),
        mounts,
        ..Facts::default()
    };
    let spec = spec::build(&record.config, &record.host, facts)?;
    let sources = handles.place(&spec);
    let task = engine.0.tasks.spawn(TaskRequest {
        id: request.id,
        dir,
        spec,
        root: root.into_fd(),
        netns,
        userns: users.map(|users| users.namespace),
        sources,
        open_stdin: false,
        stdin_once: false,
        runtime: None,
        init: false,
        log: Target {
            file: None,
            forward: None,
        },
        attaching: vec![Attaching {
            stream,
            stdin: false,
            stdout: true,
            stderr: true,
        }],
    })?;
    berth_sys::fail_point("step.running");
    Ok(Started { task, undo })
}

/// The step as a container would be described.
fn record(request: &StepRequest) -> Result<Record> {
    let texts = request
        .args
        .iter()
        .chain(&request.env)
        .chain(&request.extra_hosts);
    if texts
        .chain([&request.cwd, &request.user])
        .any(|t| t.contains('\0'))
    {
        return Err(Error::invalid("invalid step: contains a NUL byte"));
    }
    if request.args.is_empty() {
        return Err(Error::invalid("no command specified"));
    }
    let network_mode = match request.network.as_str() {
        "" | "default" => "bridge",
        mode => mode,
    };
    let mut host = HostConfig {
        network_mode: network_mode.to_owned(),
        extra_hosts: Some(request.extra_hosts.clone()),
        security_opt: Some(request.security_opt.clone()),
        privileged: request.privileged,
        shm_size: i64::try_from(request.shm_size).unwrap_or(0),
        ..request.limits.clone()
    };
    if !request.privileged {
        host.masked_paths = Some(berth_runtime::defaults::masked_paths());
        host.readonly_paths = Some(berth_runtime::defaults::readonly_paths());
    }
    crate::container::plan::adapt_limits(&mut host);
    Ok(Record {
        id: request.id.clone(),
        name: request.id.chars().take(12).collect(),
        config: ContainerConfig {
            hostname: request.id.chars().take(12).collect(),
            user: request.user.clone(),
            env: Some(request.env.clone()),
            cmd: Some(Words(request.args.clone())),
            working_dir: request.cwd.clone(),
            ..ContainerConfig::default()
        },
        host,
        ..Record::default()
    })
}

type Joined = (Option<OwnedFd>, Option<berth_network::SandboxRecord>);

/// The network of a step; a sandbox of its own goes with it.
fn join(
    engine: &Engine,
    record: &Record,
    mode: &NetworkMode,
    netns: Option<OwnedFd>,
    undo: &mut Undo,
) -> Result<Joined> {
    let mut record = record.clone();
    if let NetworkMode::Network(name) = mode {
        engine.0.networks.get(name)?;
        record.networks.insert(name.clone(), Default::default());
    }
    let joined = crate::container::sandbox::join(engine, &record, mode, netns, undo)?;
    Ok((joined.netns, joined.sandbox))
}

/// What is mounted for a source: in a user namespace, with its owners mapped. A file system that knows
/// no such mounts shows nobody as the owner, as it does with Docker.
fn handle(
    engine: &Engine,
    source: &OwnedFd,
    tree: Option<&StepTree>,
    users: Option<&Users>,
) -> Result<OwnedFd> {
    let failed = |e| Error::io("cannot hand over a mount", e);
    let Some(users) = users else {
        return source.try_clone().map_err(failed);
    };
    let owners = users.owners()?;
    let Some(tree) = tree else {
        let copy = mount::clone_handle(source, true).map_err(failed)?;
        let change = mount::Attributes {
            idmap: Some(owners.namespace),
            ..mount::Attributes::default()
        };
        if let Err(error) = mount::set_attributes(&copy, false, &change) {
            tracing::debug!(%error, "the owners of a mount of a build step are not mapped");
        }
        return Ok(copy);
    };
    let snapshots = engine.0.store.snapshots();
    let root = match &tree.snapshot {
        Some(key) => snapshots.mount_as(key, users::mount_options(Some(users), true)?)?,
        None => snapshots.view_mapped(&tree.layers, &owners)?,
    };
    if tree.path.as_os_str().is_empty() {
        return Ok(root.into_fd());
    }
    let part = root.root()?.handle(&tree.path).map_err(failed)?;
    mount::keep_part(root.fd(), part).map_err(failed)
}

fn mounts(
    engine: &Engine,
    request: &StepRequest,
    record: &Record,
    files: &HostFiles,
    users: Option<&Users>,
) -> Result<(Vec<Mount>, Handles)> {
    let mut handles = Handles::default();
    let mut mounts = host_files::mounts(record, files, users.is_some());
    for mount in &request.mounts {
        mounts.push(match mount {
            StepMount::Bind {
                source,
                target,
                read_only,
                tree,
            } => {
                let handle = handle(engine, source, tree.as_ref(), users)?;
                let mut options = vec!["rbind".to_owned(), "rprivate".to_owned()];
                if *read_only {
                    options.extend(["ro".to_owned(), "rro".to_owned()]);
                }
                Mount {
                    destination: target.clone(),
                    kind: "bind".to_owned(),
                    source: handles.add(handle),
                    options,
                    ..Mount::default()
                }
            }
            StepMount::Tmpfs { target, size } => {
                let mut options = ["nosuid", "nodev"].map(str::to_owned).to_vec();
                if *size > 0 {
                    options.push(format!("size={size}"));
                }
                Mount {
                    destination: target.clone(),
                    kind: "tmpfs".to_owned(),
                    source: "tmpfs".to_owned(),
                    options,
                    ..Mount::default()
                }
            }
        });
    }
    Ok((mounts, handles))
}
