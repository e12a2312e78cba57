//! System call filters: profiles, and their compilation to classic BPF for seccomp(2).
//!
//! ```text
//! default_profile(caps) ─┐
//! from_docker_json(text) ├▶ LinuxSeccomp ─ compile ─▶ Program ─ load (in the child) ─▶ kernel
//! a bundle's config.json ┘
//! ```
//!
//! What a profile means is said in [`verdict`] and holds for every convention of the machine
//! (x86_64 with x86 and x32, aarch64 with arm); calls through one that the profile does not name
//! kill the process. A number above all that the profile knows gets `ENOSYS`, so that a C library
//! newer than the profile falls back to older calls, as under runc.

mod arch;
mod assemble;
mod default;
mod docker_json;
mod verdict;

use std::io;
use std::os::fd::OwnedFd;

use berth_spec::oci::runtime::LinuxSeccomp;
use berth_sys::seccomp::{self, Instruction};

pub use default::default_profile;
pub use docker_json::{Host, from_docker_json};

/// The kernel's limit (`BPF_MAXINSNS`).
const MAX_INSTRUCTIONS: usize = 4096;

/// A profile that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Invalid(String),
    #[error("seccomp profile becomes {0} instructions, the kernel takes {MAX_INSTRUCTIONS}")]
    TooLarge(usize),
}

/// The module's result.
pub type Result<T> = std::result::Result<T, Error>;

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub instructions: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_…`.
    pub flags: u32,
}

impl Program {
    /// Filters the calling thread from now on. Returns the notification descriptor if the profile
    /// notifies. The thread needs `no_new_privs` or `CAP_SYS_ADMIN`. Nothing is allocated.
    pub fn load(&self) -> io::Result<Option<OwnedFd>> {
        seccomp::set_filter(&self.instructions, self.flags)
    }

    /// Whether loading returns a notification descriptor.
    pub fn notifies(&self) -> bool {
        self.flags & seccomp::FLAG_NEW_LISTENER != 0
    }
}

/// Compiles a profile for this machine. Names of system calls that no architecture here has are
/// passed over, as profiles are written for many kernels.
pub fn compile(profile: &LinuxSeccomp) -> Result<Program> {
    let decisions = verdict::decide(profile)?;
    let instructions = assemble::program(&decisions);
    if instructions.len() > MAX_INSTRUCTIONS {
        return Err(Error::TooLarge(instructions.len()));
    }
    Ok(Program {
        instructions,
        flags: flags(profile)?,
    })
}

fn flags(profile: &LinuxSeccomp) -> Result<u32> {
    let mut flags = 0;
    for name in &profile.flags {
        flags |= match name.as_str() {
            // The filter is loaded by a thread that is alone.
            "SECCOMP_FILTER_FLAG_TSYNC" => 0,
            "SECCOMP_FILTER_FLAG_LOG" => 1 << 1,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => 1 << 2,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => 1 << 5,
            _ => {
                return Err(Error::Invalid(format!(
                    "seccomp flag {name:?} is not known"
                )));
            }
        };
    }
    if profile.flags.is_empty() {
        // runc's default: no slow-down of everything in the container by SSBD.
        flags = 1 << 2;
    }
    if verdict::notifies(profile) {
        flags |= seccomp::FLAG_NEW_LISTENER;
    }
    Ok(flags)
}

#[cfg(test)]
mod moby_tests;
#[cfg(test)]
mod tests;
