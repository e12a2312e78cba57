//! From a bundle to a supervised process.
#![forbid(unsafe_code)]

pub mod capability;
pub mod cgroup;
pub mod defaults;
pub mod device;
pub mod seccomp;
