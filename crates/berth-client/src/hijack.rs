//! Taking a connection over: the engine answers `101` (or, the older ones, `200`) and what
//! follows are the raw bytes of a container's streams, both ways.
//!
//! The head is written and read here rather than by the HTTP library, which lets go of a
//! connection after `101` only.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use http::{Request, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::error::{Error, Result};
use crate::request::{Body, engine_error};
use crate::transport::Stream;

/// Largest head of an answer, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// Largest error text taken, in bytes.
const MAX_ERROR: u64 = 1 << 20;

/// A connection taken over. Shutting it down ends our half only.
pub struct Hijacked {
    stream: Stream,
    /// What came along with the head of the answer.
    early: BytesMut,
    /// The media type of what comes, if the engine tells it.
    pub content_type: Option<String>,
}

struct Head {
    status: StatusCode,
    content_type: Option<String>,
    length: Option<u64>,
    chunked: bool,
}

pub(crate) async fn open(mut stream: Stream, request: Request<Body>) -> Result<Hijacked> {
    let (head, body) = request.into_parts();
    let body = match body {
        Body::Bytes(bytes) => bytes,
        _ => bytes::Bytes::new(),
    };
    let mut text = format!("{} {} HTTP/1.1\r\n", head.method, head.uri).into_bytes();
    for (name, value) in &head.headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(
        format!(
            "connection: Upgrade\r\nupgrade: tcp\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .as_bytes(),
    );
    text.extend_from_slice(&body);
    stream.write_all(&text).await?;
    stream.flush().await?;

    let mut buffer = BytesMut::with_capacity(4096);
    let head = read_head(&mut stream, &mut buffer).await?;
    if matches!(
        head.status,
        StatusCode::SWITCHING_PROTOCOLS | StatusCode::OK
    ) {
        return Ok(Hijacked {
            stream,
            early: buffer,
            content_type: head.content_type,
        });
    }
    let mut rest = buffer.to_vec();
    let missing = match head.length {
        Some(length) => length.saturating_sub(rest.len() as u64),
        None => MAX_ERROR,
    };
    stream
        .take(missing.min(MAX_ERROR))
        .read_to_end(&mut rest)
        .await?;
    if head.chunked {
        rest = unchunk(&rest);
    }
    Err(engine_error(head.status, &rest))
}

async fn read_head(stream: &mut Stream, buffer: &mut BytesMut) -> Result<Head> {
    loop {
        if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = buffer.split_to(end + 4);
            return parse_head(&String::from_utf8_lossy(&head));
        }
        if buffer.len() > MAX_HEAD {
            return Err(Error::protocol("hijack", "the head is too long"));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(Error::protocol("hijack", "unexpected EOF"));
        }
    }
}

fn parse_head(text: &str) -> Result<Head> {
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1."))
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|code| StatusCode::from_bytes(code.as_bytes()).ok())
        .ok_or_else(|| Error::protocol("hijack", "not an HTTP answer"))?;
    let mut head = Head {
        status,
        content_type: None,
        length: None,
        chunked: false,
    };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-type" => head.content_type = Some(value.to_owned()),
            "content-length" => head.length = value.parse().ok(),
            "transfer-encoding" => head.chunked = value.eq_ignore_ascii_case("chunked"),
            _ => {}
        }
    }
    Ok(head)
}

/// The content of a chunked body; what is malformed ends it.
fn unchunk(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = body.windows(2).position(|w| w == b"\r\n") {
        let size = String::from_utf8_lossy(&body[..end]);
        let size = size.split(';').next().unwrap_or_default().trim();
        let Ok(size) = usize::from_str_radix(size, 16) else {
            break;
        };
        let Some(chunk) = body.get(end + 2..end + 2 + size) else {
            break;
        };
        if size == 0 {
            break;
        }
        out.extend_from_slice(chunk);
        body = body.get(end + 4 + size..).unwrap_or_default();
    }
    out
}

impl AsyncRead for Hijacked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let length = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early[..length]);
            self.early.advance(length);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Hijacked {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined() {
        assert_eq!(unchunk(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"), b"abcde");
        assert_eq!(unchunk(b"ff\r\nabc"), b"");
    }

    #[tokio::test]
    async fn both_answers_hand_the_connection_over() {
        for answer in ["101 UPGRADED", "200 OK"] {
            let (ours, mut theirs) = tokio::io::duplex(1 << 16);
            let request = Request::builder()
                .method("POST")
                .uri("/v1.50/x")
                .body(Body::Empty)
                .unwrap();
            let text = format!("HTTP/1.1 {answer}\r\nContent-Type: a/b\r\n\r\nearly");
            theirs.write_all(text.as_bytes()).await.unwrap();
            let mut hijacked = open(Box::new(ours), request).await.unwrap();
            assert_eq!(hijacked.content_type.as_deref(), Some("a/b"));
            let mut early = [0; 5];
            hijacked.read_exact(&mut early).await.unwrap();
            assert_eq!(&early, b"early");
        }
    }

    #[tokio::test]
    async fn an_error_has_the_engines_words() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let request = Request::builder().uri("/x").body(Body::Empty).unwrap();
        let body = r#"{"message":"No such container: x"}"#;
        let text = format!(
            "HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        theirs.write_all(text.as_bytes()).await.unwrap();
        let error = open(Box::new(ours), request).await.err().unwrap();
        assert_eq!(
            error.to_string(),
            "Error response from daemon: No such container: x"
        );
        assert!(error.is_not_found());
    }
}
