//! Trees of files as tar streams: reading, packing, unpacking.

pub(crate) mod entry;
pub(crate) mod tar_reader;
