//! The smallest client of the engine's API: one connection a call, over its Unix socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::Value;

use crate::wait::DEADLINE;

/// An engine by its socket; cheap to clone, and as good for another thread.
#[derive(Debug, Clone)]
pub struct Api(PathBuf);

/// What the engine said.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether what was asked is done, or was so before.
    pub fn ok(&self) -> bool {
        matches!(self.status, 200..=299 | 304)
    }
}

impl Api {
    /// The engine that listens at `socket`.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self(socket.into())
    }

    /// A bare connection.
    pub fn connect(&self) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(&self.0)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(stream)
    }

    /// Sends a request (JSON in the query as it is) and gives back the connection, to read the answer from.
    pub fn send(&self, method: &str, path: &str, body: &[u8]) -> io::Result<UnixStream> {
        let mut stream = self.connect()?;
        let path = escaped(path);
        let kind = match body.first() {
            None | Some(b'{') => "application/json",
            Some(_) => "application/x-tar",
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        Ok(stream)
    }

    /// One call, to the end of its answer. An error means that nobody knows whether it was done.
    pub fn call(&self, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
        let mut bytes = Vec::new();
        self.send(method, path, body)?.read_to_end(&mut bytes)?;
        let broken = || io::Error::other("the answer breaks off");
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
        let (head, body) = bytes.split_at(end.ok_or_else(broken)? + 4);
        let head = String::from_utf8_lossy(head);
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
        let field = |wanted: &str| {
            head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case(wanted).then(|| value.trim())
            })
        };
        let body = match field("content-length") {
            _ if field("transfer-encoding") == Some("chunked") => whole(body),
            Some(length) if length != body.len().to_string() => None,
            _ => Some(body.to_vec()),
        };
        Ok(Answer {
            status: status.ok_or_else(broken)?,
            body: body.ok_or_else(broken)?,
        })
    }

    /// `GET path`, which must be answered well; the answer as JSON.
    pub fn get(&self, path: &str) -> Value {
        self.must("GET", path, "")
    }

    /// `POST path`, which must be answered well; the answer as JSON.
    pub fn post(&self, path: &str, body: &str) -> Value {
        self.must("POST", path, body)
    }

    fn must(&self, method: &str, path: &str, body: &str) -> Value {
        let answer = self
            .call(method, path, body.as_bytes())
            .unwrap_or_else(|e| panic!("{method} {path}: {e}"));
        assert!(
            answer.ok(),
            "{method} {path}: {} {}",
            answer.status,
            answer.text()
        );
        answer.json()
    }
}

/// Takes the chunks of a body apart, which must be there to the last.
fn whole(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = chunks.windows(2).position(|w| w == b"\r\n")?;
        let size = std::str::from_utf8(&chunks[..line]).ok()?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        chunks = &chunks[line + 2..];
        body.extend_from_slice(chunks.get(..size)?);
        chunks = chunks.get(size + 2..)?;
    }
}

/// What may not stand in a path, as a path has it.
fn escaped(path: &str) -> String {
    path.chars()
        .map(|c| match c {
            '{' | '}' | '[' | ']' | '"' | ' ' => format!("%{:02X}", c as u32),
            c => c.to_string(),
        })
        .collect()
}
