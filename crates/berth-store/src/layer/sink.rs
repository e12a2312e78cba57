//! The thread that hashes and writes a tar while it is being decompressed and indexed.

use std::fs::File;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use berth_spec::Digest;

use crate::hash::Hasher;
use crate::{Error, ErrorKind, Result};

/// Buffers on their way; with those of the reader, the memory an import takes.
const QUEUE: usize = 4;

/// The near end: takes copies of what passes. Buffers come back to be used again.
pub(crate) struct Sink<'scope> {
    full: Option<SyncSender<Vec<u8>>>,
    empty: Receiver<Vec<u8>>,
    worker: Option<ScopedJoinHandle<'scope, io::Result<(Digest, u64)>>>,
}

impl<'scope> Sink<'scope> {
    /// Starts hashing with `hasher` and writing to `file`.
    pub(crate) fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        file: &'env File,
        hasher: Hasher,
    ) -> Sink<'scope> {
        let (full, incoming) = sync_channel::<Vec<u8>>(QUEUE);
        let (outgoing, empty) = channel();
        let worker = scope.spawn(move || consume(incoming, outgoing, file, hasher));
        Sink {
            full: Some(full),
            empty,
            worker: Some(worker),
        }
    }

    /// Passes bytes on. Once the far end has failed, so does this, with the far end's reason.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut buffer = self.empty.try_recv().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(bytes);
        let sent = self.full.as_ref().map(|full| full.send(buffer));
        if !matches!(sent, Some(Ok(()))) {
            self.join()?;
        }
        Ok(())
    }

    /// Waits until all is written; the digest and the length.
    pub(crate) fn finish(mut self) -> Result<(Digest, u64)> {
        self.join()
            .map_err(|e| Error::io("cannot write the layer", e))
    }

    fn join(&mut self) -> io::Result<(Digest, u64)> {
        self.full = None;
        match self.worker.take().map(ScopedJoinHandle::join) {
            Some(Ok(result)) => result,
            _ => Err(Error::new(ErrorKind::Internal, "the layer writer stopped").into()),
        }
    }
}

fn consume(
    incoming: Receiver<Vec<u8>>,
    outgoing: Sender<Vec<u8>>,
    mut file: &File,
    mut hasher: Hasher,
) -> io::Result<(Digest, u64)> {
    for buffer in incoming {
        hasher.update(&buffer);
        file.write_all(&buffer)?;
        // The near end may have no use for it any more.
        let _ = outgoing.send(buffer);
    }
    let seen = hasher.seen();
    Ok((hasher.finish(), seen))
}
