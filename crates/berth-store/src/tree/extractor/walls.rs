//! What a process gives up before it touches what others made.

use std::os::fd::{BorrowedFd, OwnedFd};

use berth_sys::file_filter;
use rustix::fs::{Mode, OFlags, openat};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, chroot, fchdir, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{
    Gid, LinkNameSpaceType, Uid, move_into_link_name_space, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use crate::Result;
use crate::tree::confine::{Roots, confine, failed};
use crate::tree::own_fd;

/// Makes the calling process root of a user namespace, and nothing outside of it.
pub(super) fn become_root_of(users: BorrowedFd<'_>) -> Result<()> {
    move_into_link_name_space(users, Some(LinkNameSpaceType::User)).map_err(|e| failed(&e))?;
    set_thread_groups(&[]).map_err(|e| failed(&e))?;
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    set_thread_res_gid(gid, gid, gid).map_err(|e| failed(&e))?;
    set_thread_res_uid(uid, uid, uid).map_err(|e| failed(&e))
}

/// Closes the calling process in for ever. Its root becomes the tree that it writes to; it keeps the
/// capabilities that owners, modes and nodes take, sees no file outside of `roots` (Landlock), gains
/// no privileges, cannot be traced or dumped, and of the kernel's calls has those that work on files
/// (seccomp): it can run nothing, connect to nothing, mount nothing, signal nobody.
///
/// Without a `procfs`, that is without privileges, the root stays as it is.
pub(super) fn close_in(roots: Roots<'_>, procfs: Option<OwnedFd>) -> Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).map_err(|e| failed(&e))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|e| failed(&e))?;
    if let Some(procfs) = procfs {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptors =
            openat(procfs, "self/fd", flags, Mode::empty()).map_err(|e| failed(&e))?;
        if let Some(root) = roots.written.first() {
            fchdir(root).map_err(|e| failed(&e))?;
            chroot(".").map_err(|e| failed(&e))?;
        }
        // Above this directory is the top of a procfs of ours, and nothing else.
        fchdir(descriptors).map_err(|e| failed(&e))?;
        own_fd::find_in_working_directory();
    }
    confine(roots)?;
    file_filter::restrict().map_err(|e| failed(&e))
}
