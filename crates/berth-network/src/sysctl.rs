//! Settings below `/proc/sys/net` of the calling thread's network namespace.

use std::fs;
use std::io;

/// Writes one, unless it is so already: on some machines `/proc/sys` is read-only and set up by others.
pub(crate) fn set(name: &str, value: &str) -> io::Result<()> {
    let path = format!("/proc/sys/net/{name}");
    if fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    fs::write(path, value)
}

/// Whether it has this value.
pub(crate) fn is(name: &str, value: &str) -> bool {
    fs::read_to_string(format!("/proc/sys/net/{name}")).is_ok_and(|now| now.trim() == value)
}

/// Writes one that not every kernel has.
pub(crate) fn set_if_there(name: &str, value: &str) {
    match set(name, value) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            tracing::warn!("cannot set net/{name} to {value:?}: {e}");
        }
        _ => {}
    }
}
