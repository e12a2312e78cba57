//! A container's process under its shim, as the engine sees it.
//!
//! ```text
//! Launcher::spawn(TaskSpec, TaskFds) ──▶ Task ── kill, resize, attach, exec, start
//! Task::reconnect(dir)               ──▶  │
//!                                         └ events ─▶ Event::{Exit, ExecExit}, once each
//! ```
//!
//! Calls block, briefly. Every call is a connection of its own to `<dir>/shim.sock`, so that they do
//! not wait for each other.

mod client;
mod events;
pub(crate) mod exit;
mod log;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use berth_spec::oci::runtime::{Process, Spec};
use serde::{Deserialize, Serialize};

pub use client::{Exec, Reconnected, Task};
pub use events::{Event, Events};
pub use exit::{ExitStatus, exec_exits};
pub use log::{ForwardSpec, ForwardTarget, LogSpec, SyslogAddress, SyslogFormat};

/// A container to start.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TaskSpec {
    /// Names the container in hooks and messages.
    pub id: String,
    /// Of this container alone; made (0700) where it is missing. Holds `shim.sock`, `lock`, and once
    /// the process has ended `exit` and perhaps `execs`.
    pub dir: PathBuf,
    /// What to run. `linux.cgroupsPath` names the cgroup, which is made here and removed at the end.
    /// `root.path` is not looked at: the root comes as a descriptor.
    pub spec: Spec,
    /// Without a terminal: standard input is a pipe, else `/dev/null`.
    pub open_stdin: bool,
    /// The first attached client that ends its input ends the container's.
    pub stdin_once: bool,
    pub log: LogSpec,
    /// Who gets every line, too.
    #[serde(default)]
    pub forward: Option<ForwardSpec>,
    /// Another OCI runtime, which is driven by its command line.
    #[serde(default)]
    pub runtime: Option<RuntimeProgram>,
    /// Set everything up, but run the program only when [`Task::start`] says so.
    pub wait_for_start: bool,
    /// The first process is one that hands signals on and takes in orphans; the program is its child.
    pub init: bool,
}

/// A program with runc's command line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeProgram {
    pub path: PathBuf,
    /// Before everything else.
    pub args: Vec<String>,
}

/// What a start needs of descriptors. All are closed on this side when the call returns.
#[derive(Debug)]
pub struct TaskFds {
    /// The root file system: a detached mount.
    pub root: OwnedFd,
    /// The network namespace to be in, instead of what the document says.
    pub netns: Option<OwnedFd>,
    /// The user namespace to be in, instead of what the document says of it. A network namespace that
    /// is given should belong to it.
    pub userns: Option<OwnedFd>,
    /// Bind sources by position in `spec.mounts`, instead of the path given there: an `O_PATH`
    /// handle, or the root of a detached mount.
    pub sources: Vec<(usize, OwnedFd)>,
    /// Clients attached from the first byte: our end of a stream socket, which behaves as what
    /// [`Task::attach`] returns at the other.
    pub attach: Vec<(AttachOptions, OwnedFd)>,
}

impl TaskFds {
    /// A root alone.
    pub fn new(root: OwnedFd) -> Self {
        Self {
            root,
            netns: None,
            userns: None,
            sources: Vec::new(),
            attach: Vec::new(),
        }
    }
}

/// What a client is attached to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachOptions {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

impl AttachOptions {
    pub const ALL: Self = Self {
        stdin: true,
        stdout: true,
        stderr: true,
    };
    /// Both outputs.
    pub const OUTPUT: Self = Self {
        stdin: false,
        stdout: true,
        stderr: true,
    };
}

/// A further process in a running container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Unique within the container; comes back in [`Event::ExecExit`].
    pub id: String,
    /// Its capabilities are taken as they are; the container's system call filter applies.
    pub process: Process,
    /// What the returned stream carries; a stream that is not asked for is `/dev/null`. With nothing
    /// asked for, there is no stream. With a terminal, output is one stream.
    pub attach: AttachOptions,
}
