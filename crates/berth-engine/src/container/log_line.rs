//! One line of a `json-file` log.

use std::collections::BTreeMap;

use berth_spec::docker::{Frame, StreamKind};
use jiff::Timestamp;
use serde::Deserialize;

use super::LogOptions;

/// Bytes of one line of the file; a longer one is not ours.
pub(super) const LINE_MAX: usize = 1 << 20;

/// What a line says.
#[derive(Debug, Deserialize)]
pub(super) struct LogLine {
    #[serde(default)]
    log: String,
    #[serde(default)]
    stream: String,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
    time: Timestamp,
}

impl LogLine {
    /// Reads a line; nothing where it is none (torn by the end of the power, say).
    pub fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    fn nanos(&self) -> i128 {
        self.time.as_nanosecond()
    }

    /// Whether it is of a stream that is asked for, and not before `since`.
    pub fn wanted(&self, options: &LogOptions) -> bool {
        let stream = match self.stream.as_str() {
            "stderr" => options.stderr,
            _ => options.stdout,
        };
        stream
            && options
                .since
                .is_none_or(|since| self.nanos() >= i128::from(since))
    }

    /// Whether it is after `until`.
    pub fn late(&self, options: &LogOptions) -> bool {
        options
            .until
            .is_some_and(|until| self.nanos() > i128::from(until))
    }

    /// The line as it is sent: in a frame, unless the container has a terminal.
    pub fn encode(&self, options: &LogOptions, tty: bool, out: &mut Vec<u8>) {
        let mut text = String::new();
        if options.timestamps {
            // Docker writes nine digits, always.
            text.push_str(&format!("{:.9} ", self.time));
        }
        if options.details {
            let pairs: Vec<String> = self.attrs.iter().map(|(k, v)| format!("{k}={v}")).collect();
            text.push_str(&pairs.join(","));
            text.push(' ');
        }
        text.push_str(&self.log);
        if !tty {
            let kind = match self.stream.as_str() {
                "stderr" => StreamKind::Stderr,
                _ => StreamKind::Stdout,
            };
            let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
            out.extend_from_slice(&Frame { kind, length }.encode());
        }
        out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_frames() {
        let line = br#"{"log":"hi\n","stream":"stderr","time":"2024-01-02T03:04:05.6Z"}"#;
        let line = LogLine::parse(line).unwrap();
        let options = LogOptions {
            stderr: true,
            timestamps: true,
            ..LogOptions::default()
        };
        assert!(line.wanted(&options));
        let mut out = Vec::new();
        line.encode(&options, false, &mut out);
        assert_eq!(&out[..8], [2, 0, 0, 0, 0, 0, 0, 34]);
        assert_eq!(&out[8..], b"2024-01-02T03:04:05.600000000Z hi\n");
        let mut raw = Vec::new();
        line.encode(&LogOptions::default(), true, &mut raw);
        assert_eq!(raw, b"hi\n");
        assert!(!line.wanted(&LogOptions {
            stdout: true,
            ..LogOptions::default()
        }));
        assert!(LogLine::parse(b"{\"log\":\"torn").is_none());
    }
}
