//! What a response carries.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::mpsc;

use super::file::FileBody;

/// A response's body.
pub(crate) enum Body {
    Empty,
    Whole(Bytes),
    File(FileBody),
    /// Bytes that come as they come, `left` of them.
    Stream {
        chunks: mpsc::Receiver<io::Result<Bytes>>,
        left: u64,
    },
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Body::Whole(bytes.into())
    }
}

impl Body {
    /// Bytes that it has.
    pub(crate) fn length(&self) -> u64 {
        match self {
            Body::Empty => 0,
            Body::Whole(bytes) => bytes.len() as u64,
            Body::File(file) => file.left(),
            Body::Stream { left, .. } => *left,
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let chunk = match &mut *self {
            Body::Empty => None,
            Body::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                (!bytes.is_empty()).then_some(Ok(bytes))
            }
            Body::File(file) => std::task::ready!(file.poll(cx)),
            Body::Stream { chunks, left } => {
                let chunk = std::task::ready!(chunks.poll_recv(cx));
                if let Some(Ok(chunk)) = &chunk {
                    *left = left.saturating_sub(chunk.len() as u64);
                }
                match chunk {
                    // The client must not take a part for the whole.
                    None if *left > 0 => Some(Err(io::ErrorKind::UnexpectedEof.into())),
                    chunk => chunk,
                }
            }
        };
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.length() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length())
    }
}
