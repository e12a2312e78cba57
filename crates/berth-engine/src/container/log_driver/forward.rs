//! Receivers of output: syslog servers and the journal.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_runtime::task::{ForwardTarget, SyslogAddress, SyslogFormat};
use berth_spec::docker::config::LogConfig;

use super::{attributes, option, tag};
use crate::container::record::Record;
use crate::{Error, Result};

/// Options of the syslog driver, beside those of all.
pub(super) const SYSLOG: [&str; 7] = [
    "syslog-address",
    "syslog-facility",
    "syslog-format",
    "syslog-tls-ca-cert",
    "syslog-tls-cert",
    "syslog-tls-key",
    "syslog-tls-skip-verify",
];

/// Where a machine's own syslog server listens.
const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];
/// The journal's socket.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// Docker's tag where nothing is said.
const TAG: &str = "{{.ID}}";
/// How long a server may take to answer at a container's start.
const ANSWER: Duration = Duration::from_secs(5);

/// syslog's facilities in the order of their numbers (RFC 5424, 6.2.1); those without a name cannot be
/// asked for by one.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];

/// An address as it is written.
#[derive(Debug, PartialEq, Eq)]
enum Address<'a> {
    Local,
    Unix(&'a Path),
    /// With its port.
    Udp(String),
    Tcp(String),
}

fn address(log: &LogConfig) -> Result<Address<'_>> {
    let text = option(log, "syslog-address").unwrap_or_default();
    if text.is_empty() {
        return Ok(Address::Local);
    }
    let refused = || {
        Error::invalid(format!(
            "syslog-address should be in form proto://address, got {text}"
        ))
    };
    let (kind, rest) = text.split_once("://").ok_or_else(refused)?;
    let port = |rest: &str| {
        let bare = rest.trim_end_matches('/');
        let after = bare.rsplit_once(']').map_or(bare, |(_, after)| after);
        match after.contains(':') {
            true => bare.to_owned(),
            false => format!("{bare}:514"),
        }
    };
    match kind {
        _ if rest.is_empty() => Err(refused()),
        "unix" | "unixgram" => Ok(Address::Unix(Path::new(rest))),
        "udp" => Ok(Address::Udp(port(rest))),
        "tcp" => Ok(Address::Tcp(port(rest))),
        "tcp+tls" => Err(Error::invalid(
            "syslog-address: tcp+tls is not supported by this engine: let a server on this machine send on",
        )),
        _ => Err(refused()),
    }
}

fn facility(log: &LogConfig) -> Result<u8> {
    let text = match option(log, "syslog-facility") {
        None | Some("") => "daemon",
        Some(text) => text,
    };
    let by_name = FACILITIES.iter().position(|f| *f == text);
    let number = by_name.map_or_else(|| text.parse().ok(), |n| u8::try_from(n).ok());
    number
        .filter(|n| *n < 24)
        .ok_or_else(|| Error::invalid("invalid syslog facility"))
}

fn format(log: &LogConfig) -> Result<SyslogFormat> {
    match option(log, "syslog-format") {
        // Docker's default goes without the host's name, wherever it goes.
        None | Some("") => Ok(SyslogFormat::Local),
        Some("rfc3164") => Ok(SyslogFormat::Bsd),
        Some("rfc5424") => Ok(SyslogFormat::Seconds),
        Some("rfc5424micro") => Ok(SyslogFormat::Micros),
        Some(_) => Err(Error::invalid("Invalid syslog format")),
    }
}

/// Checks the options of a driver that sends.
pub(super) fn check(log: &LogConfig) -> Result<()> {
    if log.kind == "syslog" {
        address(log)?;
        facility(log)?;
        format(log)?;
    }
    Ok(())
}

/// The receiver that a record asks for; it must be there. Blocks.
pub(super) fn target(record: &Record) -> Result<ForwardTarget> {
    let log = &record.host.log_config;
    let tag = tag::render(
        option(log, "tag").filter(|t| !t.is_empty()).unwrap_or(TAG),
        record,
    )?;
    match log.kind.as_str() {
        "journald" => journal(record, &tag),
        _ => syslog(record, tag),
    }
}

fn journal(record: &Record, tag: &str) -> Result<ForwardTarget> {
    let socket = PathBuf::from(JOURNAL);
    if !socket.exists() {
        return Err(Error::invalid("journald is not enabled on this host"));
    }
    let short: String = record.id.chars().take(12).collect();
    let mut fields = attributes::of(record, attributes::journal_name)?;
    for (name, value) in [
        ("CONTAINER_ID", short.as_str()),
        ("CONTAINER_ID_FULL", &record.id),
        ("CONTAINER_NAME", &record.name),
        ("CONTAINER_TAG", tag),
        ("IMAGE_NAME", &record.config.image),
        ("SYSLOG_IDENTIFIER", tag),
    ] {
        fields.insert(name.to_owned(), value.to_owned());
    }
    Ok(ForwardTarget::Journal { socket, fields })
}

fn syslog(record: &Record, tag: String) -> Result<ForwardTarget> {
    let log = &record.host.log_config;
    let asked = address(log)?;
    Ok(ForwardTarget::Syslog {
        format: format(log)?,
        facility: facility(log)?,
        hostname: crate::container::launch::host_name(),
        address: reach(&asked)?,
        tag,
    })
}

/// Finds a server; Docker's words where it is not there.
fn reach(asked: &Address<'_>) -> Result<SyslogAddress> {
    match asked {
        Address::Local => LOCAL
            .iter()
            .map(Path::new)
            .find(|path| path.exists())
            .map(|path| SyslogAddress::Unix(path.to_owned()))
            .ok_or_else(|| Error::invalid("Unix syslog delivery error")),
        Address::Unix(path) if path.exists() => Ok(SyslogAddress::Unix((*path).to_owned())),
        Address::Unix(path) => Err(Error::invalid(format!(
            "stat {}: no such file or directory",
            path.display()
        ))),
        Address::Udp(name) => Ok(SyslogAddress::Udp(look_up("udp", name)?)),
        Address::Tcp(name) => {
            let address = look_up("tcp", name)?;
            TcpStream::connect_timeout(&address, ANSWER)
                .map_err(|e| Error::invalid(format!("dial tcp {address}: {e}")))?;
            Ok(SyslogAddress::Tcp(address))
        }
    }
}

fn look_up(kind: &str, name: &str) -> Result<SocketAddr> {
    let failed = |e: String| Error::invalid(format!("dial {kind}: lookup {name}: {e}"));
    let mut found = name.to_socket_addrs().map_err(|e| failed(e.to_string()))?;
    found
        .next()
        .ok_or_else(|| failed("no such host".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("", Address::Local),
            ("unix:///dev/log", Address::Unix(Path::new("/dev/log"))),
            ("udp://host", Address::Udp("host:514".to_owned())),
            ("tcp://1.2.3.4:99", Address::Tcp("1.2.3.4:99".to_owned())),
            ("udp://[::1]", Address::Udp("[::1]:514".to_owned())),
            ("udp://[::1]:5", Address::Udp("[::1]:5".to_owned())),
        ] {
            let mut log = LogConfig::default();
            log.config
                .insert("syslog-address".to_owned(), text.to_owned());
            assert_eq!(address(&log).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn facilities_have_names_and_numbers() {
        for (text, expected) in [
            ("", Some(3)),
            ("local7", Some(23)),
            ("7", Some(7)),
            ("24", None),
            ("x", None),
        ] {
            let mut log = LogConfig::default();
            log.config
                .insert("syslog-facility".to_owned(), text.to_owned());
            assert_eq!(facility(&log).ok(), expected, "{text}");
        }
    }
}
