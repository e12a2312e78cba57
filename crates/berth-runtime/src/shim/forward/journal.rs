//! The journal's native protocol (systemd's docs/JOURNAL_NATIVE_PROTOCOL.md): fields by name, one datagram
//! an entry.

use std::collections::BTreeMap;

use super::Line;
use crate::shim::log::Stream;

/// syslog's severities (RFC 5424, 6.2.1): error for standard error, information for the rest.
pub(super) fn severity(stream: Stream) -> u8 {
    match stream {
        Stream::Stdout => 6,
        Stream::Stderr => 3,
    }
}

/// An entry.
pub(super) fn message(fields: &BTreeMap<String, String>, line: Line<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.text.len() + 512);
    field(&mut out, "MESSAGE", line.text);
    let severity = severity(line.stream).to_string();
    field(&mut out, "PRIORITY", severity.as_bytes());
    let time = line.at.to_string();
    field(&mut out, "SYSLOG_TIMESTAMP", time.as_bytes());
    if line.partial {
        field(&mut out, "CONTAINER_PARTIAL_MESSAGE", b"true");
    }
    for (name, value) in fields {
        field(&mut out, name, value.as_bytes());
    }
    out
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_with_newlines_have_a_length() {
        let fields = BTreeMap::from([("NOTE".to_owned(), "a\nb".to_owned())]);
        let line = Line {
            stream: Stream::Stderr,
            text: b"hi",
            partial: true,
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        assert_eq!(
            message(&fields, line),
            b"MESSAGE=hi\nPRIORITY=3\nSYSLOG_TIMESTAMP=1970-01-01T00:00:00Z\nCONTAINER_PARTIAL_MESSAGE=true\nNOTE\n\x03\0\0\0\0\0\0\0a\nb\n"
        );
    }
}
