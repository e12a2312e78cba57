//! What a `RUN` step sees besides its root: `--mount`, heredoc scripts, the host's CA certificates.
//!
//! Mount points that the root lacks come from a layer of their own, put *below* all others for the
//! time of the step: the image's own directories lie over it, nothing is made in the snapshot, and
//! so nothing of it can get into the new layer.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_spec::Digest;
use berth_sys::root::RootFd;
use rustix::fs::{Mode, OFlags};

use super::caches::CacheHold;
use super::snapshot::SnapshotGuard;
use crate::copy::{Item, Manner, NewLayer};
use crate::dockerfile::{Expander, Heredoc, Mount, MountKind, Variables};
use crate::ignore::{Ignore, clean};
use crate::output::random_id;
use crate::solve::{Solver, State};
use crate::source::{self, Archive, Rootfs, Source, shown};
use crate::{Error, ErrorKind, Result, StepMount, StepTree};

/// Where the host's CA certificates are in a step. `/dev` is a file system of the step's own.
pub(super) const CA_BUNDLE: &str = "/dev/berth/ca-certificates.crt";
/// Where scripts of `RUN <<EOF` with a `#!` are.
pub(super) const PIPES: &str = "/dev/pipes";

/// What every step has mounted, and whether it is a directory.
const OWN_POINTS: [(&str, bool); 6] = [
    ("/proc", true),
    ("/sys", true),
    ("/dev", true),
    ("/etc/resolv.conf", false),
    ("/etc/hosts", false),
    ("/etc/hostname", false),
];

/// Mounts with their variables expanded, and what they add to the vertex key.
pub(super) struct Wanted {
    mounts: Vec<Mount>,
    pub(super) key: Vec<String>,
}

/// Mounts that are there, with all that has to live as long.
#[derive(Default)]
pub(super) struct Prepared {
    pub(super) mounts: Vec<StepMount>,
    pub(super) env: Vec<String>,
    /// Targets and whether they are directories.
    pub(super) points: Vec<(String, bool)>,
    _caches: Vec<CacheHold>,
    _snapshots: Vec<SnapshotGuard>,
}

/// Expands and hashes, without making anything.
pub(super) fn wanted(
    solver: &Solver,
    state: &State,
    mounts: &[Mount],
    variables: &Variables,
) -> Result<Wanted> {
    let expander = Expander::new(solver.job.file.escape);
    let word = |text: &Option<String>| {
        text.as_ref()
            .map(|text| expander.word(text, variables))
            .transpose()
    };
    let mut all = Vec::new();
    let mut key = Vec::new();
    for mount in mounts {
        let mut mount = Mount {
            source: word(&mount.source)?,
            target: word(&mount.target)?,
            id: word(&mount.id)?,
            ..mount.clone()
        };
        if let Some(target) = &mount.target {
            let working_dir = &state.image.config.working_dir;
            let target = clean(&match target.starts_with('/') {
                true => target.clone(),
                false => format!("/{working_dir}/{target}"),
            });
            if target == "/" {
                return Err(Error::invalid("invalid mount target \"/\""));
            }
            mount.target = Some(target);
        }
        key.push(format!(
            "{:?} {:?} {:?} {:?}",
            mount.kind, mount.target, mount.env, mount.size
        ));
        key.extend(content_key(solver, state, &mount)?);
        all.push(mount);
    }
    Ok(Wanted { mounts: all, key })
}

/// What the content of a bind mount is.
fn content_key(solver: &Solver, state: &State, mount: &Mount) -> Result<Vec<String>> {
    if mount.kind != MountKind::Bind {
        return Ok(mount.id.iter().cloned().collect());
    }
    let path = source_path(mount);
    Ok(match &mount.from {
        Some(from) => {
            let layers = solver.layers_of(from, state.stage)?;
            let layers = layers.iter().map(Digest::to_string);
            layers.chain([path.display().to_string()]).collect()
        }
        None => {
            let context = &solver.job.context;
            let found = context_path(context, &path)?;
            let hash = source::hash(context, &found, false, &Ignore::default())?;
            vec![data_encoding::HEXLOWER.encode(&hash)]
        }
    })
}

fn source_path(mount: &Mount) -> PathBuf {
    let path = clean(&format!("/{}", mount.source.as_deref().unwrap_or("")));
    PathBuf::from(path.trim_start_matches('/'))
}

fn context_path(context: &Archive, path: &Path) -> Result<PathBuf> {
    let found = source::resolve(&|path| context.stat(path), path, true)?;
    match found.node {
        Some(_) => Ok(found.path),
        None => Err(Error::new(
            ErrorKind::NotFound,
            format!(
                "failed to compute cache key: {}: not found in the build context or excluded by .dockerignore",
                shown(path)
            ),
        )),
    }
}

/// Makes the mounts.
pub(super) fn prepare(solver: &Solver, state: &State, wanted: &Wanted) -> Result<Prepared> {
    let mut prepared = Prepared::default();
    for mount in &wanted.mounts {
        match mount.kind {
            MountKind::Bind => bind(solver, state, mount, &mut prepared)?,
            MountKind::Cache => cache(solver, mount, &mut prepared)?,
            MountKind::Tmpfs => {
                let target = mount.target.clone().unwrap_or_default();
                prepared.points.push((target.clone(), true));
                let size = mount.size.unwrap_or(0);
                prepared.mounts.push(StepMount::Tmpfs { target, size });
            }
            MountKind::Secret => secret(solver, mount, &mut prepared)?,
        }
    }
    Ok(prepared)
}

impl Prepared {
    fn bind(&mut self, source: OwnedFd, target: String, read_only: bool) -> Result<()> {
        self.bind_of(source, target, read_only, None)
    }

    fn bind_of(
        &mut self,
        source: OwnedFd,
        target: String,
        read_only: bool,
        tree: Option<StepTree>,
    ) -> Result<()> {
        let stat = rustix::fs::fstat(&source).map_err(|e| failed("a mount", e.into()))?;
        let is_dir =
            rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory;
        self.points.push((target.clone(), is_dir));
        self.mounts.push(StepMount::Bind {
            source: Arc::new(source),
            target,
            read_only,
            tree,
        });
        Ok(())
    }

    /// The script of a heredoc.
    pub(super) fn script(&mut self, heredoc: &Heredoc) -> Result<()> {
        let mount = tmpfs(true)?;
        let root = RootFd::new(mount).map_err(|e| failed("a script", e))?;
        let write = || {
            let mut file = root.create_file(Path::new(&heredoc.name), 0o755)?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(0o755))?;
            file.write_all(heredoc.data().as_bytes())
        };
        write().map_err(|e| failed("a script", e))?;
        self.bind(root.into_fd(), PIPES.into(), true)
    }

    /// The host's CA certificates. A bundle that is not there is no reason to fail.
    pub(super) fn certificates(&mut self, bundle: &Path) -> Result<bool> {
        match rustix::fs::open(bundle, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => self.bind(file, CA_BUNDLE.into(), true).map(|()| true),
            Err(error) => {
                tracing::warn!(bundle = %bundle.display(), %error, "cannot pass CA certificates to build steps");
                Ok(false)
            }
        }
    }
}

/// A part of the context or of another image.
fn bind(solver: &Solver, state: &State, mount: &Mount, prepared: &mut Prepared) -> Result<()> {
    let path = source_path(mount);
    let target = mount.target.clone().unwrap_or_default();
    let (layers, inside) = match &mount.from {
        Some(from) => (solver.layers_of(from, state.stage)?, path),
        None => context_layer(solver, &path)?,
    };
    let mut snapshot = None;
    let mounted = if mount.read_only && !layers.is_empty() {
        solver.store().snapshots().view(&layers)?.into_fd()
    } else {
        // Writing is allowed, and forgotten.
        let guard = SnapshotGuard::create(solver.store(), &random_id()?, &layers)?;
        let mounted = solver
            .store()
            .snapshots()
            .mount_volatile(&guard.key)?
            .into_fd();
        snapshot = Some(guard.key.clone());
        prepared._snapshots.push(guard);
        mounted
    };
    let source = match inside.as_os_str().is_empty() {
        true => mounted,
        false => {
            let root = RootFd::new(mounted).map_err(|e| failed("a mount", e))?;
            let part = root.handle(&inside).map_err(|e| {
                Error::new(
                    ErrorKind::NotFound,
                    format!("mount source {}: {e}", shown(&inside)),
                )
            })?;
            berth_sys::mount::keep_part(&root, part).map_err(|e| failed("a mount", e))?
        }
    };
    let tree = StepTree {
        snapshot,
        layers,
        path: inside,
    };
    prepared.bind_of(source, target, mount.read_only, Some(tree))
}

/// A part of the context as a layer, and where in it the part is.
fn context_layer(solver: &Solver, path: &Path) -> Result<(Vec<Digest>, PathBuf)> {
    let context = &solver.job.context;
    let path = context_path(context, path)?;
    let is_dir = context.stat(&path)?.is_some_and(|node| node.is_dir());
    let nothing = Rootfs::open(solver.store(), &[])?;
    let mut layer = NewLayer::new(&nothing, 0);
    let name = PathBuf::from(path.file_name().unwrap_or_default());
    let item = Item {
        source: context,
        path,
        name: name.clone(),
        unpacked: false,
    };
    layer.copy(&[item], "/", &Manner::default())?;
    let inside = if is_dir { PathBuf::new() } else { name };
    let layers = solver.store().layers();
    let layer = layers.import(&solver.lease, &mut layer.stream(), None)?;
    Ok((vec![layer.diff_id], inside))
}

/// A directory of the host that outlives the build.
fn cache(solver: &Solver, mount: &Mount, prepared: &mut Prepared) -> Result<()> {
    if mount.from.is_some() || mount.source.is_some() {
        return Err(Error::invalid(
            "a cache mount cannot begin with the content of an image: from and source are not supported",
        ));
    }
    let target = mount.target.clone().unwrap_or_default();
    let id = mount.id.as_deref().unwrap_or(&target);
    let job = &solver.job;
    let hold = job.caches.hold(id, mount.sharing, job.teller.cancel())?;
    let directory = job.options.cache_mounts().join(&hold.name);
    let made = || -> std::io::Result<RootFd> {
        let new = std::fs::DirBuilder::new().mode(0o755).create(&directory);
        let root = RootFd::open(&directory)?;
        if new.is_ok() {
            // Through a handle for reading: an O_PATH one cannot change modes.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let fd = root.open_with(Path::new(""), flags, Mode::empty())?;
            let id = |number: Option<u32>| number.unwrap_or(0);
            let owner = rustix::fs::Uid::from_raw(id(mount.uid));
            let group = rustix::fs::Gid::from_raw(id(mount.gid));
            rustix::fs::fchown(&fd, Some(owner), Some(group))?;
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(mount.mode.unwrap_or(0o755)))?;
        }
        Ok(root)
    };
    let root = made().map_err(|e| failed("a cache", e))?;
    prepared.bind(root.into_fd(), target, mount.read_only)?;
    prepared._caches.push(hold);
    Ok(())
}

fn secret(solver: &Solver, mount: &Mount, prepared: &mut Prepared) -> Result<()> {
    let last = |path: &Option<String>| {
        let path = Path::new(path.as_deref()?).file_name()?;
        Some(path.to_string_lossy().into_owned())
    };
    let id = mount
        .id
        .clone()
        .or_else(|| last(&mount.source))
        .or_else(|| last(&mount.target))
        .unwrap_or_default();
    let Some(secret) = solver.job.request.secrets.get(&id) else {
        return match mount.required {
            true => Err(Error::new(
                ErrorKind::NotFound,
                format!("secret {id}: not found"),
            )),
            false => Ok(()),
        };
    };
    if let Some(name) = &mount.env {
        prepared.env.push(format!("{name}={}", secret.expose()));
        if mount.target.is_none() {
            return Ok(());
        }
    }
    let root = RootFd::new(tmpfs(false)?).map_err(|e| failed("a secret", e))?;
    let write = || {
        let mut file = root.create_file(Path::new("secret"), 0o400)?;
        let id = |number: Option<u32>| number.unwrap_or(0);
        let owner = rustix::fs::Uid::from_raw(id(mount.uid));
        let group = rustix::fs::Gid::from_raw(id(mount.gid));
        rustix::fs::fchown(&file, Some(owner), Some(group))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mount.mode.unwrap_or(0o400)))?;
        file.write_all(secret.expose().as_bytes())?;
        root.handle(Path::new("secret"))
    };
    let file = write().map_err(|e| failed("a secret", e))?;
    let target = mount
        .target
        .clone()
        .unwrap_or_else(|| format!("/run/secrets/{id}"));
    prepared.bind(file, target, true)
}

/// A file system in memory that no mount table shows.
fn tmpfs(executable: bool) -> Result<OwnedFd> {
    use rustix::mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
        fsopen,
    };
    let make = || -> rustix::io::Result<OwnedFd> {
        let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(context.as_fd(), "mode", "0755")?;
        fsconfig_create(context.as_fd())?;
        let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        if !executable {
            attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC;
        }
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    make().map_err(|e| failed("a tmpfs", e.into()))
}

fn failed(what: &str, error: std::io::Error) -> Error {
    berth_store::Error::io(
        format_args!("cannot prepare {what} for a build step"),
        error,
    )
    .into()
}

/// A layer with the mount points that the image lacks, to be put below the others; none where it
/// lacks none. Links of the image are followed: what has to be there is where they lead.
pub(super) fn mount_points(
    solver: &Solver,
    layers: &[Digest],
    points: &[(String, bool)],
) -> Result<Option<Digest>> {
    let image = Rootfs::open(solver.store(), layers)?;
    let nothing = Rootfs::open(solver.store(), &[])?;
    let empty = Archive::of_file("empty", &mut &b""[..], &solver.job.options.tmp(), 0o644, 0)?;
    let mut layer = NewLayer::new(&nothing, 0);
    let own = OWN_POINTS.map(|(path, is_dir)| (path.to_owned(), is_dir));
    for (path, is_dir) in own.iter().chain(points) {
        if ["/dev/", "/proc/", "/sys/"]
            .iter()
            .any(|above| path.starts_with(above))
        {
            continue;
        }
        let found = source::resolve(&|path| image.stat(path), Path::new(path), true)?;
        if found.node.is_some() {
            continue;
        }
        let path = shown(&found.path);
        if *is_dir {
            layer.make_directory(&path, None)?;
            continue;
        }
        let item = Item {
            source: &empty,
            path: PathBuf::from("empty"),
            name: PathBuf::from("empty"),
            unpacked: false,
        };
        layer.copy(&[item], &path, &Manner::default())?;
    }
    if layer.is_empty() {
        return Ok(None);
    }
    let layers = solver.store().layers();
    let layer = layers.import(&solver.lease, &mut layer.stream(), None)?;
    Ok(Some(layer.diff_id))
}
