//! Layers as directories that the kernel can stack, and which way this kernel wants them.
//!
//! A mounted layer is kept for the next container: mounting a container's root then costs one
//! overlay, and containers of one image share the page cache.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use berth_spec::Digest;
use berth_sys::fs_user::with_fs_user;
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};

use super::mapped::Owners;
use super::{LayerForm, Stacking, mapped};
use crate::erofs::tree::{Attributes, Tree};
use crate::erofs::write::{Devices, write};
use crate::room::Room;
use crate::snapshot::overlay::{By, Upper, overlay};
use crate::{Error, ErrorKind, Result, durable, erofs};

/// Mounted layers that are kept though nobody may need them just now. Each takes a descriptor, two
/// open files in the kernel and what the page cache holds of it.
const KEPT: usize = 384;

/// How this kernel shows layers; found out once, when the store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerMounting {
    /// EROFS from files, handed to overlayfs as descriptors: no mount table shows anything
    /// (Linux 6.13 and later).
    Detached,
    /// EROFS from files, attached below the run directory, since overlayfs takes names only
    /// (Linux 6.12).
    Attached,
    /// Directory trees on the store's own file system.
    Directory,
}

impl LayerMounting {
    /// A word for `info`.
    pub fn as_str(self) -> &'static str {
        match self {
            LayerMounting::Detached => "erofs",
            LayerMounting::Attached => "erofs, attached",
            LayerMounting::Directory => "directory",
        }
    }

    /// The form that new layers get.
    pub(crate) fn form(self) -> LayerForm {
        match self {
            LayerMounting::Detached | LayerMounting::Attached => LayerForm::Erofs,
            LayerMounting::Directory => LayerForm::Directory,
        }
    }
}

/// A layer's root directory, ready to be stacked.
#[derive(Debug)]
pub(crate) struct Mounted {
    fd: OwnedFd,
    pub(crate) stacking: Stacking,
    /// Where it is attached, if it has to be.
    attached: Option<PathBuf>,
}

impl Mounted {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(path) = &self.attached {
            // Overlays over it keep a private copy of the mount.
            detach(path);
        }
    }
}

/// The mounted layers of a store.
pub(crate) struct Mounts {
    mounting: LayerMounting,
    by: By,
    attach_dir: PathBuf,
    trouble: Option<String>,
    kept: Mutex<Kept>,
    discarding: Discarding,
}

/// Removes what the probe has made, while others go on. It does not outlive the store.
#[derive(Default)]
struct Discarding(Mutex<Option<JoinHandle<()>>>);

impl Discarding {
    fn of(dir: PathBuf) -> Self {
        let thread = std::thread::Builder::new().name("berth-probe".to_owned());
        let work = move || {
            let _ = fs::remove_dir_all(dir);
        };
        // Without a thread, it goes at the next start.
        Self(Mutex::new(thread.spawn(work).ok()))
    }

    fn wait(&self) {
        let thread = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It has nothing to answer.
            let _ = thread.join();
        }
    }
}

impl Drop for Discarding {
    fn drop(&mut self) {
        self.wait();
    }
}

#[derive(Default)]
struct Kept {
    layers: HashMap<Digest, (Arc<Mounted>, u64)>,
    /// Counts uses: the smallest is the longest ago.
    clock: u64,
}

impl Mounts {
    /// Finds out how to mount, by doing it once in `scratch`, an existing directory of the store.
    pub(crate) fn probe(scratch: &Path, run_dir: &Path) -> Result<Mounts> {
        let attach_dir = run_dir.join("layers");
        durable::make_dir(&attach_dir)?;
        sweep(&attach_dir);
        let found = probe(scratch, &attach_dir)?;
        Ok(Mounts {
            trouble: found.trouble,
            discarding: found.discarding,
            ..Mounts::as_told(found.mounting, found.by, attach_dir)
        })
    }

    /// Mounts that way, whether the kernel can or not.
    pub(crate) fn as_told(mounting: LayerMounting, by: By, attach_dir: PathBuf) -> Mounts {
        Mounts {
            mounting,
            by,
            attach_dir,
            trouble: None,
            kept: Mutex::default(),
            discarding: Discarding::default(),
        }
    }

    /// Waits until what the probe made is gone.
    pub(super) fn settle(&self) {
        self.discarding.wait();
    }

    /// Why no root file system can be mounted here, if so.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    pub(crate) fn mounting(&self) -> LayerMounting {
        self.mounting
    }

    /// How overlayfs is told of directories here.
    #[cfg(test)]
    pub(crate) fn by(&self) -> By {
        self.by
    }

    /// An overlay of `lowers` (topmost first) with `upper` over them, detached.
    pub(crate) fn overlay(
        &self,
        lowers: &[BorrowedFd<'_>],
        upper: Option<Upper<'_>>,
    ) -> Result<OwnedFd> {
        let scratch = self.attach_dir.join(durable::unique_name()?);
        overlay(lowers, upper, self.by, &scratch).map_err(|e| match &self.trouble {
            Some(trouble) => Error::new(ErrorKind::Unsupported, trouble),
            None => Error::io("cannot mount the root file system", e),
        })
    }

    /// An overlay of directories that are mapped, as [`Mounts::overlay`]. What overlayfs makes by
    /// itself, copies and whiteouts, it makes as whoever mounts it, who has to be known to the map.
    pub(crate) fn overlay_mapped(
        &self,
        lowers: &[BorrowedFd<'_>],
        upper: Option<Upper<'_>>,
        owners: &Owners<'_>,
    ) -> Result<OwnedFd> {
        with_fs_user(owners.uid, owners.gid, || self.overlay(lowers, upper))
            .map_err(|e| Error::io("cannot act for the root of a user namespace", e))?
    }

    /// The layer in `dir`, mounted now or before.
    pub(crate) fn get(
        &self,
        diff_id: &Digest,
        dir: &Path,
        load: impl FnOnce() -> Result<(LayerForm, Stacking)>,
    ) -> Result<Arc<Mounted>> {
        let mut kept = self.lock();
        kept.clock += 1;
        let now = kept.clock;
        if let Some((mounted, used)) = kept.layers.get_mut(diff_id) {
            *used = now;
            return Ok(mounted.clone());
        }
        let (form, stacking) = load()?;
        let mounted = match form {
            LayerForm::Directory => directory(&dir.join("fs"), stacking),
            LayerForm::Erofs => self.erofs(diff_id, dir, stacking),
        }
        .map_err(|e| Error::io(format_args!("cannot mount layer {diff_id}"), e))?;
        let mounted = Arc::new(mounted);
        if kept.layers.len() >= KEPT {
            let oldest = kept.layers.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(digest, _)| digest.clone()) {
                kept.layers.remove(&oldest);
            }
        }
        kept.layers.insert(diff_id.clone(), (mounted.clone(), now));
        Ok(mounted)
    }

    /// Lets go of a layer that is being deleted.
    pub(crate) fn forget(&self, diff_id: &Digest) {
        self.lock().layers.remove(diff_id);
    }

    /// A mount in the form that overlayfs takes here; what had to be attached for it is detached
    /// when it goes.
    pub(crate) fn nameable(&self, fd: OwnedFd) -> Result<Mounted> {
        match self.by {
            By::Descriptor => Ok(Mounted {
                fd,
                stacking: Stacking::default(),
                attached: None,
            }),
            By::Name | By::Options => {
                let path = self.attach_dir.join(durable::unique_name()?);
                attach(fd, &path, Stacking::default())
                    .map_err(|e| Error::io(format_args!("cannot mount {}", path.display()), e))
            }
        }
    }

    /// A copy of a directory with its owners mapped, in the form that overlayfs takes here.
    pub(crate) fn mapped(&self, directory: BorrowedFd<'_>, owners: &Owners<'_>) -> Result<Mounted> {
        let copy = mapped::copy(directory, owners).map_err(mapped::refused)?;
        self.nameable(copy)
    }

    /// Stacks a layer of nothing under a writable directory in `scratch`, all mapped.
    pub(crate) fn try_mapped(&self, scratch: &Path, owners: &Owners<'_>) -> Result<()> {
        let failed = |e: std::io::Error| Error::io("cannot try how owners are mapped", e);
        let dir = scratch.join(durable::unique_name()?);
        for part in ["upper", "work", "fs"] {
            durable::make_dir(&dir.join(part))?;
        }
        let tried = (|| {
            let lower = match self.mounting.form() {
                LayerForm::Erofs => {
                    write_empty_layer(&dir).map_err(failed)?;
                    let lower = mount_files(&dir).map_err(|e| failed(e.into()))?;
                    self.nameable(lower)?
                }
                LayerForm::Directory => {
                    directory(&dir.join("fs"), Stacking::default()).map_err(|e| failed(e.into()))?
                }
            };
            let lower = self.mapped(lower.fd(), owners)?;
            let above = File::open(&dir).map_err(failed)?;
            let above = self.mapped(above.as_fd(), owners)?;
            let part = |name| mapped::below(above.fd(), name).map_err(failed);
            let (upper, work) = (part("upper")?, part("work")?);
            let upper = Upper {
                upper: upper.as_fd(),
                work: work.as_fd(),
                volatile: false,
            };
            self.overlay_mapped(&[lower.fd()], Some(upper), owners)
                .map(drop)
        })();
        let _ = fs::remove_dir_all(&dir);
        tried
    }

    fn erofs(
        &self,
        diff_id: &Digest,
        dir: &Path,
        stacking: Stacking,
    ) -> std::result::Result<Mounted, Errno> {
        let fd = mount_files(dir)?;
        match self.mounting {
            LayerMounting::Detached => Ok(Mounted {
                fd,
                stacking,
                attached: None,
            }),
            _ => attach(fd, &self.attach_dir.join(diff_id.hex()), stacking),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn directory(path: &Path, stacking: Stacking) -> std::result::Result<Mounted, Errno> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(Mounted {
        fd: open(path, flags, Mode::empty())?,
        stacking,
        attached: None,
    })
}

/// Mounts the index of the layer in `dir`.
fn mount_files(dir: &Path) -> std::result::Result<OwnedFd, Errno> {
    use rustix::fs::{Mode, OFlags, open};
    let open = |name| {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        open(dir.join(name), flags, Mode::empty())
    };
    let index = open("layer.erofs")?;
    let mut devices = vec![open("layer.tar")?];
    match open("layer.data") {
        Ok(side) => devices.push(side),
        Err(Errno::NOENT) => {}
        Err(e) => return Err(e),
    }
    let devices: Vec<_> = devices.iter().map(|d| d.as_fd()).collect();
    erofs::mount::mount(index.as_fd(), &devices)
}

/// Attaches a mount at `path`, an empty directory made for it.
fn attach(fd: OwnedFd, path: &Path, stacking: Stacking) -> std::result::Result<Mounted, Errno> {
    match fs::create_dir(path) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Errno::from_io_error(&e).unwrap_or(Errno::IO));
        }
        _ => {}
    }
    move_mount(
        &fd,
        "",
        rustix::fs::CWD,
        path,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?;
    Ok(Mounted {
        fd,
        stacking,
        attached: Some(path.to_owned()),
    })
}

fn detach(path: &Path) {
    if let Err(error) = unmount(path, UnmountFlags::DETACH)
        && error != Errno::INVAL
    {
        tracing::warn!(path = %path.display(), %error, "cannot unmount a layer");
    }
    // Still a mount point elsewhere, perhaps; swept at the next start.
    let _ = fs::remove_dir(path);
}

/// Unmounts what a process left behind that died.
fn sweep(attach_dir: &Path) {
    for entry in fs::read_dir(attach_dir).into_iter().flatten().flatten() {
        detach(&entry.path());
    }
}

/// What the probe found.
struct Found {
    mounting: LayerMounting,
    by: By,
    trouble: Option<String>,
    discarding: Discarding,
}

impl Found {
    fn good(mounting: LayerMounting, by: By) -> Found {
        Found {
            mounting,
            by,
            trouble: None,
            discarding: Discarding::default(),
        }
    }
}

/// A layer of nothing, mounted and stacked under a writable directory: whichever way works first.
fn probe(scratch: &Path, attach_dir: &Path) -> Result<Found> {
    let failed = |e: std::io::Error| Error::io("cannot try how layers are mounted", e);
    let name = durable::unique_name()?;
    let dir = scratch.join(&name);
    for part in ["upper", "work"] {
        durable::make_dir(&dir.join(part))?;
    }
    let found = (|| {
        write_empty_layer(&dir)?;
        let upper = File::open(dir.join("upper"))?;
        let work = File::open(dir.join("work"))?;
        let stack = |lower: BorrowedFd<'_>, by| {
            // The mark of an earlier try would refuse this one.
            let _ = fs::remove_dir_all(dir.join("work/work/incompat"));
            let upper = Upper {
                upper: upper.as_fd(),
                work: work.as_fd(),
                // Taking it down would sync the whole disk.
                volatile: true,
            };
            overlay(&[lower], Some(upper), by, &attach_dir.join(&name)).map(drop)
        };
        if let Ok(lower) = mount_files(&dir) {
            if stack(lower.as_fd(), By::Descriptor).is_ok() {
                return Ok(Found::good(LayerMounting::Detached, By::Descriptor));
            }
            let at = attach_dir.join(&name);
            if let Ok(lower) = attach(lower, &at, Stacking::default())
                && stack(lower.fd(), By::Name).is_ok()
            {
                return Ok(Found::good(LayerMounting::Attached, By::Name));
            }
        }
        let lower = upper_lower(&dir)?;
        let mut last = None;
        for by in [By::Descriptor, By::Name, By::Options] {
            match stack(lower.as_fd(), by) {
                Ok(()) => return Ok(Found::good(LayerMounting::Directory, by)),
                Err(e) => last = Some(e),
            }
        }
        Ok(Found {
            trouble: last.map(|e| {
                let at = scratch.display();
                format!("containers cannot start: overlayfs cannot be mounted over {at}: {e}")
            }),
            ..Found::good(LayerMounting::Directory, By::Options)
        })
    })();
    // That takes a journal's time.
    let discarding = Discarding::of(dir);
    let found = found.map_err(failed)?;
    Ok(Found {
        discarding,
        ..found
    })
}

/// A directory to lie below in the probe for directory trees.
fn upper_lower(dir: &Path) -> std::io::Result<File> {
    let lower = dir.join("fs");
    fs::create_dir(&lower)?;
    File::open(lower)
}

fn write_empty_layer(dir: &Path) -> std::io::Result<()> {
    let create = |name: &str| {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(dir.join(name))
    };
    create("layer.tar")?.write_all(&[0; 1024])?;
    let devices = Devices {
        tag: "probe",
        tar: 1024,
        side: None,
    };
    let tree = Tree::new(Attributes::default(), Room::alone());
    write(&tree, &devices, &mut create("layer.erofs")?)?;
    Ok(())
}

/// What to say when directory trees and EROFS are mixed on a kernel that lacks the latter.
pub(super) fn needs_erofs(diff_id: &Digest) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("layer {diff_id} is an EROFS index, which this kernel cannot mount from files"),
    )
}
