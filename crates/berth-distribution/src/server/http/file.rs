//! A part of a file as a body.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::wire::{Parts, stand_in};

/// Bytes read at a time where the connection cannot send the file itself.
const READ: u64 = 256 << 10;

/// A part of a file on its way to a client.
pub(crate) struct FileBody {
    file: Arc<File>,
    offset: u64,
    left: u64,
    way: Way,
}

enum Way {
    /// The connection sends it; `true` once it knows.
    Sent(Parts, bool),
    /// It is read here.
    Read(Option<JoinHandle<io::Result<Bytes>>>),
}

impl FileBody {
    /// `length` bytes of `file` from `offset`. `parts` are the connection's, if it can send files.
    pub(crate) fn new(file: File, offset: u64, length: u64, parts: Option<Parts>) -> Self {
        Self {
            file: Arc::new(file),
            offset,
            left: length,
            way: match parts {
                Some(parts) => Way::Sent(parts, false),
                None => Way::Read(None),
            },
        }
    }

    /// Bytes that are still to come.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let chunk = match &mut self.way {
            Way::Sent(parts, known) => {
                if !*known {
                    parts.push(self.file.clone(), self.offset, self.left);
                    *known = true;
                }
                stand_in(self.left)
            }
            Way::Read(reading) => {
                let (file, offset, length) = (&self.file, self.offset, self.left.min(READ));
                let task = reading.get_or_insert_with(|| {
                    let file = file.clone();
                    tokio::task::spawn_blocking(move || read(&file, offset, length))
                });
                let done = ready!(Pin::new(task).poll(cx));
                *reading = None;
                match done {
                    Ok(Ok(chunk)) => chunk,
                    Ok(Err(e)) => return Poll::Ready(Some(Err(e))),
                    Err(e) => return Poll::Ready(Some(Err(io::Error::other(e)))),
                }
            }
        };
        self.offset += chunk.len() as u64;
        self.left -= chunk.len() as u64;
        Poll::Ready(Some(Ok(chunk)))
    }
}

fn read(file: &File, offset: u64, length: u64) -> io::Result<Bytes> {
    let mut chunk = vec![0; length as usize];
    file.read_exact_at(&mut chunk, offset)?;
    Ok(chunk.into())
}
