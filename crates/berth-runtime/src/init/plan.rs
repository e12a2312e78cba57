//! All that a container's first process will do, checked and opened before it exists.

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_spec::oci::runtime::{Hooks, Mount, NamespaceKind, Spec};
use berth_sys::mount;
use rustix::fs::{CWD, Mode};

use super::dev::{self, Bind, Node};
use super::mounts::{self, Mapper, MountPlan, Origin, Source};
use super::namespace::Namespaces;
use super::options::root_propagation;
use super::process::ProcessPlan;
use super::sysctl;
use super::{Gate, Start, Stdio};
use crate::cgroup::{Cgroup, Join};
use crate::error::{Context, Error, Result};
use crate::launcher::World;

/// What the first process does.
#[derive(Debug)]
pub(crate) struct Plan {
    pub process: ProcessPlan,
    pub namespaces: Namespaces,
    pub root: OwnedFd,
    pub readonly_root: bool,
    pub root_propagation: String,
    pub mounts: Vec<MountPlan>,
    pub nodes: Vec<Node>,
    /// Whether `/dev` is filled by us.
    pub own_dev: bool,
    pub masked: Vec<String>,
    pub readonly: Vec<String>,
    pub cgroup: CgroupView,
    /// The container's cgroup, where it is to be that of its root.
    pub own_cgroup: Option<OwnedFd>,
    pub join: Join,
    /// The host's sysfs, for a container that cannot mount one.
    pub sysfs: Option<OwnedFd>,
    pub sysctls: Vec<(String, String)>,
    pub hostname: String,
    pub domainname: String,
    pub personality: Option<u32>,
    pub hooks: Hooks,
    pub stdio: Stdio,
    pub gate: Gate,
    /// Begins in the empty mount namespace. Hooks that are to see the host's files forbid it, and so
    /// does a user namespace: the kernel lets it mount a procfs only where it sees one.
    pub from_empty: bool,
    /// Where the root is put in the mount namespace until it is all there is: hooks look for it there.
    pub host_root: Option<PathBuf>,
    /// Dies with its parent.
    pub bound_to_parent: bool,
    /// Stays, with the program as its child.
    pub init: bool,
    /// Descriptors after standard error that the program inherits.
    pub preserve_fds: u32,
}

/// What is mounted for type `cgroup`.
#[derive(Debug)]
pub(crate) enum CgroupView {
    /// A mount of the v2 tree; for who may not make one, the container's own cgroup.
    Unified(Option<OwnedFd>),
    /// The container's own cgroup in each v1 tree, with the names of its controllers.
    Trees(Vec<(Vec<String>, OwnedFd)>),
}

impl Plan {
    /// Checks and opens; `warnings` are told what will be less than was asked.
    pub fn new(world: &World, start: Start<'_>, warnings: &mut Vec<String>) -> Result<Self> {
        let spec = start.spec;
        let linux = spec.linux.clone().unwrap_or_default();
        let asked = spec
            .process
            .as_ref()
            .ok_or_else(|| Error::invalid("process property must not be empty"))?;
        let namespaces = Namespaces::new(world, &linux, start.given)?;
        check_names(spec, &namespaces)?;
        let own_user = namespaces.own_user();
        let process = ProcessPlan::new(asked, start.filter, own_user, warnings)?;
        let mapper = Mapper {
            procfs: world.procfs.as_fd(),
            user: namespaces.user.as_ref().map(AsFd::as_fd),
        };
        let host_root = host_root(spec, start.bundle);
        let mut mounts = plan_mounts(spec, start.bundle, start.sources, mapper)?;
        let own_dev = !mounts.iter().any(|m| {
            m.destination.trim_end_matches('/') == "/dev" && matches!(m.source, Source::Bind { .. })
        });
        let bind = match mapper.user {
            Some(_) => Bind::OutsideDev,
            None => Bind::None,
        };
        let mut nodes = dev::plan(&linux.devices, bind)?;
        if let Some(user) = mapper.user
            && !(own_dev && fill_dev(&mut mounts, &nodes, process.terminal, user)?)
        {
            nodes = dev::plan(&linux.devices, Bind::All)?;
        }
        if !linux.rootfs_propagation.is_empty()
            && root_propagation(&linux.rootfs_propagation).is_none()
        {
            return Err(Error::invalid(format!(
                "rootfsPropagation={} is not supported",
                linux.rootfs_propagation
            )));
        }
        let hooks = spec.hooks.clone().unwrap_or_default();
        Ok(Self {
            process,
            root: start.root,
            readonly_root: spec.root.as_ref().is_some_and(|r| r.readonly),
            root_propagation: linux.rootfs_propagation.clone(),
            own_cgroup: given_cgroup(start.cgroup, &mounts, &namespaces)?,
            cgroup: view(start.cgroup, &mounts, own_user)?,
            mounts,
            nodes,
            own_dev,
            masked: linux.masked_paths.clone(),
            readonly: linux.readonly_paths.clone(),
            join: start
                .cgroup
                .join()
                .map_err(|e| Error::internal(e.to_string()))?,
            sysfs: if own_user { Some(host_sysfs()?) } else { None },
            sysctls: sysctl::check(&linux, &namespaces)?,
            hostname: spec.hostname.clone(),
            domainname: spec.domainname.clone(),
            personality: personality(&linux)?,
            namespaces,
            stdio: start.stdio,
            gate: start.gate,
            from_empty: !hooks_look_in(&hooks) && !own_user,
            host_root: host_root.filter(|_| hooks_look_in(&hooks)),
            hooks,
            bound_to_parent: start.bound_to_parent,
            init: start.init,
            preserve_fds: start.preserve_fds,
        })
    }
}

/// Hooks that run before the root is all there is may enter the mount namespace, and expect the host's
/// files in it.
fn hooks_look_in(hooks: &Hooks) -> bool {
    let before = [
        &hooks.prestart,
        &hooks.create_runtime,
        &hooks.create_container,
    ];
    before.iter().any(|hooks| !hooks.is_empty())
}

fn check_names(spec: &Spec, namespaces: &Namespaces) -> Result<()> {
    let named = !spec.hostname.is_empty() || !spec.domainname.is_empty();
    if named && !namespaces.separate(NamespaceKind::Uts) {
        return Err(Error::invalid(
            "unable to set hostname without a private UTS namespace",
        ));
    }
    if [&spec.hostname, &spec.domainname]
        .iter()
        .any(|n| n.contains('\0'))
    {
        return Err(Error::invalid("sethostname: the name has a NUL byte"));
    }
    if spec.hostname.len() > 64 || spec.domainname.len() > 64 {
        return Err(Error::invalid("sethostname: name too long"));
    }
    Ok(())
}

fn plan_mounts(
    spec: &Spec,
    bundle: &Path,
    mut sources: Vec<(usize, OwnedFd)>,
    mapper: Mapper<'_>,
) -> Result<Vec<MountPlan>> {
    let root = host_root(spec, bundle);
    let mut planned: Vec<MountPlan> = Vec::with_capacity(spec.mounts.len());
    for (index, asked) in spec.mounts.iter().enumerate() {
        let given = sources.iter().position(|(i, _)| *i == index);
        let asked = &destined(asked, root.as_deref());
        let inside = || inside(root.as_deref()?, bundle, asked, &planned);
        let origin = match given.map(|at| sources.swap_remove(at).1) {
            Some(handle) => Origin::Handle(handle),
            None => inside().map_or(Origin::Bundle(bundle), Origin::Inside),
        };
        planned.push(MountPlan::new(asked, origin, mapper)?);
    }
    if sources.is_empty() {
        Ok(planned)
    } else {
        Err(Error::invalid("a source was given for no mount"))
    }
}

/// Where on the host the container's root stands, if the document says so.
fn host_root(spec: &Spec, bundle: &Path) -> Option<PathBuf> {
    let path = &spec.root.as_ref().filter(|r| !r.path.is_empty())?.path;
    let path = bundle.join(path);
    (path.is_absolute() && path.parent().is_some()).then_some(path)
}

/// A mount whose destination is a path inside the root: it may be given as one of the host
/// (as runc takes it), or without the slash at its start (config.md, "Mounts").
fn destined<'a>(asked: &'a Mount, root: Option<&Path>) -> Cow<'a, Mount> {
    let path = Path::new(&asked.destination);
    let inside = root.and_then(|root| path.strip_prefix(root).ok());
    let inside = inside.or((!path.is_absolute()).then_some(path));
    let Some(inside) = inside.and_then(Path::to_str) else {
        return Cow::Borrowed(asked);
    };
    let mut asked = asked.clone();
    asked.destination = format!("/{inside}");
    Cow::Owned(asked)
}

/// The path inside the root of a source that an earlier mount of the same container covers: what the
/// host has there is not what was meant.
fn inside(root: &Path, bundle: &Path, asked: &Mount, earlier: &[MountPlan]) -> Option<PathBuf> {
    let source = bundle.join(&asked.source);
    let normal = |c: std::path::Component<'_>| {
        use std::path::Component::{Normal, RootDir};
        matches!(c, Normal(_) | RootDir)
    };
    let path = Path::new("/").join(source.strip_prefix(root).ok()?);
    let covered = |m: &MountPlan| path.starts_with(&m.destination);
    (path.components().all(normal) && earlier.iter().any(covered)).then_some(path)
}

/// Makes the tmpfs at `/dev` and all nodes in it, with the rights that the container will not have;
/// its owners are then mapped as the container's. Answers false where there is none, or the kernel
/// (before 6.3) cannot map a tmpfs.
fn fill_dev(
    mounts: &mut [MountPlan],
    nodes: &[Node],
    console: bool,
    user: BorrowedFd<'_>,
) -> Result<bool> {
    let at_dev = |m: &&mut MountPlan| m.destination.trim_end_matches('/') == "/dev";
    let Some(planned) = mounts.iter_mut().rfind(at_dev) else {
        return Ok(false);
    };
    let made = match &planned.source {
        Source::New { kind, source } if kind == "tmpfs" => {
            mounts::create(planned, kind, source, None)?
        }
        _ => return Ok(false),
    };
    let umask = rustix::process::umask(Mode::empty());
    let filled = dev::populate(made.as_fd(), nodes, console);
    rustix::process::umask(umask);
    filled?;
    let change = mount::Attributes {
        idmap: Some(user),
        ..mount::Attributes::default()
    };
    let mapped = mount::set_attributes(&made, false, &change).is_ok();
    if mapped {
        planned.source = Source::Dev(made);
    }
    Ok(mapped)
}

/// The cgroup of a container that may write to it: in a user namespace and a cgroup namespace of its own,
/// of the v2 tree alone, mounted writable. Delegation is safe there and nowhere else.
fn given_cgroup(
    cgroup: &Cgroup,
    mounts: &[MountPlan],
    namespaces: &Namespaces,
) -> Result<Option<OwnedFd>> {
    let writable = mounts.iter().any(|m| {
        let read_only = (m.options.set | m.options.set_all) & mount::RDONLY != 0;
        matches!(m.source, Source::Cgroup) && !read_only
    });
    let own = namespaces.own_user() && namespaces.new_cgroup && cgroup.views().is_empty();
    cgroup
        .dir()
        .filter(|_| writable && own)
        .map(|dir| dir.try_clone_to_owned())
        .transpose()
        .context(|| "the container's cgroup".to_owned())
}

fn view(cgroup: &Cgroup, mounts: &[MountPlan], own_user: bool) -> Result<CgroupView> {
    let wanted = mounts.iter().any(|m| matches!(m.source, Source::Cgroup));
    let views = cgroup.views();
    if views.is_empty() || !wanted {
        let own = cgroup.dir().filter(|_| wanted && own_user);
        let own = own.map(|dir| mount::clone_handle(dir, false)).transpose();
        return Ok(CgroupView::Unified(
            own.context(|| "cgroup view".to_owned())?,
        ));
    }
    let trees: Result<Vec<_>> = views
        .into_iter()
        .map(|(controllers, dir)| {
            let tree = mount::clone_handle(dir, false);
            Ok((controllers, tree.context(|| "cgroup view".to_owned())?))
        })
        .collect();
    Ok(CgroupView::Trees(trees?))
}

fn host_sysfs() -> Result<OwnedFd> {
    let what = || "the host's sysfs".to_owned();
    let tree = mount::clone_path(CWD, "/sys", true).context(what)?;
    let change = mount::Attributes {
        set: mount::RDONLY | mount::NOSUID | mount::NODEV | mount::NOEXEC,
        ..mount::Attributes::default()
    };
    mount::set_attributes(&tree, true, &change).context(what)?;
    Ok(tree)
}

fn personality(linux: &berth_spec::oci::runtime::Linux) -> Result<Option<u32>> {
    let Some(personality) = &linux.personality else {
        return Ok(None);
    };
    if !personality.flags.is_empty() {
        return Err(Error::invalid("personality flags are not supported"));
    }
    match personality.domain.as_str() {
        "LINUX" => Ok(Some(0)),
        // PER_LINUX32.
        "LINUX32" => Ok(Some(8)),
        other => Err(Error::invalid(format!(
            "invalid personality domain {other}"
        ))),
    }
}
