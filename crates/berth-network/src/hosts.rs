//! A container's `/etc/hosts`. Pure data in, text out.

use std::fmt::Write;
use std::net::IpAddr;

use crate::{Error, Result};

/// One extra line (`--add-host`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraHost {
    /// Host name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
}

/// What Docker writes at the top of every container's file.
const LOOPBACK: &str = "127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";

/// Reads `name:address` or `name=address`; the address `host-gateway` stands for `gateway`.
pub fn parse_extra_host(text: &str, gateway: Option<IpAddr>) -> Result<ExtraHost> {
    let shown = || text.chars().take(120).collect::<String>();
    let bad = || Error::Invalid(format!("bad format for add-host: {:?}", shown()));
    let at = text.find(['=', ':']).ok_or_else(bad)?;
    let (name, address) = (&text[..at], &text[at + 1..]);
    if !is_word(name) || name.len() > 255 || address.is_empty() {
        return Err(bad());
    }
    let address = match address {
        "host-gateway" => gateway.ok_or_else(|| {
            Error::Invalid("unable to derive the IP value for host-gateway".into())
        })?,
        _ => address
            .strip_prefix('[')
            .and_then(|a| a.strip_suffix(']'))
            .unwrap_or(address)
            .parse()
            .map_err(|_| Error::Invalid(format!("invalid IP address in add-host: {address:?}")))?,
    };
    Ok(ExtraHost {
        name: name.to_owned(),
        address,
    })
}

/// Text of the file: loopback names, extra hosts, then the container's own addresses with its host name
/// (`host.domain host` when a domain is given).
pub fn build(own: &[IpAddr], hostname: &str, domain: &str, extra: &[ExtraHost]) -> String {
    let mut text = LOOPBACK.to_owned();
    for host in extra.iter().filter(|h| is_word(&h.name)) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}\t{}", host.address, host.name);
    }
    if !is_word(hostname) {
        return text;
    }
    let names = match domain {
        "" => hostname.to_owned(),
        domain if is_word(domain) => format!("{hostname}.{domain} {hostname}"),
        _ => hostname.to_owned(),
    };
    for address in own {
        let _ = writeln!(text, "{address}\t{names}");
    }
    text
}

/// Whether a text can stand in the file without becoming something else.
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && !text
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || c == '#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_docker_writes_it() {
        let own = ["172.17.0.2".parse().unwrap()];
        let extra = [parse_extra_host("db:10.0.0.9", None).unwrap()];
        let text = build(&own, "web", "", &extra);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost"));
        assert!(text.ends_with("ff02::2\tip6-allrouters\n10.0.0.9\tdb\n172.17.0.2\tweb\n"));
        let text = build(&own, "web", "example.org", &[]);
        assert!(text.ends_with("\n172.17.0.2\tweb.example.org web\n"));
    }

    #[test]
    fn extra_hosts() {
        let gateway: IpAddr = "172.17.0.1".parse().unwrap();
        let read = |text| parse_extra_host(text, Some(gateway)).map(|h| (h.name, h.address));
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(read("h:host-gateway").unwrap(), ("h".into(), gateway));
        assert_eq!(read("h=::1").unwrap(), ("h".into(), ip("::1")));
        assert_eq!(read("h:[::1]").unwrap(), ("h".into(), ip("::1")));
        assert_eq!(
            read("h:2001:db8::1").unwrap(),
            ("h".into(), ip("2001:db8::1"))
        );
        for bad in [
            "",
            "h",
            "h:",
            ":1.2.3.4",
            "h:1.2.3",
            "a b:1.2.3.4",
            "a\nb:1.2.3.4",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert!(parse_extra_host("h:host-gateway", None).is_err());
    }
}
