//! Trees of files as tar streams: reading, packing, unpacking.

pub(crate) mod entry;
mod spool;
pub(crate) mod tar_reader;

pub use spool::{SpoolLimits, Spooled, SpooledKind, spool};
