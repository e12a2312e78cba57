//! Tasks: running containers as the runtime has them. The one place that speaks to the launcher and
//! to shims.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use berth_runtime::launcher::{Launcher, UserNamespace};
use berth_runtime::task::{
    AttachOptions, Event, Events, ExecSpec, ExitStatus, LogSpec, Reconnected, RuntimeProgram,
    TaskFds, TaskSpec,
};
use berth_spec::oci::runtime::{Process, Spec};
use jiff::Timestamp;

use crate::container::log_driver::Target;
use crate::container::log_file::LogFile;
use crate::container::record::Attaching;
use crate::crossing::blocking;
use crate::exec::registry::Execs;
use crate::ids::IdMaps;
use crate::readiness::readable;
use crate::{Error, ErrorKind, Result};

/// Before a shim is asked again for its news.
const LISTEN_AGAIN: Duration = Duration::from_millis(50);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    /// 128 + n after signal n.
    pub code: i64,
    pub signal: Option<i32>,
    /// The kernel killed something of it for want of memory.
    pub oom: bool,
    /// Nobody was there; the code is made up.
    pub unseen: bool,
    pub at: Timestamp,
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        Self {
            code: i64::from(status.code),
            signal: status.signal,
            oom: status.oom_killed,
            unseen: false,
            at: status.at,
        }
    }
}

/// What a task is made of.
pub(crate) struct TaskRequest {
    pub id: String,
    /// The shim's socket and the exit file lie here.
    pub dir: PathBuf,
    pub spec: Spec,
    /// A detached mount.
    pub root: OwnedFd,
    /// The sandbox; none in the host's network.
    pub netns: Option<OwnedFd>,
    /// The user namespace; none where it is the host's.
    pub userns: Option<OwnedFd>,
    /// Detached mounts or `O_PATH` handles, by position in the document's mounts.
    pub sources: Vec<(usize, OwnedFd)>,
    /// Another OCI runtime than berth's own.
    pub runtime: Option<RuntimeProgram>,
    pub open_stdin: bool,
    pub stdin_once: bool,
    /// The runtime's own init comes before the program.
    pub init: bool,
    pub log: Target,
    /// Clients that are there from the first byte on.
    pub attaching: Vec<Attaching>,
}

/// A further process in a container.
pub(crate) struct ExecRequest {
    pub id: String,
    pub process: Process,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// Makes tasks.
#[derive(Clone)]
pub(crate) struct Tasks(Arc<Launcher>);

/// A running container.
pub(crate) struct Task(berth_runtime::task::Task);

/// What became of a task while the engine was away.
pub(crate) enum Found {
    Running(Task),
    Exited(Exit),
    /// Nothing is known of it.
    Gone,
}

impl From<berth_runtime::Error> for Error {
    fn from(error: berth_runtime::Error) -> Self {
        use berth_runtime::ErrorKind as Run;
        let kind = match error.kind() {
            Run::ProgramNotFound | Run::ProgramNotExecutable | Run::Invalid => ErrorKind::Invalid,
            Run::Gone | Run::Conflict => ErrorKind::Conflict,
            Run::Internal => ErrorKind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

/// An error of the runtime; where it is the program that cannot be run, with `around` in front.
fn program_error(error: berth_runtime::Error, around: &str) -> Error {
    use berth_runtime::ErrorKind as Run;
    let program = matches!(
        error.kind(),
        Run::ProgramNotFound | Run::ProgramNotExecutable
    );
    let error = Error::from(error);
    match program {
        true => error.context(around),
        false => error,
    }
}

impl Tasks {
    pub fn new(launcher: Launcher) -> Self {
        Self(Arc::new(launcher))
    }

    /// Makes a user namespace, and with `network` a network namespace that belongs to it. Blocks.
    pub fn user_namespace(&self, maps: &IdMaps, network: bool) -> Result<UserNamespace> {
        let made = self.0.user_namespace(&maps.uids, &maps.gids, network);
        made.map_err(|error| Error::from(error).context("cannot make a user namespace"))
    }

    /// Starts a container; returns when its program has been executed. Blocks.
    pub fn spawn(&self, request: TaskRequest) -> Result<Task> {
        let log = match request.log.file {
            None => LogSpec::None,
            Some(LogFile {
                path,
                max_size,
                max_file,
                attributes,
            }) => LogSpec::JsonFile {
                path,
                max_size,
                max_file,
                attributes,
            },
        };
        let spec = TaskSpec {
            id: request.id,
            dir: request.dir,
            spec: request.spec,
            open_stdin: request.open_stdin,
            stdin_once: request.stdin_once,
            log,
            forward: request.log.forward,
            runtime: request.runtime,
            wait_for_start: false,
            init: request.init,
        };
        let attach = request
            .attaching
            .into_iter()
            .map(|a| {
                let options = AttachOptions {
                    stdin: a.stdin,
                    stdout: a.stdout,
                    stderr: a.stderr,
                };
                (options, a.stream)
            })
            .collect();
        let fds = TaskFds {
            root: request.root,
            netns: request.netns,
            userns: request.userns,
            sources: request.sources,
            attach,
        };
        // The words around are Docker's: people and programs look for them.
        self.0.spawn(spec, fds).map(Task).map_err(|error| {
            program_error(error, "unable to start container process: error during container init").context(
                "failed to create task for container: failed to create shim task: OCI runtime create failed",
            )
        })
    }

    /// How further processes of a task that has ended had ended, where nobody was there to hear it; by
    /// their IDs. Blocks.
    pub fn exec_exits(&self, dir: &Path) -> Vec<(String, i64)> {
        let exits = berth_runtime::task::exec_exits(dir).unwrap_or_else(|error| {
            tracing::warn!(dir = %dir.display(), %error, "what became of execs cannot be read");
            Vec::new()
        });
        let code = |(id, status): (String, ExitStatus)| (id, i64::from(status.code));
        exits.into_iter().map(code).collect()
    }

    /// Finds a task again by its directory. Blocks.
    pub fn reconnect(&self, dir: &Path) -> Result<Found> {
        if !dir.exists() {
            // The machine was started anew.
            return Ok(Found::Gone);
        }
        Ok(match berth_runtime::task::Task::reconnect(dir)? {
            Reconnected::Running(task) => Found::Running(Task(task)),
            Reconnected::Exited(status) => Found::Exited(status.into()),
        })
    }
}

impl Task {
    /// Its first process, in this process's PID namespace.
    pub fn pid(&self) -> i32 {
        self.0.pid()
    }

    /// Further processes that ran when the task was found again.
    pub fn execs(&self) -> impl Iterator<Item = (String, i32)> {
        self.0.execs().iter().cloned()
    }

    /// Codes of further processes that had ended by then.
    pub fn ended_execs(&self) -> impl Iterator<Item = (String, i64)> {
        let ended = self.0.ended_execs().iter();
        ended.map(|(id, status)| (id.clone(), i64::from(status.code)))
    }

    /// What could not be done as asked.
    pub fn warnings(&self) -> &[String] {
        self.0.warnings()
    }

    /// Sends a signal to the first process. Blocks.
    pub fn kill(&self, signal: i32) -> Result<()> {
        Ok(self.0.kill(signal)?)
    }

    /// Waits until the first process has ended. Blocks.
    pub fn wait(&self) -> Result<()> {
        self.0.wait()?;
        Ok(())
    }

    /// Sets the terminal's size in characters. Blocks.
    pub fn resize(&self, height: u16, width: u16) -> Result<()> {
        Ok(self.0.resize(width, height)?)
    }

    /// A stream of the process's output, framed unless it has a terminal; what is written to it is
    /// the process's input. Blocks.
    pub fn attach(&self, stdin: bool, stdout: bool, stderr: bool) -> Result<OwnedFd> {
        Ok(self.0.attach(AttachOptions {
            stdin,
            stdout,
            stderr,
        })?)
    }

    /// Runs a further process; its PID, and its stream if anything of it is attached. Blocks.
    pub fn exec(&self, request: ExecRequest) -> Result<(i32, Option<OwnedFd>)> {
        let exec = self.0.exec(ExecSpec {
            id: request.id,
            process: request.process,
            attach: AttachOptions {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
            },
        });
        let exec = exec.map_err(|error| {
            program_error(error, "unable to start container process")
                .context("OCI runtime exec failed: exec failed")
        })?;
        Ok((exec.pid, exec.stream))
    }

    /// Sets the size of the terminal of a further process. Blocks.
    pub fn resize_exec(&self, exec: &str, height: u16, width: u16) -> Result<()> {
        Ok(self.0.resize_exec(exec, width, height)?)
    }

    /// Waits until the first process has ended; tells `execs` of further processes that end before.
    pub async fn exited(self: &Arc<Self>, execs: &Execs) -> Exit {
        loop {
            let error = match self.events().await {
                Ok((events, ready)) => match listen(events, ready, execs).await {
                    Ok(exit) => return exit,
                    Err(error) => error,
                },
                // No descriptors, as a rule: that passes, and nobody has ended.
                Err(error) if self.lives() => {
                    tracing::warn!(pid = self.pid(), %error, "a shim is listened to again soon");
                    tokio::time::sleep(LISTEN_AGAIN).await;
                    continue;
                }
                Err(error) => error,
            };
            tracing::warn!(pid = self.pid(), %error, "a shim cannot be listened to");
            return self.waited().await;
        }
    }

    async fn events(self: &Arc<Self>) -> Result<(Events, OwnedFd)> {
        let task = self.clone();
        let events = move || {
            let events = task.0.events()?;
            let ready = events.as_fd().try_clone_to_owned();
            let ready = ready
                .and_then(|fd| events.set_nonblocking().map(|()| fd))
                .map_err(|e| Error::io("cannot listen to a shim", e))?;
            Ok::<_, Error>((events, ready))
        };
        blocking(events).await
    }

    /// Whether the first process is there.
    fn lives(&self) -> bool {
        let pid = rustix::process::Pid::from_raw(self.pid());
        pid.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
    }

    /// Waits on a thread of its own.
    async fn waited(self: &Arc<Self>) -> Exit {
        let task = self.clone();
        match blocking(move || task.0.wait()).await {
            Ok(status) => status.into(),
            Err(_) => ExitStatus::killed(9).into(),
        }
    }
}

async fn listen(mut events: Events, ready: OwnedFd, execs: &Execs) -> Result<Exit> {
    let failed = |e| Error::io("cannot listen to a shim", e);
    let ready = readable(ready).map_err(failed)?;
    loop {
        match events.next() {
            Ok(Some(Event::Exit(status))) => return Ok(status.into()),
            Ok(Some(Event::ExecExit { id, status })) => execs.ended(&id, status.into()),
            Ok(None) => return Err(Error::internal("the shim's events are over")),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                ready.readable().await.map_err(failed)?.clear_ready();
            }
            Err(e) => return Err(failed(e)),
        }
    }
}
