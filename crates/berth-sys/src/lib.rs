//! Kernel calls as safe functions: the only crate with `unsafe`.

pub mod bpf;
pub mod empty_root;
pub mod executable;
pub mod fail_point;
pub mod file_filter;
pub mod fs_user;
pub mod held_signals;
pub mod memory;
pub mod mount;
pub mod netns;
pub mod outgoing;
pub mod process;
pub mod root;
pub mod scheduling;
pub mod seccomp;
pub mod signalfd;
pub mod socket;
pub mod socket_filter;
pub mod title;

pub use fail_point::fail_point;
