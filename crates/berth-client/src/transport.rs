//! Opening a connection to an engine.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::ssh::SshStream;

/// What every connection is: bytes both ways. Shutting it down closes our half only.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection of any kind.
pub type Stream = Box<dyn Duplex>;

/// How connections to one engine are made.
pub(crate) struct Transport {
    pub(crate) host: Host,
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Transport {
    pub(crate) async fn connect(&self) -> Result<Stream> {
        match &self.host {
            Host::Unix(path) => match UnixStream::connect(path).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(e) => Err(self.failed(e)),
            },
            Host::Tcp { name, port, .. } => {
                let stream = TcpStream::connect((name.as_str(), *port))
                    .await
                    .map_err(|e| self.failed(e))?;
                // Key strokes must not wait for the acknowledgement of earlier ones.
                stream.set_nodelay(true)?;
                match &self.tls {
                    None => Ok(Box::new(stream)),
                    Some(config) => self.secure(config.clone(), name, stream).await,
                }
            }
            Host::Ssh {
                user,
                name,
                port,
                socket,
            } => SshStream::open(user.as_deref(), name, *port, socket.as_deref())
                .map(|stream| Box::new(stream) as Stream)
                .map_err(|e| self.connect_error(format!("exec: \"ssh\": {e}"))),
        }
    }

    async fn secure(
        &self,
        config: Arc<ClientConfig>,
        name: &str,
        stream: TcpStream,
    ) -> Result<Stream> {
        let name =
            ServerName::try_from(name.to_owned()).map_err(|e| self.connect_error(e.to_string()))?;
        let stream = TlsConnector::from(config)
            .connect(name, stream)
            .await
            .map_err(|e| self.connect_error(format!("tls: {e}")))?;
        Ok(Box::new(stream))
    }

    fn connect_error(&self, message: String) -> Error {
        Error::Connect {
            host: self.host.to_string(),
            message,
        }
    }

    fn failed(&self, source: io::Error) -> Error {
        let host = self.host.to_string();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Error::NotRunning { host }
            }
            io::ErrorKind::PermissionDenied => Error::Permission { host, source },
            _ => Error::Connect {
                host,
                message: source.to_string(),
            },
        }
    }

    /// The `Host` header of requests.
    pub(crate) fn authority(&self) -> String {
        match &self.host {
            Host::Tcp { name, port, .. } if name.contains(':') => format!("[{name}]:{port}"),
            Host::Tcp { name, port, .. } => format!("{name}:{port}"),
            _ => "api.moby.localhost".to_owned(),
        }
    }

    /// Whether it is TCP without TLS.
    pub(crate) fn is_plain_tcp(&self) -> bool {
        self.tls.is_none() && matches!(self.host, Host::Tcp { .. })
    }

    /// What stands before the API's own paths.
    pub(crate) fn prefix(&self) -> &str {
        match &self.host {
            Host::Tcp { prefix, .. } => prefix,
            _ => "",
        }
    }
}
