//! The streams of a container (or of a further process in it) on this terminal.

use std::io;

use berth_client::{Hijacked, demultiplex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::detach_keys::{self, Watcher};
use super::input;
use super::raw::RawMode;

/// Which streams, and how.
#[derive(Debug, Clone, Default)]
pub struct Wiring {
    /// Standard input goes in.
    pub stdin: bool,
    /// Standard output comes out.
    pub stdout: bool,
    /// Standard error comes out.
    pub stderr: bool,
    /// There is a terminal at the other end: one raw stream, no frames.
    pub tty: bool,
    /// The keys that detach.
    pub detach_keys: Option<String>,
}

/// How streaming ended.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Ended {
    /// There is no more output.
    Output,
    /// Only input was asked for, and it is all sent.
    Input,
    /// The user pressed the detach keys.
    Detached,
}

/// Streams until there is no more output, or the user detaches.
pub async fn run(connection: Hijacked, wiring: &Wiring) -> io::Result<Ended> {
    let raw = if wiring.stdin && wiring.tty {
        RawMode::enter()?
    } else {
        None
    };
    let (reader, writer) = tokio::io::split(connection);
    let wants_output = wiring.stdout || wiring.stderr;
    let input = send(writer, wiring, raw.is_some());
    let output = receive(reader, wiring);
    tokio::pin!(input, output);
    let mut input_done = false;
    let ended = loop {
        tokio::select! {
            result = &mut output, if wants_output => break result.map(|()| Ended::Output),
            result = &mut input, if !input_done => match result {
                Ok(true) => break Ok(Ended::Detached),
                // Sending may fail because the process is gone; its output tells.
                Ok(false) | Err(_) if wants_output => input_done = true,
                Ok(false) => break Ok(Ended::Input),
                Err(e) => break Err(e),
            },
        }
    };
    // Before anything else is printed.
    drop(raw);
    ended
}

/// Sends input; `true` where the user detached.
async fn send(mut writer: impl AsyncWrite + Unpin, wiring: &Wiring, raw: bool) -> io::Result<bool> {
    if !wiring.stdin {
        writer.shutdown().await?;
        return Ok(false);
    }
    let keys = wiring.detach_keys.as_deref().map(detach_keys::parse);
    let keys = match keys {
        Some(Ok(keys)) => keys,
        Some(Err(e)) => {
            eprintln!("invalid detach escape keys, using default: {e}");
            detach_keys::DEFAULT.to_vec()
        }
        None => detach_keys::DEFAULT.to_vec(),
    };
    let mut watcher = (wiring.tty && raw).then(|| Watcher::new(keys));
    let mut pieces = input::read();
    while let Some(piece) = pieces.recv().await {
        let piece = piece?;
        match &mut watcher {
            None => writer.write_all(&piece).await?,
            Some(watcher) => {
                let watched = watcher.watch(&piece);
                writer.write_all(&watched.passed).await?;
                if watched.detached {
                    writer.flush().await?;
                    return Ok(true);
                }
            }
        }
        writer.flush().await?;
    }
    writer.shutdown().await?;
    Ok(false)
}

async fn receive(mut reader: impl AsyncRead + Unpin, wiring: &Wiring) -> io::Result<()> {
    copy_output(&mut reader, wiring.tty, wiring.stdout, wiring.stderr).await
}

/// Copies a container's output here: raw, or frame by frame to where each belongs.
pub async fn copy_output<R: AsyncRead + Unpin>(
    reader: &mut R,
    tty: bool,
    stdout: bool,
    stderr: bool,
) -> io::Result<()> {
    let (mut nowhere, mut nowhere_too) = (tokio::io::sink(), tokio::io::sink());
    if tty {
        return copy_raw(reader).await;
    }
    let (mut out, mut err) = (Direct::stdout(), Direct::stderr());
    match (stdout, stderr) {
        (true, true) => demultiplex(reader, &mut out, &mut err).await,
        (true, false) => demultiplex(reader, &mut out, &mut nowhere).await,
        (false, true) => demultiplex(reader, &mut nowhere, &mut err).await,
        (false, false) => demultiplex(reader, &mut nowhere, &mut nowhere_too).await,
    }
}

async fn copy_raw<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<()> {
    let mut out = Direct::stdout();
    let mut buffer = vec![0; 32 << 10];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(length) => out.write_all(&buffer[..length]).await?,
            // The other end of a terminal that hung up.
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                return Ok(());
            }
            Err(e) => return Err(e),
        }
    }
}

/// Standard output or error written without a thread between: what a container wrote is
/// out before the next frame is read.
struct Direct<W>(W);

impl Direct<io::Stdout> {
    fn stdout() -> Self {
        Direct(io::stdout())
    }
}

impl Direct<io::Stderr> {
    fn stderr() -> Self {
        Direct(io::stderr())
    }
}

impl<W: io::Write + Unpin> AsyncWrite for Direct<W> {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        // Whole, and out at once: a prompt has no newline to be flushed by.
        let written = self.0.write_all(buf).and_then(|()| self.0.flush());
        std::task::Poll::Ready(written.map(|()| buf.len()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}
