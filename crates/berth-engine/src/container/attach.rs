//! attach: a client at a container's stdio.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::record::{Attaching, Container};
use super::state::Status;
use super::{LogOptions, logs};
use crate::crossing::blocking;
use crate::session::parse_detach_keys;
use crate::{Engine, Error, Result, Session};

/// Clients that may wait for a container's start.
const WAITING_MAX: usize = 64;

/// What a client is attached to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachOptions {
    /// What was written before comes first.
    pub logs: bool,
    /// What is written from now on.
    pub stream: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// `ctrl-p,ctrl-q` where empty.
    pub detach_keys: String,
}

/// Attaches to a container, running or about to run.
pub async fn attach(engine: &Engine, id: &str, options: AttachOptions) -> Result<Session> {
    let keys = parse_detach_keys(&options.detach_keys)?;
    let container = engine.0.containers.find(id)?;
    match container.status() {
        Status::Paused => {
            return Err(Error::conflict(format!(
                "container {id} is paused, unpause the container before attach"
            )));
        }
        Status::Restarting => {
            return Err(Error::conflict(format!(
                "container {id} is restarting, wait until the container is running"
            )));
        }
        _ => {}
    }
    let (tty, open_stdin) = container.read(|r| (r.config.tty, r.config.open_stdin));
    let replay = match options.logs {
        true => {
            let options = LogOptions {
                stdout: options.stdout,
                stderr: options.stderr,
                ..LogOptions::default()
            };
            Some(logs::read(engine, &container, options).await?)
        }
        false => None,
    };
    let stdin = options.stdin && open_stdin;
    let stream = match options.stream {
        true => Some(connect(&container, stdin, &options).await?),
        false => None,
    };
    super::tell(engine, &container, "attach", BTreeMap::new());
    let (sender, left) = oneshot::channel();
    tell_of_detach(engine, &container, left);
    Ok(Session {
        tty,
        replay,
        stream,
        stdin,
        detach_keys: if tty { keys } else { Vec::new() },
        detached: Some(sender),
        ended: None,
    })
}

/// A stream to the container's process, or to the one that will be.
async fn connect(
    container: &Arc<Container>,
    stdin: bool,
    options: &AttachOptions,
) -> Result<UnixStream> {
    let failed = |e: std::io::Error| Error::io("cannot attach", e);
    if let Ok(task) = container.task() {
        let (stdout, stderr) = (options.stdout, options.stderr);
        let stream = blocking(move || task.attach(stdin, stdout, stderr)).await?;
        return stream_of(stream);
    }
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
    container.live(|live| {
        // Clients that left before the start are not waited for for ever.
        if live.attaching.len() >= WAITING_MAX {
            return Err(Error::conflict(format!(
                "too many clients wait for container {} to start",
                container.id
            )));
        }
        live.attaching.push(Attaching {
            stream: theirs.into(),
            stdin,
            stdout: options.stdout,
            stderr: options.stderr,
        });
        Ok(())
    })?;
    stream_of(ours.into())
}

/// A stream socket for the executor.
pub(crate) fn stream_of(fd: OwnedFd) -> Result<UnixStream> {
    let stream = std::os::unix::net::UnixStream::from(fd);
    stream
        .set_nonblocking(true)
        .and_then(|()| UnixStream::from_std(stream))
        .map_err(|e| Error::io("cannot attach", e))
}

fn tell_of_detach(engine: &Engine, container: &Arc<Container>, left: oneshot::Receiver<()>) {
    let (engine, container) = (engine.clone(), container.clone());
    tokio::spawn(async move {
        if left.await.is_ok() {
            super::tell(&engine, &container, "detach", BTreeMap::new());
        }
    });
}
