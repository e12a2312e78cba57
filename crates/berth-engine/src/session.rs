//! A client connected to a process: `attach` and `exec`.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use crate::{Error, Result};

/// Bytes as they come; an error ends them.
pub type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// The keys that leave a terminal when the client names none: ctrl-p ctrl-q.
pub const DEFAULT_KEYS: [u8; 2] = [16, 17];

/// How long the end of a process may be behind that of its output.
const END: Duration = Duration::from_secs(5);

/// Bytes moved at once.
const CHUNK: usize = 32 << 10;

/// A client's connection to a process, before any byte has moved. What comes out of the process is
/// Docker's framed stream, or raw bytes where it has a terminal.
pub struct Session {
    pub(crate) tty: bool,
    /// Sent first: what the process wrote before.
    pub(crate) replay: Option<ByteStream>,
    pub(crate) stream: Option<UnixStream>,
    /// Whether the client's bytes go to the process.
    pub(crate) stdin: bool,
    /// Empty: nothing detaches.
    pub(crate) detach_keys: Vec<u8>,
    /// Told when the client left by the detach keys.
    pub(crate) detached: Option<oneshot::Sender<()>>,
    /// Awaited between the end of the output and the client's: what it asks next must be known.
    pub(crate) ended: Option<BoxFuture<'static, ()>>,
}

impl Session {
    /// Whether the process has a terminal: the bytes are raw then, framed otherwise.
    pub fn tty(&self) -> bool {
        self.tty
    }

    /// Moves bytes both ways until the process's output ends, the client leaves, or it types the
    /// detach keys. The end of the client's bytes is the end of the process's input.
    pub async fn run<S>(mut self, client: S) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (mut from_client, mut to_client) = tokio::io::split(client);
        if let Some(mut replay) = self.replay.take() {
            while let Some(piece) = replay.next().await {
                to_client.write_all(&piece?).await?;
            }
            to_client.flush().await?;
        }
        let Some(stream) = self.stream.take() else {
            return to_client.shutdown().await;
        };
        let (mut from_process, mut to_process) = stream.into_split();
        let keys = std::mem::take(&mut self.detach_keys);
        let stdin = self.stdin;
        let ended = self.ended.take();
        let input = async {
            if !stdin {
                // Its bytes are for nobody; its end says that it left.
                let mut nowhere = tokio::io::sink();
                let _ = tokio::io::copy(&mut from_client, &mut nowhere).await;
                // A client that only listens may close its own side: it still listens.
                return std::future::pending::<bool>().await;
            }
            let detached = pass_input(&mut from_client, &mut to_process, &keys).await;
            if !detached {
                // The process sees the end of its input; its output goes on.
                let _ = to_process.shutdown().await;
                return std::future::pending().await;
            }
            true
        };
        let output = async {
            let mut buffer = vec![0; CHUNK];
            loop {
                let n = from_process.read(&mut buffer).await?;
                if n == 0 {
                    if let Some(ended) = ended {
                        // Told on another way than the output, and as soon.
                        let _ = tokio::time::timeout(END, ended).await;
                    }
                    return to_client.shutdown().await;
                }
                to_client.write_all(&buffer[..n]).await?;
                to_client.flush().await?;
            }
        };
        let left = tokio::select! {
            ended = output => return ended,
            left = input => left,
        };
        if left && let Some(detached) = self.detached.take() {
            let _ = detached.send(());
        }
        to_client.shutdown().await
    }
}

/// Passes bytes on until they end (false) or the detach keys come (true).
async fn pass_input(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    keys: &[u8],
) -> bool {
    let mut watch = KeyWatch::new(keys);
    let mut buffer = vec![0; CHUNK];
    loop {
        let n = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return false,
            Ok(n) => n,
        };
        let mut passed = Vec::with_capacity(n + keys.len());
        let detached = watch.feed(&buffer[..n], &mut passed);
        if to.write_all(&passed).await.is_err() || detached {
            return detached;
        }
    }
}

/// Looks for the detach keys in what is typed; a beginning of them is held back until it is clear.
#[derive(Debug)]
struct KeyWatch<'a> {
    keys: &'a [u8],
    matched: usize,
}

impl<'a> KeyWatch<'a> {
    fn new(keys: &'a [u8]) -> Self {
        Self { keys, matched: 0 }
    }

    /// Appends what may pass to `passed`; whether the keys are complete.
    fn feed(&mut self, typed: &[u8], passed: &mut Vec<u8>) -> bool {
        if self.keys.is_empty() {
            passed.extend_from_slice(typed);
            return false;
        }
        for &byte in typed {
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return true;
                }
                continue;
            }
            passed.extend_from_slice(&self.keys[..self.matched]);
            self.matched = 0;
            if byte == self.keys[0] {
                self.matched = 1;
            } else {
                passed.push(byte);
            }
        }
        false
    }
}

/// Reads `ctrl-p,ctrl-q` or `a,b`; empty text is the default.
pub fn parse_detach_keys(text: &str) -> Result<Vec<u8>> {
    if text.is_empty() {
        return Ok(DEFAULT_KEYS.to_vec());
    }
    let refused = || Error::invalid(format!("Invalid detach keys ({text}) provided"));
    text.split(',')
        .map(|key| match (key.len(), key.strip_prefix("ctrl-")) {
            (1, _) => Ok(key.as_bytes()[0]),
            (_, Some(letter)) if letter.len() == 1 => match letter.as_bytes()[0] {
                c @ b'a'..=b'z' => Ok(c - b'a' + 1),
                b'@' => Ok(0),
                c @ (b'[' | b'\\' | b']' | b'^' | b'_') => Ok(c - b'[' + 27),
                _ => Err(refused()),
            },
            _ => Err(refused()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_docker_reads_them() {
        assert_eq!(parse_detach_keys("").unwrap(), DEFAULT_KEYS);
        assert_eq!(parse_detach_keys("ctrl-a,d").unwrap(), [1, b'd']);
        assert_eq!(
            parse_detach_keys("ctrl-@,ctrl-[,ctrl-_").unwrap(),
            [0, 27, 31]
        );
        for bad in ["ctrl-", "ctrl-A", "ab", "a,,b"] {
            assert!(parse_detach_keys(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_beginning_of_the_keys_is_not_lost() {
        let mut watch = KeyWatch::new(&DEFAULT_KEYS);
        let mut passed = Vec::new();
        assert!(!watch.feed(b"ab\x10", &mut passed));
        assert_eq!(passed, b"ab");
        assert!(!watch.feed(b"c\x10\x10", &mut passed));
        assert_eq!(passed, b"ab\x10c\x10");
        assert!(watch.feed(b"\x11rest", &mut passed));
        assert_eq!(passed, b"ab\x10c\x10");
    }

    #[tokio::test]
    async fn bytes_move_both_ways_and_ends_are_passed_on() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (client, far) = tokio::io::duplex(64);
        let session = Session {
            tty: false,
            replay: None,
            stream: Some(ours),
            stdin: true,
            detach_keys: Vec::new(),
            detached: None,
            ended: None,
        };
        let running = tokio::spawn(session.run(far));
        let (mut process_in, mut process_out) = theirs.into_split();
        let (mut reading, mut writing) = tokio::io::split(client);
        writing.write_all(b"typed").await.unwrap();
        writing.shutdown().await.unwrap();
        let mut typed = String::new();
        process_in.read_to_string(&mut typed).await.unwrap();
        assert_eq!(typed, "typed");
        process_out.write_all(b"said").await.unwrap();
        drop(process_out);
        let mut said = String::new();
        reading.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "said");
        running.await.unwrap().unwrap();
    }
}
