//! Blobs as objects of an S3-compatible store.
//!
//! An upload's bytes go into the parts of one object as they come ([`parts`]); the object is never renamed
//! or copied, its key stands in the blob's row. Two uploads of the same bytes are two objects, of which one
//! goes, so nobody can take an object away that another has just brought. Every object's key is in a
//! row before the object is there and as long as it is: see [`uploads`](crate::server::record::uploads).

pub(super) mod parts;
mod s3;
pub(crate) mod settings;
mod sign;

use std::future::Future;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::ClientOptions;
use crate::server::fault::{Code, Fault, Reply};
use crate::server::record::blobs::Held;
use crate::server::record::sweep::{self, Aged};
use crate::server::record::uploads::{self, Doomed};
use crate::server::record::{Record, Transaction};
use s3::S3;
use settings::S3Settings;

/// What S3 allows.
const PART_MIN: u64 = 5 << 20;
const PART_MAX: u64 = 1 << 30;
/// Rows that are looked at in one step.
const STEP: usize = 64;
/// Smaller blobs are sent from here even where clients are sent to the store: that is one request less,
/// and a page's script may read a configuration.
const REDIRECT_FROM: u64 = 1 << 20;

/// The store that has the blobs.
pub(crate) struct Bucket {
    s3: S3,
    record: Arc<Record>,
    runtime: Handle,
    /// Bytes of a part.
    part: usize,
    redirect: bool,
    lifetime: i64,
}

/// A blob in the store.
pub(crate) struct Object {
    bucket: Arc<Bucket>,
    key: String,
    pub(crate) size: u64,
}

impl Bucket {
    /// To be called inside a runtime.
    pub(super) fn open(
        settings: &S3Settings,
        options: &ClientOptions,
        record: Arc<Record>,
    ) -> Reply<Self> {
        let part = settings.part_size.get();
        if !(PART_MIN..=PART_MAX).contains(&part) {
            return Err(Fault::new(
                Code::Unknown,
                format!("s3: part-size is {part}: {PART_MIN} to {PART_MAX} bytes are possible"),
            ));
        }
        Ok(Self {
            s3: S3::open(settings, options)?,
            record,
            runtime: Handle::current(),
            part: usize::try_from(part).unwrap_or(usize::MAX),
            redirect: settings.redirect,
            lifetime: settings.redirect_lifetime.as_secs(),
        })
    }

    /// The blob that a row tells of.
    pub(super) fn object(self: &Arc<Self>, held: Held) -> Object {
        Object {
            bucket: self.clone(),
            key: held.key,
            size: held.size,
        }
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Ends uploads that nobody wrote to since `before`, except those that `is_open`; how many.
    pub(super) fn sweep_uploads(
        self: &Arc<Self>,
        before: i64,
        is_open: impl Fn(&str) -> bool,
    ) -> Reply<usize> {
        let mut removed = 0;
        loop {
            let idle = self.record.read(|c| uploads::idle(c, before, STEP))?;
            let mut ended = 0;
            for (id, repository) in idle {
                if is_open(&id) {
                    continue;
                }
                if let Some(parts) = parts::Parts::resume(self, &repository, &id)? {
                    parts.discard()?;
                    ended += 1;
                }
            }
            removed += ended;
            if ended == 0 {
                return Ok(removed);
            }
        }
    }

    /// Takes a blob out of the record if it is still as `aged` says; its object is doomed then.
    pub(super) fn sweep(&self, aged: &Aged, before: i64) -> Reply<bool> {
        self.record.write(|tx| {
            let gone = sweep::forget_blob(tx, &aged.digest, before)?;
            if gone {
                doom(tx, &aged.key, "")?;
            }
            Ok(gone)
        })
    }

    /// Removes all objects that are doomed.
    pub(super) fn bury(&self) -> Reply<()> {
        let mut last = Doomed {
            key: String::new(),
            multipart: String::new(),
        };
        loop {
            let found = self.record.read(|c| uploads::doomed(c, &last, STEP))?;
            match found.last() {
                Some(end) => last = end.clone(),
                None => return Ok(()),
            }
            self.bury_these(&found)?;
        }
    }

    fn bury_these(&self, doomed: &[Doomed]) -> Reply<()> {
        for one in doomed {
            self.wait(async {
                if !one.multipart.is_empty() {
                    self.s3.abort(&one.key, &one.multipart).await?;
                }
                self.s3.delete(&one.key).await
            })?;
        }
        self.record.write(|tx| {
            for one in doomed {
                uploads::gone(tx, one)?;
            }
            Ok(())
        })
    }
}

/// The object, or the parts of one, are to go.
fn doom(tx: &Transaction, key: &str, multipart: &str) -> Reply<Doomed> {
    let doomed = Doomed {
        key: key.to_owned(),
        multipart: multipart.to_owned(),
    };
    uploads::doom(tx, &doomed)?;
    Ok(doomed)
}

impl Object {
    /// Where a client can fetch it itself, if it should.
    pub(crate) fn address(&self) -> Option<String> {
        let bucket = &self.bucket;
        (bucket.redirect && self.size >= REDIRECT_FROM)
            .then(|| bucket.s3.address(&self.key, bucket.lifetime))
    }

    /// `length` of its bytes from `from`, as they come; nothing where it is gone.
    pub(crate) async fn read(
        self,
        from: u64,
        length: u64,
    ) -> Reply<Option<mpsc::Receiver<io::Result<Bytes>>>> {
        let Some(mut answer) = self.bucket.s3.get(&self.key, from, length).await? else {
            return Ok(None);
        };
        let (sender, chunks) = mpsc::channel(2);
        tokio::spawn(async move {
            let mut left = length;
            while left > 0 {
                let chunk = match answer.chunk().await {
                    Ok(Some(mut chunk)) => {
                        // No more than was announced, whatever the store sends.
                        chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                        left -= chunk.len() as u64;
                        Ok(chunk)
                    }
                    Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
                    Err(e) => Err(io::Error::other(e)),
                };
                let broken = chunk.is_err();
                // A client that went away wants no more.
                if sender.send(chunk).await.is_err() || broken {
                    return;
                }
            }
        });
        Ok(Some(chunks))
    }
}
