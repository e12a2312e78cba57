//! EROFS index images: a mountable view of a layer's tar whose file data stay where they are.
//!
//! ```text
//! layer.erofs (the primary device)                       layer.tar (device 1)
//! ┌──────────┬────────────┬─────────┬──────────────────┐  ┌────────┬──────┬────────┬──────┐
//! │ 1024  sb │ dev. slots │ inodes  │ directory blocks │  │ header │ data │ header │ data │
//! └──────────┴────────────┴────┬────┴──────────────────┘  └────────┴──▲───┴────────┴──────┘
//!                              └── one chunk index a file ────────────┘  layer.data (device 2)
//! ```
//!
//! Blocks are 512 bytes, as in a tar, so each file is one contiguous chunk of a device. What a tar
//! does not hold contiguously (sparse files) lies expanded in `layer.data`. The image is written by
//! [`write::write`] from a [`tree::Tree`] and is a function of that tree alone: no clock, no
//! randomness. Linux mounts it straight from the files since 6.12 ([`mount::mount`]).
//!
//! The format is told in the kernel's `Documentation/filesystems/erofs.rst` and
//! `fs/erofs/erofs_fs.h`; field names in [`format`] follow the latter.

pub(crate) mod format;
pub(crate) mod mount;
pub(crate) mod tree;
pub(crate) mod write;
