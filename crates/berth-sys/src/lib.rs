//! Kernel calls as safe functions: the only crate with `unsafe`.

pub mod bpf;
pub mod netns;
pub mod root;
pub mod seccomp;
