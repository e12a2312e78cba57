//! Taking framed output apart: standard output and standard error share one connection.

use std::io;

use berth_spec::docker::stream::FRAME_HEADER;
use berth_spec::docker::{Frame, StreamKind};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest message of the engine itself inside a stream, in bytes.
const MAX_SYSTEM_ERROR: u32 = 1 << 20;

/// Copies each frame to where it belongs, until the end. A frame of the engine itself is an
/// error with its text.
pub async fn demultiplex<R, O, E>(source: &mut R, stdout: &mut O, stderr: &mut E) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
    E: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; 32 << 10];
    loop {
        let mut header = [0; FRAME_HEADER];
        if !fill(source, &mut header).await? {
            return Ok(());
        }
        let frame = Frame::decode(header)
            .ok_or_else(|| io::Error::other(format!("Unrecognized input header: {}", header[0])))?;
        match frame.kind {
            StreamKind::Stdin | StreamKind::Stdout => {
                copy(source, frame.length, &mut buffer, stdout).await?;
            }
            StreamKind::Stderr => copy(source, frame.length, &mut buffer, stderr).await?,
            StreamKind::SystemError => {
                let mut text = vec![0; frame.length.min(MAX_SYSTEM_ERROR) as usize];
                source.read_exact(&mut text).await?;
                return Err(io::Error::other(format!(
                    "error from daemon in stream: {}",
                    String::from_utf8_lossy(&text)
                )));
            }
        }
    }
}

/// Reads a header; `false` where the stream ends before or inside it.
async fn fill<R: AsyncRead + Unpin>(source: &mut R, header: &mut [u8]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < header.len() {
        match source.read(&mut header[filled..]).await? {
            0 => return Ok(false),
            n => filled += n,
        }
    }
    Ok(true)
}

async fn copy<R, W>(
    source: &mut R,
    length: u32,
    buffer: &mut [u8],
    target: &mut W,
) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut left = length as usize;
    while left > 0 {
        let room = left.min(buffer.len());
        match source.read(&mut buffer[..room]).await? {
            0 => return Ok(()),
            n => {
                target.write_all(&buffer[..n]).await?;
                left -= n;
            }
        }
    }
    target.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: StreamKind, text: &str) -> Vec<u8> {
        let header = Frame {
            kind,
            length: text.len() as u32,
        };
        [&header.encode()[..], text.as_bytes()].concat()
    }

    #[tokio::test]
    async fn each_frame_goes_where_it_belongs() {
        let bytes = [
            frame(StreamKind::Stdout, "out"),
            frame(StreamKind::Stderr, "err"),
            frame(StreamKind::Stdout, "more"),
        ]
        .concat();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        demultiplex(&mut &bytes[..], &mut out, &mut err)
            .await
            .unwrap();
        assert_eq!((&out[..], &err[..]), (&b"outmore"[..], &b"err"[..]));
    }

    #[tokio::test]
    async fn the_engines_own_words_are_an_error() {
        let bytes = frame(StreamKind::SystemError, "broken");
        let error = demultiplex(&mut &bytes[..], &mut Vec::new(), &mut Vec::new())
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "error from daemon in stream: broken");
    }
}
