//! A bounded pipe between a thread that writes a stream and one that reads it.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

const CHUNK: usize = 256 << 10;
/// Chunks under way.
const QUEUE: usize = 4;

/// The two ends of a new pipe.
pub(crate) fn pipe() -> (PipeWriter, PipeReader) {
    let (sender, receiver) = sync_channel(QUEUE);
    let writer = PipeWriter {
        sender,
        chunk: Vec::with_capacity(CHUNK),
    };
    let reader = PipeReader {
        receiver,
        chunk: Vec::new(),
        at: 0,
        ended: false,
    };
    (writer, reader)
}

/// The end that is written to. Say [`PipeWriter::finish`] when all is written: a writer that just
/// goes is an error to the reader, so that half a stream is never taken for a whole one.
pub(crate) struct PipeWriter {
    sender: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
}

impl PipeWriter {
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if !self.chunk.is_empty() {
            self.send()?;
        }
        // An empty chunk is the end.
        self.send()
    }

    fn send(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.sender
            .send(chunk)
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..n]);
        if self.chunk.len() == CHUNK {
            self.send()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The end that is read from.
pub(crate) struct PipeReader {
    receiver: Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Read for PipeReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            if self.ended {
                return Ok(0);
            }
            self.chunk = self
                .receiver
                .recv()
                .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            self.at = 0;
            self.ended = self.chunk.is_empty();
        }
        let n = out.len().min(self.chunk.len() - self.at);
        out[..n].copy_from_slice(&self.chunk[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let (mut writer, mut reader) = pipe();
        let data: Vec<u8> = (0..3 * CHUNK + 17).map(|n| n as u8).collect();
        std::thread::scope(|scope| {
            let data = &data;
            scope.spawn(move || {
                writer.write_all(data).unwrap();
                writer.finish().unwrap();
            });
            let mut out = Vec::new();
            reader.read_to_end(&mut out).unwrap();
            assert!(out == *data);
        });
    }

    #[test]
    fn half_a_stream_is_an_error() {
        let (mut writer, mut reader) = pipe();
        writer.write_all(b"half").unwrap();
        drop(writer);
        assert!(reader.read_to_end(&mut Vec::new()).is_err());
        let (mut writer, reader) = pipe();
        drop(reader);
        assert!(writer.write_all(&vec![0; CHUNK]).is_err());
    }
}
