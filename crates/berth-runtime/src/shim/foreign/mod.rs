//! Containers run by another OCI runtime, by its command line (runc's: `create`, `start`, `exec`,
//! `delete`).
//!
//! The runtime gets the very document that berth's own would run. Its files are shown to it in a mount
//! namespace that only its `create` is in: the root and the sources of mounts come as handles, and
//! the host's mount table never sees them. The shim stays what it is: the container's process is its
//! child, streams, terminal, log and exit status are its own.
//!
//! ```text
//! <dir>/oci/              the runtime's own state
//! <dir>/bundle/           config.json, rootfs/ and sources/: where the handles are attached
//! <dir>/oci.log, oci.pid  what it says, and whom it started
//! ```

mod command;

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_spec::oci::runtime::{Namespace, NamespaceKind, Process, Root, Spec};
use berth_sys::{mount, process, socket};
use rustix::fs::{CWD, FileType, Mode, OFlags, openat};
use rustix::process::Pid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use self::command::Runtime;
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Result};
use crate::init::{Given, Started, Stdio};
use crate::launcher::World;
use crate::task::TaskSpec;

/// The version of the document that every runtime reads.
const VERSION: &str = "1.0.2";

/// The runtime of a container that has another than berth's own.
pub(super) fn of(task: &TaskSpec) -> Option<Foreign<'_>> {
    let program = task.runtime.as_ref()?;
    Some(Foreign {
        runtime: Runtime {
            program,
            dir: &task.dir,
        },
        task,
    })
}

/// A container of another runtime.
pub(super) struct Foreign<'t> {
    runtime: Runtime<'t>,
    task: &'t TaskSpec,
}

/// What a start is given beside the document.
pub(super) struct Parts<'p> {
    pub root: OwnedFd,
    pub given: Given,
    pub sources: Vec<(usize, OwnedFd)>,
    pub stdio: Stdio,
    pub cgroup: &'p Cgroup,
}

impl Foreign<'_> {
    /// Creates and starts the container. On an error nothing of it is left.
    pub fn start(&self, world: &World, parts: Parts<'_>) -> Result<Started> {
        let started = self.create(world, parts);
        if started.is_err() {
            self.delete();
        }
        started
    }

    fn create(&self, world: &World, parts: Parts<'_>) -> Result<Started> {
        let Parts {
            root,
            given,
            sources,
            stdio,
            cgroup,
        } = parts;
        let bundle = self.task.dir.join("bundle");
        let tree = Tree::new(&bundle, root, sources)?;
        let document = self.document(&tree, &given)?;
        let text = serde_json::to_vec(&document).context(|| "config.json".to_owned())?;
        std::fs::write(bundle.join("config.json"), text).context(|| "config.json".to_owned())?;
        let console = Console::new(&stdio, &self.task.dir)?;
        let mut create = self.runtime.command("create");
        create.arg("--bundle").arg(&bundle);
        create.arg("--pid-file").arg(self.runtime.pid_file());
        console.name_to(&mut create);
        create.arg(&self.task.id);
        let ran = tree.with(world, || self.runtime.run(create, stdio));
        ran?;
        let pid = self.runtime.started()?;
        // Where it did not think of all trees, since limits and counts are read from them.
        cgroup
            .add(pid.as_raw_pid())
            .map_err(|e| Error::internal(format!("cgroup: {e}")))?;
        let terminal = console.terminal()?;
        let started = Started::elsewhere(pid, terminal)?;
        let mut start = self.runtime.command("start");
        start.arg(&self.task.id);
        self.runtime.run(start, Stdio::Files(None))?;
        // The descriptors that the document names.
        drop(given);
        Ok(started)
    }

    /// The document with the places where the runtime finds what came as handles.
    fn document(&self, tree: &Tree, given: &Given) -> Result<Spec> {
        let mut spec = self.task.spec.clone();
        // Nothing in it is newer, and runtimes refuse what they do not know.
        VERSION.clone_into(&mut spec.oci_version);
        let readonly = spec.root.as_ref().is_some_and(|r| r.readonly);
        spec.root = Some(Root {
            path: tree.root_path().display().to_string(),
            readonly,
        });
        for (index, path) in &tree.places {
            let mount = spec
                .mounts
                .get_mut(*index)
                .ok_or_else(|| Error::invalid("a source was given for no mount"))?;
            mount.source = path.display().to_string();
        }
        let linux = spec.linux.get_or_insert_default();
        for (kind, handle) in [
            (NamespaceKind::Network, &given.network),
            (NamespaceKind::User, &given.user),
        ] {
            let Some(handle) = handle else { continue };
            linux.namespaces.retain(|n| n.kind != kind);
            linux.namespaces.push(Namespace {
                kind,
                path: own_path(handle),
            });
        }
        Ok(spec)
    }

    /// Runs a further process in the container.
    pub fn exec(&self, process: &Process, stdio: Stdio) -> Result<Started> {
        let file = self.task.dir.join("exec.json");
        let text = serde_json::to_vec(process).context(|| "exec.json".to_owned())?;
        std::fs::write(&file, text).context(|| "exec.json".to_owned())?;
        let console = Console::new(&stdio, &self.task.dir)?;
        let mut exec = self.runtime.command("exec");
        exec.arg("--process").arg(&file);
        exec.arg("--pid-file").arg(self.runtime.pid_file());
        exec.arg("--detach");
        console.name_to(&mut exec);
        exec.arg(&self.task.id);
        self.runtime.run(exec, stdio)?;
        Started::elsewhere(self.runtime.started()?, console.terminal()?)
    }

    /// Forgets the container, whatever is left of it.
    pub fn delete(&self) {
        let mut delete = self.runtime.command("delete");
        delete.arg("--force").arg(&self.task.id);
        // The process is gone; what the runtime could not remove is below the container's directory.
        let _ = self.runtime.run(delete, Stdio::Files(None));
        let _ = std::fs::remove_dir_all(self.task.dir.join("bundle"));
    }
}

/// A path by which other processes open a descriptor of ours, as long as we have it.
fn own_path(fd: impl AsFd) -> String {
    let pid = rustix::process::getpid().as_raw_pid();
    format!("/proc/{pid}/fd/{}", fd.as_fd().as_raw_fd())
}

/// Detached mounts, and where a runtime is to find them.
struct Tree {
    bundle: PathBuf,
    root: OwnedFd,
    sources: Vec<OwnedFd>,
    /// Positions in the document's mounts, in the order of `sources`.
    places: Vec<(usize, PathBuf)>,
}

impl Tree {
    /// Makes the places.
    fn new(bundle: &Path, root: OwnedFd, sources: Vec<(usize, OwnedFd)>) -> Result<Self> {
        let what = || format!("bundle {}", bundle.display());
        std::fs::create_dir_all(bundle.join("rootfs")).context(what)?;
        std::fs::create_dir_all(bundle.join("sources")).context(what)?;
        let mut tree = Self {
            bundle: bundle.to_owned(),
            root,
            sources: Vec::new(),
            places: Vec::new(),
        };
        for (index, handle) in sources {
            let place = bundle.join("sources").join(index.to_string());
            let stat = rustix::fs::fstat(&handle).context(what)?;
            if FileType::from_raw_mode(stat.st_mode).is_dir() {
                std::fs::create_dir_all(&place).context(what)?;
            } else {
                std::fs::write(&place, "").context(what)?;
            }
            // A handle of something mounted becomes a mount of its own; what is none stays.
            let detached = mount::clone_handle(&handle, true).unwrap_or(handle);
            tree.sources.push(detached);
            tree.places.push((index, place));
        }
        Ok(tree)
    }

    fn root_path(&self) -> PathBuf {
        self.bundle.join("rootfs")
    }

    /// Does `work` in a mount namespace that has everything in its place, and comes back.
    fn with(self, world: &World, work: impl FnOnce() -> Result<()>) -> Result<()> {
        process::unshare(process::NEW_MOUNT).context(|| "mount namespace".to_owned())?;
        // Mounts of the host still come in, and nothing of ours goes out.
        let done = mount::set_namespace_propagation(mount::Propagation::Slave)
            .context(|| "mount namespace".to_owned())
            .and_then(|()| self.attach())
            .and_then(|()| work());
        move_into_link_name_space(world.home.as_fd(), Some(LinkNameSpaceType::Mount))
            .context(|| "returning to the mount namespace".to_owned())?;
        done
    }

    fn attach(self) -> Result<()> {
        let root = self.root_path();
        let paths = self.places.into_iter().map(|(_, path)| path);
        let all = std::iter::once((self.root, root)).chain(self.sources.into_iter().zip(paths));
        for (tree, place) in all {
            let what = || format!("attaching {}", place.display());
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let target = openat(CWD, &place, flags, Mode::empty()).context(what)?;
            mount::attach(tree, target).context(what)?;
        }
        Ok(())
    }
}

/// Where a runtime sends the terminal that it makes; none without a terminal.
struct Console(Option<(OwnedFd, OwnedFd)>);

const CONSOLE: &str = "tty.sock";

impl Console {
    fn new(stdio: &Stdio, dir: &Path) -> Result<Self> {
        if matches!(stdio, Stdio::Files(_)) {
            return Ok(Self(None));
        }
        let what = || "console socket".to_owned();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, dir, flags, Mode::empty()).context(what)?;
        let listener = socket::listen_at(&dir, OsStr::new(CONSOLE), 0o600).context(what)?;
        Ok(Self(Some((dir, listener))))
    }

    /// The path goes through our own handle: it may be longer than a socket's address.
    fn name_to(&self, command: &mut std::process::Command) {
        if let Some((dir, _)) = &self.0 {
            let path = format!("{}/{CONSOLE}", own_path(dir));
            command.arg("--console-socket").arg(path);
        }
    }

    /// The terminal that was sent.
    fn terminal(self) -> Result<Option<OwnedFd>> {
        let Some((dir, listener)) = self.0 else {
            return Ok(None);
        };
        let what = || "the runtime's terminal".to_owned();
        // The runtime has connected and sent before it ended.
        let connection =
            rustix::net::accept_with(&listener, rustix::net::SocketFlags::CLOEXEC).context(what)?;
        let mut name = [0; 4096];
        let (_, fds) = socket::receive(&connection, &mut name).context(what)?;
        // In the directory of one run, it is in nobody's way.
        let _ = rustix::fs::unlinkat(&dir, CONSOLE, rustix::fs::AtFlags::empty());
        fds.into_iter()
            .next()
            .map(Some)
            .ok_or_else(|| Error::internal("the runtime sent no terminal"))
    }
}

/// A process's number as a runtime wrote it down.
fn parse_pid(text: &str) -> Option<Pid> {
    Pid::from_raw(text.trim().parse().ok()?)
}
