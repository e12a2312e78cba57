//! Building a container's tree in its mount namespace. Runs in the container, as root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use berth_sys::mount::{self, Attributes, NODEV, NOEXEC, NOSUID, RDONLY};
use berth_sys::root::RootFd;
use rustix::fs::{CWD, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use super::copy_up;
use super::dev;
use super::mask::Masks;
use super::mounts::{self, MountPlan, Source};
use super::options::root_propagation;
use super::plan::{CgroupView, Plan};
use crate::error::{Context, Error, Result};

/// A tree under construction.
#[derive(Debug)]
pub(super) struct Tree {
    pub root: RootFd,
    /// The container's `/dev`, unless the host's own is bound there.
    dev: Option<OwnedFd>,
    /// The instance of devpts that the container's terminals are of.
    pub devpts: Option<OwnedFd>,
    /// Mounts that are filled first and protected last.
    read_only: Vec<OwnedFd>,
}

/// Puts the root over that of the namespace, and everything in it that the document says.
pub(super) fn build(plan: &mut Plan) -> Result<Tree> {
    if !plan.from_empty {
        mount::set_namespace_propagation(mount::Propagation::Slave)
            .context(|| "making the host's mounts slaves".to_owned())?;
    }
    // A copy of a part of the host is told what is mounted there, and tells nothing of what is mounted in it.
    let told = Attributes {
        propagation: Some(mount::Propagation::Slave),
        ..Attributes::default()
    };
    mount::set_attributes(&plan.root, true, &told)
        .context(|| "making the root a slave of the host's mounts".to_owned())?;
    attach_root(plan)?;
    let root = plan.root.try_clone().and_then(RootFd::new);
    let mut tree = Tree {
        root: root.context(|| "the root file system".to_owned())?,
        dev: None,
        devpts: None,
        read_only: Vec::new(),
    };
    for planned in std::mem::take(&mut plan.mounts) {
        tree.add(planned, plan)?;
    }
    if plan.own_dev && tree.dev.is_none() {
        // A bundle without a file system for it.
        let dev = tree.root.mkdir_all(Path::new("/dev"), 0o755);
        let dev = dev.context(|| "creating /dev".to_owned())?;
        dev::populate(dev.as_fd(), &plan.nodes, plan.process.terminal)?;
        tree.dev = Some(dev);
    }
    dev::populate_elsewhere(&tree.root, &plan.nodes)?;
    if let Some((path, cwd)) = missing_cwd(&tree.root, &plan.process.cwd) {
        tree.root
            .mkdir_all(path, 0o755)
            .invalid(|| format!("creating the working directory {cwd:?}"))?;
    }
    Ok(tree)
}

/// Puts the root over that of the namespace; where hooks look for it on the host, there.
fn attach_root(plan: &Plan) -> Result<()> {
    let what = || "mounting the root".to_owned();
    let Some(path) = &plan.host_root else {
        return mount::attach_over_root(&plan.root).context(what);
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = match openat(CWD, path, flags, Mode::empty()) {
        Ok(place) => place,
        // The root of a user namespace may not go everywhere on the host.
        Err(Errno::ACCESS | Errno::NOENT) => {
            return mount::attach_over_root(&plan.root).context(what);
        }
        Err(e) => return Err(e).context(what),
    };
    let (there, root) = (
        fstat(&place).context(what)?,
        fstat(&plan.root).context(what)?,
    );
    if (there.st_dev, there.st_ino) != (root.st_dev, root.st_ino) {
        let text = "the root file system has changed meanwhile";
        return Err(Error::invalid(format!("{}: {text}", what())));
    }
    mount::attach(&plan.root, place).context(what)?;
    // What hooks name without a path is in there.
    rustix::process::fchdir(&plan.root).context(what)
}

/// The working directory is made where the image has none, as runc does.
fn missing_cwd<'a>(root: &RootFd, cwd: &'a str) -> Option<(&'a Path, &'a str)> {
    let path = Path::new(cwd);
    let absent = |e: std::io::Error| e.kind() == std::io::ErrorKind::NotFound;
    root.handle(path).is_err_and(absent).then_some((path, cwd))
}

impl Tree {
    fn add(&mut self, mut planned: MountPlan, plan: &Plan) -> Result<()> {
        mounts::open_inside(&self.root, &mut planned)?;
        let covers = match &planned.source {
            // Looked at before it is made for the mount.
            Source::New { kind, .. } if kind == "tmpfs" => {
                let stat = self.root.stat(Path::new(&planned.destination));
                stat.ok().map(|stat| stat.st_mode)
            }
            _ => None,
        };
        let target = mounts::place(&self.root, &planned)?;
        let failed = |e: std::io::Error| {
            Error::internal(format!("mounting at {:?}: {e}", planned.destination))
        };
        match &planned.source {
            Source::Bind { tree, .. } => {
                mounts::adjust(tree, &planned, true)?;
                mount::attach(tree, target).map_err(failed)
            }
            Source::Dev(made) => {
                mounts::adjust(made, &planned, false)?;
                self.dev = Some(made.try_clone().map_err(failed)?);
                self.protect_later(&planned, made)?;
                mount::attach(made, target).map_err(failed)
            }
            // Opened above.
            Source::Inside { .. } => Err(Error::internal("a source that was not opened")),
            Source::Cgroup => add_cgroup(&planned, &plan.cgroup, target),
            Source::New { kind, source } => {
                let made = match mounts::create(&planned, kind, source, covers) {
                    Err(_) if kind == "sysfs" && plan.sysfs.is_some() => host_sysfs(plan)?,
                    made => made?,
                };
                mounts::adjust(&made, &planned, false)?;
                if kind == "tmpfs" && planned.destination == "/dev" && plan.own_dev {
                    self.dev = Some(made.try_clone().map_err(failed)?);
                }
                if kind == "devpts" && planned.destination == "/dev/pts" {
                    self.devpts = Some(made.try_clone().map_err(failed)?);
                }
                if planned.options.copy_up && kind == "tmpfs" {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                    let covered = self
                        .root
                        .open_with(Path::new(&planned.destination), flags, Mode::empty())
                        .map_err(failed)?;
                    copy_up::copy(covered, &made).map_err(failed)?;
                }
                mount::attach(&made, target).map_err(failed)?;
                if kind == "tmpfs" {
                    self.protect_later(&planned, &made)?;
                }
                match &self.dev {
                    // Filled after it was attached: what is mounted on its nodes must be in this namespace.
                    Some(dev) if planned.destination == "/dev" => {
                        dev::populate(dev.as_fd(), &plan.nodes, plan.process.terminal)
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    fn protect_later(&mut self, planned: &MountPlan, made: &OwnedFd) -> Result<()> {
        if planned.options.set & RDONLY != 0 {
            let made = made.try_clone();
            self.read_only.push(made.context(|| "tmpfs".to_owned())?);
        }
        Ok(())
    }

    /// The container's `/dev`, if it has one of its own.
    pub fn own_dev(&self) -> Option<BorrowedFd<'_>> {
        self.dev.as_ref().map(AsFd::as_fd)
    }

    /// Where the terminal is seen as `/dev/console`; none where `/dev` is the host's.
    pub fn console(&self) -> Result<Option<OwnedFd>> {
        let Some(dev) = &self.dev else {
            return Ok(None);
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(dev, "console", flags, Mode::empty())
            .map(Some)
            .context(|| "/dev/console".to_owned())
    }

    /// Hides and protects what the document says, and makes the root what `/` is.
    pub fn finish(&self, plan: &Plan) -> Result<()> {
        if !plan.masked.is_empty() || !plan.readonly.is_empty() {
            let null_of = match &self.dev {
                Some(dev) => dev.try_clone(),
                None => self.root.open_dir(Path::new("/dev")),
            };
            let null_of = null_of.context(|| "/dev".to_owned())?;
            let mut masks = Masks::new(&self.root, null_of)?;
            for path in &plan.readonly {
                masks.protect(path)?;
            }
            for path in &plan.masked {
                masks.hide(path)?;
            }
        }
        let change = Attributes {
            set: RDONLY,
            ..Attributes::default()
        };
        for mount in &self.read_only {
            mount::set_attributes(mount, false, &change)
                .context(|| "making a tmpfs read-only".to_owned())?;
        }
        if plan.readonly_root {
            mount::set_attributes(&self.root, false, &change)
                .context(|| "making the root read-only".to_owned())?;
        }
        enter(&self.root, plan.from_empty)?;
        if let Some((propagation, recursive)) = root_propagation(&plan.root_propagation) {
            let change = Attributes {
                propagation: Some(propagation),
                ..Attributes::default()
            };
            mount::set_attributes(&self.root, recursive, &change)
                .context(|| "setting the root's propagation".to_owned())?;
        }
        Ok(())
    }
}

/// Makes the root what `/` is. In a namespace that had nothing but an empty directory, that may stay
/// below: taking it away would cost an RCU grace period and gain nothing. The kernel sees the
/// topmost mount of a namespace as its root, so this counts as no chroot.
fn enter(root: &RootFd, from_empty: bool) -> Result<()> {
    let what = || "entering the root".to_owned();
    rustix::process::fchdir(root).context(what)?;
    if from_empty {
        return rustix::process::chroot(".").context(what);
    }
    rustix::process::pivot_root(".", ".").context(what)?;
    unmount(".", UnmountFlags::DETACH).context(what)?;
    rustix::process::chdir("/").context(what)
}

/// A user namespace with a network of others may not mount a sysfs: it gets the host's, unwritable.
fn host_sysfs(plan: &Plan) -> Result<OwnedFd> {
    let what = || "mounting the host's sysfs".to_owned();
    let sysfs = plan.sysfs.as_ref().ok_or_else(|| Error::internal(what()))?;
    sysfs.try_clone().context(what)
}

fn add_cgroup(planned: &MountPlan, view: &CgroupView, target: OwnedFd) -> Result<()> {
    let what = || format!("mounting cgroups at {:?}", planned.destination);
    let attributes = NOSUID | NODEV | NOEXEC;
    let read_only = planned.options.set & RDONLY;
    let trees = match view {
        CgroupView::Unified(own) => {
            let made = mount::new_mount("cgroup2", &[], attributes | read_only);
            let made = match (made, own) {
                (Err(_), Some(own)) => {
                    let change = Attributes {
                        set: attributes | read_only,
                        ..Attributes::default()
                    };
                    mount::set_attributes(own, false, &change).context(what)?;
                    own.try_clone().context(what)?
                }
                (made, _) => made.context(what)?,
            };
            mounts::adjust(&made, planned, false)?;
            return mount::attach(made, target).context(what);
        }
        CgroupView::Trees(trees) => trees,
    };
    let base = mount::new_mount("tmpfs", &[("mode", Some("755"))], attributes).context(what)?;
    mount::attach(&base, target).context(what)?;
    let base = RootFd::new(base).context(what)?;
    for (controllers, tree) in trees {
        let name = controllers.join(",");
        let place = base.mkdir_all(Path::new(&name), 0o755).context(what)?;
        let change = Attributes {
            set: attributes | read_only,
            ..Attributes::default()
        };
        mount::set_attributes(tree, false, &change).context(what)?;
        mount::attach(tree, place).context(what)?;
        if controllers.len() > 1 {
            for controller in controllers {
                rustix::fs::symlinkat(&name, &base, controller).context(what)?;
            }
        }
    }
    let change = Attributes {
        set: read_only,
        ..Attributes::default()
    };
    mount::set_attributes(&base, false, &change).context(what)?;
    mounts::adjust(&base, planned, false)
}
