//! Instructions that make layers, a file each.

mod caches;
pub(crate) mod copy;
mod mounts;
pub(crate) mod run;
mod snapshot;
pub(crate) mod workdir;

pub(crate) use caches::Caches;
pub(crate) use snapshot::sweep;
