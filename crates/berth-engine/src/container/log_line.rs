//! One line of a `json-file` log.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use berth_spec::docker::{Frame, StreamKind};
use jiff::Timestamp;
use serde::Deserialize;

use super::LogOptions;

/// Bytes of a time and of a stream's name in a line of ours.
const TIME_MAX: usize = 40;
const STREAM_MAX: usize = 8;
/// Bytes of one line of the file; a longer one is not ours.
pub(super) const LINE_MAX: usize = 1 << 20;

/// What a line says.
#[derive(Debug, Deserialize)]
pub(super) struct LogLine<'l> {
    #[serde(default, borrow)]
    log: Cow<'l, str>,
    #[serde(default, borrow)]
    stream: Cow<'l, str>,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
    /// Read only where it is asked for: most readers want everything.
    #[serde(borrow)]
    time: Cow<'l, str>,
}

impl<'l> LogLine<'l> {
    /// Reads a line; nothing where it is none (torn by the end of the power, say).
    pub fn parse(line: &'l [u8]) -> Option<Self> {
        Self::parse_own(line).or_else(|| serde_json::from_slice(line).ok())
    }

    /// A line as the shim writes it, with no escape but the newline at the end of its text. Any
    /// other is read by the general parser.
    fn parse_own(line: &'l [u8]) -> Option<Self> {
        let rest = line.strip_suffix(b"\"}\n")?.strip_prefix(b"{\"log\":\"")?;
        // The time is the last field: it is found from the end.
        let (rest, time) = cut_last(rest, b"\",\"time\":\"", TIME_MAX)?;
        let (text, stream) = cut_last(rest, b"\",\"stream\":\"", STREAM_MAX)?;
        let (text, whole) = match text.strip_suffix(b"\\n") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let plain = |field: &[u8]| {
            field.iter().fold(true, |all, b| {
                all & (*b >= 0x20) & (*b != b'"') & (*b != b'\\')
            })
        };
        if !(plain(text) && plain(stream) && plain(time)) {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        Some(Self {
            log: match whole {
                true => Cow::Owned([text, "\n"].concat()),
                false => Cow::Borrowed(text),
            },
            stream: Cow::Borrowed(std::str::from_utf8(stream).ok()?),
            attrs: BTreeMap::new(),
            time: Cow::Borrowed(std::str::from_utf8(time).ok()?),
        })
    }

    /// When it was written, where the log says so rightly.
    fn time(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }

    /// Nanoseconds since the epoch.
    pub fn nanos(&self) -> Option<i128> {
        self.time().map(Timestamp::as_nanosecond)
    }

    /// Whether it is of a stream that is asked for, and not before `since`.
    pub fn wanted(&self, options: &LogOptions) -> bool {
        let stream = match &*self.stream {
            "stderr" => options.stderr,
            _ => options.stdout,
        };
        stream
            && options
                .since
                .is_none_or(|since| self.nanos().is_some_and(|at| at >= i128::from(since)))
    }

    /// Whether it is after `until`.
    pub fn late(&self, options: &LogOptions) -> bool {
        options
            .until
            .is_some_and(|until| self.nanos().is_some_and(|at| at > i128::from(until)))
    }

    /// The line as it is sent: in a frame, unless the container has a terminal.
    pub fn encode(&self, options: &LogOptions, tty: bool, out: &mut Vec<u8>) {
        let mut head = String::new();
        if options.timestamps {
            // Docker writes nine digits, always.
            head.push_str(&format!("{:.9} ", self.time().unwrap_or_default()));
        }
        if options.details {
            let pair = |(k, v): (&String, &String)| format!("{}={}", escape(k), escape(v));
            let pairs: Vec<String> = self.attrs.iter().map(pair).collect();
            head.push_str(&pairs.join(","));
            head.push(' ');
        }
        if !tty {
            let kind = match &*self.stream {
                "stderr" => StreamKind::Stderr,
                _ => StreamKind::Stdout,
            };
            let length = u32::try_from(head.len() + self.log.len()).unwrap_or(u32::MAX);
            out.extend_from_slice(&Frame { kind, length }.encode());
        }
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(self.log.as_bytes());
    }
}

/// A word as Go's `url.QueryEscape` writes it: a value cannot end the list that it stands in.
fn escape(word: &str) -> String {
    word.bytes().fold(String::new(), |mut out, b| {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(b));
            }
            b' ' => out.push('+'),
            // Writing to a string does not fail.
            b => drop(write!(out, "%{b:02X}")),
        }
        out
    })
}

/// What stands before and after the last `mark` in `bytes`, if no more than `most` bytes follow it.
fn cut_last<'b>(bytes: &'b [u8], mark: &[u8], most: usize) -> Option<(&'b [u8], &'b [u8])> {
    let start = bytes.len().saturating_sub(most + mark.len());
    let at = bytes[start..]
        .windows(mark.len())
        .rposition(|w| w == mark)?;
    let at = start + at;
    Some((&bytes[..at], &bytes[at + mark.len()..]))
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

    #[test]
    fn the_short_way_reads_what_the_general_one_reads() {
        let time = r#""time":"2024-01-02T03:04:05.678901234Z"}"#;
        for (log, stream, short) in [
            (r"hi\n", "stdout", true),
            ("no end", "stderr", true),
            ("", "stdout", true),
            ("\u{e4}\\n", "stdout", true),
            (r"tab\tbed\n", "stdout", false),
            (r#"\",\"stream\":\"stderr\n"#, "stdout", false),
            (r"back\\n", "stdout", false),
        ] {
            let text = format!("{{\"log\":\"{log}\",\"stream\":\"{stream}\",{time}\n");
            let general: LogLine<'_> = serde_json::from_str(&text).unwrap();
            let own = LogLine::parse_own(text.as_bytes());
            assert_eq!(own.is_some(), short, "{text}");
            let read = LogLine::parse(text.as_bytes()).unwrap();
            assert_eq!(
                (&read.log, &read.stream, read.nanos()),
                (&general.log, &general.stream, general.nanos())
            );
        }
        // What has more fields, or ends early, goes the general way.
        let more =
            r#"{"log":"a\n","stream":"stdout","attrs":{"k":"v"},"time":"2024-01-02T03:04:05Z"}"#;
        assert_eq!(LogLine::parse(more.as_bytes()).unwrap().attrs["k"], "v");
        assert!(LogLine::parse(b"{\"log\":\"a\",\"stream\":\"stdout\"}\n").is_none());
    }
}
