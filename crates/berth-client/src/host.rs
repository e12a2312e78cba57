//! Where an engine is: `unix://`, `tcp://`, `ssh://` and the shorter forms of them.

use std::fmt;
use std::path::PathBuf;

/// The address of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A socket in the file system.
    Unix(PathBuf),
    /// A host (or address) and port, spoken to in plain text or TLS.
    Tcp {
        /// Name or address, without brackets.
        name: String,
        /// Port.
        port: u16,
        /// A path before the API's own.
        prefix: String,
    },
    /// `docker system dial-stdio` at the other end of ssh.
    Ssh {
        /// The login name, if it is given.
        user: Option<String>,
        /// The host's name or address.
        name: String,
        /// The port, if it is given.
        port: Option<u16>,
        /// Where the remote engine's socket is, if it is not at its default.
        socket: Option<String>,
    },
}

/// Why an address was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// There is no `://` in it.
    #[error("unable to parse docker host `{0}`")]
    NoScheme(String),
    /// The scheme is none that is spoken.
    #[error("invalid bind address (unsupported protocol {0:?})")]
    Scheme(String),
    /// What follows the scheme is no address.
    #[error("invalid bind address format: {0}")]
    Address(String),
}

impl Host {
    /// Reads an address. `tls` picks the default port of `tcp://name`.
    pub fn parse(text: &str, tls: bool) -> Result<Self, HostError> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| HostError::NoScheme(text.to_owned()))?;
        match scheme {
            "unix" | "fd" if rest.is_empty() => Ok(Host::Unix("/var/run/docker.sock".into())),
            "unix" => Ok(Host::Unix(rest.into())),
            "tcp" | "http" | "https" => tcp(text, rest, tls || scheme == "https"),
            "ssh" => ssh(text, rest),
            other => Err(HostError::Scheme(other.to_owned())),
        }
    }
}

fn tcp(text: &str, rest: &str, tls: bool) -> Result<Host, HostError> {
    let bad = || HostError::Address(text.to_owned());
    let (authority, prefix) = match rest.split_once('/') {
        Some((authority, path)) => (authority, path.trim_end_matches('/')),
        None => (rest, ""),
    };
    let default = if tls { 2376 } else { 2375 };
    let (name, port) = split_port(authority).ok_or_else(bad)?;
    Ok(Host::Tcp {
        name: if name.is_empty() {
            "localhost".to_owned()
        } else {
            name
        },
        port: port.unwrap_or(default),
        prefix: if prefix.is_empty() {
            String::new()
        } else {
            format!("/{prefix}")
        },
    })
}

fn ssh(text: &str, rest: &str) -> Result<Host, HostError> {
    let bad = || HostError::Address(text.to_owned());
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, Some(format!("/{path}"))),
        None => (rest, None),
    };
    let (user, address) = match authority.rsplit_once('@') {
        Some((user, address)) => (Some(user.to_owned()), address),
        None => (None, authority),
    };
    let (name, port) = split_port(address).ok_or_else(bad)?;
    let option_like = |s: &str| s.starts_with('-');
    let unsafe_word = user.as_deref().is_some_and(option_like) || option_like(&name);
    if name.is_empty() || user.as_deref() == Some("") || unsafe_word {
        return Err(bad());
    }
    Ok(Host::Ssh {
        user,
        name,
        port,
        socket: path.filter(|p| p != "/"),
    })
}

/// `name`, `name:port`, `[v6]` or `[v6]:port`.
fn split_port(authority: &str) -> Option<(String, Option<u16>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, tail) = rest.split_once(']')?;
        let port = match tail.strip_prefix(':') {
            Some(port) => Some(port.parse().ok()?),
            None if tail.is_empty() => None,
            None => return None,
        };
        return Some((address.to_owned(), port));
    }
    match authority.rsplit_once(':') {
        Some((name, _)) if name.contains(':') => None,
        Some((name, port)) => Some((name.to_owned(), Some(port.parse().ok()?))),
        None => Some((authority.to_owned(), None)),
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Unix(path) => write!(f, "unix://{}", path.display()),
            Host::Tcp { name, port, prefix } if name.contains(':') => {
                write!(f, "tcp://[{name}]:{port}{prefix}")
            }
            Host::Tcp { name, port, prefix } => write!(f, "tcp://{name}:{port}{prefix}"),
            Host::Ssh {
                user, name, port, ..
            } => {
                f.write_str("ssh://")?;
                if let Some(user) = user {
                    write!(f, "{user}@")?;
                }
                f.write_str(name)?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp_host(name: &str, port: u16, prefix: &str) -> Host {
        Host::Tcp {
            name: name.into(),
            port,
            prefix: prefix.into(),
        }
    }

    #[test]
    fn addresses_are_read_as_docker_reads_them() {
        for (text, tls, host) in [
            (
                "unix:///run/b.sock",
                false,
                Host::Unix("/run/b.sock".into()),
            ),
            ("unix://", false, Host::Unix("/var/run/docker.sock".into())),
            ("tcp://h:1", false, tcp_host("h", 1, "")),
            ("tcp://h", false, tcp_host("h", 2375, "")),
            ("tcp://h", true, tcp_host("h", 2376, "")),
            ("tcp://:7", false, tcp_host("localhost", 7, "")),
            ("tcp://[::1]:7/a/b/", false, tcp_host("::1", 7, "/a/b")),
        ] {
            assert_eq!(Host::parse(text, tls), Ok(host), "{text}");
        }
        assert_eq!(
            Host::parse("ssh://u@h:22/run/x.sock", false),
            Ok(Host::Ssh {
                user: Some("u".into()),
                name: "h".into(),
                port: Some(22),
                socket: Some("/run/x.sock".into()),
            })
        );
        for bad in ["h:1", "ftp://h", "tcp://a:b:c", "tcp://h:x", "ssh://-oX=y"] {
            assert!(Host::parse(bad, false).is_err(), "{bad}");
        }
    }
}
