//! Trees of files: packed to a tar, unpacked from one, copied, hashed.
//!
//! This is the one extractor. `cp`, `export`, `ADD`, `COPY`, the first content of a volume: all come
//! through here, and nothing here takes a path of the host. A tree is a [`RootFd`] and a path inside
//! it; what is found is a handle, and every later call acts on the handle. Files are made by an
//! [`Extractor`], a process that can do nothing else.
//!
//! [`RootFd`]: berth_sys::root::RootFd

mod confine;
mod copy;
pub(crate) mod entry;
mod extractor;
mod hash;
mod own_fd;
mod pack;
pub(crate) mod place;
pub(crate) mod remove;
mod spool;
pub(crate) mod tar_reader;
pub(crate) mod tar_writer;
mod unpack;
pub(crate) mod walk;
pub(crate) mod xattr;

pub use copy::CopyOptions;
pub use extractor::Extractor;
pub use hash::{HashOptions, hash};
pub(crate) use pack::{Failure, write_found};
pub use pack::{Filter, PackOptions, Verdict, append, end, pack};
pub use rustix::fs::FileType;
pub use spool::{SpoolLimits, Spooled, SpooledKind, spool};
pub use unpack::{Placed, UnpackOptions};
