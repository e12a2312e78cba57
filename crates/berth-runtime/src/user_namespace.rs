//! User namespaces without a process in them, and what IDs mean in them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_spec::oci::runtime::IdMapping;
use berth_sys::process::{self as sys, Forked};
use rustix::fs::{Mode, OFlags, openat};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::error::{Context, Error, Result};
use crate::init::sysctl;

/// Lines that the kernel takes in a map.
const LINES_MAX: usize = 340;
/// Bytes of a map that are read.
const MAP_MAX: usize = 64 << 10;

/// Makes a user namespace that maps IDs so. It lives as long as a descriptor, a process or another
/// namespace that belongs to it. `procfs` is a private one of the caller's PID namespace.
pub(crate) fn make(procfs: impl AsFd, uids: &[IdMapping], gids: &[IdMapping]) -> Result<OwnedFd> {
    made(procfs, uids, gids, 0).map(|(user, _)| user)
}

/// The same, with a network namespace that belongs to it.
pub(crate) fn make_with_network(
    procfs: impl AsFd,
    uids: &[IdMapping],
    gids: &[IdMapping],
) -> Result<(OwnedFd, OwnedFd)> {
    let (user, network) = made(procfs, uids, gids, sys::NEW_NETWORK)?;
    let network = network.ok_or_else(|| Error::internal("no network namespace was made"))?;
    Ok((user, network))
}

fn made(
    procfs: impl AsFd,
    uids: &[IdMapping],
    gids: &[IdMapping],
    more: u64,
) -> Result<(OwnedFd, Option<OwnedFd>)> {
    let what = || "making a user namespace".to_owned();
    check(uids, "uid")?;
    check(gids, "gid")?;
    let (word, gate) = pipe_with(PipeFlags::CLOEXEC).context(what)?;
    let (pid, pidfd) = match sys::clone3(sys::NEW_USER | more, None).invalid(what)? {
        Forked::Child => {
            drop(gate);
            // Until the parent has what it needs, or is gone.
            let _ = rustix::io::read(&word, &mut [0_u8; 1]);
            sys::exit(0)
        }
        Forked::Parent { pid, pidfd } => (pid, pidfd),
    };
    let result = fit_out(procfs.as_fd(), pid, uids, gids, more != 0);
    drop(gate);
    // Where children are forgotten by themselves there is nothing to wait for.
    let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    result
}

fn fit_out(
    procfs: BorrowedFd<'_>,
    pid: Pid,
    uids: &[IdMapping],
    gids: &[IdMapping],
    network: bool,
) -> Result<(OwnedFd, Option<OwnedFd>)> {
    let pid = pid.as_raw_pid();
    for (file, mappings) in [("gid_map", gids), ("uid_map", uids)] {
        sysctl::write(procfs, &format!("{pid}/{file}"), &map_text(mappings))
            .invalid(|| format!("writing {file}"))?;
    }
    let namespace = |name: &str| {
        let path = format!("{pid}/ns/{name}");
        openat(
            procfs,
            path,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .context(|| format!("opening the {name} namespace"))
    };
    let network = network.then(|| namespace("net")).transpose()?;
    Ok((namespace("user")?, network))
}

fn check(mappings: &[IdMapping], what: &str) -> Result<()> {
    if mappings.is_empty() || mappings.len() > LINES_MAX {
        return Err(Error::invalid(format!(
            "{} {what} mappings: there can be 1 to {LINES_MAX}",
            mappings.len()
        )));
    }
    let ends = |start: u32, size: u32| u64::from(start) + u64::from(size) <= u64::from(u32::MAX);
    for m in mappings {
        if m.size == 0 || !ends(m.container_id, m.size) || !ends(m.host_id, m.size) {
            return Err(Error::invalid(format!(
                "{what} mapping {}:{}:{} is no range of IDs",
                m.container_id, m.host_id, m.size
            )));
        }
    }
    Ok(())
}

/// What is written to `uid_map` and `gid_map`.
fn map_text(mappings: &[IdMapping]) -> String {
    mappings
        .iter()
        .map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size))
        .collect()
}

/// The ID outside of the user `uid` in the user namespace of a process, given by its directory in
/// procfs; `None` for one that has no ID outside.
pub(crate) fn uid_outside(procfs: impl AsFd, process: &str, uid: u32) -> Result<Option<u32>> {
    id_outside(procfs, process, "uid_map", uid)
}

/// User and group outside of the root of a process's user namespace, if there are such.
pub(crate) fn root_outside(procfs: impl AsFd, process: &str) -> Result<Option<(u32, u32)>> {
    let uid = id_outside(&procfs, process, "uid_map", 0)?;
    Ok(uid.zip(id_outside(&procfs, process, "gid_map", 0)?))
}

fn id_outside(procfs: impl AsFd, process: &str, map: &str, id: u32) -> Result<Option<u32>> {
    let what = || format!("{map} of process {process}");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let path = format!("{process}/{map}");
    let file = openat(procfs, path, flags, Mode::empty()).context(what)?;
    let mut text = vec![0; MAP_MAX];
    let mut length = 0;
    loop {
        match rustix::io::read(&file, &mut text[length..]).context(what)? {
            0 => break,
            n => length += n,
        }
    }
    let text = String::from_utf8_lossy(&text[..length]);
    Ok(outside(&text, id))
}

fn outside(map: &str, id: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut fields = line.split_whitespace().map(str::parse::<u32>);
        let (inside, outside, size) = (
            fields.next()?.ok()?,
            fields.next()?.ok()?,
            fields.next()?.ok()?,
        );
        let distance = id.checked_sub(inside).filter(|d| *d < size)?;
        outside.checked_add(distance)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_outside() {
        let map = "         0     100000       1000\n      1000          7          1\n";
        assert_eq!(outside(map, 0), Some(100_000));
        assert_eq!(outside(map, 999), Some(100_999));
        assert_eq!(outside(map, 1000), Some(7));
        assert_eq!(outside(map, 1001), None);
        assert_eq!(outside("0 0 4294967295", u32::MAX), None);
    }

    #[test]
    fn ranges_are_checked() {
        let mapping = |container_id, host_id, size| IdMapping {
            container_id,
            host_id,
            size,
        };
        check(&[mapping(0, 100_000, 65_536)], "uid").unwrap();
        check(&[mapping(0, 0, u32::MAX)], "uid").unwrap();
        assert!(check(&[], "uid").is_err());
        assert!(check(&[mapping(0, 0, 0)], "uid").is_err());
        assert!(check(&[mapping(0, 1, u32::MAX)], "uid").is_err());
        assert!(check(&vec![mapping(0, 1, 1); 341], "uid").is_err());
    }
}
