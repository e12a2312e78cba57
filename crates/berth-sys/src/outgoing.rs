//! What a socket has sent and its other end has not read.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Whether the other end of a Unix stream socket has read everything that was written to this one.
pub fn all_read(socket: impl AsFd) -> io::Result<bool> {
    let mut waiting: libc::c_int = 0;
    // SAFETY: TIOCOUTQ writes one int, at the address of one that lives here.
    let result =
        unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut waiting) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(waiting == 0),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_waits_is_told() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        assert!(all_read(&near).unwrap());
        near.write_all(b"head").unwrap();
        assert!(!all_read(&near).unwrap());
        far.read_exact(&mut [0; 4]).unwrap();
        assert!(all_read(&near).unwrap());
    }
}
