//! A container's `/etc/hosts`. Pure data in, text out.

use std::net::IpAddr;

use crate::Result;

/// One extra line (`--add-host`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraHost {
    /// Host name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
}

/// Reads `name:address` or `name=address`; the address `host-gateway` stands for `gateway`.
pub fn parse_extra_host(text: &str, _gateway: Option<IpAddr>) -> Result<ExtraHost> {
    Err(crate::Error::Invalid(format!(
        "bad format for add-host: {text:?}"
    )))
}

/// Text of the file: loopback names, extra hosts, then the container's own addresses with its host name
/// (`host.domain host` when a domain is given).
pub fn build(_own: &[IpAddr], _hostname: &str, _domain: &str, _extra: &[ExtraHost]) -> String {
    String::new()
}
