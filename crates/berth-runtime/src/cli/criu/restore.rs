//! `restore`.

use std::ffi::OsString;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use berth_spec::oci::runtime::{Mount, Namespace, NamespaceKind, Spec};
use berth_sys::root::RootFd;
use berth_sys::{mount, process as sys, socket};
use jiff::Timestamp;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::super::Global;
use super::super::create::{console, read_spec, write_pid_file};
use super::super::flags::Given;
use super::super::foreground::Foreground;
use super::super::home::Home;
use super::super::kill::destroy;
use super::super::state::{self, Directory, Saved};
use super::super::terminal::Host;
use super::checkpoint::external;
use super::options::{self, Options};
use super::rpc::{Answer, Kind, Message};
use super::worker::{self, Worker};
use super::{DESCRIPTORS, FLAGS};
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Result};
use crate::hooks;
use crate::init::make_place;
use crate::process::start_time;

/// Bytes of a small file that is read whole.
const SMALL_MAX: u64 = 64 << 10;
/// criu's version from which on it restores into a time namespace.
const WITH_TIME: u64 = 31_400;

pub(in super::super) fn restore(
    global: &Global,
    arguments: impl Iterator<Item = OsString>,
) -> Result<ExitCode> {
    let given = Given::parse(arguments, FLAGS, false)?;
    let id = given.id()?;
    let bundle = std::path::absolute(given.value("bundle").unwrap_or("."))
        .invalid(|| "bundle".to_owned())?;
    let spec = read_spec(&bundle.join("config.json"))?;
    let detached = given.on("detach");
    let (console, host) = console(&given, &spec, detached)?;
    let foreground = match detached {
        true => None,
        false => Some(Foreground::new()?),
    };
    let version = worker::version()?;
    let directory = Directory::create(&global.root, id)?;
    let home = Home::make(global, &state::cgroups()?, &spec, id);
    let home = home.inspect_err(|_| drop(directory.remove()))?;
    let restored = Restored {
        given: &given,
        directory: &directory,
        cgroup: &home.cgroup,
        saved: Saved {
            id: id.to_owned(),
            pid: 0,
            start_time: 0,
            bundle,
            cgroup: home.cgroup.path().to_string(),
            unit: home.unit.clone(),
            created: Timestamp::now(),
            spec,
        },
        version,
        console,
        master: None,
    };
    match restored.run() {
        Ok((saved, master)) => {
            // It is lived in.
            drop(home);
            follow(&given, &directory, &saved, foreground, host.zip(master))
        }
        Err(error) => {
            home.undo();
            // What is told is why it failed.
            let _ = directory.remove();
            Err(error)
        }
    }
}

/// Waits for the process, where that is wanted.
fn follow(
    given: &Given,
    directory: &Directory,
    saved: &Saved,
    foreground: Option<Foreground>,
    terminal: Option<(Host, OwnedFd)>,
) -> Result<ExitCode> {
    write_pid_file(given, saved.pid)?;
    let Some(foreground) = foreground else {
        return Ok(ExitCode::SUCCESS);
    };
    let pid = Pid::from_raw(saved.pid).ok_or_else(|| Error::internal("no process"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).context(|| format!("process {pid}"))?;
    let shown = terminal
        .map(|(host, master)| host.show(master))
        .transpose()?;
    let code = foreground.wait(pid, pidfd.as_fd(), shown)?;
    if !given.on("keep") {
        destroy(directory, saved)?;
    }
    Ok(ExitCode::from(code as u8))
}

/// A container on its way back.
struct Restored<'a> {
    given: &'a Given,
    directory: &'a Directory,
    cgroup: &'a Cgroup,
    saved: Saved,
    version: u64,
    /// Who gets the master of its terminal; else it is kept.
    console: Option<OwnedFd>,
    master: Option<OwnedFd>,
}

impl Restored<'_> {
    fn run(mut self) -> Result<(Saved, Option<OwnedFd>)> {
        let spec = self.saved.spec.clone();
        // What is mounted for criu's sake is gone with us. Directories are opened after that: criu mounts
        // in them.
        sys::unshare(sys::NEW_MOUNT).context(|| "making a mount namespace".to_owned())?;
        mount::set_namespace_propagation(mount::Propagation::Slave)
            .context(|| "making the host's mounts slaves".to_owned())?;
        let mut options = Options::new(self.given, "restore.log")?;
        let streams = streams(&options.images_path)?;
        let root = self.place_root()?;
        let message = &mut options.message;
        message
            .switch(6, true)
            .switch(26, true)
            .text(13, &root.display().to_string());
        for (field, name) in [(53, "lsm-profile"), (63, "lsm-mount-context")] {
            if let Some(value) = self.given.value(name) {
                message.text(field, value);
            }
        }
        // Kept open until criu has started, which inherits them.
        let namespaces = join_namespaces(&spec, message)?;
        self.mounts(&spec, message)?;
        for (n, name) in streams.iter().enumerate() {
            if name.starts_with("pipe:") {
                inherit(message, name, n as u64);
            }
        }
        let worker = Worker::start(true)?;
        drop(namespaces);
        let pid = i32::try_from(worker.pid()).context(|| "criu".to_owned())?;
        let added = self.cgroup.add(pid);
        added.map_err(|e| Error::internal(format!("cgroup: {e}")))?;
        cgroup_roots(pid, message)?;
        let mut noticed = |answer: &Answer, fds: Vec<OwnedFd>| self.noticed(answer, fds);
        let result = worker.ask(Kind::Restore, Some(&options.message), &mut noticed);
        result.inspect_err(|_| worker::quote(&options.log))?;
        if self.saved.pid == 0 {
            return Err(Error::internal("criu told of no process that it restored"));
        }
        Ok((self.saved, self.master))
    }

    fn noticed(&mut self, answer: &Answer, fds: Vec<OwnedFd>) -> Result<()> {
        match answer.script.as_str() {
            "setup-namespaces" => {
                let Some(all) = &self.saved.spec.hooks else {
                    return Ok(());
                };
                let status = berth_spec::oci::runtime::Status::Creating;
                let (saved, pid) = (&self.saved, Some(answer.pid));
                let state = hooks::state(&saved.spec, &saved.id, status, pid, &saved.bundle);
                hooks::run("prestart", &all.prestart, &state)?;
                hooks::run("createRuntime", &all.create_runtime, &state)
            }
            "orphan-pts-master" => {
                let [master] = <[OwnedFd; 1]>::try_from(fds)
                    .map_err(|_| Error::internal("criu: the terminal did not come"))?;
                match &self.console {
                    Some(console) => socket::send(console, b"/dev/ptmx", &[master.as_fd()])
                        .context(|| "console socket".to_owned())
                        .map(drop),
                    None => {
                        self.master = Some(master);
                        Ok(())
                    }
                }
            }
            "post-restore" => self.save(answer.pid),
            _ => Ok(()),
        }
    }

    fn save(&mut self, pid: i32) -> Result<()> {
        let saved = &mut self.saved;
        saved.pid = pid;
        saved.start_time = start_time(pid).context(|| format!("process {pid}"))?;
        let namespaces = &mut saved.spec.linux.get_or_insert_default().namespaces;
        let time = NamespaceKind::Time;
        // It is in one from now on, whether the document has it or not.
        if self.version >= WITH_TIME && !namespaces.iter().any(|n| n.kind == time) {
            namespaces.push(Namespace {
                kind: time,
                path: String::new(),
            });
        }
        self.directory.save(saved)
    }

    /// The root as criu wants it: a mount point, with nothing over what is above.
    fn place_root(&self) -> Result<std::path::PathBuf> {
        let what = || "placing the root for criu".to_owned();
        let place = self.directory.path().join("criu-root");
        std::fs::create_dir(&place).context(what)?;
        let place = std::fs::canonicalize(place).context(what)?;
        let rootfs = self.saved.rootfs();
        let tree = mount::clone_path(CWD, &rootfs, true)
            .map_err(|e| Error::invalid(format!("rootfs ({}): {e}", rootfs.display())))?;
        let target = openat(CWD, &place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        mount::attach(tree, target.context(what)?).context(what)?;
        Ok(place)
    }

    /// Makes the places of mounts where they are missing, as for a new container, and tells where
    /// those of the host come from.
    fn mounts(&self, spec: &Spec, message: &mut Message) -> Result<()> {
        let root = RootFd::open(&self.saved.rootfs()).invalid(|| "rootfs".to_owned())?;
        let bundle = &self.saved.bundle;
        let binds: Vec<String> = external(spec).collect();
        for asked in &spec.mounts {
            let bind = binds.contains(&asked.destination);
            if !asked.kind.starts_with("cgroup") && !on_tmpfs(asked, spec) {
                // What is mounted here is gone with our mount namespace; criu has a copy of the root
                // that was made before.
                make_place(&root, asked, bundle)?;
            }
            if bind {
                let source = bundle.join(&asked.source).display().to_string();
                message.pair(23, &asked.destination, &source);
            }
        }
        if spec
            .linux
            .as_ref()
            .is_some_and(|l| !l.masked_paths.is_empty())
        {
            message.pair(23, "/dev/null", "/dev/null");
        }
        // The container's view of v1 trees is of the host's.
        for asked in spec.mounts.iter().filter(|m| m.kind == "cgroup") {
            for (name, path) in self.cgroup.directories() {
                message.pair(23, &format!("{}/{name}", asked.destination), &path);
            }
        }
        Ok(())
    }
}

/// What is below a tmpfs comes back with its content.
fn on_tmpfs(asked: &Mount, spec: &Spec) -> bool {
    let mut others = spec.mounts.iter().filter(|m| m.kind == "tmpfs");
    others.any(|m| {
        m.destination != asked.destination
            && Path::new(&asked.destination).starts_with(&m.destination)
    })
}

/// What the streams of the first process were.
fn streams(images: &Path) -> Result<Vec<String>> {
    let what = || DESCRIPTORS.to_owned();
    let mut text = Vec::new();
    let file = std::fs::File::open(images.join(DESCRIPTORS)).invalid(what)?;
    file.take(SMALL_MAX).read_to_end(&mut text).context(what)?;
    let mut names: Vec<String> = serde_json::from_slice(&text).invalid(what)?;
    names.truncate(3);
    Ok(names)
}

/// A descriptor that criu has from us stands for one that was dumped.
fn inherit(message: &mut Message, key: &str, number: u64) {
    let mut pair = Message::default();
    pair.text(1, key).number(2, number);
    message.message(27, &pair);
}

/// Namespaces of others: those of the network and of processes are handed over, others are joined.
fn join_namespaces(spec: &Spec, message: &mut Message) -> Result<Vec<OwnedFd>> {
    let mut open = Vec::new();
    for (name, namespace) in options::foreign(spec) {
        match namespace.kind {
            NamespaceKind::Network | NamespaceKind::Pid => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                let fd = openat(CWD, &namespace.path, flags, Mode::empty());
                let fd = fd.invalid(|| format!("namespace {}", namespace.path))?;
                fcntl_setfd(&fd, FdFlags::empty()).context(|| namespace.path.clone())?;
                inherit(message, options::foreign_key(name), number(fd.as_fd()));
                open.push(fd);
            }
            NamespaceKind::Cgroup => {
                let text = "criu cannot restore into a given cgroup namespace";
                return Err(Error::invalid(text));
            }
            _ => {
                message.pair(39, name, &namespace.path);
            }
        }
    }
    Ok(open)
}

fn number(fd: BorrowedFd<'_>) -> u64 {
    u64::from(fd.as_raw_fd().unsigned_abs())
}

/// Where in each tree the restored processes are to be: where criu is, for it is in the cgroup.
fn cgroup_roots(pid: i32, message: &mut Message) -> Result<()> {
    let path = format!("/proc/{pid}/cgroup");
    let what = || path.clone();
    let mut text = String::new();
    let file = std::fs::File::open(&path).context(what)?;
    file.take(SMALL_MAX)
        .read_to_string(&mut text)
        .context(what)?;
    for line in text.lines() {
        let mut words = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (words.next(), words.next()) else {
            continue;
        };
        for controller in controllers.split(',') {
            message.pair(25, controller, path);
        }
    }
    Ok(())
}
