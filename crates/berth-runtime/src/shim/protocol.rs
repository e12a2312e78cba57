//! What is said between the engine and a shim: frames of JSON on a stream socket.
//!
//! A frame is its length (four bytes, big endian) and that many bytes of JSON; descriptors travel
//! with its first byte. The first message on a connection is a [`Request`], its answer a
//! [`Reply`]. What follows depends on the request: events, a container's input and output, or
//! nothing.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_spec::oci::runtime::IdMapping;
use berth_sys::socket;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::seccomp_filter::Filter;
use crate::task::{AttachOptions, ExecSpec, ExitStatus, TaskSpec};

/// Bytes a message may have.
pub(crate) const MESSAGE_MAX: usize = 8 << 20;

/// What a connection is for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// To a new shim, from the launcher's client. Events follow.
    Spawn(Box<Spawn>),
    /// To a new process in its place, from the same: make namespaces, and end.
    UserNamespace(IdMappings),
    /// Who is there? Events follow.
    Events,
    Start,
    Attach(AttachOptions),
    Exec(Box<ExecSpec>),
    /// Characters; of an exec's terminal where one is named.
    Resize {
        exec: Option<String>,
        width: u16,
        height: u16,
    },
}

/// A user namespace to make.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct IdMappings {
    pub uids: Vec<IdMapping>,
    pub gids: Vec<IdMapping>,
    /// With a network namespace that belongs to it.
    pub network: bool,
}

/// A start. Descriptors come in the order root, netns, userns, sources, attach.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Spawn {
    pub task: TaskSpec,
    /// The document's filter, compiled.
    pub filter: Option<Filter>,
    pub netns: bool,
    pub userns: bool,
    pub sources: Vec<usize>,
    pub attach: Vec<AttachOptions>,
}

/// What is known of a container's process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Status {
    pub pid: i32,
    pub shim_pid: i32,
    /// Clock ticks after boot (proc_pid_stat(5)): tells the process from a later one of its number.
    pub start_time: u64,
    pub exit: Option<ExitStatus>,
    /// Execs that have ended: the last ones, and all whose end nobody was there to hear.
    pub exec_exits: Vec<(String, ExitStatus)>,
    /// Execs that run, with their processes.
    #[serde(default)]
    pub execs: Vec<(String, i32)>,
    /// What could not be done as asked, and was done as far as it can be.
    pub warnings: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Status(Status),
    /// Of an exec.
    Running {
        pid: i32,
        warnings: Vec<String>,
    },
    Done,
    /// With descriptors: the user namespace, and the network namespace if it was asked for.
    Namespaces,
    Failed(Error),
}

/// Told on a connection that asked for events.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Notice {
    Exit(ExitStatus),
    ExecExit { id: String, status: ExitStatus },
}

/// A message as bytes.
pub(crate) fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let len = bytes.len() - 4;
    if len > MESSAGE_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a message of {len} bytes is too long"),
        ));
    }
    bytes[..4].copy_from_slice(&(len as u32).to_be_bytes());
    Ok(bytes)
}

/// Sends a message, waiting until it has gone.
pub(crate) fn send(
    socket: impl AsFd,
    message: &impl Serialize,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = frame(message)?;
    let mut sent = socket::send(&socket, &bytes, fds)?;
    while sent < bytes.len() {
        sent += socket::send(&socket, &bytes[sent..], &[])?;
    }
    Ok(())
}

/// Receives a message, waiting until it is whole. Not a byte more is taken from the socket.
pub(crate) fn receive<M: DeserializeOwned>(socket: impl AsFd) -> io::Result<(M, Vec<OwnedFd>)> {
    let mut head = [0; 4];
    let (n, mut fds) = socket::receive(&socket, &mut head)?;
    if n == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    fds.extend(fill(&socket, &mut head[n..])?);
    let len = length(head)?;
    let mut body = vec![0; len];
    fds.extend(fill(&socket, &mut body)?);
    Ok((serde_json::from_slice(&body)?, fds))
}

/// The length that a frame's head tells.
pub(crate) fn length(head: [u8; 4]) -> io::Result<usize> {
    let len = u32::from_be_bytes(head) as usize;
    if len > MESSAGE_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a message of {len} bytes is too long"),
        ));
    }
    Ok(len)
}

fn fill(socket: impl AsFd, mut buffer: &mut [u8]) -> io::Result<Vec<OwnedFd>> {
    let mut fds = Vec::new();
    while !buffer.is_empty() {
        let (n, more) = socket::receive(&socket, buffer)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        fds.extend(more);
        buffer = &mut buffer[n..];
    }
    Ok(fds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_descriptors_and_leave_the_rest() {
        let (here, there) = socket::stream_pair().unwrap();
        let message = Request::Resize {
            exec: None,
            width: 80,
            height: 25,
        };
        send(&here, &message, &[there.as_fd()]).unwrap();
        socket::send(&here, b"raw", &[]).unwrap();
        let (message, fds) = receive::<Request>(&there).unwrap();
        assert!(matches!(message, Request::Resize { width: 80, .. }));
        assert_eq!(fds.len(), 1);
        let mut raw = [0; 8];
        assert_eq!(socket::receive(&there, &mut raw).unwrap().0, 3);
    }

    #[test]
    fn long_and_short_messages_are_refused() {
        let (here, there) = socket::stream_pair().unwrap();
        socket::send(&here, &u32::MAX.to_be_bytes(), &[]).unwrap();
        assert!(receive::<Reply>(&there).is_err());
        socket::send(&here, &[0, 0, 0, 9, b'"'], &[]).unwrap();
        drop(here);
        let error = receive::<Reply>(&there).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
