//! Flags that `checkpoint` and `restore` have in common, and what criu is told of them.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use berth_spec::oci::runtime::{Namespace, NamespaceKind, Spec};
use rustix::fs::{FileType, OFlags};

use super::super::flags::Given;
use super::rpc::Message;
use super::worker::number;
use crate::error::{Context, Error, Result};

/// `CLONE_NEWNET`: who made the network restores it.
const NETWORK: u64 = 0x4000_0000;
/// The machine's options for criu, as with runc. The annotation `org.criu.config`, by which runc takes
/// another file, is not obeyed: engines copy annotations of images into documents, and criu runs what
/// such a file says.
const CONFIG: &str = "/etc/criu/runc.conf";

/// What both were given, looked at; directories are open as long as criu works.
#[derive(Debug)]
pub(super) struct Options {
    _images: File,
    pub images_path: PathBuf,
    _work: Option<File>,
    pub log: PathBuf,
    pub message: Message,
}

impl Options {
    /// Makes and opens the directories, and begins the message; `log` is the name of criu's.
    pub fn new(given: &Given, log: &str) -> Result<Self> {
        let path = |name: &str| given.value(name).map(PathBuf::from);
        let images_path = path("image-path").unwrap_or_else(|| "checkpoint".into());
        let images = directory(&images_path)?;
        let work_path = path("work-path");
        let work = work_path.as_deref().map(directory).transpose()?;
        let mut message = Message::default();
        message
            .number(1, number(&images))
            .number(9, 4)
            .text(10, log)
            .switch(12, true)
            .switch(4, given.on("ext-unix-sk"))
            .switch(5, given.on("tcp-established"))
            .switch(7, given.on("shell-job"))
            .switch(8, given.on("file-locks"))
            .switch(16, given.on("auto-dedup"))
            .switch(24, true)
            .number(34, cgroup_mode(given)?)
            .number(38, empty_namespaces(given)?)
            .switch(48, given.on("lazy-pages"))
            .switch(50, true);
        if let Some(work) = &work {
            message.number(17, number(work));
        }
        message.text(51, CONFIG);
        let log = work_path.as_ref().unwrap_or(&images_path).join(log);
        Ok(Self {
            _images: images,
            images_path,
            _work: work,
            log,
            message,
        })
    }
}

fn directory(path: &Path) -> Result<File> {
    let what = || path.display().to_string();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.invalid(what)?;
    File::open(path).invalid(what)
}

/// `criu_cg_mode`.
fn cgroup_mode(given: &Given) -> Result<u64> {
    match given.value("manage-cgroups-mode").unwrap_or("soft") {
        "ignore" => Ok(0),
        "soft" => Ok(3),
        "full" => Ok(4),
        "strict" => Ok(5),
        other => Err(Error::invalid(format!(
            "invalid manage-cgroups-mode value: {other}"
        ))),
    }
}

fn empty_namespaces(given: &Given) -> Result<u64> {
    match given.all("empty-ns").find(|name| *name != "network") {
        None => Ok(NETWORK),
        Some(name) => Err(Error::invalid(format!(
            "namespace {name:?} is not supported"
        ))),
    }
}

/// `--parent-path`: where an earlier dump is, from the directory of this one.
pub(super) fn parent<'a>(given: &'a Given, images: &Path) -> Result<Option<&'a str>> {
    let Some(path) = given.value("parent-path") else {
        return Ok(None);
    };
    if path.starts_with('/') {
        return Err(Error::invalid("--parent-path must be relative"));
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(
        rustix::fs::CWD,
        images.join(path),
        flags,
        rustix::fs::Mode::empty(),
    );
    opened.invalid(|| format!("invalid --parent-path: {path}"))?;
    Ok(Some(path))
}

/// `--page-server ADDRESS:PORT`.
pub(super) fn page_server(given: &Given, message: &mut Message) -> Result<()> {
    let Some(text) = given.value("page-server") else {
        return Ok(());
    };
    let parsed = text
        .rsplit_once(':')
        .filter(|(address, _)| !address.is_empty());
    let (address, port) = parsed
        .ok_or_else(|| Error::invalid("use --page-server ADDRESS:PORT to specify page server"))?;
    let port: u16 = port
        .parse()
        .map_err(|_| Error::invalid("invalid port number"))?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let mut server = Message::default();
    server.text(1, address).number(2, u64::from(port));
    message.message(11, &server);
    Ok(())
}

/// Namespaces of others that the container is in, which criu is not to make: by their names for it.
pub(super) fn foreign(spec: &Spec) -> impl Iterator<Item = (&'static str, &Namespace)> {
    let linux = spec.linux.as_ref();
    let namespaces = linux.map_or(&[][..], |linux| &linux.namespaces);
    let given = namespaces.iter().filter(|n| !n.path.is_empty());
    given.map(|namespace| {
        let name = match namespace.kind {
            NamespaceKind::Network => "net",
            NamespaceKind::Pid => "pid",
            NamespaceKind::Ipc => "ipc",
            NamespaceKind::Uts => "uts",
            NamespaceKind::Mount => "mnt",
            NamespaceKind::User => "user",
            NamespaceKind::Cgroup => "cgroup",
            NamespaceKind::Time => "time",
        };
        (name, namespace)
    })
}

/// Under what name an external namespace is dumped and found again; runc's.
pub(super) fn foreign_key(name: &str) -> &'static str {
    match name {
        "net" => "extRootNetNS",
        _ => "extRootPidNS",
    }
}

/// Whether a mode is that of a directory.
pub(super) fn is_directory(mode: u32) -> bool {
    FileType::from_raw_mode(mode) == FileType::Directory
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::FLAGS;
    use super::*;

    fn given(words: &str) -> Given {
        let words = words.split_whitespace().map(OsString::from);
        Given::parse(words, FLAGS, false).unwrap()
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(cgroup_mode(&given("c")).unwrap(), 3);
        assert_eq!(
            cgroup_mode(&given("--manage-cgroups-mode ignore c")).unwrap(),
            0
        );
        assert!(cgroup_mode(&given("--manage-cgroups-mode x c")).is_err());
        assert!(empty_namespaces(&given("--empty-ns user c")).is_err());
        for bad in ["1234", ":80", "host:", "host:x"] {
            let given = given(&format!("--page-server {bad} c"));
            assert!(
                page_server(&given, &mut Message::default()).is_err(),
                "{bad}"
            );
        }
        page_server(&given("--page-server [::1]:80 c"), &mut Message::default()).unwrap();
    }

    #[test]
    fn parents_are_relative_and_there() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("parent")).unwrap();
        let images = temp.path().join("images");
        std::fs::create_dir(&images).unwrap();
        for bad in ["/parent", "../absent"] {
            let words = given(&format!("--parent-path {bad} c"));
            let error = parent(&words, &images).unwrap_err().to_string();
            assert!(error.contains("--parent-path"), "{error}");
        }
        let words = given("--parent-path ../parent c");
        assert_eq!(parent(&words, &images).unwrap(), Some("../parent"));
    }
}
