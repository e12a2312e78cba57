//! Reading a tar from a stream, entry by entry, with every length bounded.

use std::io::{self, Read};

use tar_core::parse::{Limits, ParseError, ParseEvent, Parser};

use super::entry::{Entry, PATH_MAX};
use crate::{Error, Result};

/// Bytes asked of the source at a time.
const CHUNK: usize = 256 << 10;
/// Bytes that one entry's headers may have together: PAX records (1 MiB) and sparse maps.
const HEADERS_MAX: usize = 3 << 20;
const BLOCK: u64 = 512;

/// A tar being read. `next` gives an entry, [`TarReader::read`] its content; what is not read is
/// passed over by the following `next`.
pub(crate) struct TarReader<R> {
    source: R,
    parser: Parser,
    buffer: Vec<u8>,
    /// The part of `buffer` not used yet.
    start: usize,
    end: usize,
    /// Where in the archive `buffer[start]` is.
    position: u64,
    /// Content of the current entry not read yet, and the padding after it.
    content: u64,
    padding: u64,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(source: R) -> Self {
        let mut parser = Parser::new(Limits {
            max_metadata_size: 1 << 20,
            max_path_len: Some(PATH_MAX as u32),
            max_pending_entries: 16,
            max_sparse_entries: 65_536,
        });
        // Values that matter are checked by `Entry`; the parser would refuse times before 1970.
        parser.set_ignore_pax_errors(true);
        Self {
            source,
            parser,
            buffer: vec![0; CHUNK],
            start: 0,
            end: 0,
            position: 0,
            content: 0,
            padding: 0,
        }
    }

    /// Where in the archive the next unread byte is; after [`TarReader::next`], where the content
    /// of the entry begins.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next entry, or `None` at the end of the archive.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        self.pass_over()?;
        loop {
            let event = self
                .parser
                .parse(&self.buffer[self.start..self.end])
                .map_err(|e| match e {
                    // What Docker says of a file that is none.
                    ParseError::Header(_) => invalid(self.position, "invalid tar header"),
                    e => invalid(self.position, &e.to_string()),
                })?;
            let (consumed, entry) = match event {
                ParseEvent::NeedData { min_bytes } => {
                    if !self.fill(min_bytes)? {
                        return self.ended_early();
                    }
                    continue;
                }
                // Defaults for all that follows; neither Docker nor containerd applies them.
                ParseEvent::GlobalExtensions { consumed, .. } => {
                    self.consume(consumed);
                    continue;
                }
                ParseEvent::End { consumed } => {
                    self.consume(consumed);
                    return Ok(None);
                }
                ParseEvent::Entry { consumed, entry } => (consumed, Entry::new(&entry, None)?),
                ParseEvent::SparseEntry {
                    consumed,
                    entry,
                    sparse_map,
                    real_size,
                } => (consumed, Entry::new(&entry, Some((sparse_map, real_size)))?),
            };
            self.consume(consumed);
            self.content = entry.stored;
            self.padding = entry.stored.next_multiple_of(BLOCK) - entry.stored;
            return Ok(Some(entry));
        }
    }

    /// Reads what follows the end of the archive, up to the end of the source.
    pub(crate) fn drain(&mut self) -> Result<()> {
        loop {
            self.consume(self.end - self.start);
            if !self.fill(1)? {
                return Ok(());
            }
        }
    }

    /// Reads content of the current entry; 0 at its end.
    pub(crate) fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        if self.content == 0 || out.is_empty() {
            return Ok(0);
        }
        if self.start == self.end && !self.fill(1)? {
            return Err(self.truncated());
        }
        let n = out
            .len()
            .min(self.end - self.start)
            .min(usize::try_from(self.content).unwrap_or(usize::MAX));
        out[..n].copy_from_slice(&self.buffer[self.start..self.start + n]);
        self.consume(n);
        self.content -= n as u64;
        Ok(n)
    }

    /// The unread content of the current entry as a reader.
    pub(crate) fn content(&mut self) -> Content<'_, R> {
        Content(self)
    }

    fn pass_over(&mut self) -> Result<()> {
        let mut left = self.content;
        self.content = 0;
        while left > 0 {
            if self.start == self.end && !self.fill(1)? {
                return Err(self.truncated());
            }
            let n = left.min((self.end - self.start) as u64);
            self.consume(n as usize);
            left -= n;
        }
        // An archive may end without the padding of its last entry.
        let padding = std::mem::take(&mut self.padding) as usize;
        let _ = self.fill(padding)?;
        self.consume(padding.min(self.end - self.start));
        Ok(())
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
        self.position += n as u64;
    }

    /// Sees to it that `wanted` bytes are in the buffer; `false` when the source ends before.
    fn fill(&mut self, wanted: usize) -> Result<bool> {
        if self.end - self.start >= wanted {
            return Ok(true);
        }
        if wanted > HEADERS_MAX {
            return Err(invalid(
                self.position,
                "the headers of an entry are too large",
            ));
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        // Doubling, since the parser starts over each time that it asks for more.
        let capacity = wanted.max(CHUNK).next_power_of_two();
        if self.buffer.len() < capacity {
            self.buffer.resize(capacity, 0);
        }
        while self.end < wanted {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(n) => self.end += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("cannot read the archive", e)),
            }
        }
        Ok(true)
    }

    /// The source ended where a header was due: fine at a block boundary, or after a lone zero block.
    fn ended_early(&mut self) -> Result<Option<Entry>> {
        let rest = &self.buffer[self.start..self.end];
        if rest.iter().all(|b| *b == 0) {
            self.consume(self.end - self.start);
            return Ok(None);
        }
        Err(self.truncated())
    }

    fn truncated(&self) -> Error {
        invalid(self.position, "unexpected EOF")
    }
}

fn invalid(position: u64, why: &str) -> Error {
    Error::invalid(format!("invalid tar at byte {position}: {why}"))
}

/// See [`TarReader::content`].
pub(crate) struct Content<'a, R>(&'a mut TarReader<R>);

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        Ok(self.0.read(out)?)
    }
}
