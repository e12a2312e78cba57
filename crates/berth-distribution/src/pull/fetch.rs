//! One blob, fetched: a large one in several ranges at once, and in as many tries as a bad line needs.

use std::sync::atomic::{AtomicU64, Ordering};

use berth_spec::Reference;
use berth_spec::oci::image::Descriptor;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use reqwest::{Method, Response, StatusCode};
use tokio::sync::mpsc;

use crate::failure::{Failure, unreachable};
use crate::manifest::pull_scope;
use crate::registry::Registry;
use crate::retry::{self, Retry};
use crate::{Error, ErrorKind, Result};

/// From so many bytes on that are still to come, a blob is fetched in ranges.
const RANGES_FROM: u64 = 16 << 20;
/// Bytes of a range. So many, times [`AT_ONCE`], may lie in memory for each blob.
const RANGE: u64 = 2 << 20;
/// Ranges of one blob under way.
const AT_ONCE: usize = 4;

/// Sends the bytes of the blob to `chunks` in their order, from byte `from` to the last, going on
/// where a broken connection stopped. `arrived` is told how many are here. Ends early, without an
/// error, when the receiver has gone: it knows why.
pub(crate) async fn fetch(
    registry: &Registry,
    reference: &Reference,
    descriptor: &Descriptor,
    from: u64,
    retry: Retry,
    chunks: mpsc::Sender<Bytes>,
    arrived: impl Fn(u64),
) -> Result<()> {
    if from == descriptor.size && from > 0 {
        return Ok(());
    }
    let blob = Blob {
        registry,
        reference,
        descriptor,
        retry,
    };
    if descriptor.size.saturating_sub(from) >= RANGES_FROM
        && let Some(first) = blob.does_ranges(from).await
    {
        return blob.in_ranges(from, first, &chunks, &arrived).await;
    }
    blob.in_one(from, &chunks, &arrived).await
}

struct Blob<'a> {
    registry: &'a Registry,
    reference: &'a Reference,
    descriptor: &'a Descriptor,
    retry: Retry,
}

impl Blob<'_> {
    /// Asks for the bytes from `from` on, up to (without) `to` where given.
    async fn ask(&self, from: u64, to: Option<u64>) -> Result<Response> {
        let digest = &self.descriptor.digest;
        let path = format!("/v2/{}/blobs/{digest}", self.reference.path());
        let range = match to {
            Some(to) => Some(format!("bytes={from}-{}", to - 1)),
            None if from > 0 => Some(format!("bytes={from}-")),
            None => None,
        };
        self.registry
            .send(
                Method::GET,
                &path,
                &pull_scope(self.reference),
                |r| match &range {
                    Some(range) => r.header("range", range),
                    None => r,
                },
            )
            .await
    }

    /// The next bytes of an answer.
    async fn next(&self, response: &mut Response) -> Result<Option<Bytes>> {
        let next = response.chunk().await;
        next.map_err(|e| unreachable(&Method::GET, response.url().as_str(), e))
    }

    fn cut_short(&self, at: u64) -> Error {
        let Descriptor { digest, size, .. } = self.descriptor;
        Error::new(
            ErrorKind::Unavailable,
            format!("blob {digest}: the registry sent {at} of {size} bytes: unexpected EOF"),
        )
    }

    fn other_range(&self) -> Error {
        let digest = &self.descriptor.digest;
        Error::new(
            ErrorKind::Invalid,
            format!("blob {digest}: the registry sent another range than it was asked for"),
        )
    }

    /// Sends all of it, one answer after the other.
    async fn in_one(
        &self,
        from: u64,
        chunks: &mpsc::Sender<Bytes>,
        arrived: &impl Fn(u64),
    ) -> Result<()> {
        let mut at = from;
        let mut tried = 0;
        loop {
            let before = at;
            match self.try_in_one(&mut at, chunks, arrived).await {
                Ok(()) => return Ok(()),
                Err(error) => self.again(at > before, &mut tried, error).await?,
            }
        }
    }

    /// Waits before the next try, or gives the error back where there shall be none.
    async fn again(&self, delivered: bool, tried: &mut u32, error: Error) -> Result<()> {
        // A line that delivers is worth more tries than one that does not.
        *tried = if delivered { 1 } else { *tried + 1 };
        if !retry::passes(&error) || *tried >= self.retry.tries {
            return Err(error);
        }
        let name = self.descriptor.digest.short();
        self.retry.wait(name, *tried, &error).await;
        Ok(())
    }

    async fn try_in_one(
        &self,
        at: &mut u64,
        chunks: &mpsc::Sender<Bytes>,
        arrived: &impl Fn(u64),
    ) -> Result<()> {
        let Descriptor { digest, size, .. } = self.descriptor;
        let from = *at;
        let mut response = self.ask(from, None).await?;
        // A registry that does not do ranges sends all of it: what we have is passed over.
        let mut skip = match response.status() {
            StatusCode::PARTIAL_CONTENT if range_start(&response) == Some(from) => 0,
            StatusCode::OK => from,
            StatusCode::PARTIAL_CONTENT => return Err(self.other_range()),
            StatusCode::RANGE_NOT_SATISFIABLE if from == *size => return Ok(()),
            _ => {
                let failure = Failure::read(response).await;
                return Err(failure.into_error(&format!("blob {digest}")));
            }
        };
        while let Some(mut chunk) = self.next(&mut response).await? {
            if skip > 0 {
                let n = skip.min(chunk.len() as u64);
                skip -= n;
                drop(chunk.split_to(usize::try_from(n).unwrap_or(chunk.len())));
                if chunk.is_empty() {
                    continue;
                }
            }
            let n = chunk.len() as u64;
            if chunks.send(chunk).await.is_err() {
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
            return Err(self.cut_short(*at));
        }
        Ok(())
    }

    /// Asks for a first range. The answer, where the registry gave just that; who does not, or fails, is
    /// asked for the whole.
    async fn does_ranges(&self, from: u64) -> Option<Response> {
        let response = self.ask(from, Some(from + RANGE)).await.ok()?;
        let good = response.status() == StatusCode::PARTIAL_CONTENT
            && range_start(&response) == Some(from);
        good.then_some(response)
    }

    /// Sends all of it, several ranges being fetched at once; `first` is the answer for the first.
    async fn in_ranges(
        &self,
        from: u64,
        first: Response,
        chunks: &mpsc::Sender<Bytes>,
        arrived: &impl Fn(u64),
    ) -> Result<()> {
        let size = self.descriptor.size;
        let here = AtomicU64::new(from);
        let come = |n: usize| {
            let before = here.fetch_add(n as u64, Ordering::Relaxed);
            arrived(before + n as u64);
        };
        let mut first = Some(first);
        let starts = (0..).map(|i| from + i * RANGE).take_while(|at| *at < size);
        let ranges = starts.map(|start| {
            let end = (start + RANGE).min(size);
            self.range(start, end, first.take(), &come)
        });
        // Polled by this task alone: an aborted pull ends them.
        let mut ranges = stream::iter(ranges).buffered(AT_ONCE);
        while let Some(range) = ranges.try_next().await? {
            for chunk in range {
                if chunks.send(chunk).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The bytes from `start` to `end`.
    async fn range(
        &self,
        start: u64,
        end: u64,
        mut answer: Option<Response>,
        come: &impl Fn(usize),
    ) -> Result<Vec<Bytes>> {
        let mut got = Vec::new();
        let mut at = start;
        let mut tried = 0;
        loop {
            let before = at;
            let outcome = self
                .try_range(&mut at, end, answer.take(), &mut got, come)
                .await;
            match outcome {
                Ok(()) => return Ok(got),
                Err(error) => self.again(at > before, &mut tried, error).await?,
            }
        }
    }

    async fn try_range(
        &self,
        at: &mut u64,
        end: u64,
        answer: Option<Response>,
        got: &mut Vec<Bytes>,
        come: &impl Fn(usize),
    ) -> Result<()> {
        let mut response = match answer {
            Some(response) => response,
            None => self.ask(*at, Some(end)).await?,
        };
        match response.status() {
            StatusCode::PARTIAL_CONTENT if range_start(&response) == Some(*at) => {}
            // It did them a moment ago.
            status if status.is_success() => return Err(self.other_range()),
            _ => {
                let failure = Failure::read(response).await;
                return Err(failure.into_error(&format!("blob {}", self.descriptor.digest)));
            }
        }
        while let Some(chunk) = self.next(&mut response).await? {
            *at += chunk.len() as u64;
            if *at > end {
                return Err(self.other_range());
            }
            come(chunk.len());
            got.push(chunk);
        }
        if *at < end {
            return Err(self.cut_short(*at));
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
