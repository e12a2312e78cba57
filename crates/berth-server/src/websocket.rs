//! Attach over a WebSocket: binary messages both ways.

use axum::extract::ws::{Message, WebSocket};
use berth_engine::Session;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Bytes of output in one message.
const CHUNK: usize = 32 << 10;

/// Connects the socket with the session until one of them ends.
pub async fn serve(socket: WebSocket, session: Session) {
    let (near, far) = tokio::io::duplex(CHUNK);
    let running = session.run(far);
    let (mut from_process, mut to_process) = tokio::io::split(near);
    let (mut sink, mut messages) = socket.split();
    let input = async {
        while let Some(Ok(message)) = messages.next().await {
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Text(text) => text.into(),
                Message::Close(_) => break,
                Message::Ping(_) | Message::Pong(_) => continue,
            };
            if to_process.write_all(&bytes).await.is_err() {
                break;
            }
        }
        // The session may have ended already.
        let _ = to_process.shutdown().await;
    };
    let output = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(n @ 1..) = from_process.read(&mut buffer).await {
            let message = Message::Binary(bytes::Bytes::copy_from_slice(&buffer[..n]));
            if sink.send(message).await.is_err() {
                break;
            }
        }
        // The client may have left already.
        let _ = sink.send(Message::Close(None)).await;
    };
    let both = async {
        let (ended, ()) = tokio::join!(running, output);
        ended
    };
    tokio::pin!(both);
    let ended = tokio::select! {
        ended = &mut both => ended,
        () = input => both.await,
    };
    if let Err(e) = ended {
        tracing::debug!(error = %e, "an attached client left");
    }
}
