//! `-p` and `--expose`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use berth_spec::docker::{PortBinding, PortMap};

/// Ports that are exposed, and where on the host they are published.
#[derive(Debug, Default, PartialEq)]
pub struct Ports {
    /// `80/tcp` …
    pub exposed: Vec<String>,
    /// The host's sides.
    pub published: PortMap,
}

/// Reads all `-p` and `--expose` of a command line.
pub fn parse(publish: &[String], expose: &[String]) -> Result<Ports, String> {
    let mut published: BTreeMap<String, Option<Vec<PortBinding>>> = BTreeMap::new();
    let mut exposed = Vec::new();
    for spec in publish {
        for (port, binding) in parse_spec(&standard(spec)?)? {
            published
                .entry(port.clone())
                .or_default()
                .get_or_insert_default()
                .push(binding);
            exposed.push(port);
        }
    }
    for spec in expose {
        exposed.extend(parse_expose(spec)?);
    }
    exposed.sort();
    exposed.dedup();
    Ok(Ports { exposed, published })
}

/// The long notation `published=8080,target=80` as the short one.
fn standard(spec: &str) -> Result<String, String> {
    if !spec.contains('=') {
        return Ok(spec.to_owned());
    }
    let (mut published, mut target, mut protocol) = ("", "", "tcp");
    for part in spec.split(',') {
        match part.split_once('=') {
            Some(("published", value)) => published = value,
            Some(("target", value)) => target = value,
            Some(("protocol", value)) => protocol = value,
            Some((name, _)) if !name.is_empty() => {}
            _ => {
                return Err(format!(
                    "invalid publish opts format (should be name=value but got '{part}')"
                ));
            }
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

fn split_protocol(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((port, protocol)) if !protocol.is_empty() => {
            (port, protocol.split('/').next().unwrap_or(protocol))
        }
        Some((port, _)) => (port, "tcp"),
        None => (text, "tcp"),
    }
}

fn range(text: &str) -> Result<(u16, u16), String> {
    if text.is_empty() {
        return Err("empty string specified for ports".to_owned());
    }
    let number = |text: &str| {
        text.parse::<u16>()
            .map_err(|_| format!("strconv.ParseUint: parsing {text:?}: invalid syntax"))
    };
    let Some((first, last)) = text.split_once('-') else {
        let port = number(text)?;
        return Ok((port, port));
    };
    let (first, last) = (number(first)?, number(last)?);
    if last < first {
        return Err(format!("invalid range specified for port: {text}"));
    }
    Ok((first, last))
}

fn parse_expose(spec: &str) -> Result<Vec<String>, String> {
    if spec.contains(':') {
        return Err(format!("invalid port format for --expose: {spec}"));
    }
    let (port, protocol) = split_protocol(spec);
    let (first, last) = range(port)
        .map_err(|e| format!("invalid range format for --expose: {spec}, error: {e}"))?;
    Ok((first..=last)
        .map(|port| format!("{port}/{protocol}"))
        .collect())
}

fn parse_spec(spec: &str) -> Result<Vec<(String, PortBinding)>, String> {
    let (left, container) = spec.rsplit_once(':').unwrap_or(("", spec));
    let (ip, host) = left.rsplit_once(':').unwrap_or(("", left));
    let ip = match ip.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .ok_or_else(|| format!("invalid IP address {ip}"))?,
        None => ip,
    };
    if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {ip}"));
    }
    let (port, protocol) = split_protocol(container);
    if port.is_empty() {
        return Err(format!("no port specified: {spec}<empty>"));
    }
    let (first, last) = range(port).map_err(|_| format!("invalid containerPort: {port}"))?;
    let protocol = protocol.to_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(format!("invalid proto: {protocol}"));
    }
    let host_range = match host {
        "" => None,
        _ => Some(range(host).map_err(|_| format!("invalid hostPort: {host}"))?),
    };
    if let Some((host_first, host_last)) = host_range
        && last - first != host_last - host_first
        && last != first
    {
        return Err(format!(
            "invalid ranges specified for container and host Ports: {port} and {host}"
        ));
    }
    let host_port = |at: u16| match host_range {
        None => String::new(),
        // One container port takes any of the host's.
        Some((from, to)) if first == last && from != to => format!("{from}-{to}"),
        Some((from, _)) => (from + at).to_string(),
    };
    Ok((0..=last - first)
        .map(|at| {
            let binding = PortBinding {
                host_ip: ip.to_owned(),
                host_port: host_port(at),
            };
            (format!("{}/{protocol}", first + at), binding)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(spec: &str) -> Vec<(String, String, String)> {
        parse_spec(&standard(spec).unwrap())
            .unwrap()
            .into_iter()
            .map(|(port, b)| (port, b.host_ip, b.host_port))
            .collect()
    }

    fn row(port: &str, ip: &str, host: &str) -> (String, String, String) {
        (port.into(), ip.into(), host.into())
    }

    #[test]
    fn every_notation_of_publishing() {
        for (spec, expected) in [
            ("80", vec![row("80/tcp", "", "")]),
            ("8080:80", vec![row("80/tcp", "", "8080")]),
            ("8080:80/udp", vec![row("80/udp", "", "8080")]),
            (
                "127.0.0.1:8080:80",
                vec![row("80/tcp", "127.0.0.1", "8080")],
            ),
            ("127.0.0.1::80", vec![row("80/tcp", "127.0.0.1", "")]),
            ("[::1]:8080:80", vec![row("80/tcp", "::1", "8080")]),
            (
                "9000-9001:80-81",
                vec![row("80/tcp", "", "9000"), row("81/tcp", "", "9001")],
            ),
            ("9000-9001:80", vec![row("80/tcp", "", "9000-9001")]),
            (
                "published=1,target=2,protocol=udp",
                vec![row("2/udp", "", "1")],
            ),
        ] {
            assert_eq!(one(spec), expected, "{spec}");
        }
    }

    #[test]
    fn mistakes_are_told_in_dockers_words() {
        for (spec, error) in [
            ("x", "invalid containerPort: x"),
            ("x:80", "invalid hostPort: x"),
            ("a:1:80", "invalid IP address: a"),
            ("1:", "no port specified: 1:<empty>"),
            ("80/x", "invalid proto: x"),
            (
                "1-2:3-5",
                "invalid ranges specified for container and host Ports: 3-5 and 1-2",
            ),
        ] {
            assert_eq!(parse_spec(spec).unwrap_err(), error, "{spec}");
        }
        assert!(parse(&[], &["1:2".into()]).is_err());
        assert_eq!(
            parse(&[], &["1-2/udp".into()]).unwrap().exposed,
            ["1/udp", "2/udp"]
        );
    }
}
