//! Further processes in the container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_spec::oci::runtime::NamespaceKind;
use rustix::event::PollFlags;
use rustix::process::Pid;

use super::foreign;
use super::protocol::{self, Reply};
use super::session::{Part, Session, Wanted};
use super::start::Container;
use crate::error::{Error, ErrorKind, Result};
use crate::init::{self, Started};
use crate::launcher::World;
use crate::task::{AttachOptions, ExecSpec};

/// Execs at once in one container.
const EXECS_MAX: usize = 4096;

/// One of them.
#[derive(Debug)]
pub(super) struct Exec {
    id: String,
    pub session: Session,
    started: Started,
    attach: AttachOptions,
    terminal: bool,
    /// Who asked, until the program runs.
    asking: Option<OwnedFd>,
    ended: bool,
}

impl Exec {
    /// Copies the shim into the container.
    pub fn start(
        world: &World,
        container: &Container,
        spec: ExecSpec,
        others: &Execs,
    ) -> Result<Self> {
        if others.0.len() >= EXECS_MAX {
            return Err(Error::internal("too many execs in this container"));
        }
        if others.find(&spec.id).is_some() {
            let text = format!("exec {} is running already", spec.id);
            return Err(Error::new(ErrorKind::Conflict, text));
        }
        let terminal = spec.process.terminal;
        let wanted = Wanted {
            terminal,
            stdin: spec.attach.stdin,
            stdin_once: true,
            stdout: spec.attach.stdout,
            stderr: spec.attach.stderr,
        };
        let (mut session, stdio) = Session::new(wanted, None)?;
        let mut started = match foreign::of(&container.task) {
            Some(foreign) => foreign.exec(&spec.process, stdio)?,
            None => init::exec::start(
                world,
                init::exec::Exec {
                    process: &spec.process,
                    filter: container.filter.as_ref(),
                    container: container.target(),
                    pid_namespace: container.pids.as_ref().map(AsFd::as_fd),
                    own_user: container.has(NamespaceKind::User),
                    own_time: container.has(NamespaceKind::Time),
                    cgroup: &container.cgroup,
                    below: &[],
                    stdio,
                    bound_to_parent: true,
                    preserve_fds: 0,
                    state: &|| container.state(),
                },
            )?,
        };
        started.channel.set_nonblocking()?;
        if let Some(master) = started.terminal.take() {
            session.set_terminal(master)?;
        }
        Ok(Self {
            id: spec.id,
            session,
            started,
            attach: spec.attach,
            terminal,
            asking: None,
            ended: false,
        })
    }

    /// Where is heard whether the program runs, until it is.
    pub fn channel(&self) -> Option<BorrowedFd<'_>> {
        self.asking.as_ref().map(|_| self.started.channel.as_fd())
    }
}

/// All of a container's.
#[derive(Debug, Default)]
pub(super) struct Execs(Vec<Exec>);

impl Execs {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those whose program runs.
    pub fn running(&self) -> Vec<(String, i32)> {
        let running = self.0.iter().filter(|e| !e.ended && e.asking.is_none());
        running
            .map(|e| (e.id.clone(), e.started.pid.as_raw_pid()))
            .collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = (usize, &Exec)> {
        self.0.iter().enumerate()
    }

    fn find(&self, id: &str) -> Option<&Exec> {
        self.0.iter().find(|e| e.id == id)
    }

    pub fn add(&mut self, mut exec: Exec, asking: OwnedFd) {
        exec.asking = Some(asking);
        self.0.push(exec);
    }

    pub fn tick(&mut self) {
        for exec in &mut self.0 {
            exec.session.tick();
        }
    }

    pub fn ready(&mut self, index: usize, part: Part, flags: PollFlags) {
        if let Some(exec) = self.0.get_mut(index) {
            exec.session.ready(part, flags);
        }
    }

    pub fn resize(&self, id: &str, width: u16, height: u16) -> bool {
        self.find(id)
            .is_some_and(|exec| exec.session.resize(width, height))
    }

    /// Hears whether a program runs, and answers who asked for it; their connection becomes the
    /// program's stream.
    pub fn progress(&mut self, index: usize) {
        let Some(exec) = self.0.get_mut(index) else {
            return;
        };
        let Some(socket) = exec.asking.take() else {
            return;
        };
        let running = init::exec::progress(&mut exec.started);
        let reply = match running {
            Ok(false) => {
                exec.asking = Some(socket);
                return;
            }
            Ok(true) => Reply::Running {
                pid: exec.started.pid.as_raw_pid(),
                warnings: std::mem::take(&mut exec.started.warnings),
            },
            Err(error) => {
                exec.ended = true;
                exec.session.end();
                Reply::Failed(error)
            }
        };
        let failed = matches!(reply, Reply::Failed(_));
        let sent = protocol::send(&socket, &reply, &[]).is_ok();
        if sent && !failed && exec.attach != AttachOptions::default() {
            exec.session.attach(socket, exec.attach, exec.terminal);
        }
    }

    /// A process has ended; answers the exec it was, if its program ran.
    pub fn ended(&mut self, pid: Pid) -> Option<String> {
        let index = self
            .0
            .iter()
            .position(|e| e.started.pid == pid && !e.ended)?;
        // It may have ended before its start was heard.
        self.progress(index);
        let exec = &mut self.0[index];
        if exec.ended {
            return None;
        }
        exec.ended = true;
        exec.session.end();
        Some(exec.id.clone())
    }

    /// Forgets those that have ended and whose clients have everything.
    pub fn sweep(&mut self) {
        self.0
            .retain_mut(|exec| !(exec.ended && exec.session.over()));
    }
}
