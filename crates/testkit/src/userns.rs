//! A user namespace for tests whose process has threads, which may not make one.

use std::fs;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

/// A user namespace whose IDs from 0 to 65535 are those from `base` on outside. `None` where none can
/// be made here; the test is then [`crate::skipped`].
pub fn user_namespace(base: u32) -> Option<OwnedFd> {
    namespaces(base).map(|(user, _)| user)
}

/// The same, with a network namespace that belongs to it.
pub fn namespaces(base: u32) -> Option<(OwnedFd, OwnedFd)> {
    let Some(unshare) = crate::find_command("unshare") else {
        crate::skipped("there is no unshare(1)");
        return None;
    };
    let mut child = Command::new(unshare)
        .args(["--user", "--net", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("unshare");
    let path = |name: &str| format!("/proc/{}/{name}", child.id());
    let ours = fs::read_link("/proc/self/ns/user").expect("a user namespace");
    let network = fs::read_link("/proc/self/ns/net").expect("a network namespace");
    let made = crate::wait::until("a user namespace", || {
        match fs::read_link(path("ns/user")) {
            Ok(link) if link != ours => {
                (fs::read_link(path("ns/net")).ok()? != network).then_some(true)
            }
            // It said why on its standard error, and ended.
            Err(_) => Some(false),
            Ok(_) => match fs::read_to_string(path("stat")) {
                Ok(stat) if stat.contains(") Z ") => Some(false),
                _ => None,
            },
        }
    });
    let namespaces = made.then(|| {
        let map = format!("0 {base} 65536");
        fs::write(path("gid_map"), &map).expect("a map of groups");
        fs::write(path("uid_map"), &map).expect("a map of users");
        let open = |name| OwnedFd::from(fs::File::open(path(name)).expect("a namespace"));
        (open("ns/user"), open("ns/net"))
    });
    // Its input ends with this.
    drop(child.stdin.take());
    let _ = child.wait();
    if namespaces.is_none() {
        crate::skipped("no user namespace can be made here");
    }
    namespaces
}
