//! What an extractor is asked, and what it answers.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use berth_sys::root::RootFd;
use serde::{Deserialize, Serialize};

use super::check;
use crate::tree::confine::Roots;
use crate::tree::copy::{CopyOptions, copy_all};
use crate::tree::unpack::{Placed, UnpackOptions, place_all};
use crate::{Error, ErrorKind, Result};

/// Bytes of an error's text that travel.
const TEXT_MAX: usize = 16 << 10;

/// What an extractor is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) job: Job,
    /// The last descriptor is a user namespace, as whose root it is done.
    pub(super) inside: bool,
}

/// A piece of work. The first descriptor that comes with it is the tree to be written to.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Job {
    /// The second descriptor is the archive.
    Unpack {
        path: Vec<u8>,
        options: UnpackOptions,
    },
    /// The second descriptor is the tree to be read.
    Copy {
        from: Vec<u8>,
        to: Vec<u8>,
        options: CopyOptions,
    },
    /// The second descriptor is the layer's tar, a third its sparse files.
    Layer,
    /// The second descriptor is a program.
    Check,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Placed(Placed),
    Possible(Vec<String>),
    Failed { kind: ErrorKind, text: String },
}

impl Reply {
    pub(super) fn placed(self) -> Result<Placed> {
        match self {
            Reply::Placed(placed) => Ok(placed),
            Reply::Failed { kind, text } => Err(Error::new(kind, text)),
            Reply::Possible(_) => Err(Error::new(
                ErrorKind::Internal,
                "the extractor gave an answer to another question",
            )),
        }
    }
}

impl From<Result<Reply>> for Reply {
    fn from(done: Result<Reply>) -> Self {
        done.unwrap_or_else(|error| {
            let mut text = error.to_string();
            text.truncate(text.floor_char_boundary(TEXT_MAX));
            Reply::Failed {
                kind: error.kind(),
                text,
            }
        })
    }
}

impl Job {
    pub(super) fn unpack(path: &Path, options: &UnpackOptions) -> Job {
        Job::Unpack {
            path: bytes(path),
            options: options.clone(),
        }
    }

    pub(super) fn copy(from: &Path, to: &Path, options: &CopyOptions) -> Job {
        Job::Copy {
            from: bytes(from),
            to: bytes(to),
            options: options.clone(),
        }
    }

    /// What of the descriptors are trees, for the walls.
    pub(super) fn with_roots<T>(
        &self,
        given: &[OwnedFd],
        build: impl FnOnce(Roots<'_>) -> Result<T>,
    ) -> Result<T> {
        let given: Vec<BorrowedFd<'_>> = given.iter().map(AsFd::as_fd).collect();
        let (target, rest) = given.split_at(given.len().min(1));
        let read = match self {
            Job::Copy { .. } => rest,
            _ => &[],
        };
        build(Roots {
            written: target,
            read,
        })
    }

    /// Does it, inside the walls.
    pub(super) fn work(self, given: Vec<OwnedFd>) -> Result<Reply> {
        let mut given = given.into_iter();
        let mut next = || {
            given
                .next()
                .ok_or_else(|| Error::new(ErrorKind::Internal, "the extractor lacks a descriptor"))
        };
        let root = |fd| RootFd::new(fd).map_err(|e| Error::io("cannot open a tree", e));
        let target = root(next()?)?;
        let placed = match self {
            Job::Unpack { path, options } => {
                let tar = File::from(next()?);
                place_all(&target, as_path(&path), tar, &options)?
            }
            Job::Copy { from, to, options } => {
                let source = root(next()?)?;
                copy_all(&source, as_path(&from), &target, as_path(&to), &options)?
            }
            Job::Layer => {
                let tar = File::from(next()?);
                let side = next().ok().map(File::from);
                crate::layer::fill_directory(&target, tar, side)?;
                Placed::default()
            }
            Job::Check => return Ok(Reply::Possible(check::try_all(&target, Some(next()?)))),
        };
        Ok(Reply::Placed(placed))
    }
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
