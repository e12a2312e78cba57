//! Cached blobs. Two hundred clients that ask for a blob that is not here make one fetch from upstream;
//! each is sent the bytes as they arrive. The last bytes are held back until the digest is verified, so
//! that no client has a whole blob that is wrong.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use berth_spec::{Digest, Reference};
use bytes::Bytes;
use http::{Method, StatusCode, header};
use reqwest::Response;
use tokio::sync::{mpsc, watch};

use super::flight::{Boarding, Stage};
use super::{Cached, upstream};
use crate::failure::Failure;
use crate::manifest::pull_scope;
use crate::registry::Registry;
use crate::server::blobs;
use crate::server::dispatch::Call;
use crate::server::fault::{Code, Fault, Reply};
use crate::server::http::answer::{Answer, CONTENT_DIGEST};
use crate::server::http::body::Body;
use crate::server::metrics::add;
use crate::server::record::blobs as record;
use crate::server::service::Service;
use crate::server::sessions;
use crate::server::storage::upload::Upload;
use crate::{Error, ErrorKind};

/// Bytes that are written, and sent to a follower, at a time.
const BATCH: usize = 256 << 10;
/// Bytes that followers get only after the whole is verified.
const HELD_BACK: u64 = 1 << 10;
/// Times that a fetch is taken up again after the connection broke.
const TRIES: u32 = 5;

/// `HEAD` of a blob that is not here: upstream's size, without fetching it.
pub(crate) async fn head(call: &Call, cached: &Cached, digest: &Digest) -> Reply<Answer> {
    let upstream = call.service.caches.upstream(cached);
    let reference = upstream.reference(cached)?;
    let failed = |e: Error| upstream::fault(&upstream.settings.upstream, &e);
    let registry = upstream.connect(&reference).await.map_err(failed)?;
    let path = format!("/v2/{}/blobs/{digest}", reference.path());
    let response = registry
        .send(Method::HEAD, &path, &pull_scope(&reference), |r| r)
        .await
        .map_err(failed)?;
    let size = response
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    match size.filter(|_| response.status().is_success()) {
        Some(size) => {
            // Nothing is sent: the length is all that is wanted of the body.
            let (_, chunks) = mpsc::channel(1);
            Ok(described(StatusCode::OK, digest).body(Body::Stream { chunks, left: size }))
        }
        None => Err(blobs::unknown(digest)),
    }
}

fn described(status: StatusCode, digest: &Digest) -> Answer {
    Answer::new(status)
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(CONTENT_DIGEST, digest.as_str())
        .header(header::ETAG, format!("\"{digest}\""))
}

/// `GET` of a blob that is not here. `None` means that it has come meanwhile.
pub(crate) async fn get(call: &Call, cached: &Cached, digest: &Digest) -> Reply<Option<Answer>> {
    let key = format!("{}@{digest}", cached.here);
    let mut stage = match call.service.caches.flights.board(&key) {
        Boarding::Another(stage) => stage,
        Boarding::First(sender, stage) => {
            let flight = Flight {
                service: call.service.clone(),
                cached: cached.clone(),
                digest: digest.clone(),
                stage: sender,
                key,
            };
            // It lands whether or not the client that began it stays.
            tokio::spawn(flight.fly());
            stage
        }
    };
    let whole = call.header(header::RANGE).is_none();
    loop {
        let now = stage.borrow_and_update().clone();
        match now {
            Stage::Landed => return Ok(None),
            Stage::Failed(true, _) => return Err(blobs::unknown(digest)),
            Stage::Failed(false, why) => {
                return Err(
                    Fault::new(Code::Unavailable, &*why).with_status(StatusCode::BAD_GATEWAY)
                );
            }
            Stage::Going { file, size, .. } if whole => {
                let (sender, chunks) = mpsc::channel(2);
                tokio::spawn(follow(file, stage, size, sender));
                let body = Body::Stream { chunks, left: size };
                return Ok(Some(described(StatusCode::OK, digest).body(body)));
            }
            Stage::Asking | Stage::Going { .. } => {
                if stage.changed().await.is_err() {
                    return Ok(None);
                }
            }
        }
    }
}

/// Sends what is in the file, as it comes.
async fn follow(
    file: Arc<File>,
    mut stage: watch::Receiver<Stage>,
    size: u64,
    client: mpsc::Sender<io::Result<Bytes>>,
) {
    let mut sent = 0;
    loop {
        let now = stage.borrow_and_update().clone();
        let reach = match &now {
            Stage::Asking => 0,
            Stage::Going { reached, .. } => (*reached).min(size.saturating_sub(HELD_BACK)),
            Stage::Landed => size,
            Stage::Failed(_, why) => {
                // A client that went away needs no answer.
                let _ = client.send(Err(io::Error::other(why.to_string()))).await;
                return;
            }
        };
        while sent < reach {
            let length = usize::try_from(reach - sent).map_or(BATCH, |n| n.min(BATCH));
            let (file, from) = (file.clone(), sent);
            let read = tokio::task::spawn_blocking(move || {
                let mut chunk = vec![0; length];
                file.read_exact_at(&mut chunk, from)?;
                Ok(Bytes::from(chunk))
            });
            let chunk = read.await.unwrap_or_else(|e| Err(io::Error::other(e)));
            let broken = chunk.is_err();
            if client.send(chunk).await.is_err() || broken {
                return;
            }
            sent += length as u64;
        }
        if sent == size || stage.changed().await.is_err() {
            return;
        }
    }
}

fn internal(fault: Fault) -> Error {
    Error::new(ErrorKind::Internal, fault.message())
}

/// The one fetch of a blob.
struct Flight {
    service: Arc<Service>,
    cached: Cached,
    digest: Digest,
    stage: watch::Sender<Stage>,
    key: String,
}

impl Flight {
    async fn fly(self) {
        let ended = match self.fetch().await {
            Ok(()) => Stage::Landed,
            Err(error) => {
                let name = &self.service.caches.upstream(&self.cached).settings.upstream;
                tracing::warn!(upstream = name, digest = %self.digest, %error, "cannot fetch a blob");
                let missing = error.kind() == ErrorKind::NotFound;
                Stage::Failed(missing, format!("{name}: {error}").into())
            }
        };
        self.service.caches.flights.end(&self.key);
        // That nobody follows any more changes nothing.
        self.stage.send_replace(ended);
    }

    async fn fetch(&self) -> Result<(), Error> {
        let upstream = self.service.caches.upstream(&self.cached);
        if self.is_here().await? {
            return Ok(());
        }
        add(&self.service.metrics.cache_fetches, 1);
        let reference = upstream.reference(&self.cached).map_err(internal)?;
        let (here, algorithm) = (self.cached.here.clone(), self.digest.algorithm());
        let mut upload = self
            .service
            .blocking(move |service| service.storage.begin_file(&here, algorithm))
            .await
            .map_err(internal)?;
        let file =
            Arc::new(upload.reader().map_err(|e| {
                Error::new(ErrorKind::Internal, format!("cannot read an upload: {e}"))
            })?);
        // A sweep must not take it for one that nobody goes on with.
        let turn = sessions::begin(&self.service, &upload);
        let mut tried = 1;
        let arrived = loop {
            let registry = match upstream.connect(&reference).await {
                Ok(registry) => registry,
                Err(e) => break Err(e),
            };
            let (back, came) = self.receive(&registry, &reference, upload, &file).await;
            upload = back;
            match came {
                Err(e) if e.kind() == ErrorKind::Unavailable && tried < TRIES => {
                    tried += 1;
                    upstream.disconnect().await;
                }
                came => break came,
            }
        };
        let digest = self.digest.clone();
        let landed = self
            .service
            .blocking(move |service| {
                let landed = match &arrived {
                    Ok(()) => service.storage.commit(upload, &digest, |_| Ok(())),
                    Err(_) => service.storage.discard(upload),
                };
                drop(turn);
                Ok((arrived, landed))
            })
            .await
            .map_err(internal)?;
        landed.0?;
        landed.1.map_err(internal)
    }

    /// Whether an earlier flight has brought it between our look and our start.
    async fn is_here(&self) -> Result<bool, Error> {
        let (here, digest) = (self.cached.here.clone(), self.digest.clone());
        self.service
            .blocking(move |service| {
                service
                    .storage
                    .record
                    .read(|c| record::size_in(c, &here, &digest))
            })
            .await
            .map(|size| size.is_some())
            .map_err(internal)
    }

    /// Takes what one request brings, from where the upload stands.
    async fn receive(
        &self,
        registry: &Registry,
        reference: &Reference,
        upload: Upload,
        file: &Arc<File>,
    ) -> (Upload, Result<(), Error>) {
        let (from, path) = (
            upload.size(),
            format!("/v2/{}/blobs/{}", reference.path(), self.digest),
        );
        let sent = registry
            .send(Method::GET, &path, &pull_scope(reference), |r| match from {
                0 => r,
                from => r.header(header::RANGE, format!("bytes={from}-")),
            })
            .await;
        let response = match sent {
            Ok(response) => response,
            Err(e) => return (upload, Err(e)),
        };
        let begins = match response.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT => from,
            _ => {
                let failure = Failure::read(response).await;
                let missing = failure.status == StatusCode::NOT_FOUND;
                let error = failure.into_error(&format!("blob {}", self.digest));
                return (
                    upload,
                    Err(match missing {
                        true => Error::new(ErrorKind::NotFound, error.to_string()),
                        false => error,
                    }),
                );
            }
        };
        let Some(length) = response.content_length() else {
            let text = "upstream does not say how long the blob is";
            return (upload, Err(Error::new(ErrorKind::Invalid, text)));
        };
        self.write(response, upload, file, begins, begins + length)
            .await
    }

    async fn write(
        &self,
        mut response: Response,
        mut upload: Upload,
        file: &Arc<File>,
        begins: u64,
        size: u64,
    ) -> (Upload, Result<(), Error>) {
        if size > self.service.settings.blob_max.get() {
            let text = format!("the blob has {size} bytes, more than this registry takes");
            return (upload, Err(Error::new(ErrorKind::Invalid, text)));
        }
        // Bytes that are here already, from a server that does not know ranges.
        let mut skip = upload.size() - begins;
        let (mut batch, mut length) = (Vec::new(), 0);
        loop {
            let chunk = match response.chunk().await {
                Ok(chunk) => chunk,
                Err(e) => {
                    let text = format!("the transfer broke off: {e}");
                    return (upload, Err(Error::new(ErrorKind::Unavailable, text)));
                }
            };
            let ended = chunk.is_none();
            if let Some(mut chunk) = chunk {
                let skipped = usize::try_from(skip).map_or(chunk.len(), |n| n.min(chunk.len()));
                skip -= skipped as u64;
                let chunk = chunk.split_off(skipped);
                length += chunk.len();
                batch.push(chunk);
            }
            if length >= BATCH || ended {
                let chunks = std::mem::take(&mut batch);
                length = 0;
                if let Err(fault) = tokio::task::block_in_place(|| upload.append(&chunks)) {
                    return (upload, Err(internal(fault)));
                }
                self.stage.send_replace(Stage::Going {
                    file: file.clone(),
                    size,
                    reached: upload.size(),
                });
            }
            if ended {
                return match upload.size() == size {
                    true => (upload, Ok(())),
                    false => {
                        let text = "the transfer ended early";
                        (upload, Err(Error::new(ErrorKind::Unavailable, text)))
                    }
                };
            }
        }
    }
}
