//! Telling whoever started a daemon how it is: systemd's `sd_notify` protocol.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where news of the engine's state go; nowhere if nobody asked.
pub struct Notify(Option<(UnixDatagram, SocketAddr)>);

impl Notify {
    /// From the value of `NOTIFY_SOCKET`: a path, or `@` and an abstract name.
    pub fn new(socket: Option<OsString>) -> Self {
        let connect = |name: OsString| {
            let bytes = name.as_bytes();
            let address = match bytes.strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name),
                None => SocketAddr::from_pathname(&name),
            }?;
            std::io::Result::Ok((UnixDatagram::unbound()?, address))
        };
        Self(socket.and_then(|name| connect(name).ok()))
    }

    /// The daemon answers; `status` says what it does.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}\n"));
    }

    /// The engine is on its way out.
    pub fn stopping(&self) {
        self.send("STOPPING=1\n");
    }

    /// The engine could not start; the text says why.
    pub fn failed(&self, why: &str) {
        self.send(&format!("STATUS={}\nERRNO=1\n", why.replace('\n', " ")));
    }

    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.0 {
            // Whoever asked may be gone; the engine goes on.
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }
}
