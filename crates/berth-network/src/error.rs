//! What can go wrong with a network, named by what was attempted and on what.

use std::io;
use std::net::SocketAddr;

use crate::port::Protocol;

/// Result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the network crate. Its text is Docker's where Docker has one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A published port is held by another container of this engine.
    #[error("Bind for {0} failed: port is already allocated")]
    PortAllocated(SocketAddr),
    /// A published port is held by another process of the host.
    #[error(
        "failed to bind host port {address}/{protocol}: listen {protocol}{family} {address}: bind: {reason}"
    )]
    PortInUse {
        /// Address that was asked for.
        address: SocketAddr,
        /// Transport protocol.
        protocol: Protocol,
        /// `4` or `6`.
        family: u8,
        /// The kernel's words, `address already in use` as a rule.
        reason: String,
    },
    /// No port of the given range is free on the host.
    #[error("all ports are allocated: no free host port in {0}-{1}")]
    PortsExhausted(u16, u16),
    /// No network of this name or ID.
    #[error("network {0} not found")]
    NetworkNotFound(String),
    /// No sandbox of this ID (or it did not survive).
    #[error("network sandbox {0} not found")]
    SandboxNotFound(String),
    /// A network of this name exists.
    #[error("network with name {0} already exists")]
    NetworkExists(String),
    /// The network has endpoints and cannot be removed.
    #[error("error while removing network: network {name} has active endpoints ({endpoints})")]
    NetworkInUse {
        /// Name of the network.
        name: String,
        /// Comma-separated `name:"web" id:"abc…"` of those attached.
        endpoints: String,
    },
    /// What was asked contradicts itself, the network or the machine.
    #[error("{0}")]
    Invalid(String),
    /// What was asked is not allowed (predefined networks, for instance).
    #[error("{0}")]
    Forbidden(String),
    /// Something of this kind exists already or overlaps.
    #[error("{0}")]
    Conflict(String),
    /// No address left in the network.
    #[error("no available IPv4 addresses on this network's address pools: {0}")]
    AddressesExhausted(String),
    /// The address asked for belongs to another endpoint.
    #[error("Address already in use")]
    AddressInUse,
    /// No pool has a free subnet left.
    #[error("all predefined address pools have been fully subnetted")]
    PoolsExhausted,
    /// The kernel refused a step.
    #[error("cannot {attempt}")]
    Kernel {
        /// What was attempted, on what.
        attempt: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// The kind of an [`Error`], for faces that map errors to status codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The named object does not exist.
    NotFound,
    /// The state of an object forbids it (also a port that is in use).
    Conflict,
    /// The request makes no sense.
    Invalid,
    /// The request is understood and refused.
    Forbidden,
    /// Nothing is wrong with the request: a resource ran out.
    Exhausted,
    /// The kernel or the machine failed.
    Internal,
}

impl Error {
    /// What sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NetworkNotFound(_) | Self::SandboxNotFound(_) => ErrorKind::NotFound,
            Self::PortAllocated(_)
            | Self::PortInUse { .. }
            | Self::NetworkExists(_)
            | Self::Conflict(_)
            | Self::AddressInUse => ErrorKind::Conflict,
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::NetworkInUse { .. } | Self::Forbidden(_) => ErrorKind::Forbidden,
            Self::PortsExhausted(..) | Self::AddressesExhausted(_) | Self::PoolsExhausted => {
                ErrorKind::Exhausted
            }
            Self::Kernel { .. } => ErrorKind::Internal,
        }
    }

    /// Wraps the kernel's answer to `attempt`.
    pub(crate) fn kernel(attempt: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Kernel {
            attempt: attempt.into(),
            source: source.into(),
        }
    }
}
