//! Where a container's output goes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where output is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogSpec {
    /// Nowhere: attached clients alone get it.
    #[default]
    None,
    /// Docker's `json-file` format.
    JsonFile {
        path: PathBuf,
        /// Bytes after which the file is rotated; 0 means never.
        max_size: u64,
        /// Files kept, the current one included; below 2 the file is emptied instead.
        max_file: u32,
        /// Said in every entry, as `attrs`.
        #[serde(default)]
        attributes: BTreeMap<String, String>,
    },
}

/// To whom output is sent, line by line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardSpec {
    pub to: ForwardTarget,
    /// Bytes that may wait for a receiver that does not take them.
    pub buffer: usize,
    /// A receiver that is there and slow holds the container up. Otherwise, and where it is not
    /// there, what does not fit into the buffer is lost, and that is told.
    pub blocking: bool,
}

/// A receiver of lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForwardTarget {
    Syslog {
        address: SyslogAddress,
        format: SyslogFormat,
        /// 0 to 23 (RFC 5424, 6.2.1).
        facility: u8,
        /// This machine's name.
        hostname: String,
        tag: String,
    },
    /// systemd's journal, by its native protocol.
    Journal {
        socket: PathBuf,
        /// Said with every line, beside `MESSAGE` and `PRIORITY`.
        fields: BTreeMap<String, String>,
    },
}

/// How a syslog server is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyslogAddress {
    /// A Unix socket, of datagrams or else a stream.
    Unix(PathBuf),
    Udp(SocketAddr),
    Tcp(SocketAddr),
}

/// What a message looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyslogFormat {
    /// RFC 3164 without the host's name, for a server on this machine.
    Local,
    /// RFC 3164.
    Bsd,
    /// RFC 5424 with whole seconds.
    Seconds,
    /// RFC 5424 with microseconds.
    Micros,
}
