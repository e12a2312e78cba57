//! The engine's end of the connection to a shim.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use berth_sys::socket;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{AttachOptions, Events, ExecSpec, ExitStatus};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::process::start_time;
use crate::shim::protocol::{self, Reply, Request, Status};

/// A container's process, and the shim that looks after it. Dropping it changes nothing.
#[derive(Debug)]
pub struct Task {
    dir: PathBuf,
    status: Status,
    /// The connection of the start, until somebody wants events.
    first: Mutex<Option<OwnedFd>>,
}

/// What is found of a container that ran before the engine was started.
#[derive(Debug)]
pub enum Reconnected {
    Running(Task),
    /// It has ended meanwhile.
    Exited(ExitStatus),
}

/// A further process in a container.
#[derive(Debug)]
pub struct Exec {
    /// In the engine's PID namespace.
    pub pid: i32,
    /// Where something was to be attached: behaves as what [`Task::attach`] returns.
    pub stream: Option<OwnedFd>,
    pub warnings: Vec<String>,
}

impl Task {
    pub(crate) fn new(dir: PathBuf, status: Status, connection: OwnedFd) -> Self {
        Self {
            dir,
            status,
            first: Mutex::new(Some(connection)),
        }
    }

    /// Finds the container of a directory again. A process whose shim is gone is ended.
    pub fn reconnect(dir: &Path) -> Result<Reconnected> {
        let exited = |status| Ok(Reconnected::Exited(status));
        match call(dir, &Request::Events) {
            Ok((Reply::Status(status), connection)) => match status.exit {
                Some(exit) => exited(exit),
                None => Ok(Reconnected::Running(Self::new(
                    dir.to_owned(),
                    status,
                    connection,
                ))),
            },
            Ok(_) => Err(Error::internal(
                "the shim gave an answer to another question",
            )),
            Err(error) if error.kind() == ErrorKind::Gone => {
                match ExitStatus::read(dir)
                    .context(|| format!("exit status in {}", dir.display()))?
                {
                    Some(status) => exited(status),
                    None => exited(ExitStatus::killed(Signal::KILL.as_raw())),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Of the container's first process, in the engine's PID namespace.
    pub fn pid(&self) -> i32 {
        self.status.pid
    }

    pub fn shim_pid(&self) -> i32 {
        self.status.shim_pid
    }

    /// Of the first process, in clock ticks after boot: with the PID it names the process for good.
    pub fn start_time(&self) -> u64 {
        self.status.start_time
    }

    /// Further processes that ran when the task was found again ([`Task::reconnect`]).
    pub fn execs(&self) -> &[(String, i32)] {
        &self.status.execs
    }

    /// Further processes that had ended by then, as far as the shim remembers them.
    pub fn ended_execs(&self) -> &[(String, ExitStatus)] {
        &self.status.exec_exits
    }

    /// What could not be done as asked at the start, and was done as far as it can be.
    pub fn warnings(&self) -> &[String] {
        &self.status.warnings
    }

    /// What happens from now on, after what has happened already. Each caller gets everything.
    pub fn events(&self) -> Result<Events> {
        let first = self.first.lock().ok().and_then(|mut first| first.take());
        let ended = Ended {
            dir: self.dir.clone(),
            pid: self.status.pid,
            start_time: self.status.start_time,
        };
        if let Some(connection) = first {
            return Ok(Events::new(connection, ended, &self.status));
        }
        match call(&self.dir, &Request::Events) {
            Ok((Reply::Status(status), connection)) => Ok(Events::new(connection, ended, &status)),
            Ok(_) => Err(Error::internal(
                "the shim gave an answer to another question",
            )),
            Err(error) if error.kind() == ErrorKind::Gone => {
                let (here, _) = socket::stream_pair().context(|| "socketpair".to_owned())?;
                Ok(Events::new(here, ended, &self.status))
            }
            Err(error) => Err(error),
        }
    }

    /// Waits for the end of the container's process.
    pub fn wait(&self) -> Result<ExitStatus> {
        self.events()?.wait()
    }

    /// Runs the program of a task that waits for it ([`TaskSpec::wait_for_start`](super::TaskSpec)).
    pub fn start(&self) -> Result<()> {
        done(call(&self.dir, &Request::Start)?.0)
    }

    /// Sends a signal to the container's first process.
    ///
    /// # Errors
    /// [`ErrorKind::Gone`] where it has ended.
    pub fn kill(&self, signal: i32) -> Result<()> {
        let gone = || Error::gone("process already finished");
        if !(1..=64).contains(&signal) {
            return Err(Error::invalid(format!("invalid signal: {signal}")));
        }
        let pidfd = self.pidfd().ok_or_else(gone)?;
        match berth_sys::process::send_signal(pidfd.as_fd(), signal) {
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
                Err(gone())
            }
            result => result.context(|| format!("signal {signal} to process {}", self.pid())),
        }
    }

    /// A descriptor of the first process; none once it is gone.
    pub fn pidfd(&self) -> Option<OwnedFd> {
        verified(self.status.pid, self.status.start_time)
    }

    /// Gives the terminal a new size, in characters.
    pub fn resize(&self, width: u16, height: u16) -> Result<()> {
        let request = Request::Resize {
            exec: None,
            width,
            height,
        };
        done(call(&self.dir, &request)?.0)
    }

    /// Gives the terminal of a further process a new size, in characters.
    pub fn resize_exec(&self, exec: &str, width: u16, height: u16) -> Result<()> {
        let request = Request::Resize {
            exec: Some(exec.to_owned()),
            width,
            height,
        };
        done(call(&self.dir, &request)?.0)
    }

    /// A stream socket from which output comes (with a terminal as it is, else in Docker's frames),
    /// and into which input goes. Shutting down its write side ends the client's input; closing it
    /// detaches. It ends when the container's output does.
    ///
    /// A client that reads nothing for a minute while output waits is cut off.
    pub fn attach(&self, options: AttachOptions) -> Result<OwnedFd> {
        let (reply, connection) = call(&self.dir, &Request::Attach(options))?;
        done(reply)?;
        Ok(connection)
    }

    /// Runs a further process; returns when the program has been executed.
    pub fn exec(&self, spec: ExecSpec) -> Result<Exec> {
        let attached = spec.attach != AttachOptions::default();
        match call(&self.dir, &Request::Exec(Box::new(spec)))? {
            (Reply::Running { pid, warnings }, connection) => Ok(Exec {
                pid,
                stream: attached.then_some(connection),
                warnings,
            }),
            (reply, _) => done(reply).and(Err(Error::internal(
                "the shim gave an answer to another question",
            ))),
        }
    }
}

/// Where the end of a process can be read when nobody tells it.
#[derive(Debug)]
pub(crate) struct Ended {
    dir: PathBuf,
    pid: i32,
    start_time: u64,
}

impl Ended {
    /// The exit file's word; without one the shim was killed, and the process with it.
    pub(crate) fn find(&self) -> ExitStatus {
        if let Ok(Some(status)) = ExitStatus::read(&self.dir) {
            return status;
        }
        if let Some(pidfd) = verified(self.pid, self.start_time) {
            // The kernel has most likely done so already (PR_SET_PDEATHSIG).
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
        ExitStatus::killed(Signal::KILL.as_raw())
    }
}

/// A descriptor of the process of that number, if it is still the one that started then.
fn verified(pid: i32, started: u64) -> Option<OwnedFd> {
    let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    (start_time(pid).ok()? == started).then_some(pidfd)
}

/// Asks a shim. Its socket may be used further, as the request says.
pub(crate) fn call(dir: &Path, request: &Request) -> Result<(Reply, OwnedFd)> {
    let absent = |e: io::Error| match e.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::NOENT | rustix::io::Errno::CONNREFUSED) => {
            Error::gone("the container is not running")
        }
        _ => Error::internal(format!("shim of {}: {e}", dir.display())),
    };
    let connection = socket::connect(&dir.join("shim.sock")).map_err(absent)?;
    protocol::send(&connection, request, &[]).map_err(lost)?;
    let (reply, _) = protocol::receive(connection.as_fd()).map_err(lost)?;
    match reply {
        Reply::Failed(error) => Err(error),
        reply => Ok((reply, connection)),
    }
}

/// The shim ended while it was asked.
fn lost(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset => Error::gone("the container is not running"),
        _ => Error::internal(format!("talking to the shim: {error}")),
    }
}

fn done(reply: Reply) -> Result<()> {
    match reply {
        Reply::Failed(error) => Err(error),
        Reply::Done => Ok(()),
        _ => Err(Error::internal(
            "the shim gave an answer to another question",
        )),
    }
}
