//! Hiding and protecting parts of `/proc` and `/sys`. Runs in the container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use berth_sys::mount::{self, Attributes, NODEV, NOEXEC, NOSUID, RDONLY};
use berth_sys::root::RootFd;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::dev;
use crate::error::{Context, Result};

/// What covers masked paths.
pub(super) struct Masks<'a> {
    root: &'a RootFd,
    /// `/dev/null`, looked at.
    null: OwnedFd,
    /// An empty directory, made when the first is needed.
    empty: Option<OwnedFd>,
}

impl<'a> Masks<'a> {
    /// `dev` is a handle of the container's `/dev`.
    pub fn new(root: &'a RootFd, dev: impl AsFd) -> Result<Self> {
        Ok(Self {
            root,
            null: dev::null(dev)?,
            empty: None,
        })
    }

    /// Hides what `path` names, if there is anything.
    pub fn hide(&mut self, path: &str) -> Result<()> {
        let what = || format!("masking {path:?}");
        let Some(target) = find(self.root, path).context(what)? else {
            return Ok(());
        };
        let stat = rustix::fs::fstat(&target).context(what)?;
        let cover = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            match &self.empty {
                // The mount that was attached is what the next is copied from.
                Some(empty) => mount::clone_handle(empty, false).context(what)?,
                None => {
                    let options = [("size", Some("0")), ("nr_inodes", Some("2"))];
                    let attributes = RDONLY | NOSUID | NODEV | NOEXEC;
                    let empty = mount::new_mount("tmpfs", &options, attributes).context(what)?;
                    self.empty.insert(empty).try_clone().context(what)?
                }
            }
        } else {
            mount::clone_handle(&self.null, false).context(what)?
        };
        mount::attach(cover, target).context(what)
    }

    /// Makes what `path` names, if there is anything, read-only with all below it.
    pub fn protect(&self, path: &str) -> Result<()> {
        let what = || format!("making {path:?} read-only");
        let Some(target) = find(self.root, path).context(what)? else {
            return Ok(());
        };
        let copy = mount::clone_handle(&target, true).context(what)?;
        let change = Attributes {
            set: RDONLY,
            ..Attributes::default()
        };
        mount::set_attributes(&copy, true, &change).context(what)?;
        mount::attach(copy, target).context(what)
    }
}

fn find(root: &RootFd, path: &str) -> std::io::Result<Option<OwnedFd>> {
    match root.handle(Path::new(path)) {
        Ok(handle) => Ok(Some(handle)),
        Err(e) => match e.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            _ => Err(e),
        },
    }
}
