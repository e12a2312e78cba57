//! Bytes of blobs and the record of them, in step.
//!
//! [`Storage`] is the one face of both. The record is SQLite or PostgreSQL ([`record`](super::record));
//! blobs are files ([`disk`]) or objects of an S3-compatible store ([`bucket`]). A row of the record means
//! that the bytes are there: they come before the row and go after it.
//!
//! Where blobs are objects, files of earlier days are still served, and what a cache fetches is written
//! to a file first, which its followers read.

pub(crate) mod bucket;
mod disk;
pub(crate) mod files;
pub(crate) mod upload;

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use berth_spec::Digest;
use berth_spec::digest::Algorithm;

use super::fault::{Code, Fault, Reply};
use super::record::{Postgres, Record, Transaction, blobs, now, secrets, sweep, uploads};
use super::settings::Settings;
use bucket::{Bucket, Object};
use disk::Disk;
use upload::Upload;

/// A registry's storage. Everything here blocks.
pub(crate) struct Storage {
    pub(crate) record: Arc<Record>,
    disk: Disk,
    bucket: Option<Arc<Bucket>>,
}

/// A blob that can be read.
pub(crate) enum Found {
    File(File, u64),
    Object(Object),
}

impl Storage {
    /// Opens or makes the storage, and removes what a crash left. To be called from a thread that may
    /// block, inside a runtime.
    pub(crate) fn open(settings: &Settings) -> Reply<Self> {
        let disk = Disk::open(&settings.root)?;
        let record = match &settings.postgres {
            Some(postgres) => Record::Postgres(Postgres::open(postgres)?),
            None => Record::open(&settings.root.join("registry.db"))?,
        };
        let record = Arc::new(record);
        let bucket = settings
            .s3
            .as_ref()
            .map(|s3| Bucket::open(s3, &settings.client, record.clone()).map(Arc::new))
            .transpose()?;
        if record.is_shared() && bucket.is_none() {
            return Err(Fault::new(
                Code::Unknown,
                "postgres without s3: replicas that share a record need a store that has their blobs",
            ));
        }
        disk.remove_strangers(&record)?;
        Ok(Self {
            record,
            disk,
            bucket,
        })
    }

    /// A secret that all replicas share; nothing where there is one registry only.
    pub(crate) fn shared_secret(&self, name: &str, fresh: &[u8]) -> Reply<Option<Vec<u8>>> {
        match self.record.is_shared() {
            true => self
                .record
                .write(|tx| Ok(Some(secrets::get_or_set(tx, name, fresh)?))),
            false => Ok(None),
        }
    }

    /// Finds a blob that `repository` has.
    pub(crate) fn open_blob(&self, repository: &str, digest: &Digest) -> Reply<Option<Found>> {
        let held = self.record.read(|c| blobs::held(c, repository, digest))?;
        let Some(held) = held else {
            return Ok(None);
        };
        match (&self.bucket, held.key.is_empty()) {
            (_, true) => {
                let file = self.disk.open_blob(digest)?;
                Ok(file.map(|file| Found::File(file, held.size)))
            }
            (Some(bucket), false) => Ok(Some(Found::Object(bucket.object(held)))),
            (None, false) => Err(Fault::internal(
                "the registry's object store is not configured",
                format_args!("blob {digest} is in the object {}", held.key),
            )),
        }
    }

    /// Begins an upload whose digest will probably be of `algorithm`.
    pub(crate) fn begin_upload(&self, repository: &str, algorithm: Algorithm) -> Reply<Upload> {
        match &self.bucket {
            Some(bucket) => Upload::begin_object(bucket, repository, algorithm),
            None => self.begin_file(repository, algorithm),
        }
    }

    /// Begins an upload into a file that others may follow, wherever its blob will be.
    pub(crate) fn begin_file(&self, repository: &str, algorithm: Algorithm) -> Reply<Upload> {
        Upload::begin_file(self.disk.root(), repository, algorithm)
    }

    /// Takes up an upload of an earlier process, or of another replica.
    pub(crate) fn resume_upload(&self, repository: &str, id: &str) -> Reply<Upload> {
        match &self.bucket {
            Some(bucket) => Upload::resume_object(bucket, repository, id),
            None => Upload::resume_file(self.disk.root(), repository, id),
        }
    }

    /// Whether an upload that was kept open is still as the record has it: another replica may have
    /// gone on with it.
    pub(crate) fn is_current(&self, upload: &Upload) -> Reply<bool> {
        match upload.version() {
            None => Ok(true),
            Some(version) => {
                let found = self
                    .record
                    .read(|c| uploads::get(c, &upload.repository, &upload.id))?;
                Ok(found.is_some_and(|progress| progress.version == version))
            }
        }
    }

    /// Keeps what has come of an upload, for whoever goes on with it.
    pub(crate) fn keep(&self, upload: &mut Upload) -> Reply<()> {
        upload.keep()
    }

    /// Throws an upload away.
    pub(crate) fn discard(&self, upload: Upload) -> Reply<()> {
        upload.discard()
    }

    /// Makes the upload the blob `digest` of its repository, if that is its digest. `admit` may refuse,
    /// inside the transaction that records it. Either way the upload has ended.
    pub(crate) fn commit(
        &self,
        mut upload: Upload,
        digest: &Digest,
        admit: impl FnOnce(&Transaction) -> Reply<()>,
    ) -> Reply<()> {
        if !upload.is_object() {
            if let Err(fault) = upload.verify_file(digest) {
                // The fault is what the client must know.
                let _ = upload.discard();
                return Err(fault);
            }
            match &self.bucket {
                None => return self.disk.publish(&self.record, upload, digest, admit),
                Some(bucket) => upload = upload.into_object(bucket)?,
            }
        }
        let committed = upload.commit_object(digest, admit);
        if committed
            .as_ref()
            .is_err_and(|fault| fault.status.is_client_error())
            && !upload.is_broken()
        {
            // What is left after a failure of ours, the client may go on with.
            let _ = upload.discard();
        }
        committed
    }

    /// Removes uploads that nobody wrote to for `idle`, except those that `is_open`; how many.
    pub(crate) fn sweep_uploads(
        &self,
        idle: Duration,
        is_open: impl Fn(&str) -> bool,
    ) -> Reply<usize> {
        let mut removed = self.disk.sweep_uploads(idle, &is_open)?;
        if let Some(bucket) = &self.bucket {
            let idle = i64::try_from(idle.as_secs()).unwrap_or(i64::MAX);
            let before = now().saturating_sub(idle).saturating_add(1);
            removed += bucket.sweep_uploads(before, is_open)?;
        }
        Ok(removed)
    }

    /// Removes blobs that the record calls unlinked and untouched since `before`; how many, and their
    /// bytes.
    pub(crate) fn sweep_blobs(&self, before: i64, count: usize) -> Reply<(usize, u64)> {
        let found = self.record.read(|c| sweep::unlinked(c, before, count))?;
        let (mut removed, mut bytes) = (0, 0);
        for aged in found {
            let gone = match &self.bucket {
                Some(bucket) if !aged.key.is_empty() => bucket.sweep(&aged, before)?,
                _ => self.disk.sweep_blob(&self.record, &aged, before)?,
            };
            if gone {
                removed += 1;
                bytes += aged.size;
            }
        }
        if let Some(bucket) = &self.bucket {
            bucket.bury()?;
        }
        Ok((removed, bytes))
    }
}
