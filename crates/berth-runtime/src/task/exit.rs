//! How a process ended, and the file that tells of it.
//!
//! The shim writes `<dir>/exit` aside and renames it before anybody is told, and puts it on disk right
//! after: who waits for the end need not wait for the disk.

use std::io::{self, Read};
use std::path::Path;

use berth_sys::root::RootFd;
use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

/// Bytes an exit file may have.
const FILE_MAX: u64 = 4096;
const NAME: &str = "exit";
/// How execs ended that nobody heard of, beside it.
const EXECS: &str = "execs";
/// Bytes that file may have: some hundred for each exec that can run at once.
const EXECS_MAX: u64 = 1 << 20;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// What the program returned, or 128 + n after signal n.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel killed something in the container for want of memory.
    pub oom_killed: bool,
    pub at: Timestamp,
}

impl ExitStatus {
    /// Ended by a signal, just now.
    pub fn killed(signal: i32) -> Self {
        Self {
            code: 128 + signal,
            signal: Some(signal),
            oom_killed: false,
            at: Timestamp::now(),
        }
    }

    /// What waitid(2) told: whether it was a signal, and the number.
    pub(crate) fn of(signaled: bool, number: i32, oom_killed: bool) -> Self {
        let status = if signaled {
            Self::killed(number)
        } else {
            Self {
                code: number,
                signal: None,
                oom_killed: false,
                at: Timestamp::now(),
            }
        };
        Self {
            oom_killed,
            ..status
        }
    }

    /// Reads the exit file of a container's directory; none where the process has not ended, or its
    /// shim was killed.
    pub fn read(dir: &Path) -> io::Result<Option<Self>> {
        let root = RootFd::open(dir)?;
        let file = match root.open_file(Path::new(NAME)) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut text = Vec::new();
        file.take(FILE_MAX).read_to_end(&mut text)?;
        Ok(Some(serde_json::from_slice(&text)?))
    }

    /// Writes the exit file.
    pub(crate) fn write(&self, dir: &RootFd) -> io::Result<()> {
        write(dir, NAME, &serde_json::to_vec(self)?)
    }

    /// Removes what an earlier start left.
    pub(crate) fn clear(dir: &RootFd) -> io::Result<()> {
        for name in [NAME, EXECS] {
            match rustix::fs::unlinkat(dir, name, rustix::fs::AtFlags::empty()) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

/// Puts what was written on disk.
pub(crate) fn sync(dir: &RootFd) -> io::Result<()> {
    match dir.open_file(Path::new(NAME)) {
        Ok(file) => file.sync_all()?,
        // A container that is removed by its end takes the file along.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    }
    Ok(rustix::fs::fsync(dir.open_dir(Path::new(""))?)?)
}

/// How execs of a container that has ended had ended before, where the shim had nobody to tell; none
/// if there is no word of any.
pub fn exec_exits(dir: &Path) -> io::Result<Vec<(String, ExitStatus)>> {
    let file = match RootFd::open(dir).and_then(|root| root.open_file(Path::new(EXECS))) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut text = Vec::new();
    file.take(EXECS_MAX).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Keeps how they ended; nothing is written of none.
pub(crate) fn write_execs(dir: &RootFd, exits: &[(String, ExitStatus)]) -> io::Result<()> {
    match exits {
        [] => Ok(()),
        exits => write(dir, EXECS, &serde_json::to_vec(exits)?),
    }
}

/// Makes `name` hold `text`, whole or not at all.
fn write(dir: &RootFd, name: &str, text: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
    let new = format!("{name}.new");
    let file = dir.open_with(Path::new(&new), flags, Mode::RUSR | Mode::WUSR)?;
    let mut rest = text;
    while !rest.is_empty() {
        let n = rustix::io::write(&file, rest)?;
        rest = &rest[n..];
    }
    rustix::fs::renameat(dir, &*new, dir, name)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_back() {
        let temp = tempfile::tempdir().unwrap();
        let dir = RootFd::open(temp.path()).unwrap();
        assert_eq!(ExitStatus::read(temp.path()).unwrap(), None);
        sync(&dir).unwrap();
        let status = ExitStatus::of(true, 9, true);
        assert_eq!(status.code, 137);
        status.write(&dir).unwrap();
        sync(&dir).unwrap();
        assert_eq!(ExitStatus::read(temp.path()).unwrap(), Some(status));
        std::fs::write(temp.path().join("exit"), "{\"code\":").unwrap();
        assert!(ExitStatus::read(temp.path()).is_err());
        assert!(exec_exits(temp.path()).unwrap().is_empty());
        let execs = [("one".to_owned(), status), ("two".to_owned(), status)];
        write_execs(&dir, &execs).unwrap();
        assert_eq!(exec_exits(temp.path()).unwrap(), execs);
        ExitStatus::clear(&dir).unwrap();
        assert!(exec_exits(temp.path()).unwrap().is_empty());
        ExitStatus::clear(&dir).unwrap();
        assert_eq!(ExitStatus::read(temp.path()).unwrap(), None);
    }
}
