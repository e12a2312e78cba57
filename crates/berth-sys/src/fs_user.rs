//! Who files belong to that a thread makes.
#![allow(unsafe_code)]

use std::io;

use rustix::thread::{CapabilitySets, capabilities, set_capabilities};

/// Runs `job` on a thread of its own, to which files belong as if it were the user and group given;
/// all else, its capabilities too, is as the caller's. For what the kernel makes later with the
/// identity that something was set up with, as overlayfs does.
pub fn with_fs_user<T: Send>(uid: u32, gid: u32, job: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("fs-user".into())
            .stack_size(256 << 10)
            .spawn_scoped(scope, || {
                become_fs_user(uid, gid)?;
                Ok(job())
            })?;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread of another user panicked")))
    })
}

fn become_fs_user(uid: u32, gid: u32) -> io::Result<()> {
    let before = capabilities(None)?;
    // SAFETY: no memory is involved; both change the calling thread alone. They answer what was before, so that
    // asking twice tells whether it was done.
    let done = unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
        libc::setfsgid(gid) as u32 == gid && libc::setfsuid(uid) as u32 == uid
    };
    if !done {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    // Leaving user 0 took those that concern files out of the effective ones.
    let sets = CapabilitySets {
        effective: before.effective,
        ..capabilities(None)?
    };
    Ok(set_capabilities(None, sets)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn files_belong_to_another() {
        let temp = tempfile::tempdir().unwrap();
        if std::fs::metadata(temp.path()).unwrap().uid() != 0 {
            return;
        }
        let path = temp.path().join("f");
        // The directory is another's: its capabilities are still there.
        super::with_fs_user(1234, 5678, || std::fs::write(&path, "x").unwrap()).unwrap();
        let made = std::fs::metadata(&path).unwrap();
        assert_eq!((made.uid(), made.gid()), (1234, 5678));
        std::fs::write(temp.path().join("g"), "x").unwrap();
        assert_eq!(std::fs::metadata(temp.path().join("g")).unwrap().uid(), 0);
    }
}
