//! Finding the program inside the root, and the working directory. Runs in the container.

use std::ffi::CString;
use std::path::Path;

use berth_sys::root::RootFd;
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, accessat, stat};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result, errno_text};

/// Bytes of `/etc/passwd` that are looked at.
const PASSWD_MAX: u64 = 1 << 20;

/// Finds the file to execute as a shell would. The messages are those of Go's `exec.LookPath`.
pub(super) fn find(name: &str, path: &str) -> Result<CString> {
    let c_string = |path: String| {
        CString::new(path).map_err(|_| Error::invalid(format!("exec: {name:?}: NUL byte")))
    };
    if name.contains('/') {
        return match executable(name) {
            Ok(()) => c_string(name.to_owned()),
            Err(e) => Err(failure(name, e, true)),
        };
    }
    for dir in path.split(':') {
        // An empty entry is the working directory, which Go refuses to search.
        if dir.is_empty() || name.is_empty() {
            continue;
        }
        let file = format!("{}/{name}", dir.trim_end_matches('/'));
        if executable(&file).is_ok() {
            return c_string(file);
        }
    }
    Err(Error::new(
        ErrorKind::ProgramNotFound,
        format!("exec: {name:?}: executable file not found in $PATH"),
    ))
}

fn executable(file: &str) -> rustix::io::Result<()> {
    let stat = stat(file)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    accessat(CWD, file, Access::EXEC_OK, AtFlags::EACCESS)
}

/// Says why a program cannot be run.
pub(super) fn failure(name: &str, error: Errno, by_stat: bool) -> Error {
    let kind = match error {
        Errno::NOENT | Errno::NOTDIR => ErrorKind::ProgramNotFound,
        _ => ErrorKind::ProgramNotExecutable,
    };
    let text = errno_text(&error.into());
    let text = match kind {
        ErrorKind::ProgramNotFound if by_stat => format!("exec: {name:?}: stat {name}: {text}"),
        _ if by_stat => format!("exec: {name:?}: {text}"),
        _ => format!("exec {name}: {text}"),
    };
    Error::new(kind, text)
}

/// Goes to the working directory. Answers false where the caller may not (yet) go there.
pub(super) fn change_directory(cwd: &str) -> Result<bool> {
    // A path through a descriptor of ours (`/proc/self/fd/9`) leads nowhere: CVE-2024-21626.
    let arrived = RootFd::open(Path::new("/"))
        .and_then(|root| {
            root.open_with(
                Path::new(cwd),
                OFlags::PATH | OFlags::DIRECTORY,
                Mode::empty(),
            )
        })
        .and_then(|directory| Ok(rustix::process::fchdir(directory)?));
    match arrived {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => return Ok(false),
        Err(e) => {
            let text = errno_text(&e);
            return Err(Error::invalid(format!(
                "chdir to cwd ({cwd:?}) set in config.json failed: {text}"
            )));
        }
    }
    // A directory that is not below our root has no path that starts there.
    match rustix::process::getcwd(Vec::new()) {
        Ok(path) if path.as_bytes().starts_with(b"/") => Ok(true),
        _ => Err(Error::invalid(
            "current working directory is outside of container mount namespace root",
        )),
    }
}

/// The home directory that `/etc/passwd` of the root gives a user; `/` where it says nothing.
pub(super) fn home(root: &RootFd, uid: u32) -> String {
    use std::io::Read;
    let mut text = String::new();
    let read = root
        .open_file(Path::new("etc/passwd"))
        .and_then(|file| file.take(PASSWD_MAX).read_to_string(&mut text));
    if read.is_err() {
        return "/".to_owned();
    }
    text.lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() >= 6 && fields[2].parse() == Ok(uid))
        .map(|fields| fields[5])
        .filter(|home| home.starts_with('/'))
        .unwrap_or("/")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_go_does() {
        let found = find("sh", "/nowhere:/bin:/usr/bin").unwrap();
        assert_eq!(found.to_str().unwrap(), "/bin/sh");
        let error = find("no-such-thing", "/bin").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ProgramNotFound);
        assert_eq!(
            error.to_string(),
            r#"exec: "no-such-thing": executable file not found in $PATH"#
        );
        let error = find("/no/such", "").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"exec: "/no/such": stat /no/such: no such file or directory"#
        );
        let error = find("/etc", "").unwrap_err();
        assert_eq!(error.to_string(), r#"exec: "/etc": is a directory"#);
        assert_eq!(error.kind(), ErrorKind::ProgramNotExecutable);
        let error = find("/etc/passwd", "").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"exec: "/etc/passwd": permission denied"#
        );
        assert!(find("", "/bin").is_err());
    }

    #[test]
    fn homes_come_from_the_root() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("etc")).unwrap();
        let passwd = "root:x:0:0::/root:/bin/sh\nbroken\nalice:x:7:7::/home/alice:/bin/sh\nbob:x:8:8::rel:x\n";
        std::fs::write(temp.path().join("etc/passwd"), passwd).unwrap();
        let root = RootFd::open(temp.path()).unwrap();
        assert_eq!(home(&root, 7), "/home/alice");
        assert_eq!(home(&root, 8), "/");
        assert_eq!(home(&root, 9), "/");
    }
}
