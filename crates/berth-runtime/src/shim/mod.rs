//! The process that looks after one container.
//!
//! It is forked by the launcher, starts what a first request asks for, and then serves connections
//! to `<dir>/shim.sock` until the container has ended. One thread, one loop: [`serve`]. It owns what
//! must outlive the engine: standard streams and the log, further processes, the exit status.

mod client;
mod exec;
mod foreign;
mod forward;
mod log;
mod poll;
pub(crate) mod protocol;
mod serve;
mod session;
mod start;

use std::os::fd::{AsFd, OwnedFd};

use berth_sys::process;
use berth_sys::signalfd::SignalFd;
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::error::{Context, Error, Result};
use crate::launcher::World;
use crate::user_namespace;
use protocol::{IdMappings, Reply, Request};

/// SIGCHLD.
const CHILD: i32 = 17;

/// Lives as the shim of the container that `connection` asks for.
pub(crate) fn run(world: World, connection: OwnedFd) -> ! {
    match start(&world, &connection) {
        Ok(None) => process::exit(0),
        Ok(Some((container, session, signals))) => {
            let reply = Reply::Status(container.status.clone());
            // An engine that is gone meanwhile will find us by our socket.
            let _ = protocol::send(&connection, &reply, &[]);
            serve::Shim::new(&world, container, session, signals, connection).run();
            process::exit(0)
        }
        Err(error) => {
            let _ = protocol::send(&connection, &Reply::Failed(error), &[]);
            process::exit(1)
        }
    }
}

fn start(
    world: &World,
    connection: &OwnedFd,
) -> Result<Option<(start::Container, session::Session, SignalFd)>> {
    process::set_title(c"berth-shim");
    process::reset_signals();
    process::ignore_broken_pipes();
    silence(true);
    rustix::process::setsid().context(|| "setsid".to_owned())?;
    // What a container with our PID namespace leaves behind comes to us.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context(|| "becoming a sub-reaper".to_owned())?;
    let signals = SignalFd::new(&[CHILD]).context(|| "signalfd".to_owned())?;
    let (request, fds) =
        protocol::receive(connection).context(|| "reading what to start".to_owned())?;
    match request {
        Request::Spawn(request) => {
            let (container, session) = start::start(world, *request, fds)?;
            Ok(Some((container, session, signals)))
        }
        Request::UserNamespace(mappings) => {
            make_namespaces(world, connection, &mappings)?;
            Ok(None)
        }
        _ => Err(Error::invalid("this shim has no container yet")),
    }
}

/// Makes namespaces for the engine, which has threads and cannot.
fn make_namespaces(world: &World, connection: &OwnedFd, asked: &IdMappings) -> Result<()> {
    let mut made = Vec::new();
    if asked.network {
        let (user, network) =
            user_namespace::make_with_network(&world.procfs, &asked.uids, &asked.gids)?;
        made.extend([user, network]);
    } else {
        made.push(user_namespace::make(
            &world.procfs,
            &asked.uids,
            &asked.gids,
        )?);
    }
    let fds: Vec<_> = made.iter().map(AsFd::as_fd).collect();
    protocol::send(connection, &Reply::Namespaces, &fds)
        .context(|| "handing namespaces over".to_owned())
}

/// Points standard input and output, and `error` if asked, at nothing.
pub(crate) fn silence(error: bool) {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let Ok(null) = openat(CWD, "/dev/null", flags, Mode::empty()) else {
        return;
    };
    // With /dev/null open there is nothing left that could fail.
    let _ = rustix::stdio::dup2_stdin(&null);
    let _ = rustix::stdio::dup2_stdout(&null);
    if error {
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}
