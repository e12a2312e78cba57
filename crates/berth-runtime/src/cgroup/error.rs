//! What can go wrong with a cgroup.

use std::io;

/// A failed step on one cgroup; the subject is in it, the kernel's answer is the source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No cgroup file system is mounted, or none that can be used.
    #[error("no cgroup hierarchy is mounted")]
    NotMounted,
    /// The path was refused before anything was touched.
    #[error("invalid cgroup path {path:?}: {why}")]
    Path { path: String, why: &'static str },
    /// There is no such cgroup in any hierarchy.
    #[error("no such cgroup: {0}")]
    NotFound(String),
    /// A cgroup of that path exists and has processes.
    #[error("container's cgroup is not empty: {pids} process(es) found in {path}")]
    Busy { path: String, pids: usize },
    /// A cgroup of that path exists and is frozen: nothing in it would run.
    #[error("container's cgroup unexpectedly frozen: {0}")]
    Frozen(String),
    /// A value that no cgroup can have.
    #[error("{0}")]
    Invalid(String),
    /// A file could not be read, written or made.
    #[error("cannot {verb} {file}")]
    File {
        verb: &'static str,
        file: String,
        #[source]
        source: io::Error,
    },
    /// A process could not be put into it; the words are runc's.
    #[error(
        "error adding pid to cgroups: {path}: {}",
        crate::error::errno_text(source)
    )]
    Join {
        path: String,
        #[source]
        source: io::Error,
    },
    /// A limit the kernel refused.
    #[error("cannot set {file} to {value:?}: {source}")]
    Limit {
        file: String,
        value: String,
        #[source]
        source: io::Error,
    },
    /// The device filter could not be put in place.
    #[error("cannot restrict devices of cgroup {path}: {source}")]
    Devices {
        path: String,
        #[source]
        source: io::Error,
    },
    /// The processes did not freeze, or did not end, within the bound.
    #[error("cgroup {path}: processes did not {verb} in time")]
    Timeout { path: String, verb: &'static str },
}

impl Error {
    /// Whether the cgroup was removed meanwhile, by others.
    pub fn is_gone(&self) -> bool {
        use rustix::io::Errno;
        let errno = self.errno().map(Errno::from_raw_os_error);
        matches!(errno, Some(Errno::NOENT | Errno::NODEV))
    }

    /// The kernel's answer, where one was given.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::File { source, .. }
            | Error::Join { source, .. }
            | Error::Limit { source, .. }
            | Error::Devices { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// The module's result.
pub type Result<T> = std::result::Result<T, Error>;
