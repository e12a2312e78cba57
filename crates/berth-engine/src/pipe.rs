//! Bytes between a thread that blocks and the executor: bounded in both directions.

use std::io::{self, Read, Write};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{ByteStream, Error, Result};

/// Pieces that a slow reader may be behind.
const QUEUE: usize = 8;
/// Bytes of a piece.
const PIECE: usize = 64 << 10;

/// What is written here is read by somebody else. An error ends the stream.
pub(crate) struct PipeWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: BytesMut,
}

impl PipeWriter {
    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = self.piece.split().freeze();
        self.sender
            .blocking_send(Ok(piece))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

/// A stream of what `work` writes, on a thread that may block. Its error ends the stream.
pub(crate) fn produce<E: Into<Error>>(
    work: impl FnOnce(&mut PipeWriter) -> Result<(), E> + Send + 'static,
) -> ByteStream {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::task::spawn_blocking(move || {
        let mut writer = PipeWriter {
            sender,
            piece: BytesMut::with_capacity(PIECE),
        };
        let done = work(&mut writer).map_err(Into::into);
        let ended = done.and_then(|()| writer.send().map_err(|e| Error::io("the reader left", e)));
        if let Err(error) = ended {
            // Nobody hears it if the reader has left.
            let _ = writer.sender.blocking_send(Err(io::Error::other(error)));
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

/// A reader that blocks, over one that does not. Only for a thread that may block.
pub(crate) fn blocking_reader(
    source: impl AsyncRead + Send + Unpin + 'static,
) -> impl Read + Send + 'static {
    BlockingReader {
        source,
        executor: Handle::current(),
    }
}

struct BlockingReader<R> {
    source: R,
    executor: Handle,
}

impl<R: AsyncRead + Unpin> Read for BlockingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.executor.block_on(self.source.read(buffer))
    }
}
