//! The lines of a `json-file` log, read back: what the shim writes becomes what a client of the engine gets.
//!
//! It stands beside the writer since the two are one format, and since millions of lines go through here at once.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use berth_spec::docker::{Frame, StreamKind};
use jiff::Timestamp;
use serde::Deserialize;

use crate::words;

/// Bytes of one line of the file; a longer one is not ours.
pub const LINE_MAX: usize = 1 << 20;

/// Which lines are asked for, and how they are to look.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Nothing before; nanoseconds since the epoch.
    pub since: Option<i64>,
    /// Nothing after; nanoseconds since the epoch.
    pub until: Option<i64>,
    /// Each line begins with its time.
    pub timestamps: bool,
    /// Each line begins with the log's extra attributes.
    pub details: bool,
    /// Lines as they are, for a container with a terminal; each in a frame otherwise.
    pub raw: bool,
}

/// How far [`Wanted::pass`] has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Bytes of the whole lines that were looked at.
    pub used: usize,
    /// A line after `until` was met: nothing that is wanted follows.
    pub over: bool,
}

impl Wanted {
    /// Appends to `out` what is wanted of the whole lines in `block`.
    pub fn pass(&self, block: &[u8], out: &mut Vec<u8>) -> Passed {
        let mut used = 0;
        while let Some(at) = words::newline(&block[used..]) {
            let line = &block[used..=used + at];
            used += line.len();
            let Some(line) = LogLine::parse(line) else {
                continue;
            };
            if line.late(self) {
                return Passed { used, over: true };
            }
            if line.wanted(self) {
                line.encode(self, out);
            }
        }
        Passed { used, over: false }
    }
}

/// What a line says.
#[derive(Debug, Deserialize)]
pub struct LogLine<'l> {
    #[serde(default, borrow)]
    log: Cow<'l, str>,
    /// The text has a newline at its end that is not in `log`.
    #[serde(skip)]
    ended: bool,
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

    /// A line as the shim writes it, with no escape but the newline at the end of its text, and no
    /// attributes. Any other is read by the general parser.
    fn parse_own(line: &'l [u8]) -> Option<Self> {
        let rest = line.strip_suffix(b"\"}\n")?.strip_prefix(b"{\"log\":\"")?;
        // The time is the last field, with no quote in it: it is found from the end.
        let quote = rest.iter().rposition(|b| *b == b'"')?;
        let time = &rest[quote + 1..];
        let rest = rest[..=quote].strip_suffix(b",\"time\":\"")?;
        let (text, stream) = if let Some(text) = rest.strip_suffix(br#"","stream":"stdout""#) {
            (text, "stdout")
        } else {
            (rest.strip_suffix(br#"","stream":"stderr""#)?, "stderr")
        };
        let (text, ended) = match text.strip_suffix(b"\\n") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let plain = |field| {
            words::none(field, |word| {
                words::control(word) | words::equal(word, b'"') | words::equal(word, b'\\')
            })
        };
        if !(plain(text) && plain(time)) {
            return None;
        }
        Some(Self {
            log: Cow::Borrowed(std::str::from_utf8(text).ok()?),
            ended,
            stream: Cow::Borrowed(stream),
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
    pub fn wanted(&self, wanted: &Wanted) -> bool {
        let stream = match &*self.stream {
            "stderr" => wanted.stderr,
            _ => wanted.stdout,
        };
        stream
            && wanted
                .since
                .is_none_or(|since| self.nanos().is_some_and(|at| at >= i128::from(since)))
    }

    /// Whether it is after `until`.
    pub fn late(&self, wanted: &Wanted) -> bool {
        wanted
            .until
            .is_some_and(|until| self.nanos().is_some_and(|at| at > i128::from(until)))
    }

    /// The line as it is sent.
    fn encode(&self, wanted: &Wanted, out: &mut Vec<u8>) {
        let head = match wanted.timestamps || wanted.details {
            true => self.head(wanted),
            // Most lines.
            false => String::new(),
        };
        if !wanted.raw {
            let kind = match &*self.stream {
                "stderr" => StreamKind::Stderr,
                _ => StreamKind::Stdout,
            };
            let length = head.len() + self.log.len() + usize::from(self.ended);
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            out.extend_from_slice(&Frame { kind, length }.encode());
        }
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(self.log.as_bytes());
        if self.ended {
            out.push(b'\n');
        }
    }

    fn head(&self, wanted: &Wanted) -> String {
        let mut head = String::new();
        if wanted.timestamps {
            // Docker writes nine digits, always. Writing to a string does not fail.
            let _ = write!(head, "{:.9} ", self.time().unwrap_or_default());
        }
        if wanted.details {
            let pair = |(k, v): (&String, &String)| format!("{}={}", escape(k), escape(v));
            let pairs: Vec<String> = self.attrs.iter().map(pair).collect();
            head.push_str(&pairs.join(","));
            head.push(' ');
        }
        head
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

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> Wanted {
        Wanted {
            stdout: true,
            stderr: true,
            ..Wanted::default()
        }
    }

    #[test]
    fn lines_become_frames() {
        let line = br#"{"log":"hi\n","stream":"stderr","time":"2024-01-02T03:04:05.6Z"}"#;
        let line = LogLine::parse(line).unwrap();
        let wanted = Wanted {
            stderr: true,
            timestamps: true,
            ..Wanted::default()
        };
        assert!(line.wanted(&wanted));
        let mut out = Vec::new();
        line.encode(&wanted, &mut out);
        assert_eq!(&out[..8], [2, 0, 0, 0, 0, 0, 0, 34]);
        assert_eq!(&out[8..], b"2024-01-02T03:04:05.600000000Z hi\n");
        let mut raw = Vec::new();
        let as_is = Wanted {
            raw: true,
            ..both()
        };
        line.encode(&as_is, &mut raw);
        assert_eq!(raw, b"hi\n");
        assert!(!line.wanted(&Wanted {
            stdout: true,
            ..Wanted::default()
        }));
        assert!(LogLine::parse(b"{\"log\":\"torn").is_none());
    }

    #[test]
    fn a_block_is_passed_line_by_line_up_to_its_last_end() {
        let line = |text: &str, second: u32| {
            format!(
                "{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"2024-01-02T03:04:{second:02}Z\"}}\n"
            )
        };
        let whole = line("one", 1) + "{torn\n" + &line("tab\\t", 2) + &line("three", 3);
        let block = whole.clone() + "{\"log\":\"fo";
        let raw = |until: Option<&str>| {
            let until = until.map(|t| t.parse::<Timestamp>().unwrap().as_nanosecond() as i64);
            let wanted = Wanted {
                raw: true,
                until,
                ..both()
            };
            let mut out = Vec::new();
            let passed = wanted.pass(block.as_bytes(), &mut out);
            (String::from_utf8(out).unwrap(), passed)
        };
        let (text, passed) = raw(None);
        assert_eq!(text, "one\ntab\t\nthree\n");
        assert_eq!((passed.used, passed.over), (whole.len(), false));
        let (text, passed) = raw(Some("2024-01-02T03:04:02Z"));
        assert_eq!((text.as_str(), passed.over), ("one\ntab\t\n", true));
        let mut framed = Vec::new();
        both().pass(line("ab", 1).as_bytes(), &mut framed);
        assert_eq!(framed, b"\x01\0\0\0\0\0\0\x03ab\n");
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
            ("another", "std", false),
        ] {
            let text = format!("{{\"log\":\"{log}\",\"stream\":\"{stream}\",{time}\n");
            let general: LogLine<'_> = serde_json::from_str(&text).unwrap();
            let own = LogLine::parse_own(text.as_bytes());
            assert_eq!(own.is_some(), short, "{text}");
            let read = LogLine::parse(text.as_bytes()).unwrap();
            let encoded = |line: &LogLine<'_>| {
                let mut out = Vec::new();
                line.encode(&both(), &mut out);
                out
            };
            assert_eq!(
                (encoded(&read), &read.stream, read.nanos()),
                (encoded(&general), &general.stream, general.nanos())
            );
        }
        // What has more fields, or ends early, goes the general way.
        let more =
            r#"{"log":"a\n","stream":"stdout","attrs":{"k":"v"},"time":"2024-01-02T03:04:05Z"}"#;
        assert_eq!(LogLine::parse(more.as_bytes()).unwrap().attrs["k"], "v");
        assert!(LogLine::parse(b"{\"log\":\"a\",\"stream\":\"stdout\"}\n").is_none());
    }
}
