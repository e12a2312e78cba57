//! The launcher's own side.

use std::os::fd::{AsRawFd, OwnedFd};

use berth_sys::process::{self, Forked};
use berth_sys::socket;

use super::World;
use crate::cgroup::{self, Cgroups};
use crate::error::Context;
use crate::shim;

/// Serves until the engine is gone.
pub(super) fn run(socket: OwnedFd) -> ! {
    // Shims and what they start are copies of this process: it holds for them too.
    let _guard = process::EndOnPanic;
    process::set_title(c"berth-launcher");
    process::reset_signals();
    process::ignore_broken_pipes();
    // Shims are nobody's business once they run.
    process::ignore_children();
    close_all_but(&socket);
    // Signals for the engine's terminal are not for us; without a session of our own yet is fine.
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir("/");
    let world = match Cgroups::detect()
        .context(|| "cgroups".to_owned())
        .and_then(World::new)
    {
        Ok(world) => world,
        Err(error) => {
            let _ = socket::send(&socket, error.to_string().as_bytes(), &[]);
            process::exit(1);
        }
    };
    // Without it, starts are slower after a pause.
    let favored = cgroup::favor_moves(world.cgroups.layout()).ok().flatten();
    if socket::send(&socket, b"+", &[]).is_err() {
        process::exit(1);
    }
    // Shims are copies of what is left.
    berth_sys::memory::rest();
    loop {
        let mut word = [0; 16];
        let Ok((n, fds)) = socket::receive(&socket, &mut word) else {
            continue;
        };
        if n == 0 {
            break;
        }
        let Ok([connection]) = <[OwnedFd; 1]>::try_from(fds) else {
            continue;
        };
        match process::fork() {
            Ok(Forked::Child) => {
                drop(favored);
                drop(socket);
                shim::run(world, connection);
            }
            // The client sees its connection end.
            Ok(Forked::Parent { .. }) | Err(_) => {}
        }
    }
    process::exit(0)
}

/// Closes what the engine had open, except standard error.
fn close_all_but(socket: &OwnedFd) {
    let kept = socket.as_raw_fd() as u32;
    shim::silence(false);
    if kept > 3 {
        let _ = process::close_between(3, kept - 1);
    }
    let _ = process::close_between(kept + 1, u32::MAX);
}
