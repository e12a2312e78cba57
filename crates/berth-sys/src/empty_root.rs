//! A mount namespace in which there is nothing.

use std::io;

use rustix::mount::{UnmountFlags, unmount};

use crate::mount::{self, Propagation};
use crate::process;

/// Moves the calling process into a mount namespace of its own that has one empty, read-only
/// directory, which becomes its root and its working directory. What it needs of the world outside,
/// `/proc` among it, it must have as descriptors before.
pub fn enter() -> io::Result<()> {
    process::unshare(process::NEW_MOUNT)?;
    mount::set_namespace_propagation(Propagation::Private)?;
    let options = [
        ("size", Some("4k")),
        ("nr_inodes", Some("2")),
        ("mode", Some("555")),
    ];
    let attributes = mount::RDONLY | mount::NOSUID | mount::NODEV | mount::NOEXEC;
    let root = mount::new_mount("tmpfs", &options, attributes)?;
    mount::attach_over_root(&root)?;
    rustix::process::fchdir(&root)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(())
}
