//! Answers that are streams of JSON lines: pull, push, load, build, events, stats.

use std::io;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use berth_spec::docker::JsonMessage;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Lines a slow client may be behind.
const BEHIND: usize = 256;

/// The sending end of an answer; a client that left is noticed by a failing [`Lines::send`].
#[derive(Debug, Clone)]
pub struct Lines(mpsc::Sender<Bytes>);

/// The client has hung up.
#[derive(Debug, Clone, Copy)]
pub struct Gone;

impl Lines {
    /// A sender and the answer that its lines end up in.
    pub fn open() -> (Self, Response) {
        let (sender, receiver) = mpsc::channel(BEHIND);
        let body = Body::from_stream(
            ReceiverStream::new(receiver).map(Ok::<Bytes, std::convert::Infallible>),
        );
        (
            Self(sender),
            ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        )
    }

    /// Sends one record.
    pub async fn send(&self, message: &JsonMessage) -> Result<(), Gone> {
        self.0.send(message.line().into()).await.map_err(|_| Gone)
    }

    /// Sends a failure as the last line.
    pub async fn fail(&self, message: impl Into<String>) {
        // A client that has gone needs no error.
        let _ = self.send(&JsonMessage::error(message)).await;
    }

    /// Waits until the client hangs up.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

/// An endless answer of JSON values, one a line.
pub fn stream<T: serde::Serialize + Send + 'static>(
    values: impl Stream<Item = T> + Send + 'static,
) -> Response {
    answer(values.map(|value| line(&value)))
}

/// One JSON value that comes late; if none does, the answer is broken off, so that no client takes it for one.
pub fn late<T: serde::Serialize + Send + 'static>(
    value: impl Future<Output = Option<T>> + Send + 'static,
) -> Response {
    answer(futures_util::stream::once(async move {
        match value.await {
            Some(value) => line(&value),
            None => Err(io::Error::other("the engine ends")),
        }
    }))
}

fn line<T: serde::Serialize>(value: &T) -> io::Result<Bytes> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(Bytes::from(line))
}

fn answer(lines: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Response {
    (
        [(header::CONTENT_TYPE, "application/json")],
        Body::from_stream(lines),
    )
        .into_response()
}
