//! Request bodies: small JSON documents with a cap, and streams without one.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::TryStreamExt;
use http::StatusCode;
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use crate::error::{ApiError, Reply};

/// Bytes a JSON body may have.
pub const JSON_MAX: usize = 8 << 20;

/// How long the whole of a JSON body may take to come.
const JSON_TIME: Duration = Duration::from_secs(60);

/// Reads a whole body of at most [`JSON_MAX`] bytes.
pub async fn bytes(body: Body) -> Reply<Bytes> {
    let all = Limited::new(body, JSON_MAX).collect();
    let all = tokio::time::timeout(JSON_TIME, all).await.map_err(|_| {
        let text = "the request body did not come in time";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, text)
    })?;
    match all {
        Ok(all) => Ok(all.to_bytes()),
        Err(e) if e.is::<http_body_util::LengthLimitError>() => Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("request body is larger than {JSON_MAX} bytes"),
        )),
        Err(e) => Err(ApiError::bad_request(format!(
            "cannot read the request body: {e}"
        ))),
    }
}

/// Reads a JSON document; an empty body is an error, as it is for dockerd.
pub async fn json<T: DeserializeOwned>(body: Body) -> Reply<T> {
    let bytes = bytes(body).await?;
    if bytes.is_empty() {
        return Err(ApiError::bad_request(
            "invalid JSON: got EOF while reading request body",
        ));
    }
    parse(&bytes)
}

/// Reads a JSON document; an empty body is the default value.
pub async fn json_or_default<T: DeserializeOwned + Default>(body: Body) -> Reply<T> {
    let bytes = bytes(body).await?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    parse(&bytes)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Reply<T> {
    // A list would be read as the members of the object by their order, which nobody means.
    if bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[') {
        return Err(ApiError::bad_request(
            "invalid JSON: a list where an object is expected",
        ));
    }
    // `null` is what a Go client sends for "nothing to say".
    serde_json::from_slice(bytes).map_err(|e| ApiError::bad_request(format!("invalid JSON: {e}")))
}

/// The body as a reader, for what may be of any size.
pub fn reader(body: Body) -> impl AsyncRead + Send + Unpin + 'static {
    let stream = TryStreamExt::map_err(body.into_data_stream(), std::io::Error::other);
    StreamReader::new(Box::pin(stream))
}
