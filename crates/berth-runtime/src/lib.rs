//! From a bundle to a supervised process.
//!
//! Begin with [`launcher::Launcher`], which the engine forks before it has threads, and
//! [`task::Task`], which is what it gives. `shim` is the process that looks after one container,
//! `init` the ladder from a copy of it to the user's program. This crate knows images, networks and
//! storage only as descriptors.
#![forbid(unsafe_code)]

pub mod capability;
pub mod cgroup;
pub mod cli;
pub mod defaults;
pub mod device;
mod error;
mod hooks;
mod init;
mod kernel;
pub mod launcher;
pub mod log_line;
mod process;
pub mod seccomp;
mod seccomp_filter;
mod shim;
mod systemd;
pub mod task;
mod user_namespace;
mod words;

pub use error::{Error, ErrorKind, Result};
