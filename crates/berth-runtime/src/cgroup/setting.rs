//! One value for one file, and what to do when it cannot be written.

use rustix::io::Errno;

use super::dir::Dir;
use super::{Error, Result};

/// A write that a limit became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub file: String,
    pub value: String,
}

impl Setting {
    pub(super) fn new(file: impl Into<String>, value: impl ToString) -> Setting {
        Setting {
            file: file.into(),
            value: value.to_string(),
        }
    }
}

/// Docker's words for a limit that this machine does not have.
pub(super) fn discarded(what: &str) -> String {
    format!(
        "Your kernel does not support {what} or the cgroup is not mounted. Limitation discarded."
    )
}

/// Writes a value. A file that this kernel does not have, or that this process may not write, is
/// a warning; a value that the kernel refuses is an error.
pub(super) fn put(dir: &Dir, setting: &Setting, warnings: &mut Vec<String>) -> Result<()> {
    let Setting { file, value } = setting;
    match dir.write_raw(file, value) {
        Ok(()) => Ok(()),
        Err(e) => match e.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT) => {
                warnings.push(discarded(file));
                Ok(())
            }
            Some(Errno::PERM | Errno::ACCESS | Errno::ROFS | Errno::OPNOTSUPP) => {
                warnings.push(format!(
                    "cannot set {}/{file} to {value:?}: {e}. Limitation discarded.",
                    dir.name()
                ));
                Ok(())
            }
            _ => Err(Error::Limit {
                file: format!("{}/{file}", dir.name()),
                value: value.clone(),
                source: e,
            }),
        },
    }
}
