//! The log of a container, in the format of Docker's `json-file` driver.
//!
//! ```text
//! {"log":"one line\n","stream":"stdout","time":"2025-01-02T03:04:05.678901234Z"}
//! ```
//!
//! A line longer than 16 KiB is several entries, of which only the last ends in a newline. A file
//! that has reached its size is renamed to `<name>.1`, that to `<name>.2`, and so on.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Timestamp;
use rustix::event::PollFlags;

use super::forward::{Forwarder, Line};
use crate::task::{ForwardSpec, LogSpec};
use crate::words::{self, newline};

/// Bytes of one entry's text.
const PIECE: usize = 16 << 10;
/// Bytes of entries that are written at once. Short lines become many times longer.
const BATCH: usize = 64 << 10;

/// Which output something came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub fn index(self) -> usize {
        self as usize
    }

    /// The first byte of Docker's frames.
    pub fn frame_type(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Where output goes that is kept: a file, a receiver, or both.
#[derive(Debug)]
pub(super) struct Log {
    file: Option<LogFile>,
    forward: Option<Forwarder>,
    /// Beginnings of lines, by stream.
    pending: [Vec<u8>; 2],
}

impl Log {
    /// Opens what is asked for; an existing log goes on.
    pub fn open(spec: &LogSpec, forward: Option<&ForwardSpec>) -> io::Result<Option<Self>> {
        let file = match spec {
            LogSpec::None => None,
            LogSpec::JsonFile {
                path,
                max_size,
                max_file,
                attributes,
            } => Some(LogFile::open(path, *max_size, *max_file, attributes)?),
        };
        let forward = forward.map(|spec| Forwarder::new(spec.clone()));
        let any = file.is_some() || forward.is_some();
        Ok(any.then(|| Self {
            file,
            forward,
            pending: [Vec::new(), Vec::new()],
        }))
    }

    /// Takes output in: whole lines are written, the rest waits for its end.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let now = self.stamp(stream);
        let mut rest = bytes;
        while !rest.is_empty() {
            let pending = self.pending[stream.index()].len();
            let room = PIECE - pending;
            let newline = newline(&rest[..room.min(rest.len())]);
            let (take, whole) = match newline {
                Some(at) => (at + 1, true),
                None => (room.min(rest.len()), rest.len() >= room),
            };
            let (piece, more) = rest.split_at(take);
            rest = more;
            if !whole {
                self.pending[stream.index()].extend_from_slice(piece);
            } else if pending == 0 {
                self.entry(stream, piece, now);
            } else {
                let mut line = std::mem::take(&mut self.pending[stream.index()]);
                line.extend_from_slice(piece);
                self.entry(stream, &line, now);
                line.clear();
                self.pending[stream.index()] = line;
            }
        }
        self.flush();
    }

    /// Writes what has no end of line and will get none.
    pub fn end(&mut self, stream: Stream) {
        let line = std::mem::take(&mut self.pending[stream.index()]);
        if !line.is_empty() {
            let now = self.stamp(stream);
            self.entry(stream, &line, now);
            self.flush();
        }
    }

    /// Entries from here on are of `stream` and of now.
    fn stamp(&mut self, stream: Stream) -> Timestamp {
        let now = Timestamp::now();
        if let Some(file) = &mut self.file {
            file.stamp(stream, now);
        }
        now
    }

    fn entry(&mut self, stream: Stream, text: &[u8], at: Timestamp) {
        if let Some(file) = &mut self.file {
            file.entry(text);
        }
        if let Some(forward) = &mut self.forward {
            let whole = text.strip_suffix(b"\n");
            forward.line(Line {
                stream,
                text: whole.unwrap_or(text),
                partial: whole.is_none() && text.len() == PIECE,
                at,
            });
        }
    }

    fn flush(&mut self) {
        if let Some(file) = &mut self.file {
            file.flush();
        }
        self.forward();
    }

    /// Gives the receiver what it takes.
    pub fn forward(&mut self) {
        if let Some(forward) = &mut self.forward {
            forward.flush();
        }
    }

    /// Whether a slow receiver holds the container up.
    pub fn full(&self) -> bool {
        self.forward.as_ref().is_some_and(Forwarder::full)
    }

    /// What to wait for: the receiver, and a time.
    pub fn interest(&self) -> (Option<(BorrowedFd<'_>, PollFlags)>, Option<Instant>) {
        self.forward
            .as_ref()
            .map_or((None, None), Forwarder::interest)
    }

    /// Nothing more is forwarded.
    pub fn end_forward(&mut self) {
        if let Some(forward) = &mut self.forward {
            forward.end();
        }
    }

    /// Whether nothing waits any more.
    pub fn over(&self) -> bool {
        self.forward.as_ref().is_none_or(Forwarder::over)
    }
}

/// An open file of the log.
#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
    /// Bytes in the file.
    size: u64,
    max_size: u64,
    max_file: u32,
    /// The entries of one write, to be written at once.
    entries: Vec<u8>,
    /// `"attrs":{…},`, or nothing.
    attributes: Vec<u8>,
    /// What follows the text of every entry of one write: they were read at one time.
    tail: Vec<u8>,
}

impl LogFile {
    fn open(
        path: &Path,
        max_size: u64,
        max_file: u32,
        attributes: &BTreeMap<String, String>,
    ) -> io::Result<Self> {
        let file = open(path)?;
        let attributes = match attributes.is_empty() {
            true => Vec::new(),
            false => format!("\"attrs\":{},", serde_json::to_string(attributes)?).into_bytes(),
        };
        Ok(Self {
            path: path.to_owned(),
            size: file.metadata()?.len(),
            file,
            max_size,
            max_file,
            entries: Vec::new(),
            attributes,
            tail: Vec::new(),
        })
    }

    fn stamp(&mut self, stream: Stream, now: Timestamp) {
        self.tail.clear();
        // Writing to memory does not fail.
        let _ = write!(self.tail, r#"","stream":"{}","#, stream.name());
        self.tail.extend_from_slice(&self.attributes);
        let _ = writeln!(self.tail, r#""time":"{now}"}}"#);
    }

    fn entry(&mut self, text: &[u8]) {
        let full = self.size + self.entries.len() as u64 >= self.max_size;
        if self.max_size > 0 && full {
            self.flush();
            if self.size > 0 {
                self.rotate();
            }
        }
        self.entries.extend_from_slice(br#"{"log":""#);
        escape(&mut self.entries, text);
        self.entries.extend_from_slice(&self.tail);
        if self.entries.len() >= BATCH {
            self.flush();
        }
    }

    /// Writes entries whole or not at all: on a full disk the container goes on, and a reader finds
    /// no halves.
    fn flush(&mut self) {
        if self.entries.is_empty() {
            return;
        }
        match self.file.write_all(&self.entries) {
            Ok(()) => self.size += self.entries.len() as u64,
            Err(_) => {
                // Nothing more can be done about it than to keep what was whole.
                let _ = self.file.set_len(self.size);
            }
        }
        self.entries.clear();
    }

    fn rotate(&mut self) {
        if self.max_file < 2 {
            if self.file.set_len(0).is_ok() {
                self.size = 0;
            }
            return;
        }
        let numbered = |n: u32| match n {
            0 => self.path.clone(),
            n => {
                let mut name = self.path.clone().into_os_string();
                name.push(format!(".{n}"));
                PathBuf::from(name)
            }
        };
        for n in (1..self.max_file).rev() {
            // Those that are not there yet cannot be moved.
            let _ = std::fs::rename(numbered(n - 1), numbered(n));
        }
        // Without a new file, the renamed one goes on.
        if let Ok(file) = open(&self.path) {
            self.file = file;
            self.size = 0;
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

/// Marks bytes that do not stand for themselves in a JSON string.
fn odd(word: u64) -> u64 {
    // `<` and `>` differ in one bit.
    let angles = words::equal(word | 0x0202_0202_0202_0202, b'>');
    let quotes = words::equal(word, b'"') | words::equal(word, b'\\');
    words::wide(word) | words::control(word) | quotes | angles | words::equal(word, b'&')
}

/// Text as a JSON string, as Docker writes it: what is no UTF-8 is replaced, and what could end a
/// script in a page is escaped.
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    let (line, end) = match text {
        [line @ .., b'\n'] => (line, &b"\\n"[..]),
        line => (line, &b""[..]),
    };
    // Most lines.
    if words::none(line, odd) {
        out.extend_from_slice(line);
        out.extend_from_slice(end);
        return;
    }
    for chunk in text.utf8_chunks() {
        let mut plain = 0;
        let valid = chunk.valid();
        for (at, c) in valid.char_indices() {
            let escaped = match c {
                '"' => "\\\"".to_owned(),
                '\\' => "\\\\".to_owned(),
                '\n' => "\\n".to_owned(),
                '\r' => "\\r".to_owned(),
                '\u{2028}' | '\u{2029}' | '<' | '>' | '&' => format!("\\u{:04x}", u32::from(c)),
                c if u32::from(c) < 0x20 => format!("\\u{:04x}", u32::from(c)),
                _ => continue,
            };
            out.extend_from_slice(&valid.as_bytes()[plain..at]);
            out.extend_from_slice(escaped.as_bytes());
            plain = at + c.len_utf8();
        }
        out.extend_from_slice(&valid.as_bytes()[plain..]);
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(path: &Path) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .map(|line| {
                let entry: serde_json::Value = serde_json::from_str(line).unwrap();
                let time = entry["time"].as_str().unwrap();
                assert!(time.ends_with('Z') && time.parse::<Timestamp>().is_ok());
                let field = |name: &str| entry[name].as_str().unwrap().to_owned();
                (field("stream"), field("log"))
            })
            .collect()
    }

    fn log(dir: &Path, max_size: u64, max_file: u32) -> (PathBuf, Log) {
        let path = dir.join("c-json.log");
        let spec = LogSpec::JsonFile {
            path: path.clone(),
            max_size,
            max_file,
            attributes: BTreeMap::new(),
        };
        (path, Log::open(&spec, None).unwrap().unwrap())
    }

    #[test]
    fn lines_are_entries() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut log) = log(dir.path(), 0, 0);
        log.write(Stream::Stdout, b"a\nb");
        log.write(Stream::Stderr, b"e\n");
        log.write(Stream::Stdout, b"c\n\nrest");
        log.end(Stream::Stdout);
        log.end(Stream::Stderr);
        let found = entries(&path);
        let texts: Vec<&str> = found.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["a\n", "e\n", "bc\n", "\n", "rest"]);
        assert_eq!(found[1].0, "stderr");
    }

    #[test]
    fn long_lines_are_cut() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut log) = log(dir.path(), 0, 0);
        let mut line = vec![b'x'; 2 * PIECE + 5];
        line.push(b'\n');
        for part in line.chunks(1000) {
            log.write(Stream::Stdout, part);
        }
        let lens: Vec<usize> = entries(&path).iter().map(|(_, t)| t.len()).collect();
        assert_eq!(lens, [PIECE, PIECE, 6]);
    }

    #[test]
    fn what_is_odd_is_not_plain() {
        for b in 0..=255_u8 {
            let plain = (0x20..0x80).contains(&b) && !br#""\<>&"#.contains(&b);
            assert_eq!(words::none(&[b'x', b], odd), plain, "{b}");
        }
    }

    #[test]
    fn odd_bytes_are_escaped() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut log) = log(dir.path(), 0, 0);
        log.write(
            Stream::Stdout,
            b"\"\\\t\x1b<&>\xff\xfe\xe2\x80\xa8 \xc3\xa4\r\n",
        );
        let raw = std::fs::read_to_string(&path).unwrap();
        assert!(
            raw.starts_with(
                r#"{"log":"\"\\\u0009\u001b\u003c\u0026\u003e\ufffd\ufffd\u2028 ä\r\n","#
            ),
            "{raw}"
        );
        assert_eq!(
            entries(&path)[0].1,
            "\"\\\t\u{1b}<&>\u{fffd}\u{fffd}\u{2028} ä\r\n"
        );
    }

    #[test]
    fn files_are_rotated_and_nothing_is_lost_on_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut log) = log(dir.path(), 200, 3);
        for n in 0..9 {
            log.write(Stream::Stdout, format!("line {n}\n").as_bytes());
        }
        let numbered = |n: u32| PathBuf::from(format!("{}.{n}", path.display()));
        let all: Vec<String> = [numbered(2), numbered(1), path.clone()]
            .iter()
            .flat_map(|p| entries(p))
            .map(|(_, text)| text)
            .collect();
        assert!(!numbered(3).exists());
        assert_eq!(all.last().unwrap(), "line 8\n");
        assert_eq!(all.len(), 9);
    }

    #[test]
    fn one_file_is_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut log) = log(dir.path(), 100, 1);
        for n in 0..5 {
            log.write(Stream::Stdout, format!("line {n}\n").as_bytes());
        }
        assert!(entries(&path).len() < 3);
        assert_eq!(entries(&path).last().unwrap().1, "line 4\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_log_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path(), 0, 0).1.write(Stream::Stdout, b"one\n");
        let (path, mut log) = log(dir.path(), 0, 0);
        log.write(Stream::Stdout, b"two\n");
        assert_eq!(entries(&path).len(), 2);
    }
}
