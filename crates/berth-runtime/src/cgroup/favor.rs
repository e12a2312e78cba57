//! Making moves between cgroups cheap.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use super::Layout;
use crate::kernel;

/// Where a file tells in which life of the machine it was asked for.
const DIR: &str = "/run/berth";
const ASKED: &str = "/run/berth/moves-are-favored";
/// A name for the time since the machine was started.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// Asks the kernel to favour moving processes between cgroups over forking (the `favordynmods`
/// mount option, Linux 6.0): a write to `cgroup.procs` then takes some 25 µs where it else waits
/// up to 15 ms for an RCU grace period.
///
/// It is a property of the whole machine. No mount of the machine is touched: a v1 hierarchy
/// without controllers is made for the purpose. From Linux 6.18 the property stays until a reboot,
/// at no cost to forks: the hierarchy goes again at once, and is made once in the machine's life.
/// Before, it must be kept: the returned descriptor does. Then `/proc/PID/cgroup` has a line
/// (`name=berth`) that no mount belongs to, and programs that look for one, as containerd does on
/// v1, find no cgroup of their containers any more: there it is left undone.
///
/// # Errors
/// Of the kernel, where it does not know the option or will not have the hierarchy.
pub fn favor_moves(layout: Layout) -> rustix::io::Result<Option<OwnedFd>> {
    let stays = kernel::version() >= (6, 18);
    if !stays && layout != Layout::V2 {
        return Ok(None);
    }
    let boot = fs::read(BOOT).unwrap_or_default();
    if stays && !boot.is_empty() && fs::read(ASKED).is_ok_and(|asked| asked == boot) {
        return Ok(None);
    }
    let context = fsopen("cgroup", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_flag(&context, "none")?;
    fsconfig_set_string(&context, "name", "berth")?;
    fsconfig_set_flag(&context, "favordynmods")?;
    fsconfig_create(&context)?;
    let made = fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )?;
    if !stays {
        return Ok(Some(made));
    }
    // Where nothing can be kept, the next engine asks again.
    let _ = fs::create_dir_all(DIR).and_then(|()| fs::write(ASKED, boot));
    Ok(None)
}
