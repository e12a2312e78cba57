//! An upload on its way into the store, as parts of one object.
//!
//! Between two requests all that has come is in the store and in the upload's row: whole parts, and one
//! object with the bytes after the last (a part has a least size). Any replica can go on from there. Each
//! change of the row names the version that it comes from, so of two replicas that write to the same
//! upload one goes on, and the other's client is told.

use std::sync::Arc;

use berth_spec::Digest;
use berth_store::hash::{Hasher, sha256};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use tokio::task::JoinHandle;

use super::{Bucket, doom};
use crate::server::fault::{Code, Fault, Reply};
use crate::server::record::uploads::{self, Doomed, Progress};
use crate::server::record::{Transaction, blobs};
use crate::server::storage::files;

/// Parts that an object may have.
const PARTS_MAX: usize = 10_000;
/// Bytes read at a time where an object is hashed.
const READ: u64 = 8 << 20;

/// Where an upload into the store stands.
pub(in super::super) struct Parts {
    bucket: Arc<Bucket>,
    id: String,
    repository: String,
    /// What the row says.
    stored: Progress,
    /// What the store calls the parts that it has.
    sent: Vec<String>,
    /// The part that is being sent.
    flying: Option<JoinHandle<Reply<String>>>,
    /// Bytes that are no part yet.
    rest: Vec<Bytes>,
    rest_length: usize,
    /// Whether an earlier process may have left a rest of which the row does not tell.
    resumed: bool,
    /// Whether something failed: what is here is of no use any more, the row is.
    broken: bool,
}

/// A place to come back to.
pub(in super::super) struct PartsMark {
    parts: usize,
    rest: Vec<Bytes>,
    rest_length: usize,
}

impl Parts {
    /// Begins an upload: a row, and no object yet.
    pub(in super::super) fn begin(bucket: &Arc<Bucket>, repository: &str) -> Reply<Self> {
        let id = files::unique_name()?;
        let stored = Progress::default();
        bucket
            .record
            .write(|tx| Ok(uploads::begin(tx, &id, repository, &stored)?))?;
        Ok(Self::at(bucket, repository, &id, stored))
    }

    /// Takes up the upload where its row says it stands, if there is one.
    pub(in super::super) fn resume(
        bucket: &Arc<Bucket>,
        repository: &str,
        id: &str,
    ) -> Reply<Option<Self>> {
        let stored = bucket.record.read(|c| uploads::get(c, repository, id))?;
        Ok(stored.map(|stored| Self {
            resumed: true,
            ..Self::at(bucket, repository, id, stored)
        }))
    }

    fn at(bucket: &Arc<Bucket>, repository: &str, id: &str, stored: Progress) -> Self {
        Self {
            bucket: bucket.clone(),
            id: id.to_owned(),
            repository: repository.to_owned(),
            sent: stored.parts.clone(),
            stored,
            flying: None,
            rest: Vec::new(),
            rest_length: 0,
            resumed: false,
            broken: false,
        }
    }

    pub(in super::super) fn id(&self) -> &str {
        &self.id
    }

    /// What the row says.
    pub(in super::super) fn stored(&self) -> &Progress {
        &self.stored
    }

    pub(in super::super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Fetches the bytes after the last part, as [`keep`](Self::keep) left them.
    pub(in super::super) fn fetch_rest(&mut self) -> Reply<()> {
        let Some((name, hash)) = self.stored_rest() else {
            return Ok(());
        };
        let bytes = self.bucket.wait(async {
            let Some(answer) = self.bucket.s3.get(&name, 0, 0).await? else {
                return Ok(Bytes::new());
            };
            answer
                .bytes()
                .await
                .map_err(|e| Fault::internal("the object store's answer broke off", e))
        })?;
        if sha256(&bytes).hex() != hash {
            // Another replica wrote at the same time, or the collector was faster.
            return Err(unknown());
        }
        self.push(bytes);
        Ok(())
    }

    /// The object with the bytes after the last part, and their hash.
    fn stored_rest(&self) -> Option<(String, String)> {
        let (version, hash) = self.stored.tail.split_once(':')?;
        Some((self.rest_name(version), hash.to_owned()))
    }

    fn rest_name(&self, version: impl std::fmt::Display) -> String {
        format!("uploads/{}-{version}", self.id)
    }

    fn push(&mut self, bytes: Bytes) {
        self.rest_length += bytes.len();
        self.rest.push(bytes);
    }

    /// Appends `chunks`, and sends what makes a part.
    pub(in super::super) fn append(&mut self, chunks: &[Bytes]) -> Reply<()> {
        for chunk in chunks {
            self.push(chunk.clone());
        }
        while self.rest_length >= self.bucket.part {
            if let Err(fault) = self.send_part() {
                self.broken = true;
                return Err(fault);
            }
        }
        Ok(())
    }

    /// The next `length` bytes in one piece.
    fn take(&mut self, length: usize) -> Bytes {
        let mut piece = BytesMut::with_capacity(length);
        let mut rest = std::mem::take(&mut self.rest).into_iter();
        for mut chunk in rest.by_ref() {
            let wanted = length - piece.len();
            if chunk.len() > wanted {
                piece.extend_from_slice(&chunk.split_to(wanted));
                self.rest.push(chunk);
                break;
            }
            piece.extend_from_slice(&chunk);
        }
        self.rest.extend(rest);
        self.rest_length -= piece.len();
        piece.freeze()
    }

    /// Sends a part while more bytes come.
    fn send_part(&mut self) -> Reply<()> {
        self.begin_parts()?;
        self.settle()?;
        let number = self.next_number()?;
        let bytes = self.take(self.bucket.part);
        let (bucket, key) = (self.bucket.clone(), self.stored.key.clone());
        let multipart = self.stored.multipart.clone();
        self.flying = Some(
            self.bucket
                .runtime
                .spawn(async move { bucket.s3.put_part(&key, &multipart, number, bytes).await }),
        );
        Ok(())
    }

    fn next_number(&self) -> Reply<usize> {
        if self.sent.len() >= PARTS_MAX {
            return Err(Fault::new(
                Code::SizeInvalid,
                format!(
                    "a blob has {PARTS_MAX} parts of {} bytes at most in this registry's object store",
                    self.bucket.part
                ),
            )
            .with_status(StatusCode::PAYLOAD_TOO_LARGE));
        }
        Ok(self.sent.len() + 1)
    }

    /// Waits for the part that is being sent.
    fn settle(&mut self) -> Reply<()> {
        if let Some(flying) = self.flying.take() {
            let tag = self
                .bucket
                .wait(flying)
                .map_err(|e| Fault::internal("a part was lost", e))??;
            self.sent.push(tag);
        }
        Ok(())
    }

    /// Makes sure that the store knows of an object in parts.
    fn begin_parts(&mut self) -> Reply<()> {
        if !self.stored.multipart.is_empty() {
            return Ok(());
        }
        let mut next = self.next();
        next.key = self.key_at(next.version);
        next.multipart = self.bucket.wait(self.bucket.s3.begin_parts(&next.key))?;
        self.advance(next, |_, _| Ok(()))
    }

    fn key_at(&self, version: i64) -> String {
        format!("blobs/{}-{version}", self.id)
    }

    fn next(&self) -> Progress {
        let mut next = self.stored.clone();
        next.version += 1;
        next
    }

    /// Brings the row to `next`, and `also` does what goes with it.
    fn advance(
        &mut self,
        next: Progress,
        also: impl FnOnce(&Transaction, &Progress) -> Reply<()>,
    ) -> Reply<()> {
        let moved = self.bucket.record.write(|tx| {
            let moved = uploads::advance(tx, &self.id, &next)?;
            match moved {
                true => also(tx, &self.stored)?,
                // What we have just begun is nobody's.
                false if next.multipart != self.stored.multipart => {
                    doom(tx, &next.key, &next.multipart)?;
                }
                false => {}
            }
            Ok(moved)
        })?;
        if !moved {
            self.broken = true;
            return Err(overtaken(&self.id));
        }
        self.stored = next;
        Ok(())
    }

    /// A place to come back to.
    pub(in super::super) fn mark(&self) -> PartsMark {
        PartsMark {
            parts: self.sent.len() + usize::from(self.flying.is_some()),
            rest: self.rest.clone(),
            rest_length: self.rest_length,
        }
    }

    /// Goes back to a [`mark`](Self::mark): parts sent since are sent anew under the same numbers, or
    /// not counted in the end.
    pub(in super::super) fn rewind(&mut self, mark: PartsMark) -> Reply<()> {
        self.settle()?;
        self.sent.truncate(mark.parts);
        self.rest = mark.rest;
        self.rest_length = mark.rest_length;
        Ok(())
    }

    /// Puts all that has come, `size` bytes, where any replica finds it.
    pub(in super::super) fn keep(&mut self, size: u64, digest: Option<Digest>) -> Reply<()> {
        if self.broken || size == self.stored.size {
            return Ok(());
        }
        let kept = self.try_keep(size, digest);
        self.broken |= kept.is_err();
        kept
    }

    fn try_keep(&mut self, size: u64, digest: Option<Digest>) -> Reply<()> {
        self.settle()?;
        let mut next = self.next();
        next.size = size;
        next.parts = self.sent.clone();
        next.digest = digest;
        next.tail = String::new();
        let name = self.rest_name(next.version);
        if self.rest_length > 0 {
            let rest = self.take(self.rest_length);
            next.tail = format!("{}:{}", next.version, sha256(&rest).hex());
            self.bucket.wait(self.bucket.s3.put(&name, rest.clone()))?;
            self.push(rest);
        }
        let before = self.stored_rest();
        let nameless = self.resumed && next.tail.is_empty();
        self.advance(next, |tx, _| {
            if let Some((before, _)) = before {
                doom(tx, &before, "")?;
            }
            if nameless {
                doom(tx, &name, "")?;
            }
            Ok(())
        })
    }

    /// Makes the object out of all that has come. One replica only gets this far with an upload.
    pub(in super::super) fn finish(&mut self, size: u64) -> Reply<()> {
        self.settle()?;
        let mut next = self.next();
        if next.multipart.is_empty() {
            next.key = self.key_at(next.version);
        }
        let earlier = self.stored.key.clone();
        let (renamed, rest) = (next.key != earlier, self.rest_length);
        self.advance(next, |tx, _| {
            if renamed && !earlier.is_empty() {
                // An earlier try to finish, which failed.
                doom(tx, &earlier, "")?;
            }
            Ok(())
        })?;
        let bytes = self.take(rest);
        let (s3, key) = (&self.bucket.s3, &self.stored.key);
        if self.stored.multipart.is_empty() {
            return self.bucket.wait(async {
                s3.put(key, bytes).await?;
                s3.expect(key, size).await
            });
        }
        let multipart = &self.stored.multipart;
        if rest > 0 {
            let number = self.next_number()?;
            let tag = self
                .bucket
                .wait(s3.put_part(key, multipart, number, bytes))?;
            self.sent.push(tag);
        }
        self.bucket
            .wait(s3.complete(key, multipart, &self.sent, size))
    }

    /// Hashes the finished object.
    pub(in super::super) fn hash(&self, size: u64, mut hasher: Hasher) -> Reply<Digest> {
        self.bucket.wait(async {
            while hasher.seen() < size {
                let length = READ.min(size - hasher.seen());
                let got = self.bucket.s3.get(&self.stored.key, hasher.seen(), length);
                let bytes = match got.await? {
                    Some(answer) => answer
                        .bytes()
                        .await
                        .map_err(|e| Fault::internal("the object store's answer broke off", e))?,
                    None => return Err(unknown()),
                };
                if bytes.len() as u64 != length {
                    return Err(Fault::internal("the object store sent", bytes.len()));
                }
                hasher.update(&bytes);
            }
            Ok(hasher.finish())
        })
    }

    /// Records the finished object as the blob `digest`; `admit` may refuse.
    pub(in super::super) fn publish(
        &mut self,
        digest: &Digest,
        size: u64,
        admit: impl FnOnce(&Transaction) -> Reply<()>,
    ) -> Reply<()> {
        let doomed = self.bucket.record.write(|tx| {
            admit(tx)?;
            if !uploads::end(tx, &self.id)? {
                return Err(overtaken(&self.id));
            }
            let mut doomed = self.doom_rests(tx)?;
            let key = &self.stored.key;
            if !blobs::add_at(tx, &self.repository, digest, size, key)? {
                doomed.push(doom(tx, key, "")?);
            }
            Ok(doomed)
        })?;
        // What fails is the collector's.
        let _ = self.bucket.bury_these(&doomed);
        Ok(())
    }

    fn doom_rests(&self, tx: &Transaction) -> Reply<Vec<Doomed>> {
        let mut doomed = Vec::new();
        if let Some((name, _)) = self.stored_rest() {
            doomed.push(doom(tx, &name, "")?);
        }
        if self.resumed {
            let name = self.rest_name(self.stored.version + 1);
            doomed.push(doom(tx, &name, "")?);
        }
        Ok(doomed)
    }

    /// Throws all of it away.
    pub(in super::super) fn discard(mut self) -> Reply<()> {
        // A part that arrives after its upload is gone is refused or goes with it.
        let _ = self.settle();
        let doomed = self.bucket.record.write(|tx| {
            if !uploads::end(tx, &self.id)? {
                return Ok(Vec::new());
            }
            let mut doomed = self.doom_rests(tx)?;
            if !self.stored.key.is_empty() {
                doomed.push(doom(tx, &self.stored.key, &self.stored.multipart)?);
            }
            Ok(doomed)
        })?;
        // What fails is the collector's.
        let _ = self.bucket.bury_these(&doomed);
        Ok(())
    }
}

/// There is no such upload (any more): the client begins anew.
pub(in super::super) fn unknown() -> Fault {
    Fault::new(
        Code::BlobUploadUnknown,
        "blob upload unknown to the registry",
    )
}

fn overtaken(id: &str) -> Fault {
    Fault::new(
        Code::BlobUploadInvalid,
        format!("another request has written to upload {id}"),
    )
    .with_status(StatusCode::CONFLICT)
}
