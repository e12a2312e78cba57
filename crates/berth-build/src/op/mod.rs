//! Instructions that make layers, a file each.

pub(crate) mod copy;
mod mounts;
pub(crate) mod run;
pub(crate) mod workdir;

pub(crate) use mounts::{Caches, sweep};
