//! `--chown=user:group`, by number or by the names of the root file system that is copied to.

use std::path::Path;

use crate::source::Rootfs;
use crate::{Error, Result};

/// Bytes that `/etc/passwd` and `/etc/group` may have.
const ACCOUNTS_MAX: u64 = 1 << 20;

/// Numbers of a user and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Reads `user[:group]`. Without a group it is the one named like the user, or of the same number.
pub(crate) fn find_owner(text: &str, root: &Rootfs) -> Result<Owner> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (text, None),
    };
    if text.matches(':').count() > 1 || user.is_empty() {
        return Err(Error::invalid(format!(
            "invalid chown string passed: {text}"
        )));
    }
    let uid = match number(user)? {
        Some(uid) => uid,
        None => look_up(root, "etc/passwd", user)?.ok_or_else(|| {
            Error::invalid(format!(
                "can't find uid for user {user}: no such user: {user}"
            ))
        })?,
    };
    let gid = match group {
        None => match number(user)? {
            Some(gid) => gid,
            None => look_up(root, "etc/group", user)?.unwrap_or(uid),
        },
        Some(group) => match number(group)? {
            Some(gid) => gid,
            None => look_up(root, "etc/group", group)?.ok_or_else(|| {
                Error::invalid(format!(
                    "can't find gid for group {group}: no such group: {group}"
                ))
            })?,
        },
    };
    Ok(Owner { uid, gid })
}

/// A number, if it is one; one that no kernel takes is refused rather than taken for a name.
fn number(text: &str) -> Result<Option<u32>> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse() {
        Ok(id) if id != u32::MAX => Ok(Some(id)),
        _ => Err(Error::invalid(format!(
            "invalid user or group number {text}"
        ))),
    }
}

/// The third field of the line that begins with `name:`, in a file of accounts.
fn look_up(root: &Rootfs, file: &str, name: &str) -> Result<Option<u32>> {
    let Some(bytes) = root.read_file(Path::new(file), ACCOUNTS_MAX)? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        fields.nth(1)?.parse().ok().filter(|id| *id != u32::MAX)
    }))
}
