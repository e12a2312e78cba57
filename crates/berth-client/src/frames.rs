//! Taking framed output apart: standard output and standard error share one connection.

use std::io;

use berth_spec::docker::StreamKind;
use berth_spec::docker::stream::{FrameSplitter, NoFrame};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest message of the engine itself inside a stream, in bytes.
const MAX_SYSTEM_ERROR: usize = 1 << 20;
/// Bytes that are read at once.
const BLOCK: usize = 64 << 10;

/// Copies each frame to where it belongs, until the end. A frame of the engine itself is an
/// error with its text. What has come at once is written at once.
pub async fn demultiplex<R, O, E>(source: &mut R, stdout: &mut O, stderr: &mut E) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
    E: AsyncWrite + Unpin,
{
    let mut block = vec![0; BLOCK];
    let mut frames = FrameSplitter::default();
    let (mut gathered, mut words) = (Gathered::default(), Vec::new());
    loop {
        let n = source.read(&mut block).await?;
        let mut bytes = &block[..n];
        let no_frame = |NoFrame(b)| io::Error::other(format!("Unrecognized input header: {b}"));
        while let Some((kind, content)) = frames.next(&mut bytes).map_err(no_frame)? {
            if kind == StreamKind::SystemError {
                let room = MAX_SYSTEM_ERROR - words.len();
                words.extend_from_slice(&content[..room.min(content.len())]);
                if frames.whole() || words.len() == MAX_SYSTEM_ERROR {
                    gathered.write(stdout, stderr).await?;
                    return Err(said(&words));
                }
                continue;
            }
            let to_stderr = kind == StreamKind::Stderr;
            if to_stderr != gathered.to_stderr {
                gathered.write(stdout, stderr).await?;
                gathered.to_stderr = to_stderr;
            }
            gathered.content.extend_from_slice(content);
        }
        gathered.write(stdout, stderr).await?;
        if n == 0 {
            return match words.is_empty() {
                true => Ok(()),
                false => Err(said(&words)),
            };
        }
    }
}

/// The error that the engine's own words are.
fn said(words: &[u8]) -> io::Error {
    io::Error::other(format!(
        "error from daemon in stream: {}",
        String::from_utf8_lossy(words)
    ))
}

/// Content for one of the two that is not written yet.
#[derive(Default)]
struct Gathered {
    to_stderr: bool,
    content: Vec<u8>,
}

impl Gathered {
    async fn write<O, E>(&mut self, stdout: &mut O, stderr: &mut E) -> io::Result<()>
    where
        O: AsyncWrite + Unpin,
        E: AsyncWrite + Unpin,
    {
        if self.content.is_empty() {
            return Ok(());
        }
        if self.to_stderr {
            stderr.write_all(&self.content).await?;
            stderr.flush().await?;
        } else {
            stdout.write_all(&self.content).await?;
            stdout.flush().await?;
        }
        self.content.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use berth_spec::docker::Frame;

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
        // Cut off within a frame: what came is there.
        let mut out = Vec::new();
        demultiplex(&mut &bytes[..9], &mut out, &mut Vec::new())
            .await
            .unwrap();
        assert_eq!(out, b"o");
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
