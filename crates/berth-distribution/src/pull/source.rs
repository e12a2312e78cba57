//! What a fetch delivers, as a blocking reader that keeps the blob on the way.

use std::io::{self, Read, Write};

use berth_store::Ingest;
use bytes::Bytes;
use tokio::sync::mpsc;

/// Reads chunks as they arrive and writes each of them to the blob that is being taken in.
pub(crate) struct Source {
    /// What an earlier try brought, up to its end.
    before: Option<Box<dyn Read + Send>>,
    chunks: mpsc::Receiver<Bytes>,
    current: Bytes,
    blob: Ingest,
}

impl Source {
    /// Reads what `blob` has already, then `chunks`, which end when the sender goes.
    pub(crate) fn new(chunks: mpsc::Receiver<Bytes>, blob: Ingest) -> berth_store::Result<Self> {
        let before: Option<Box<dyn Read + Send>> = match blob.written() {
            0 => None,
            _ => Some(Box::new(blob.read_back()?)),
        };
        Ok(Self {
            before,
            chunks,
            current: Bytes::new(),
            blob,
        })
    }

    /// Takes in what is left (bytes behind the end of the compressed stream belong to the blob too)
    /// and verifies the blob.
    pub(crate) fn finish(mut self) -> berth_store::Result<()> {
        loop {
            match self.fill() {
                Ok(true) => self.current = Bytes::new(),
                Ok(false) => break,
                Err(e) => return Err(berth_store::Error::io("cannot take in a blob", e)),
            }
        }
        self.blob.commit().map(drop)
    }

    /// Makes `current` hold something; false at the end.
    fn fill(&mut self) -> io::Result<bool> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => {
                    self.blob.write_all(&chunk)?;
                    self.current = chunk;
                }
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(before) = &mut self.before {
            match before.read(buffer)? {
                0 => self.before = None,
                n => return Ok(n),
            }
        }
        if !self.fill()? {
            return Ok(0);
        }
        let n = self.current.len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.current.split_to(n));
        Ok(n)
    }
}
