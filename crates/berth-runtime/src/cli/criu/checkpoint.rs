//! `checkpoint`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use berth_spec::oci::runtime::{NamespaceKind, Spec, Status};
use berth_sys::root::RootFd;
use rustix::fs::{fstat, stat};

use super::super::Global;
use super::super::flags::Given;
use super::super::kill::destroy;
use super::super::state::{Directory, Saved};
use super::options::{self, Options};
use super::rpc::{Answer, Kind, Message};
use super::worker::{self, Worker};
use super::{DESCRIPTORS, FLAGS};
use crate::error::{Context, Error, Result};

/// Bytes of a process's list of mounts that are looked at.
const MOUNTS_MAX: u64 = 4 << 20;

pub(in super::super) fn checkpoint(
    global: &Global,
    arguments: impl Iterator<Item = OsString>,
) -> Result<ExitCode> {
    let given = Given::parse(arguments, FLAGS, false)?;
    let mut status_fd = status_fd(&given)?;
    let directory = Directory::of(&global.root, given.id()?);
    let _lock = directory.lock()?;
    let saved = directory.load()?;
    let status = saved.status(&directory);
    if matches!(status, Status::Created | Status::Stopped) {
        let status = format!("{status:?}").to_lowercase();
        return Err(Error::new(
            crate::ErrorKind::Conflict,
            format!("container cannot be checkpointed in {status} state"),
        ));
    }
    let pre = given.on("pre-dump");
    let mut options = Options::new(&given, "dump.log")?;
    let parent = options::parent(&given, &options.images_path)?.map(str::to_owned);
    worker::version()?;
    check_features(&given)?;
    describe(&given, &saved, &mut options.message)?;
    if let Some(parent) = parent {
        options.message.text(14, &parent).switch(15, true);
    }
    if !pre {
        external_mounts(&saved, &mut options.message)?;
        save_streams(saved.pid, &options.images_path)?;
    }
    let kind = if pre { Kind::PreDump } else { Kind::Dump };
    let mut noticed = |answer: &Answer, _: Vec<OwnedFd>| match answer.script.as_str() {
        // Pages can be asked for: a zero says so, and the end.
        "status-ready" => match status_fd.take() {
            Some(fd) => rustix::io::write(fd, &[0])
                .context(|| "--status-fd".to_owned())
                .map(drop),
            None => Ok(()),
        },
        _ => Ok(()),
    };
    let dumped = Worker::start(false)?.ask(kind, Some(&options.message), &mut noticed);
    dumped.inspect_err(|_| worker::quote(&options.log))?;
    if !pre && !given.on("leave-running") {
        destroy(&directory, &saved)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn check_features(given: &Given) -> Result<()> {
    if !given.on("pre-dump") && !given.on("lazy-pages") {
        return Ok(());
    }
    let (tracks_memory, lazy_pages) = worker::features()?;
    let missing = match (given.on("pre-dump"), given.on("lazy-pages")) {
        (true, _) if !tracks_memory => "to track changes of memory (MemTrack)",
        (_, true) if !lazy_pages => "lazy pages (LazyPages)",
        _ => return Ok(()),
    };
    let text = format!("criu or this kernel lacks what is needed: {missing}");
    Err(Error::invalid(text))
}

/// What is dumped, and how.
fn describe(given: &Given, saved: &Saved, message: &mut Message) -> Result<()> {
    message
        .number(2, u64::from(saved.pid.unsigned_abs()))
        .switch(3, given.on("leave-running"))
        .text(13, &saved.rootfs().display().to_string())
        .switch(18, given.on("link-remap"))
        .switch(46, given.on("tcp-skip-in-flight"));
    options::page_server(given, message)?;
    for (name, namespace) in options::foreign(&saved.spec) {
        if !matches!(namespace.kind, NamespaceKind::Network | NamespaceKind::Pid) {
            continue;
        }
        let stat = stat(&namespace.path).invalid(|| namespace.path.clone())?;
        let key = options::foreign_key(name);
        message.text(37, &format!("{name}[{}]:{key}", stat.st_ino));
    }
    if let Some(freezer) = saved.open_cgroup()?.freezer() {
        message.text(44, &freezer);
    }
    Ok(())
}

/// Names the mounts whose content is not the container's: they are there again when it is restored.
/// Each has the name that the document gives it.
fn external_mounts(saved: &Saved, message: &mut Message) -> Result<()> {
    let root = format!("/proc/{}/root", saved.pid);
    let root = RootFd::open(Path::new(&root)).context(|| root.clone())?;
    let points = mount_points(saved.pid)?;
    let mut tell = |path: &str, name: &str| -> Result<()> {
        let Ok(handle) = root.handle(Path::new(path)) else {
            return Ok(());
        };
        if let Some(point) = points.get(&mount_id(&handle)?) {
            message.pair(23, point, name);
        }
        Ok(())
    };
    for name in external(&saved.spec) {
        tell(&name, &name)?;
    }
    let linux = saved.spec.linux.as_ref();
    for path in linux.map_or(&[][..], |linux| &linux.masked_paths) {
        let Ok(handle) = root.handle(Path::new(path)) else {
            continue;
        };
        // Directories are covered by a file system of the container's.
        if !options::is_directory(fstat(&handle).context(|| path.clone())?.st_mode) {
            tell(path, "/dev/null")?;
        }
    }
    // The v1 trees are mounted from the host's.
    for point in points
        .values()
        .filter(|point| is_cgroup_view(&saved.spec, point))
    {
        message.pair(23, point, point);
    }
    Ok(())
}

/// Destinations of bind mounts.
pub(super) fn external(spec: &Spec) -> impl Iterator<Item = String> {
    let bind = |options: &[String]| options.iter().any(|o| o == "bind" || o == "rbind");
    let mounts = spec.mounts.iter();
    let binds = mounts.filter(move |m| m.kind == "bind" || bind(&m.options));
    binds.map(|m| m.destination.clone())
}

/// Whether a mount is one of a v1 tree, below where the document has its cgroups.
fn is_cgroup_view(spec: &Spec, point: &str) -> bool {
    let mut views = spec.mounts.iter().filter(|m| m.kind == "cgroup");
    views.any(|m| Path::new(point).parent() == Some(Path::new(&m.destination)))
}

/// Where the mounts are that a process sees, by their numbers.
fn mount_points(pid: i32) -> Result<BTreeMap<u64, String>> {
    use std::io::Read;
    let path = format!("/proc/{pid}/mountinfo");
    let what = || path.clone();
    let mut text = String::new();
    let file = std::fs::File::open(&path).context(what)?;
    file.take(MOUNTS_MAX)
        .read_to_string(&mut text)
        .context(what)?;
    Ok(text
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let number = words.next()?.parse().ok()?;
            Some((number, words.nth(3)?.to_owned()))
        })
        .collect())
}

/// The number of the mount that a handle is in.
fn mount_id(handle: &OwnedFd) -> Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", handle.as_fd().as_raw_fd());
    let text = std::fs::read_to_string(&path).context(|| path.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    let number = line.and_then(|number| number.trim().parse().ok());
    number.ok_or_else(|| Error::internal(format!("{path}: no mount")))
}

/// Keeps what the first process has for its streams: pipes are replaced when it is restored.
fn save_streams(pid: i32, images: &Path) -> Result<()> {
    let links: Result<Vec<String>> = (0..3)
        .map(|n| {
            let path = format!("/proc/{pid}/fd/{n}");
            let link = std::fs::read_link(&path);
            Ok(link.map_or_else(|_| String::new(), |l| l.display().to_string()))
        })
        .collect();
    let text = serde_json::to_vec(&links?).context(|| DESCRIPTORS.to_owned())?;
    std::fs::write(images.join(DESCRIPTORS), text).context(|| DESCRIPTORS.to_owned())
}

/// The descriptor of `--status-fd`, before anything else has that number.
fn status_fd(given: &Given) -> Result<Option<OwnedFd>> {
    let number = given.number::<i32>("status-fd")?.filter(|n| *n >= 0);
    let taken = number.map(berth_sys::process::take_inherited_fd);
    taken
        .transpose()
        .invalid(|| "invalid --status-fd argument".to_owned())
}
