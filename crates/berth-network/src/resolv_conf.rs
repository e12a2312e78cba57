//! A container's `/etc/resolv.conf`, built from the host's as Docker does. Text in, text out; only [`host_text`] reads a
//! file.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where the resolver of user-defined networks answers.
pub const EMBEDDED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// What a container gets whose host has no name server that it could reach: Docker's choice.
const PUBLIC: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)),
    IpAddr::V4(Ipv4Addr::new(8, 8, 4, 4)),
];
const PUBLIC_IPV6: [IpAddr; 2] = [
    IpAddr::V6(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8844)),
];

/// Most bytes read of the host's file.
const MOST: u64 = 64 << 10;
/// Where systemd-resolved puts the servers that it asks itself.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
const STUB: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));

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

/// What such a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub servers: Vec<IpAddr>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

/// Reads resolv.conf(5); what it does not know it leaves out.
pub(crate) fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let rest = |words: std::str::SplitWhitespace<'_>| words.map(str::to_owned).collect();
        match words.next() {
            Some("nameserver") => parsed
                .servers
                .extend(words.next().and_then(|w| w.parse::<IpAddr>().ok())),
            // The last of them counts.
            Some("search" | "domain") => parsed.search = rest(words),
            Some("options") => parsed.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    parsed
}

/// The host's file, or that of systemd-resolved where the host's names only its stub; empty if there is none.
pub fn host_text() -> String {
    let text = read("/etc/resolv.conf");
    if parse(&text).servers == [STUB] {
        let upstream = read(RESOLVED);
        if !upstream.is_empty() {
            return upstream;
        }
    }
    text
}

fn read(path: &str) -> String {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut bytes)) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) => {
            tracing::debug!("cannot read {path}: {e}");
            String::new()
        }
    }
}

/// Text of the container's file.
pub fn build(host: &str, request: &ResolvConfRequest) -> String {
    let host = parse(host);
    let search = match &request.search[..] {
        [] => host.search,
        [dot] if dot == "." => Vec::new(),
        given => given.to_vec(),
    };
    let mut options = match &request.options[..] {
        [] => host.options,
        given => given.to_vec(),
    };
    let servers = if request.embedded {
        if !options.iter().any(|o| o.starts_with("ndots:")) {
            options.push("ndots:0".into());
        }
        vec![IpAddr::V4(EMBEDDED)]
    } else if !request.servers.is_empty() {
        request.servers.clone()
    } else {
        reachable(host.servers, request.ipv6)
    };
    let mut text = String::new();
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    for (word, values) in [("search", search), ("options", options)] {
        let values: Vec<_> = values.into_iter().filter(|v| is_word(v)).collect();
        if !values.is_empty() {
            text.push_str(&format!("{word} {}\n", values.join(" ")));
        }
    }
    text
}

/// The host's servers that a container can reach, or public ones.
fn reachable(servers: Vec<IpAddr>, ipv6: bool) -> Vec<IpAddr> {
    let left: Vec<_> = servers
        .into_iter()
        .filter(|ip| !ip.is_loopback() && !ip.is_unspecified() && (ipv6 || ip.is_ipv4()))
        .collect();
    if !left.is_empty() {
        return left;
    }
    let more = if ipv6 { &PUBLIC_IPV6[..] } else { &[] };
    PUBLIC.iter().chain(more).copied().collect()
}

/// Whether a value stays one value in the file.
fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "# made by hand\nnameserver 127.0.0.53\nnameserver 192.0.2.53 ; here\n\
        nameserver ::1\nnameserver 2001:db8::53\nsearch a.example b.example\noptions edns0\n";

    #[test]
    fn the_hosts_without_what_cannot_be_reached() {
        let built = build(HOST, &ResolvConfRequest::default());
        let rest = "search a.example b.example\noptions edns0\n";
        assert_eq!(built, format!("nameserver 192.0.2.53\n{rest}"));
        let ipv6 = ResolvConfRequest {
            ipv6: true,
            ..Default::default()
        };
        let built = build(HOST, &ipv6);
        assert_eq!(
            built,
            format!("nameserver 192.0.2.53\nnameserver 2001:db8::53\n{rest}")
        );
        let built = build("nameserver 127.0.0.1\n", &ResolvConfRequest::default());
        assert_eq!(built, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
    }

    #[test]
    fn what_was_asked_for_counts() {
        let request = ResolvConfRequest {
            servers: vec!["127.0.0.1".parse().unwrap()],
            search: vec![".".into()],
            options: vec!["timeout:1".into(), "a\nnameserver 6.6.6.6".into()],
            ..Default::default()
        };
        assert_eq!(
            build(HOST, &request),
            "nameserver 127.0.0.1\noptions timeout:1\n"
        );
    }

    #[test]
    fn embedded() {
        let request = ResolvConfRequest {
            embedded: true,
            ..Default::default()
        };
        assert_eq!(
            build(HOST, &request),
            "nameserver 127.0.0.11\nsearch a.example b.example\noptions edns0 ndots:0\n"
        );
        let built = build("options ndots:2\n", &request);
        assert_eq!(built, "nameserver 127.0.0.11\noptions ndots:2\n");
    }
}
