//! A plain connection that sends parts of files without touching their bytes.
//!
//! hyper writes buffers. A response whose body is a file gives it slices of one region of zeros
//! ([`stand_in`]), and tells the connection which part of which file they stand for. The connection
//! knows the slices by their address and sends the file in their place with `sendfile(2)`: the bytes
//! go from the page cache to the socket and are never copied into this process.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// Bytes of a file that are announced at a time.
const STAND_IN: usize = 1 << 20;

/// The region whose slices stand for bytes of files. Its pages are never written, and so never there.
fn region() -> &'static [u8] {
    static REGION: OnceLock<&'static [u8]> = OnceLock::new();
    REGION.get_or_init(|| Box::leak(vec![0; STAND_IN].into_boxed_slice()))
}

/// A buffer of up to `wanted` bytes that stands for as many bytes of a file.
pub(crate) fn stand_in(wanted: u64) -> Bytes {
    let length = usize::try_from(wanted).map_or(STAND_IN, |n| n.min(STAND_IN));
    Bytes::from_static(&region()[..length])
}

fn is_stand_in(buffer: &[u8]) -> bool {
    let range = region().as_ptr_range();
    !buffer.is_empty() && range.contains(&buffer.as_ptr())
}

/// A part of a file that is being sent.
struct Part {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

/// The files whose stand-ins are on their way to the socket, in order. Service by a connection and the
/// bodies that it sends.
#[derive(Clone, Default)]
pub(crate) struct Parts(Arc<Mutex<VecDeque<Part>>>);

impl Parts {
    /// From now on stand-ins mean these bytes, after those of earlier calls.
    pub(crate) fn push(&self, file: Arc<File>, offset: u64, length: u64) {
        let part = Part {
            file,
            offset,
            left: length,
        };
        self.lock().push_back(part);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Part>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends up to `most` bytes of what is next.
    fn send(&self, socket: &TcpStream, most: usize) -> io::Result<usize> {
        let mut parts = self.lock();
        let Some(part) = parts.front_mut() else {
            return Err(io::Error::other("a stand-in without a file"));
        };
        let length = usize::try_from(part.left).map_or(most, |left| left.min(most));
        let n = rustix::fs::sendfile(socket, &*part.file, Some(&mut part.offset), length)?;
        if n == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter while it was sent",
            ));
        }
        part.left -= n as u64;
        if part.left == 0 {
            parts.pop_front();
        }
        Ok(n)
    }
}

/// A TCP connection that sends parts of files.
pub(crate) struct Wire {
    stream: TcpStream,
    parts: Parts,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, parts: Parts) -> Self {
        Self { stream, parts }
    }

    fn poll_send(&self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        loop {
            std::task::ready!(self.stream.poll_write_ready(cx))?;
            let sent = self
                .stream
                .try_io(Interest::WRITABLE, || self.parts.send(&self.stream, most));
            match sent {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        if is_stand_in(buffer) {
            return self.poll_send(cx, buffer.len());
        }
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let plain = buffers.iter().take_while(|b| !is_stand_in(b)).count();
        if plain == 0
            && let Some(first) = buffers.first()
        {
            return self.poll_send(cx, first.len());
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, &buffers[..plain])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
