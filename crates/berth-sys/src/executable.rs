//! Keeping this program's own file out of the reach of what it starts.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{CWD, StatVfsMountFlags};

use crate::{mount, process};

/// Whether the file this process runs from cannot be written through `/proc/self/exe`: it is seen
/// through a read-only mount.
pub fn is_protected() -> io::Result<bool> {
    let stat = rustix::fs::statvfs("/proc/self/exe")?;
    Ok(stat.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Becomes this program again, with `args` and `env`, from a read-only mount of its file that stands
/// in no mount namespace: nobody can make it writable again, and nothing was copied. Returns only
/// where that failed.
pub fn protect(args: &[CString], env: &[CString]) -> io::Result<Infallible> {
    let file = mount::clone_path(CWD, "/proc/self/exe", false)?;
    let change = mount::Attributes {
        set: mount::RDONLY,
        propagation: Some(mount::Propagation::Private),
        ..mount::Attributes::default()
    };
    mount::set_attributes(&file, false, &change)?;
    process::execve_handle(file.as_fd(), args, env)
}
