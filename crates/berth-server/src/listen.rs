//! Where the API is served: `unix://`, `tcp://` (with TLS where asked) and sockets that systemd
//! hands over.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Gid, Uid};
use tokio::net::{TcpListener, UnixListener};

use crate::origin::AllowedHosts;

/// A bound socket with what its requests must fulfil.
pub struct Listener {
    pub(crate) socket: Socket,
    pub(crate) hosts: AllowedHosts,
    /// Removed when the engine ends.
    pub(crate) path: Option<PathBuf>,
    /// What the user said, for logs and readiness.
    pub(crate) name: String,
}

pub(crate) enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
    Tls(TcpListener, tokio_rustls::TlsAcceptor),
}

/// Why an address cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Neither `unix://`, `tcp://` nor a path.
    #[error("invalid listen address {0:?}: use unix://PATH, tcp://HOST:PORT or fd://")]
    Address(String),
    /// Another engine serves this socket.
    #[error("cannot listen on {0}: another engine is listening there")]
    Busy(String),
    /// The kernel refused.
    #[error("cannot listen on {name}: {source}")]
    Io {
        /// What was asked for.
        name: String,
        /// Why not.
        source: io::Error,
    },
}

impl Listener {
    /// Binds what a `-H` says. `group` owns Unix sockets; `tls` serves TCP with certificates.
    pub async fn bind(
        host: &str,
        group: Option<u32>,
        tls: Option<&Arc<rustls::ServerConfig>>,
    ) -> Result<Self, ListenError> {
        let io = |source| ListenError::Io {
            name: host.to_owned(),
            source,
        };
        if let Some(path) = host
            .strip_prefix("unix://")
            .or_else(|| host.starts_with('/').then_some(host))
        {
            return bind_unix(Path::new(path), host, group).await;
        }
        let address = host
            .strip_prefix("tcp://")
            .ok_or_else(|| ListenError::Address(host.to_owned()))?
            .trim_end_matches('/');
        let default_port = if tls.is_some() { 2376 } else { 2375 };
        let address = match address.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => address.to_owned(),
            _ => format!("{address}:{default_port}"),
        };
        let address = address
            .strip_prefix(':')
            .map_or(address.clone(), |port| format!("0.0.0.0:{port}"));
        let socket = TcpListener::bind(&address).await.map_err(io)?;
        let names = address.rsplit_once(':').map(|(name, _)| name.to_owned());
        Ok(match tls {
            Some(config) => Self {
                socket: Socket::Tls(socket, config.clone().into()),
                hosts: AllowedHosts::Any,
                path: None,
                name: host.to_owned(),
            },
            None => Self {
                socket: Socket::Tcp(socket),
                hosts: AllowedHosts::Names(names.into_iter().chain(hostname()).collect()),
                path: None,
                name: host.to_owned(),
            },
        })
    }

    /// A listening Unix or TCP socket that somebody else bound (socket activation).
    pub fn inherited(fd: OwnedFd) -> Result<Self, ListenError> {
        let name = "fd://".to_owned();
        let io = |source: io::Error| ListenError::Io {
            name: "fd://".to_owned(),
            source,
        };
        let domain = rustix::net::sockopt::socket_domain(&fd).map_err(|e| io(e.into()))?;
        let (socket, hosts) = if domain == rustix::net::AddressFamily::UNIX {
            let listener = std::os::unix::net::UnixListener::from(fd);
            listener.set_nonblocking(true).map_err(io)?;
            (
                Socket::Unix(UnixListener::from_std(listener).map_err(io)?),
                AllowedHosts::Any,
            )
        } else {
            let listener = std::net::TcpListener::from(fd);
            listener.set_nonblocking(true).map_err(io)?;
            let socket = TcpListener::from_std(listener).map_err(io)?;
            (
                Socket::Tcp(socket),
                AllowedHosts::Names(hostname().into_iter().collect()),
            )
        };
        Ok(Self {
            socket,
            hosts,
            path: None,
            name,
        })
    }

    /// The TCP address that was bound, for port 0.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Unix(_) => None,
            Socket::Tcp(socket) | Socket::Tls(socket, _) => socket.local_addr().ok(),
        }
    }

    /// What the user called it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn hostname() -> Option<String> {
    rustix::system::uname()
        .nodename()
        .to_str()
        .ok()
        .map(str::to_owned)
}

/// Binds aside, sets owner and mode, then renames into place: nobody ever reaches a socket with
/// the wrong mode, and a second engine cannot take the name of a living one.
async fn bind_unix(path: &Path, name: &str, group: Option<u32>) -> Result<Listener, ListenError> {
    let io = |source: io::Error| ListenError::Io {
        name: name.to_owned(),
        source,
    };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(io)?;
    }
    if tokio::net::UnixStream::connect(path).await.is_ok() {
        return Err(ListenError::Busy(name.to_owned()));
    }
    let file_name = path
        .file_name()
        .ok_or_else(|| ListenError::Address(name.to_owned()))?;
    let mut aside = file_name.to_owned();
    aside.push(format!(".{}", std::process::id()));
    let aside = path.with_file_name(aside);
    // A leftover of a killed engine with the same pid, if anything.
    let _ = std::fs::remove_file(&aside);
    let listener = UnixListener::bind(&aside).map_err(io)?;
    let placed = std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(0o660))
        .and_then(|()| match group {
            Some(group) => rustix::fs::chown(&aside, None::<Uid>, Some(Gid::from_raw(group)))
                .map_err(Into::into),
            None => Ok(()),
        })
        .and_then(|()| std::fs::rename(&aside, path));
    if let Err(e) = placed {
        // The bind is being undone; what is reported is why.
        let _ = std::fs::remove_file(&aside);
        return Err(io(e));
    }
    Ok(Listener {
        socket: Socket::Unix(listener),
        hosts: AllowedHosts::Any,
        path: Some(path.to_owned()),
        name: name.to_owned(),
    })
}
