//! The mounts of a document: what can be said and opened before the container exists, and putting
//! them in place inside it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_spec::oci::runtime::Mount;
use berth_sys::mount::{self, Attributes, Propagation};
use berth_sys::root::RootFd;
use rustix::fs::{CWD, FileType, fstat, fstatfs};
use rustix::io::Errno;

use super::options::MountOptions;
use crate::error::{Context, Error, Result, errno_text};
use crate::user_namespace;

/// Files of procfs that may be mounted over; everything else there is the kernel's.
const PROC_FILES: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];
/// Links followed to the place of a file mount.
const LINKS_MAX: usize = 40;
const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// One mount, checked.
#[derive(Debug)]
pub(crate) struct MountPlan {
    pub destination: String,
    pub source: Source,
    pub options: MountOptions,
}

/// What is mounted.
#[derive(Debug)]
pub(crate) enum Source {
    /// A detached copy of something of the host, and whether it is a directory.
    Bind { tree: OwnedFd, directory: bool },
    /// A part of the container's own tree, where an earlier mount of it stands: what is there is known
    /// only once that is in place. The path is one inside the root; owners are mapped as this user
    /// namespace says, and whether those of mounts below, too.
    Inside {
        path: PathBuf,
        recursive: bool,
        idmap: Option<(OwnedFd, bool)>,
    },
    /// The container's view of its cgroup.
    Cgroup,
    /// A new file system of this type.
    New { kind: String, source: String },
    /// A `/dev` that is filled already, for a container that may not make nodes.
    Dev(OwnedFd),
}

/// By what owners can be mapped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mapper<'a> {
    /// A private procfs.
    pub procfs: BorrowedFd<'a>,
    /// The container's user namespace.
    pub user: Option<BorrowedFd<'a>>,
}

/// Where the source of a bind mount is looked up.
#[derive(Debug)]
pub(crate) enum Origin<'a> {
    /// The path that it names, from the bundle.
    Bundle(&'a Path),
    /// It was opened already.
    Handle(OwnedFd),
    /// This path of the container's own tree.
    Inside(PathBuf),
}

impl MountPlan {
    /// Checks a mount, and opens its source where that can be done by now.
    pub fn new(asked: &Mount, origin: Origin<'_>, mapper: Mapper<'_>) -> Result<Self> {
        let plan = Self::unmapped(asked, origin)?;
        let source = map_owners(asked, &plan.options, plan.source, mapper)?;
        Ok(Self { source, ..plan })
    }

    fn unmapped(asked: &Mount, origin: Origin<'_>) -> Result<Self> {
        let what = || format!("mount {:?}", asked.destination);
        if !asked.destination.starts_with('/') {
            let text = "mount destination not absolute";
            return Err(Error::invalid(format!("{}: {text}", what())));
        }
        let options = MountOptions::parse(&asked.options);
        let source = match (options.bind, asked.kind.as_str()) {
            (Some(recursive), _) => bind(asked, recursive, origin)?,
            (None, "bind") => bind(asked, false, origin)?,
            (None, "cgroup" | "cgroup2") => Source::Cgroup,
            (None, "") => {
                let text = format!("{}: it has no type", what());
                return Err(Error::invalid(text));
            }
            (None, kind) => Source::New {
                kind: kind.to_owned(),
                source: asked.source.clone(),
            },
        };
        Ok(Self {
            destination: asked.destination.clone(),
            source,
            options,
        })
    }
}

/// Makes the place of a mount in a root where it is missing, for who mounts there in our stead. What
/// is a part of the host is mounted, for places of others may be in it.
pub(crate) fn make_place(root: &RootFd, asked: &Mount, bundle: &Path) -> Result<()> {
    let plan = MountPlan::unmapped(asked, Origin::Bundle(bundle))?;
    let target = place(root, &plan)?;
    match &plan.source {
        Source::Bind { tree, .. } => {
            mount::attach(tree, target).context(|| format!("mounting at {:?}", plan.destination))
        }
        _ => Ok(()),
    }
}

/// Maps the owners of a mount, if that is asked for: by mappings of its own, else by the container's.
fn map_owners(
    asked: &Mount,
    options: &MountOptions,
    mut source: Source,
    mapper: Mapper<'_>,
) -> Result<Source> {
    let what = |text: &str| format!("mount {:?}: {text}", asked.destination);
    let (uids, gids) = (&asked.uid_mappings, &asked.gid_mappings);
    if options.idmap.is_none() && uids.is_empty() && gids.is_empty() {
        return Ok(source);
    }
    if !matches!(source, Source::Bind { .. } | Source::Inside { .. }) {
        let text = "id-mapped mounts are only supported for bind-mounts";
        return Err(Error::invalid(what(text)));
    }
    let own;
    let user = match (uids.is_empty(), gids.is_empty(), mapper.user) {
        (false, false, _) => {
            own = user_namespace::make(mapper.procfs, uids, gids)?;
            own.as_fd()
        }
        (true, true, Some(user)) => user,
        (true, true, None) => {
            let text = "id-mapped mounts need mappings, or a user namespace of the container";
            return Err(Error::invalid(what(text)));
        }
        _ => {
            let text = "id-mapped mounts need both uidMappings and gidMappings";
            return Err(Error::invalid(what(text)));
        }
    };
    let all = options.idmap == Some(true);
    match &mut source {
        Source::Bind { tree, .. } => map_tree(tree, user, all, &asked.source)
            .map_err(|e| e.during(&format!("mount {:?}", asked.destination)))?,
        Source::Inside { idmap, .. } => {
            let user = user.try_clone_to_owned();
            *idmap = Some((user.context(|| what("user namespace"))?, all));
        }
        _ => {}
    }
    Ok(source)
}

/// Maps the owners in a detached tree; it is called `source` in messages.
pub(super) fn map_tree(
    tree: impl AsFd,
    user: BorrowedFd<'_>,
    all: bool,
    source: &str,
) -> Result<()> {
    let change = Attributes {
        idmap: Some(user),
        ..Attributes::default()
    };
    mount::set_attributes(tree, all, &change).map_err(|e| {
        let text = errno_text(&e);
        Error::invalid(format!(
            "failed to set MOUNT_ATTR_IDMAP on {source}: {text} (maybe the filesystem used doesn't support idmap mounts on this kernel?)",
        ))
    })
}

fn bind(asked: &Mount, recursive: bool, origin: Origin<'_>) -> Result<Source> {
    let what = || {
        format!(
            "error mounting {:?} to rootfs at {:?}",
            asked.source, asked.destination
        )
    };
    let named = |e: std::io::Error| {
        let text = errno_text(&e);
        Error::invalid(format!("{}: mount src={}: {text}", what(), asked.source))
    };
    let tree = match origin {
        Origin::Inside(path) => {
            return Ok(Source::Inside {
                path,
                recursive,
                idmap: None,
            });
        }
        Origin::Handle(handle) => match mount::clone_handle(&handle, recursive) {
            Ok(tree) => tree,
            // The root of a detached mount, which older kernels do not copy: it is the tree itself.
            Err(e) if e.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => handle,
            Err(e) => return Err(named(e)),
        },
        Origin::Bundle(_) if asked.source.is_empty() => {
            return Err(Error::invalid(format!("{}: it has no source", what())));
        }
        Origin::Bundle(bundle) => {
            let path: PathBuf = bundle.join(&asked.source);
            mount::clone_path(CWD, path, recursive).map_err(named)?
        }
    };
    let directory = is_directory(&tree).context(what)?;
    Ok(Source::Bind { tree, directory })
}

fn is_directory(tree: &OwnedFd) -> std::io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(tree)?.st_mode) == FileType::Directory)
}

/// Opens a source that stands in the container's own tree, now that the mounts before it are there.
pub(super) fn open_inside(root: &RootFd, plan: &mut MountPlan) -> Result<()> {
    let Source::Inside {
        path,
        recursive,
        idmap,
    } = &plan.source
    else {
        return Ok(());
    };
    let what = || format!("mount src={} (of the container)", path.display());
    let handle = root.handle(path).invalid(what)?;
    let tree = mount::clone_handle(handle, *recursive).invalid(what)?;
    if let Some((user, all)) = idmap {
        map_tree(&tree, user.as_fd(), *all, &path.display().to_string())?;
    }
    let directory = is_directory(&tree).context(what)?;
    plan.source = Source::Bind { tree, directory };
    Ok(())
}

/// Makes the plan's file system as a detached mount. A tmpfs has the mode of the directory that it
/// `covers`, if there is one and nothing else was asked for.
pub(super) fn create(
    plan: &MountPlan,
    kind: &str,
    source: &str,
    covers: Option<u32>,
) -> Result<OwnedFd> {
    let what = || {
        format!(
            "error mounting {source:?} to rootfs at {:?}",
            plan.destination
        )
    };
    let mut options: Vec<mount::FsOption<'_>> = plan
        .options
        .data
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_deref()))
        // What devpts(5) does anyway, and no longer knows as an option of the new mount API.
        .filter(|(name, _)| kind != "devpts" || *name != "newinstance")
        .collect();
    if !source.is_empty() {
        options.insert(0, ("source", Some(source)));
    }
    let mode = covers.map(|mode| format!("{:o}", mode & 0o7777));
    if let Some(mode) = &mode
        && kind == "tmpfs"
        && !options.iter().any(|(name, _)| *name == "mode")
    {
        options.push(("mode", Some(mode)));
    }
    // A tmpfs may have to be filled before it cannot be written any more: `finish` of the tree.
    let later = if kind == "tmpfs" { mount::RDONLY } else { 0 };
    mount::new_mount(kind, &options, plan.options.set & !later).invalid(what)
}

/// Gives a detached tree the attributes that the plan says.
pub(super) fn adjust(tree: impl AsFd, plan: &MountPlan, bind: bool) -> Result<()> {
    let what = || format!("setting attributes of the mount at {:?}", plan.destination);
    let (own, all) = (plan.options.own(), plan.options.all());
    // A new file system was made with its attributes.
    if bind && (own.set, own.clear) != (0, 0) {
        mount::set_attributes(&tree, false, &own).invalid(what)?;
    }
    if (all.set, all.clear) != (0, 0) {
        mount::set_attributes(&tree, true, &all).invalid(what)?;
    }
    let asked = &plan.options.propagation;
    let settled = |(word, all): &(Propagation, bool)| *all || *word == Propagation::Shared;
    if bind && !asked.iter().any(settled) {
        // What is mounted in it stays in the container, unless that is asked for.
        let told = Attributes {
            propagation: Some(Propagation::Slave),
            ..Attributes::default()
        };
        mount::set_attributes(&tree, true, &told).invalid(what)?;
    }
    for (propagation, recursive) in asked {
        let change = Attributes {
            propagation: Some(*propagation),
            ..Attributes::default()
        };
        mount::set_attributes(&tree, *recursive, &change).invalid(what)?;
    }
    Ok(())
}

/// Finds the place of a mount inside the root, or makes it, and checks that nothing may be hidden
/// there which protects the container or the host.
pub(super) fn place(root: &RootFd, plan: &MountPlan) -> Result<OwnedFd> {
    let what = || format!("mount point {:?}", plan.destination);
    let path = Path::new(&plan.destination);
    let directory = !matches!(
        plan.source,
        Source::Bind {
            directory: false,
            ..
        }
    );
    // /proc and /sys are where the kernel is asked and told; /dev is filled with nodes. A link there
    // would put them somewhere else.
    if ["/proc", "/sys", "/dev"].contains(&plan.destination.as_str())
        && let Ok(stat) = root.stat_nofollow(path)
        && FileType::from_raw_mode(stat.st_mode) != FileType::Directory
    {
        return Err(Error::invalid(format!(
            "{}: it must be mounted on ordinary directory",
            what()
        )));
    }
    check_procfs(plan)?;
    let handle = if directory {
        root.mkdir_all(path, 0o755).invalid(what)?
    } else {
        file_place(root, path).invalid(what)?
    };
    let found = FileType::from_raw_mode(fstat(&handle).context(what)?.st_mode);
    if directory != (found == FileType::Directory) {
        return Err(Error::invalid(format!(
            "{}: not a directory. Are you trying to mount a directory onto a file (or vice-versa)? \
             Check if the specified host path exists and is the expected type",
            what()
        )));
    }
    let magic = fstatfs(&handle).context(what)?.f_type as u64;
    if magic == PROC_SUPER_MAGIC && !PROC_FILES.contains(&plan.destination.as_str()) {
        return Err(Error::invalid(format!(
            "{}: inside of proc, which is not allowed",
            what()
        )));
    }
    Ok(handle)
}

/// What is mounted at `/proc` is a procfs: over anything else, masks and checks would not be where
/// they are looked for (CVE-2019-16884). The words are runc's.
fn check_procfs(plan: &MountPlan) -> Result<()> {
    let names = |path: &str| path.split('/').filter(|n| !matches!(*n, "" | ".")).count();
    if names(&plan.destination) != 1 || !Path::new(&plan.destination).ends_with("proc") {
        return Ok(());
    }
    let what = || format!("mount {:?}", plan.destination);
    let is_procfs = match &plan.source {
        Source::New { kind, .. } => kind == "proc",
        Source::Bind { tree, .. } => fstatfs(tree).context(what)?.f_type as u64 == PROC_SUPER_MAGIC,
        Source::Cgroup | Source::Dev(_) | Source::Inside { .. } => false,
    };
    if is_procfs {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{}: it cannot be mounted because it is not of type proc",
        what()
    )))
}

/// A handle of what a file is to be mounted on; links are followed to where they point, and the
/// file made there.
fn file_place(root: &RootFd, path: &Path) -> std::io::Result<OwnedFd> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match root.handle(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            found => return found,
        }
        let above = path.parent().unwrap_or(Path::new("/")).to_owned();
        root.mkdir_all(&above, 0o755)?;
        match root.readlink(&path) {
            // Joining an absolute target replaces the path.
            Ok(target) => path = above.join(target),
            Err(_) => match root.create_file(&path, 0o644) {
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            },
        }
    }
    Err(Errno::LOOP.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use berth_spec::oci::runtime::IdMapping;

    use super::*;

    fn plan(asked: &Mount) -> Result<MountPlan> {
        let procfs = std::fs::File::open("/proc").unwrap();
        let mapper = Mapper {
            procfs: procfs.as_fd(),
            user: None,
        };
        MountPlan::new(asked, Origin::Bundle(Path::new("/")), mapper)
    }

    fn asked(kind: &str, source: &str, options: &[&str]) -> Mount {
        Mount {
            destination: "/mnt".into(),
            kind: kind.into(),
            source: source.into(),
            options: options.iter().map(|o| (*o).to_owned()).collect(),
            ..Mount::default()
        }
    }

    #[test]
    fn a_missing_source_is_named() {
        let mount = asked("", "/no/such/thing", &["rbind"]);
        let error = plan(&mount).unwrap_err();
        assert!(error.to_string().contains("/no/such/thing"), "{error}");
        assert!(
            error.to_string().ends_with("no such file or directory"),
            "{error}"
        );
    }

    #[test]
    fn mapped_mounts_need_mappings_and_a_source() {
        let error = plan(&asked("", "/tmp", &["bind", "idmap"])).unwrap_err();
        assert!(error.to_string().contains("need mappings"), "{error}");
        let error = plan(&asked("tmpfs", "tmpfs", &["ridmap"])).unwrap_err();
        assert!(error.to_string().contains("bind-mounts"), "{error}");
        let mut half = asked("", "/tmp", &["bind"]);
        half.uid_mappings.push(IdMapping::default());
        let error = plan(&half).unwrap_err();
        assert!(error.to_string().contains("both"), "{error}");
    }

    #[test]
    fn files_are_placed_where_links_point() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("etc")).unwrap();
        symlink(
            "../run/stub/resolv.conf",
            temp.path().join("etc/resolv.conf"),
        )
        .unwrap();
        symlink("/etc/loop", temp.path().join("etc/loop")).unwrap();
        symlink("/../../outside", temp.path().join("etc/out")).unwrap();
        let root = RootFd::open(temp.path()).unwrap();
        file_place(&root, Path::new("/etc/resolv.conf")).unwrap();
        assert!(temp.path().join("run/stub/resolv.conf").is_file());
        file_place(&root, Path::new("/etc/out")).unwrap();
        assert!(temp.path().join("outside").is_file());
        assert!(file_place(&root, Path::new("/etc/loop")).is_err());
    }

    #[test]
    fn links_and_procfs_are_no_places() {
        let temp = tempfile::tempdir().unwrap();
        symlink("/tmp", temp.path().join("proc")).unwrap();
        let root = RootFd::open(temp.path()).unwrap();
        let mut mount = asked("proc", "proc", &[]);
        mount.destination = "/proc".into();
        let planned = plan(&mount).unwrap();
        let error = place(&root, &planned).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("must be mounted on ordinary directory"),
            "{error}"
        );
        // Nor is anything but a procfs mounted at /proc.
        std::fs::remove_file(temp.path().join("proc")).unwrap();
        for destination in ["/proc", "//proc/.", "/proc/"] {
            let mut mount = asked("tmpfs", "tmpfs", &[]);
            mount.destination = destination.into();
            let error = place(&root, &plan(&mount).unwrap()).unwrap_err();
            assert!(error.to_string().contains("not of type proc"), "{error}");
        }
        // The host's own root stands in for a container's with a procfs.
        let root = RootFd::open(Path::new("/")).unwrap();
        let mut mount = asked("tmpfs", "tmpfs", &[]);
        mount.destination = "/proc/self".into();
        let planned = plan(&mount).unwrap();
        let error = place(&root, &planned).unwrap_err();
        assert!(error.to_string().contains("inside of proc"), "{error}");
    }
}
