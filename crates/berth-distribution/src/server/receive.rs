//! Bytes from a client into an upload: received, written and hashed side by side.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::task::JoinHandle;

use super::fault::{Code, Fault, Reply};
use super::storage::upload::Upload;

/// Bytes that are written at a time. Two such batches are in memory per upload at most: one is being
/// written while the next is received.
const BATCH: usize = 512 << 10;
/// A client that sends nothing for this long has stopped.
const STALL: Duration = Duration::from_secs(60);

type Writing = JoinHandle<(Upload, Reply<()>)>;

/// The upload, unless it was lost, and how many bytes came.
pub(crate) type Received = (Option<Upload>, Reply<u64>);

/// Appends `body` to `upload`; more than `limit` bytes are refused. What had come before a failure
/// stays: the client may go on from there.
pub(crate) async fn receive(upload: Upload, mut body: Incoming, limit: u64) -> Received {
    let mut writer = Writer::Idle(upload);
    let mut batch = Vec::new();
    let (mut length, mut total) = (0, 0u64);
    let ended = loop {
        let chunk = match next_chunk(&mut body).await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break Ok(total),
            Err(fault) => break Err(fault),
        };
        total += chunk.len() as u64;
        if total > limit {
            break Err(too_long(limit));
        }
        length += chunk.len();
        batch.push(chunk);
        if length >= BATCH {
            length = 0;
            writer = match writer.write(std::mem::take(&mut batch)).await {
                Ok(writer) => writer,
                Err(failed) => return failed,
            };
        }
    };
    if !batch.is_empty() {
        writer = match writer.write(batch).await {
            Ok(writer) => writer,
            Err(failed) => return failed,
        };
    }
    match writer.finish().await {
        Ok(upload) => (Some(upload), ended),
        Err(failed) => failed,
    }
}

fn too_long(limit: u64) -> Fault {
    Fault::new(
        Code::SizeInvalid,
        format!("more than the {limit} bytes that may come"),
    )
    .with_status(StatusCode::PAYLOAD_TOO_LARGE)
}

/// The next piece of a body; nothing at its end.
pub(crate) async fn next_chunk(body: &mut Incoming) -> Reply<Option<Bytes>> {
    loop {
        let frame = tokio::time::timeout(STALL, body.frame())
            .await
            .map_err(|_| {
                Fault::new(
                    Code::BlobUploadInvalid,
                    format!("nothing came for {} seconds", STALL.as_secs()),
                )
                .with_status(StatusCode::REQUEST_TIMEOUT)
            })?;
        match frame {
            None => return Ok(None),
            Some(Err(e)) => {
                return Err(Fault::new(
                    Code::SizeInvalid,
                    format!("the request's body broke off: {e}"),
                ));
            }
            Some(Ok(frame)) => {
                // Trailers are none of ours.
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// The whole of a small body; one longer than `most` bytes is refused.
pub(crate) async fn small(body: &mut Incoming, most: u64) -> Reply<Bytes> {
    let mut whole = Vec::new();
    while let Some(chunk) = next_chunk(body).await? {
        if (whole.len() + chunk.len()) as u64 > most {
            return Err(too_long(most));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.into())
}

/// Takes a refused request's body off the connection and throws it away, up to `most` bytes: a client
/// that is still writing does not read the refusal.
pub(crate) async fn discard(body: &mut Incoming, most: u64) {
    let mut left = most;
    while let Ok(Some(chunk)) = next_chunk(body).await {
        let Some(rest) = left.checked_sub(chunk.len() as u64) else {
            return;
        };
        left = rest;
    }
}

enum Writer {
    Idle(Upload),
    Writing(Writing),
}

impl Writer {
    async fn write(self, batch: Vec<Bytes>) -> Result<Self, Received> {
        let mut upload = self.finish().await?;
        Ok(Writer::Writing(tokio::task::spawn_blocking(move || {
            let written = upload.append(&batch);
            (upload, written)
        })))
    }

    async fn finish(self) -> Result<Upload, Received> {
        match self {
            Writer::Idle(upload) => Ok(upload),
            Writer::Writing(writing) => match writing.await {
                Ok((upload, Ok(()))) => Ok(upload),
                Ok((upload, Err(fault))) => Err((Some(upload), Err(fault))),
                Err(e) => Err((None, Err(Fault::internal("a write was lost", e)))),
            },
        }
    }
}
