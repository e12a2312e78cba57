//! One blob, fetched: in as many pieces as a bad line needs.

use berth_spec::Reference;
use berth_spec::oci::image::Descriptor;
use bytes::Bytes;
use reqwest::{Method, Response, StatusCode};
use tokio::sync::mpsc;

use crate::failure::{Failure, unreachable};
use crate::manifest::pull_scope;
use crate::registry::Registry;
use crate::retry::{self, Retry};
use crate::{Error, ErrorKind, Result};

/// Sends the bytes of the blob to `chunks`, from byte `from` to the last, going on where a broken
/// connection stopped. `arrived` is told how many are here. Ends early, without an error, when the
/// receiver has gone: it knows why.
pub(crate) async fn fetch(
    registry: &Registry,
    reference: &Reference,
    descriptor: &Descriptor,
    from: u64,
    retry: Retry,
    chunks: mpsc::Sender<Bytes>,
    arrived: impl Fn(u64),
) -> Result<()> {
    let mut at = from;
    let mut tried = 0;
    if at == descriptor.size && at > 0 {
        return Ok(());
    }
    loop {
        let before = at;
        let attempt = Attempt {
            registry,
            reference,
            descriptor,
            chunks: &chunks,
        };
        match attempt.run(&mut at, &arrived).await {
            Ok(()) => return Ok(()),
            Err(error) if retry::passes(&error) => {
                // A line that delivers is worth more tries than one that does not.
                tried = if at > before { 1 } else { tried + 1 };
                if tried >= retry.tries {
                    return Err(error);
                }
                retry.wait(descriptor.digest.short(), tried, &error).await;
            }
            Err(error) => return Err(error),
        }
    }
}

struct Attempt<'a> {
    registry: &'a Registry,
    reference: &'a Reference,
    descriptor: &'a Descriptor,
    chunks: &'a mpsc::Sender<Bytes>,
}

impl Attempt<'_> {
    /// Asks for the bytes from `at` on.
    async fn run(&self, at: &mut u64, arrived: &impl Fn(u64)) -> Result<()> {
        let Descriptor { digest, size, .. } = self.descriptor;
        let path = format!("/v2/{}/blobs/{digest}", self.reference.path());
        let from = *at;
        let mut response = self
            .registry
            .send(Method::GET, &path, &pull_scope(self.reference), |r| {
                if from > 0 {
                    r.header("range", format!("bytes={from}-"))
                } else {
                    r
                }
            })
            .await?;
        // A registry that does not do ranges sends all of it: what we have is passed over.
        let mut skip = match response.status() {
            StatusCode::PARTIAL_CONTENT if range_start(&response) == Some(from) => 0,
            StatusCode::OK => from,
            StatusCode::PARTIAL_CONTENT => {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!("blob {digest}: the registry sent another range than it was asked for"),
                ));
            }
            StatusCode::RANGE_NOT_SATISFIABLE if from == *size => return Ok(()),
            _ => {
                let failure = Failure::read(response).await;
                return Err(failure.into_error(&format!("blob {digest}")));
            }
        };
        let url = response.url().to_string();
        while let Some(mut chunk) = response
            .chunk()
            .await
            .map_err(|e| unreachable(&Method::GET, &url, e))?
        {
            if skip > 0 {
                let n = skip.min(chunk.len() as u64);
                skip -= n;
                drop(chunk.split_to(usize::try_from(n).unwrap_or(chunk.len())));
                if chunk.is_empty() {
                    continue;
                }
            }
            let n = chunk.len() as u64;
            if self.chunks.send(chunk).await.is_err() {
                return Ok(());
            }
            *at += n;
            arrived(*at);
            if *at > *size {
                // The receiver refuses what is too long, and says so.
                return Ok(());
            }
        }
        if *at < *size {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("blob {digest}: the registry sent {at} of {size} bytes: unexpected EOF"),
            ));
        }
        Ok(())
    }
}

/// Where the answered range begins: `bytes 100-199/200`.
fn range_start(response: &Response) -> Option<u64> {
    let value = response.headers().get("content-range")?.to_str().ok()?;
    let (start, _) = value.strip_prefix("bytes ")?.split_once('-')?;
    start.parse().ok()
}
