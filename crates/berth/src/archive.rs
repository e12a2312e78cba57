//! Archives made here while they are sent: a thread writes, the connection reads.

use std::io::{self, Read, Write};

use berth_client::Body;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Pieces that wait to be sent.
const QUEUE: usize = 4;
/// Size of a piece, in bytes.
const PIECE: usize = 64 << 10;

type Piece = io::Result<Bytes>;

/// A body that `write` writes, on a thread of its own.
pub fn body(write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) -> Body {
    let (sender, receiver) = mpsc::channel::<Piece>(QUEUE);
    std::thread::spawn(move || {
        let mut out = Sender {
            sender: sender.clone(),
            piece: Vec::with_capacity(PIECE),
        };
        let written = write(&mut out).and_then(|()| out.flush());
        if let Err(e) = written {
            // Nobody reads any more: the request has failed for a reason of its own.
            let _ = sender.blocking_send(Err(e));
        }
    });
    Body::Stream(Box::pin(ReceiverStream::new(receiver)))
}

/// A body that is what comes on standard input.
pub fn stdin() -> Body {
    body(|out| io::copy(&mut io::stdin().lock(), out).map(drop))
}

/// Lets `read` read, on a thread of its own, what comes from `source`.
pub async fn consume<T: Send + 'static>(
    mut source: impl AsyncRead + Unpin,
    read: impl FnOnce(&mut dyn Read) -> T + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = mpsc::channel::<Piece>(QUEUE);
    let reading = tokio::task::spawn_blocking(move || {
        read(&mut Receiver {
            receiver,
            piece: Bytes::new(),
        })
    });
    loop {
        let mut piece = vec![0; PIECE];
        let piece = match source.read(&mut piece).await {
            Ok(0) => break,
            Ok(length) => {
                piece.truncate(length);
                Ok(piece.into())
            }
            Err(e) => Err(e),
        };
        let failed = piece.is_err();
        // A reader that has what it wanted reads no further.
        if sender.send(piece).await.is_err() || failed {
            break;
        }
    }
    drop(sender);
    reading.await.map_err(io::Error::other)
}

struct Receiver {
    receiver: mpsc::Receiver<Piece>,
    piece: Bytes,
}

impl Read for Receiver {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let length = buf.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buf[..length]);
        Ok(length)
    }
}

struct Sender {
    sender: mpsc::Sender<Piece>,
    piece: Vec<u8>,
}

impl Write for Sender {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let length = buf.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&buf[..length]);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.sender
            .blocking_send(Ok(piece.into()))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
