//! Extended attributes by handle.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use rustix::fs::{XattrFlags, getxattr, listxattr, setxattr};
use rustix::io::Errno;

use super::own_fd::path;

/// Bytes that the names, and each value, may have (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const MAX: usize = 65536;

/// Whether archives carry an attribute: what programs set, and file capabilities. The rest belongs
/// to one machine (labels, signatures) or one mount (overlayfs' own).
fn travels(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name == b"security.capability"
}

/// The attributes that travel with a file.
pub(crate) fn read(handle: impl AsFd) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
    let path = path(handle);
    let mut names = [0; MAX];
    let used = match listxattr(&path, &mut names[..]) {
        Ok(used) => used,
        // A file system without them.
        Err(Errno::OPNOTSUPP | Errno::NODATA) => 0,
        Err(e) => return Err(e),
    };
    let mut found = BTreeMap::new();
    for name in names[..used].split(|b| *b == 0).filter(|n| travels(n)) {
        if let Some(value) = value(&path, name)? {
            found.insert(name.to_vec(), value);
        }
    }
    Ok(found)
}

/// One attribute, whatever its kind; `None` when it is not there.
pub(crate) fn get(handle: impl AsFd, name: &str) -> Result<Option<Vec<u8>>, Errno> {
    value(&path(handle), name.as_bytes())
}

fn value(path: &str, name: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    let mut value = vec![0; 256];
    loop {
        match getxattr(path, name, &mut value[..]) {
            Ok(n) => {
                value.truncate(n);
                return Ok(Some(value));
            }
            Err(Errno::RANGE) if value.len() < MAX => value.resize(MAX, 0),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            Err(e) => return Err(e),
        }
    }
}

/// Sets an attribute. `false` when the file system has no such thing.
pub(crate) fn set(handle: impl AsFd, name: &[u8], value: &[u8]) -> Result<bool, Errno> {
    match setxattr(path(handle), name, value, XattrFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP) => Ok(false),
        Err(e) => Err(e),
    }
}
