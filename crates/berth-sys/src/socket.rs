//! Unix sockets that carry descriptors, and who is at their other end.

use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// Descriptors that one message may carry.
pub const FDS_MAX: usize = 64;

/// A pair of connected sockets that keep message boundaries.
pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    pair(SocketType::SEQPACKET)
}

/// A pair of connected byte streams.
pub fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    pair(SocketType::STREAM)
}

fn pair(kind: SocketType) -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        kind,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends bytes with descriptors; answers how many bytes went (the descriptors go with the first).
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if fds.len() > FDS_MAX {
        return Err(Errno::TOOMANYREFS.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::TOOMANYREFS.into());
    }
    let bytes = [IoSlice::new(bytes)];
    loop {
        match rustix::net::sendmsg(&socket, &bytes, &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Receives bytes and the descriptors that come with them; 0 bytes mean that the other end has
/// gone. A message that is longer than the buffer is an error.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        let mut bytes = [IoSliceMut::new(buffer)];
        match rustix::net::recvmsg(&socket, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    let cut = rustix::net::ReturnFlags::TRUNC | rustix::net::ReturnFlags::CTRUNC;
    if message.flags.intersects(cut) {
        return Err(Errno::MSGSIZE.into());
    }
    Ok((message.bytes, fds))
}

/// Listens at `name` in the directory that `directory` is a handle of. Through the handle, the path
/// may be longer than a socket's address. What stood there is replaced.
pub fn listen_at(directory: impl AsFd, name: &OsStr, mode: u32) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    match rustix::fs::unlinkat(&directory, name, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    // fchmod before bind sets the mode that the name is born with.
    rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(mode))?;
    rustix::net::bind(&socket, &address(directory.as_fd(), name)?)?;
    rustix::net::listen(&socket, 128)?;
    Ok(socket)
}

/// Connects to the socket `name` in a directory.
pub fn connect_at(directory: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::net::connect(&socket, &address(directory.as_fd(), name)?)?;
    Ok(socket)
}

/// Connects to the socket at a path.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let flags =
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let directory = rustix::fs::openat(rustix::fs::CWD, parent, flags, rustix::fs::Mode::empty())?;
    connect_at(directory, name)
}

fn address(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<SocketAddrUnix> {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    path.push(name);
    Ok(SocketAddrUnix::new(path)?)
}

/// Who connected: process and user, as they were then.
pub fn peer(socket: impl AsFd) -> io::Result<rustix::net::UCred> {
    Ok(rustix::net::sockopt::socket_peercred(socket)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_travel() {
        let (here, there) = packet_pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        send(&here, b"hello", &[file.as_fd(), here.as_fd()]).unwrap();
        let mut buffer = [0; 16];
        let (len, fds) = receive(&there, &mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"hello");
        assert_eq!(fds.len(), 2);
        let flags = rustix::io::fcntl_getfd(&fds[0]).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        // A message that does not fit is not cut silently.
        send(&here, &[1; 17], &[]).unwrap();
        assert!(receive(&there, &mut buffer).is_err());
        drop((here, fds));
        assert_eq!(receive(&there, &mut buffer).unwrap().0, 0);
    }

    #[test]
    fn a_deep_directory_can_hold_a_socket() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        let handle = std::fs::File::open(&deep).unwrap();
        let listener = listen_at(&handle, OsStr::new("s"), 0o600).unwrap();
        let client = connect(&deep.join("s")).unwrap();
        let server = rustix::net::accept_with(&listener, SocketFlags::CLOEXEC).unwrap();
        assert_eq!(peer(&server).unwrap().uid, rustix::process::geteuid());
        drop(client);
    }
}
