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

    /// Sends a request and gives back the connection, to read the answer from.
    pub fn send(&self, method: &str, path: &str, body: &[u8]) -> io::Result<UnixStream> {
        let mut stream = self.connect()?;
        let kind = match body.first() {
            None | Some(b'{') => "application/json",
            Some(_) => "application/x-tar",
        };
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
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
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let length = name.eq_ignore_ascii_case("content-length");
            length.then(|| value.trim().parse::<usize>().ok())?
        });
        if length.is_some_and(|length| length != body.len()) {
            return Err(broken());
        }
        Ok(Answer {
            status: status.ok_or_else(broken)?,
            body: body.to_vec(),
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
