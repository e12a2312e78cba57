//! A container's `/etc/resolv.conf`, built from the host's as Docker does. Pure text in, text out.

use std::net::IpAddr;

/// What overrides the host's file.
#[derive(Debug, Clone, Default)]
pub struct ResolvConfRequest {
    /// `--dns`.
    pub servers: Vec<IpAddr>,
    /// `--dns-search`; a lone `.` means none.
    pub search: Vec<String>,
    /// `--dns-option`.
    pub options: Vec<String>,
    /// The container is in a user-defined network: its resolver is 127.0.0.11.
    pub embedded: bool,
    /// The container has IPv6: servers with such addresses are kept.
    pub ipv6: bool,
}

/// Text of the container's file.
pub fn build(_host: &str, _request: &ResolvConfRequest) -> String {
    String::new()
}
