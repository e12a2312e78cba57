//! Filters on sockets (`SO_ATTACH_FILTER`).
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};

/// `BPF_RET | BPF_K` of linux/bpf_common.h: give back a constant number of bytes.
const RETURN_CONSTANT: u16 = 0x06;

/// Lets the socket receive nothing: what comes to it is dropped without an answer, connection requests too.
pub fn receive_nothing(socket: impl AsFd) -> io::Result<()> {
    let mut nothing = libc::sock_filter {
        code: RETURN_CONSTANT,
        jt: 0,
        jf: 0,
        k: 0,
    };
    let program = libc::sock_fprog {
        len: 1,
        filter: &mut nothing,
    };
    // SAFETY: `program` names one instruction, which lives until the call returns; the kernel copies it. The length is
    // that of the structure the option takes.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use super::*;

    #[test]
    fn nothing_comes() {
        let open = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (socket, client) = (open(), open());
        client.connect(socket.local_addr().unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        client.send(b"x").unwrap();
        // On loopback a datagram is there when `send` returns.
        assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
        receive_nothing(&socket).unwrap();
        client.send(b"x").unwrap();
        let error = socket.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
