//! syslog's messages, as Docker's driver writes them (RFC 3164, RFC 5424).

use std::io::Write;

use jiff::tz::TimeZone;

use super::Line;
use super::journal::severity;
use crate::task::SyslogFormat;

/// Bytes that a table of a time zone may have.
const ZONE_MAX: usize = 64 << 10;

/// What every message of a container begins with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header<'h> {
    pub format: SyslogFormat,
    pub facility: u8,
    pub hostname: &'h str,
    pub tag: &'h str,
    pub zone: &'h TimeZone,
}

impl Header<'_> {
    /// A message, with the newline that ends it in a stream.
    pub fn message(&self, line: Line<'_>) -> Vec<u8> {
        let priority = self.facility * 8 + severity(line.stream);
        let pid = rustix::process::getpid().as_raw_pid();
        let at = line.at.to_zoned_datetime(self.zone.clone());
        let (host, tag) = (self.hostname, self.tag);
        let mut out = Vec::with_capacity(line.text.len() + 128);
        // Writing to memory does not fail.
        let _ = match self.format {
            SyslogFormat::Local => {
                let time = at.strftime("%b %e %H:%M:%S");
                write!(out, "<{priority}>{time} {tag}[{pid}]: ")
            }
            SyslogFormat::Bsd => {
                let time = at.strftime("%b %e %H:%M:%S");
                write!(out, "<{priority}>{time} {host} {tag}[{pid}]: ")
            }
            SyslogFormat::Seconds => {
                let time = zulu(&at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string());
                write!(out, "<{priority}>1 {time} {host} {tag} {pid} {tag} - ")
            }
            SyslogFormat::Micros => {
                let time = zulu(&at.strftime("%Y-%m-%dT%H:%M:%S.%6f%:z").to_string());
                write!(out, "<{priority}>1 {time} {host} {tag} {pid} {tag} - ")
            }
        };
        out.extend_from_slice(line.text);
        out.push(b'\n');
        out
    }
}

/// Universal time by its letter, as Go writes it.
fn zulu(time: &str) -> String {
    match time.strip_suffix("+00:00") {
        Some(bare) => format!("{bare}Z"),
        None => time.to_owned(),
    }
}

/// The zone that this machine's clock is read in.
pub(super) fn local_zone() -> TimeZone {
    std::fs::read("/etc/localtime")
        .ok()
        .filter(|table| table.len() <= ZONE_MAX)
        .and_then(|table| TimeZone::tzif("local", &table).ok())
        .unwrap_or(TimeZone::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shim::log::Stream;

    #[test]
    fn formats() {
        let pid = std::process::id();
        for (format, stream, expected) in [
            (
                SyslogFormat::Local,
                Stream::Stdout,
                format!("<30>Jan  2 03:04:05 t[{pid}]: hi\n"),
            ),
            (
                SyslogFormat::Bsd,
                Stream::Stderr,
                format!("<27>Jan  2 03:04:05 h t[{pid}]: hi\n"),
            ),
            (
                SyslogFormat::Seconds,
                Stream::Stdout,
                format!("<30>1 2024-01-02T03:04:05Z h t {pid} t - hi\n"),
            ),
            (
                SyslogFormat::Micros,
                Stream::Stdout,
                format!("<30>1 2024-01-02T03:04:05.678901Z h t {pid} t - hi\n"),
            ),
        ] {
            let header = Header {
                format,
                facility: 3,
                hostname: "h",
                tag: "t",
                zone: &TimeZone::UTC,
            };
            let message = header.message(Line {
                stream,
                text: b"hi",
                partial: false,
                at: "2024-01-02T03:04:05.678901234Z".parse().unwrap(),
            });
            assert_eq!(String::from_utf8(message).unwrap(), expected);
        }
    }
}
