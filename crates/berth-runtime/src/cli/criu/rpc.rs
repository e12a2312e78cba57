//! What is said to `criu swrk` and heard from it: protocol buffers of its `rpc.proto`, the few
//! messages that are needed.

use crate::error::{Error, Result};

/// `criu_req_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Dump = 1,
    Restore = 2,
    PreDump = 4,
    Notify = 6,
    FeatureCheck = 9,
    Version = 10,
}

/// A message under construction.
#[derive(Debug, Default, Clone)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub fn number(&mut self, field: u32, value: u64) -> &mut Self {
        self.varint(u64::from(field) << 3);
        self.varint(value);
        self
    }

    /// A switch that is told where it is on.
    pub fn switch(&mut self, field: u32, on: bool) -> &mut Self {
        match on {
            true => self.number(field, 1),
            false => self,
        }
    }

    pub fn text(&mut self, field: u32, value: &str) -> &mut Self {
        self.bytes(field, value.as_bytes())
    }

    pub fn message(&mut self, field: u32, value: &Message) -> &mut Self {
        self.bytes(field, &value.0)
    }

    /// Two texts in a message of their own.
    pub fn pair(&mut self, field: u32, first: &str, second: &str) -> &mut Self {
        let mut pair = Message::default();
        pair.text(1, first).text(2, second);
        self.message(field, &pair)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn bytes(&mut self, field: u32, value: &[u8]) -> &mut Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A request (`criu_req`).
pub(super) fn request(kind: Kind, options: Option<&Message>) -> Message {
    let mut request = Message::default();
    request.number(1, kind as u64);
    if let Some(options) = options {
        request.message(2, options);
    }
    request
}

/// The word that a notification was taken.
pub(super) fn noticed() -> Message {
    let mut request = request(Kind::Notify, None);
    request.switch(3, true);
    request
}

/// An answer (`criu_resp`), as far as it is looked at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub kind: u64,
    pub success: bool,
    pub errno: u64,
    pub message: String,
    /// At what point of its work it is, and with which process.
    pub script: String,
    pub pid: i32,
    /// As 31701 for 3.17.1.
    pub version: u64,
    pub tracks_memory: bool,
    pub lazy_pages: bool,
}

/// Reads an answer.
pub(super) fn answer(bytes: &[u8]) -> Result<Answer> {
    let mut answer = Answer::default();
    for field in fields(bytes)? {
        match field {
            (1, Value::Number(n)) => answer.kind = n,
            (2, Value::Number(n)) => answer.success = n != 0,
            (4, Value::Bytes(restored)) => {
                for field in fields(restored)? {
                    if let (1, Value::Number(n)) = field {
                        answer.pid = n as i32;
                    }
                }
            }
            (5, Value::Bytes(notify)) => {
                for field in fields(notify)? {
                    match field {
                        (1, Value::Bytes(text)) => answer.script = lossy(text),
                        (2, Value::Number(n)) => answer.pid = n as i32,
                        _ => {}
                    }
                }
            }
            (7, Value::Number(n)) => answer.errno = n,
            (8, Value::Bytes(features)) => {
                for field in fields(features)? {
                    match field {
                        (1, Value::Number(n)) => answer.tracks_memory = n != 0,
                        (2, Value::Number(n)) => answer.lazy_pages = n != 0,
                        _ => {}
                    }
                }
            }
            (9, Value::Bytes(text)) => answer.message = lossy(text),
            (10, Value::Bytes(version)) => answer.version = version_of(version)?,
            _ => {}
        }
    }
    Ok(answer)
}

fn version_of(bytes: &[u8]) -> Result<u64> {
    let mut version = 0;
    for field in fields(bytes)? {
        version += match field {
            (1, Value::Number(n)) => n.saturating_mul(10_000),
            (2, Value::Number(n)) => n.saturating_mul(100),
            (4, Value::Number(n)) => n,
            _ => 0,
        };
    }
    Ok(version)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn fields(mut bytes: &[u8]) -> Result<Vec<(u64, Value<'_>)>> {
    let broken = || Error::internal("criu: its answer cannot be read");
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes).ok_or_else(broken)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut bytes).ok_or_else(broken)?),
            2 => {
                let len = varint(&mut bytes).ok_or_else(broken)?;
                let len = usize::try_from(len).map_err(|_| broken())?;
                let (value, rest) = bytes.split_at_checked(len).ok_or_else(broken)?;
                bytes = rest;
                Value::Bytes(value)
            }
            _ => return Err(broken()),
        };
        found.push((tag >> 3, value));
    }
    Ok(found)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_protocol_buffers() {
        let mut options = Message::default();
        options.number(1, 300).switch(3, false).text(10, "a.log");
        let request = request(Kind::Dump, Some(&options));
        let expected = [
            8, 1, 18, 10, 8, 0xac, 2, 0x52, 5, b'a', b'.', b'l', b'o', b'g',
        ];
        assert_eq!(request.as_bytes(), expected);
        assert_eq!(noticed().as_bytes(), [8, 6, 24, 1]);
    }

    #[test]
    fn answers_are_read() {
        let mut notify = Message::default();
        notify.text(1, "post-restore").number(2, 4711);
        let mut version = Message::default();
        version.number(1, 3).number(2, 17).number(4, 1);
        let mut text = Message::default();
        text.number(1, 6).number(2, 1).message(5, &notify);
        text.message(10, &version).number(99, 5);
        let read = answer(text.as_bytes()).unwrap();
        assert!(read.success);
        assert_eq!((read.script.as_str(), read.pid), ("post-restore", 4711));
        assert_eq!(read.version, 31_701);
        for broken in [&[8][..], &[18, 200, 1], &[13, 0, 0, 0, 0], &[0xff; 12]] {
            assert!(answer(broken).is_err(), "{broken:?}");
        }
    }
}
