//! A body of JSON lines: progress, events, statistics.

use std::io;
use std::marker::PhantomData;
use std::pin::Pin;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Longest line taken, in bytes.
const MAX_LINE: usize = 16 << 20;

/// JSON values, one a line.
pub struct Lines<T> {
    what: String,
    source: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
    buffer: BytesMut,
    /// Bytes of the buffer already known to hold no line end.
    searched: usize,
    ended: bool,
    kind: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Lines<T> {
    pub(crate) fn new(
        what: String,
        source: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
    ) -> Self {
        Lines {
            what,
            source,
            buffer: BytesMut::new(),
            searched: 0,
            ended: false,
            kind: PhantomData,
        }
    }

    /// The next value; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<T>> {
        loop {
            let Some(line) = self.line().await? else {
                return Ok(None);
            };
            if !line.trim_ascii().is_empty() {
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|e| Error::protocol(self.what.clone(), e));
            }
        }
    }

    async fn line(&mut self) -> Result<Option<BytesMut>> {
        loop {
            if let Some(at) = self.buffer[self.searched..]
                .iter()
                .position(|&b| b == b'\n')
            {
                let line = self.buffer.split_to(self.searched + at);
                self.buffer.advance(1);
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.ended {
                self.searched = 0;
                let rest = self.buffer.split();
                return Ok((!rest.is_empty()).then_some(rest));
            }
            if self.buffer.len() > MAX_LINE {
                return Err(Error::protocol(self.what.clone(), "a line is too long"));
            }
            match self.source.next().await {
                Some(chunk) => self.buffer.extend_from_slice(&chunk?),
                None => self.ended = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn values_come_however_they_are_cut() {
        let chunks = ["{\"a\"", ":1}\r\n\r\n{", "\"a\":2}\n{\"a\":3}"];
        let source = futures_util::stream::iter(chunks.map(|c| Ok(Bytes::from(c))));
        let mut lines = Lines::<serde_json::Value>::new("x".into(), Box::pin(source));
        let mut seen = Vec::new();
        while let Some(value) = lines.next().await.unwrap() {
            seen.push(value["a"].as_i64().unwrap());
        }
        assert_eq!(seen, [1, 2, 3]);
    }
}
