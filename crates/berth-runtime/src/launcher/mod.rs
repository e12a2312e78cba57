//! The process that starts containers.
//!
//! It is forked from the engine before the engine has threads and does one thing: for each request
//! it forks a shim. The shim reads what to start from a socket of its own, and answers on it, so that
//! starts do not wait for each other. The launcher holds nothing that could be lost, and ends with
//! the engine; shims go on.

mod server;
mod world;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_spec::oci::runtime::IdMapping;
use berth_sys::process::{self, Forked};
use berth_sys::socket;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::seccomp_filter;
use crate::shim::protocol::{self, IdMappings, Reply, Request, Spawn};
use crate::task::{Task, TaskFds, TaskSpec};

pub(crate) use world::World;

/// The engine's end. Calls may be made from any thread, and at once.
#[derive(Debug)]
pub struct Launcher {
    socket: OwnedFd,
    filters: seccomp_filter::Cache,
}

impl Launcher {
    /// Forks the launcher.
    ///
    /// # Errors
    /// Where this process has threads already, lacks privileges, or /proc is not there.
    pub fn fork() -> Result<Self> {
        let (here, there) = socket::packet_pair().context(|| "socketpair".to_owned())?;
        match process::fork().context(|| "forking the launcher".to_owned())? {
            Forked::Child => server::run(there),
            Forked::Parent { .. } => {}
        }
        drop(there);
        // Whether it came up: one byte, or the reason.
        let mut word = vec![0; 1024];
        let (n, _) = socket::receive(&here, &mut word).context(|| "launcher".to_owned())?;
        match &word[..n] {
            b"" => Err(Error::internal("the launcher ended at once")),
            b"+" => Ok(Self {
                socket: here,
                filters: seccomp_filter::Cache::default(),
            }),
            reason => Err(Error::internal(String::from_utf8_lossy(reason))),
        }
    }

    /// Starts a container; returns when its program has been executed, or, with
    /// [`TaskSpec::wait_for_start`], when all but that is done.
    ///
    /// # Errors
    /// What went wrong, in runc's words; then nothing of the container is left.
    /// [`ErrorKind::ProgramNotFound`] and [`ErrorKind::ProgramNotExecutable`] are Docker's exit codes
    /// 127 and 126.
    pub fn spawn(&self, mut task: TaskSpec, fds: TaskFds) -> Result<Task> {
        // Compiled here, once for all containers that ask for the same, and not in each shim.
        let filter = match task.runtime {
            None => self.filters.compile(&mut task.spec)?,
            // It reads the profile itself.
            Some(_) => None,
        };
        let dir = task.dir.clone();
        let request = Request::Spawn(Box::new(Spawn {
            task,
            filter,
            netns: fds.netns.is_some(),
            userns: fds.userns.is_some(),
            sources: fds.sources.iter().map(|(index, _)| *index).collect(),
            attach: fds.attach.iter().map(|(options, _)| *options).collect(),
        }));
        let passed: Vec<BorrowedFd<'_>> = [fds.root.as_fd()]
            .into_iter()
            .chain(fds.netns.iter().map(AsFd::as_fd))
            .chain(fds.userns.iter().map(AsFd::as_fd))
            .chain(fds.sources.iter().map(|(_, fd)| fd.as_fd()))
            .chain(fds.attach.iter().map(|(_, fd)| fd.as_fd()))
            .collect();
        if passed.len() > socket::FDS_MAX {
            return Err(Error::invalid("too many descriptors for one container"));
        }
        let here = self.connect()?;
        let lost = |e| Error::internal(format!("the shim ended during the start: {e}"));
        let sent = protocol::send(&here, &request, &passed);
        // The shim may have said why it did not read to the end.
        let (reply, _) = protocol::receive(&here)
            .map_err(|e| sent.err().unwrap_or(e))
            .map_err(lost)?;
        match reply {
            Reply::Status(status) => Ok(Task::new(dir, status, here)),
            Reply::Failed(error) => Err(error),
            _ => Err(Error::new(
                ErrorKind::Internal,
                "the shim gave an answer to another question",
            )),
        }
    }
    /// Makes a user namespace with these mappings, and with `network` a network namespace that belongs
    /// to it. Whoever has threads cannot do so itself.
    ///
    /// # Errors
    /// Where the kernel refuses: `user.max_user_namespaces`, or ranges that overlap.
    pub fn user_namespace(
        &self,
        uids: &[IdMapping],
        gids: &[IdMapping],
        network: bool,
    ) -> Result<UserNamespace> {
        let here = self.connect()?;
        let request = Request::UserNamespace(IdMappings {
            uids: uids.to_vec(),
            gids: gids.to_vec(),
            network,
        });
        let lost = |e| Error::internal(format!("no user namespace came: {e}"));
        protocol::send(&here, &request, &[]).map_err(lost)?;
        let (reply, fds) = protocol::receive(&here).map_err(lost)?;
        let mut fds = fds.into_iter();
        match (reply, fds.next()) {
            (Reply::Failed(error), _) => Err(error),
            (Reply::Namespaces, Some(user)) => Ok(UserNamespace {
                user,
                network: fds.next(),
            }),
            _ => Err(Error::internal(
                "a user namespace was asked for, and did not come",
            )),
        }
    }

    /// A connection to a new copy of the launcher.
    fn connect(&self) -> Result<OwnedFd> {
        let (here, there) = socket::stream_pair().context(|| "socketpair".to_owned())?;
        socket::send(&self.socket, b"s", &[there.as_fd()])
            .map_err(|e| Error::internal(format!("the launcher is gone: {e}")))?;
        Ok(here)
    }
}

/// A user namespace that no process is in yet.
#[derive(Debug)]
pub struct UserNamespace {
    pub user: OwnedFd,
    /// One that belongs to it, if it was asked for.
    pub network: Option<OwnedFd>,
}
