//! A terminal for the program. Runs in the container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_spec::oci::runtime::ConsoleSize;
use berth_sys::mount;
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, fchown, fstat, fstatfs, makedev, openat};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::error::{Context, Error, Result};

const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;

/// A new terminal of a devpts instance: master and slave. The slave is not looked up by a name,
/// which might lead elsewhere.
pub(super) fn open(devpts: impl AsFd, size: Option<ConsoleSize>) -> Result<(OwnedFd, OwnedFd)> {
    let what = || "opening a terminal".to_owned();
    if fstatfs(&devpts).context(what)?.f_type as u64 != DEVPTS_SUPER_MAGIC {
        return Err(Error::invalid("/dev/pts is not a devpts"));
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let master = openat(devpts, "ptmx", flags, Mode::empty()).context(what)?;
    if fstat(&master).context(what)?.st_rdev != makedev(5, 2) {
        return Err(Error::invalid("ptmx is not the terminal multiplexer"));
    }
    unlockpt(&master).context(what)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).context(what)?;
    if let Some(size) = size {
        // Before the program runs, which may ask at once.
        let size = Winsize {
            ws_row: size.height,
            ws_col: size.width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).context(what)?;
    }
    Ok((master, slave))
}

/// Shows the terminal at `target`, a handle of `/dev/console`.
pub(super) fn show(slave: impl AsFd, target: impl AsFd) -> Result<()> {
    let what = || "mounting /dev/console".to_owned();
    let tree = mount::clone_handle(slave, false).context(what)?;
    mount::attach(tree, target).context(what)
}

/// Makes the terminal that of a new session, and the program's standard streams. The session is made
/// already.
pub(super) fn take(slave: BorrowedFd<'_>) -> Result<()> {
    rustix::process::ioctl_tiocsctty(slave).context(|| "taking the terminal".to_owned())?;
    super::take_stdio([slave; 3])
}

/// Lets the user who runs the program open its standard streams again by their names.
pub(super) fn give_own(uid: u32) -> Result<()> {
    let own = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    give(own, uid)
}

/// The same for streams that it will have.
pub(super) fn give(streams: [BorrowedFd<'_>; 3], uid: u32) -> Result<()> {
    let user = Some(Uid::from_raw(uid));
    for stream in streams {
        let stat = fstat(stream).context(|| "standard streams".to_owned())?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let own = kind == FileType::Fifo
            || kind == FileType::Socket
            || (kind == FileType::CharacterDevice && stat.st_rdev != makedev(1, 3));
        if own && stat.st_uid != uid {
            // A stream that came from elsewhere may not be ours to give; it works as it is.
            let _ = fchown(stream, user, None::<Gid>);
        }
    }
    Ok(())
}
