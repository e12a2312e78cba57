//! Sockets that systemd opened for the engine (`LISTEN_FDS`, sd_listen_fds(3)).

use std::os::fd::OwnedFd;

/// The sockets handed over to this process, if any. Call once, early, before other files are open.
pub fn sockets(pid: Option<&str>, count: Option<&str>) -> std::io::Result<Vec<OwnedFd>> {
    let ours = pid.and_then(|p| p.parse::<u32>().ok()) == Some(std::process::id());
    let count = count.and_then(|c| c.parse::<i32>().ok()).unwrap_or(0);
    if !ours || count <= 0 {
        return Ok(Vec::new());
    }
    (3..3 + count.min(64))
        .map(berth_sys::process::take_inherited_fd)
        .collect()
}
