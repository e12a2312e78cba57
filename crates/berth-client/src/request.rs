//! One request and its answer.

use std::io;
use std::pin::Pin;

use berth_spec::docker::API_VERSION;
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderName, USER_AGENT};
use http::{HeaderValue, Method, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::hijack::{self, Hijacked};
use crate::lines::Lines;
use crate::path::{escape, escape_path};

/// Largest answer taken whole, in bytes.
const MAX_ANSWER: usize = 256 << 20;
/// Largest error text taken, in bytes.
const MAX_ERROR: usize = 1 << 20;

/// What a request carries.
#[derive(Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// Bytes, with their length told in advance.
    Bytes(Bytes),
    /// A stream of unknown length.
    Stream(Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send + Sync>>),
}

impl Body {
    /// Everything a reader gives.
    pub fn from_reader(reader: impl AsyncRead + Send + Sync + 'static) -> Self {
        Body::Stream(Box::pin(tokio_util::io::ReaderStream::with_capacity(
            reader,
            64 << 10,
        )))
    }

    fn into_http(self) -> UnsyncBoxBody<Bytes, io::Error> {
        match self {
            Body::Empty => Empty::new().map_err(|e| match e {}).boxed_unsync(),
            Body::Bytes(bytes) => Full::new(bytes).map_err(|e| match e {}).boxed_unsync(),
            Body::Stream(stream) => StreamBody::new(stream.map_ok(Frame::data)).boxed_unsync(),
        }
    }
}

/// A request being put together.
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    client: Client,
    method: Method,
    path: String,
    query: String,
    versioned: bool,
    headers: Vec<(HeaderName, String)>,
    body: Body,
}

impl Request {
    pub(crate) fn new(client: Client, method: Method, path: &str) -> Self {
        Request {
            client,
            method,
            path: escape_path(path),
            query: String::new(),
            versioned: true,
            headers: Vec::new(),
            body: Body::Empty,
        }
    }

    /// Leaves the API version out of the path.
    pub fn unversioned(mut self) -> Self {
        self.versioned = false;
        self
    }

    /// Adds a query parameter; an empty value is left out.
    pub fn query(mut self, name: &str, value: impl AsRef<str>) -> Self {
        let value = value.as_ref();
        if !value.is_empty() {
            self.query
                .push(if self.query.is_empty() { '?' } else { '&' });
            self.query.push_str(&escape(name));
            self.query.push('=');
            self.query.push_str(&escape(value));
        }
        self
    }

    /// Adds `name=1` where `on`.
    pub fn flag(self, name: &str, on: bool) -> Self {
        self.query(name, if on { "1" } else { "" })
    }

    /// Adds a header.
    pub fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sends this as JSON.
    pub fn body_json<T: Serialize + ?Sized>(mut self, value: &T) -> Result<Self> {
        let text = serde_json::to_vec(value).map_err(|e| Error::protocol(self.path.clone(), e))?;
        self.body = Body::Bytes(text.into());
        Ok(self.header(CONTENT_TYPE, "application/json"))
    }

    /// Sends this, of the given media type.
    pub fn body(mut self, media_type: &str, body: Body) -> Self {
        self.body = body;
        self.header(CONTENT_TYPE, media_type)
    }

    /// The path with query, in this version.
    fn target(&self, version: &str) -> String {
        let prefix = self.client.inner().transport.prefix();
        let (path, query) = (&self.path, &self.query);
        match self.versioned {
            true => format!("{prefix}/v{version}{path}{query}"),
            false => format!("{prefix}{path}{query}"),
        }
    }

    /// The same once more, where what it carries can be had twice.
    fn copy(&self) -> Option<Self> {
        let body = match &self.body {
            Body::Empty => Body::Empty,
            Body::Bytes(bytes) => Body::Bytes(bytes.clone()),
            Body::Stream(_) => return None,
        };
        Some(Request {
            client: self.client.clone(),
            method: self.method.clone(),
            path: self.path.clone(),
            query: self.query.clone(),
            versioned: self.versioned,
            headers: self.headers.clone(),
            body,
        })
    }

    fn build(self, version: &str) -> Result<(Client, http::Request<Body>)> {
        let target = self.target(version);
        let inner = self.client.inner();
        let bad = |e: http::Error| Error::protocol(target.clone(), e);
        let mut builder = http::Request::builder()
            .method(self.method)
            .uri(&target)
            .header(HOST, inner.transport.authority())
            .header(USER_AGENT, &inner.user_agent);
        for (name, value) in &inner.headers {
            builder = builder.header(name, value);
        }
        for (name, value) in self.headers {
            let value = HeaderValue::from_str(&value)
                .map_err(|e| Error::protocol(format!("header {name}"), e))?;
            builder = builder.header(name, value);
        }
        let request = builder.body(self.body).map_err(bad)?;
        Ok((self.client, request))
    }

    /// Sends it; an answer of 400 or more is an error.
    ///
    /// The first request goes out in our newest version, without asking what the engine knows: nearly always
    /// that is right, and a whole round trip less. Only if it is refused, the engine is asked, and the request
    /// sent again in its words.
    pub async fn send(self) -> Result<Response> {
        if !self.versioned {
            return self.send_in("").await;
        }
        let again = match self.client.settled_version() {
            Some(version) => return self.send_in(&version).await,
            None => self.copy(),
        };
        let Some(again) = again else {
            let version = self.client.api_version().await?;
            return self.send_in(&version).await;
        };
        let client = self.client.clone();
        match self.send_in(API_VERSION).await {
            Err(error) if error.status() == Some(400) => {
                let version = client.negotiated_version().await?;
                match version == API_VERSION {
                    true => Err(error),
                    false => again.send_in(&version).await,
                }
            }
            Err(error) if error.status().is_none() => Err(error),
            answer => {
                client.note_understood();
                answer
            }
        }
    }

    async fn send_in(self, version: &str) -> Result<Response> {
        let (client, request) = self.build(version)?;
        let what = request.uri().to_string();
        let stream = client.inner().transport.connect().await?;
        let plain = client.inner().transport.is_plain_tcp();
        let broken = |e: hyper::Error| {
            let hint = if plain && e.is_parse() {
                ".\n* Are you trying to connect to a TLS-enabled daemon without TLS?"
            } else {
                ""
            };
            Error::protocol("error during connect", format!("{e}{hint}"))
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // It ends with the answer's body; whoever holds that holds the connection.
        tokio::spawn(connection);
        let (mut head, body) = request.into_parts();
        head.headers
            .insert(CONNECTION, HeaderValue::from_static("close"));
        let answer = sender
            .send_request(http::Request::from_parts(head, body.into_http()))
            .await
            .map_err(broken)?;
        let response = Response { what, answer };
        if response.status().as_u16() >= 400 {
            return Err(response.into_error().await);
        }
        Ok(response)
    }

    /// Sends it and takes the answer as JSON.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T> {
        let what = self.path.clone();
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|e| Error::protocol(what, e))
    }

    /// Sends it and takes the answer whole.
    pub async fn bytes(self) -> Result<Bytes> {
        self.send().await?.bytes().await
    }

    /// Sends it; only the status matters.
    pub async fn done(self) -> Result<()> {
        self.bytes().await.map(drop)
    }

    /// Sends it and reads the answer as JSON lines.
    pub async fn lines<T: DeserializeOwned>(self) -> Result<Lines<T>> {
        Ok(self.send().await?.lines())
    }

    /// Sends it and takes the connection over, for a container's standard streams.
    pub async fn hijack(self) -> Result<Hijacked> {
        let version = self.client.api_version().await?;
        let (client, request) = self.build(&version)?;
        let stream = client.inner().transport.connect().await?;
        hijack::open(stream, request).await
    }
}

/// An answer whose body has not been read.
pub struct Response {
    what: String,
    answer: http::Response<Incoming>,
}

impl Response {
    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.answer.status()
    }

    /// A header, if it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.answer.headers().get(name)?.to_str().ok()
    }

    /// The whole body, of at most 256 MiB.
    pub async fn bytes(self) -> Result<Bytes> {
        self.limited(MAX_ANSWER).await
    }

    async fn limited(self, limit: usize) -> Result<Bytes> {
        let body = http_body_util::Limited::new(self.answer.into_body(), limit);
        match body.collect().await {
            Ok(whole) => Ok(whole.to_bytes()),
            Err(e) => Err(Error::protocol(self.what, e)),
        }
    }

    /// The body as it comes.
    pub fn stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin {
        http_body_util::BodyDataStream::new(self.answer.into_body()).map_err(io::Error::other)
    }

    /// The body as a reader.
    pub fn reader(self) -> impl AsyncRead + Send + Unpin {
        StreamReader::new(self.stream())
    }

    /// The body as JSON lines.
    pub fn lines<T: DeserializeOwned>(self) -> Lines<T> {
        let what = self.what.clone();
        Lines::new(what, Box::pin(self.stream()))
    }

    async fn into_error(self) -> Error {
        let status = self.answer.status();
        let body = self.limited(MAX_ERROR).await.unwrap_or_default();
        engine_error(status, &body)
    }
}

/// The engine's words from the body of an answer that is an error.
pub(crate) fn engine_error(status: StatusCode, body: &[u8]) -> Error {
    let message = match serde_json::from_slice::<berth_spec::docker::ErrorBody>(body) {
        Ok(error) if !error.message.is_empty() => error.message,
        _ => {
            let text = String::from_utf8_lossy(body).trim().to_owned();
            if text.is_empty() {
                status
                    .canonical_reason()
                    .unwrap_or("unknown error")
                    .to_owned()
            } else {
                text
            }
        }
    };
    Error::Engine {
        status: status.as_u16(),
        message: message.trim().to_owned(),
    }
}
