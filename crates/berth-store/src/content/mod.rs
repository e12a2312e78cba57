//! The content store: blobs by digest, as they travelled.
//!
//! ```text
//! <root>/content/sha256/<hex>   a blob: immutable, verified before it got this name
//! <root>/content/ingest/<name>  a blob on its way in; swept at start
//! <root>/content/ingest/part-…  what has come of a blob whose fetch was broken off: see `part`
//! ```
//!
//! An *ingest* is a blob being written. It becomes visible by one rename, after its digest and size
//! have been compared with what was expected and its bytes are on disk. The file is the record:
//! there is nothing else to keep in step with it.

mod part;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use berth_spec::Digest;
use berth_spec::digest::Algorithm;

use crate::hash::{Hasher, digest_with};
use crate::{Error, ErrorKind, Lease, Result, disk, durable};

/// What is known of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobInfo {
    /// Bytes.
    pub size: u64,
}

/// Blobs by digest; cheap to clone.
#[derive(Debug, Clone)]
pub struct Content {
    root: PathBuf,
}

const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

impl Content {
    /// Opens the content below `root` and throws away what was on its way in when the last process
    /// ended.
    pub(crate) fn at(root: PathBuf) -> Result<Self> {
        let content = Self { root };
        durable::make_dir(&content.ingest_dir())?;
        for algorithm in ALGORITHMS {
            durable::make_dir(&content.root.join(algorithm.as_str()))?;
        }
        content.sweep_ingest();
        Ok(content)
    }

    fn ingest_dir(&self) -> PathBuf {
        self.root.join("ingest")
    }

    /// Where the blob `digest` is, or would be.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.root
            .join(digest.algorithm().as_str())
            .join(digest.hex())
    }

    /// The blob's size, or nothing where it is not here.
    pub fn info(&self, digest: &Digest) -> Result<Option<BlobInfo>> {
        match fs::symlink_metadata(self.path(digest)) {
            Ok(meta) => Ok(Some(BlobInfo { size: meta.len() })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(format_args!("cannot look at blob {digest}"), e)),
        }
    }

    /// Opens the blob for reading.
    pub fn open(&self, digest: &Digest) -> Result<File> {
        File::open(self.path(digest)).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::not_found(format!("no such blob: {digest}")),
            _ => Error::io(format_args!("cannot open blob {digest}"), e),
        })
    }

    /// Reads a small blob whole and compares it with its digest; one longer than `max` bytes is
    /// refused.
    pub fn read(&self, digest: &Digest, max: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(digest)?
            .take(max.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|e| Error::io(format_args!("cannot read blob {digest}"), e))?;
        if bytes.len() as u64 > max {
            return Err(Error::invalid(format!(
                "blob {digest} has more than {max} bytes"
            )));
        }
        let found = digest_with(digest.algorithm(), &bytes);
        if found != *digest {
            return Err(Error::new(
                ErrorKind::Internal,
                format!("blob {digest} is damaged on disk: its bytes have the digest {found}"),
            ));
        }
        Ok(bytes)
    }

    /// Begins a blob. Where `expected` is given, [`Ingest::commit`] compares digest and size with it,
    /// and no byte beyond the size is taken. The blob is held by `lease`.
    pub fn ingest(&self, lease: &Lease, expected: Option<(&Digest, u64)>) -> Result<Ingest> {
        let (file, path) = durable::create_unique(&self.ingest_dir())?;
        let algorithm = expected.map_or(Algorithm::Sha256, |(digest, _)| digest.algorithm());
        Ok(Ingest {
            file,
            path,
            is_part: false,
            hasher: Hasher::with(algorithm),
            expected: expected.map(|(digest, size)| (digest.clone(), size)),
            content: self.clone(),
            lease: lease.clone(),
        })
    }

    /// Stores `bytes`, which are held by `lease`.
    pub fn put(&self, lease: &Lease, bytes: &[u8]) -> Result<Digest> {
        let digest = digest_with(Algorithm::Sha256, bytes);
        lease.hold_blob(&digest);
        if self.info(&digest)?.is_some() {
            return Ok(digest);
        }
        let mut ingest = self.ingest(lease, Some((&digest, bytes.len() as u64)))?;
        ingest
            .write_all(bytes)
            .map_err(|e| Error::io(format_args!("cannot store blob {digest}"), e))?;
        Ok(ingest.commit()?.0)
    }

    /// Every blob that is here, with its bytes on disk.
    pub(crate) fn list(&self) -> Result<Vec<(Digest, u64)>> {
        let mut found = Vec::new();
        for algorithm in ALGORITHMS {
            let dir = self.root.join(algorithm.as_str());
            let entries = fs::read_dir(&dir)
                .map_err(|e| Error::io(format_args!("cannot list {}", dir.display()), e))?;
            for entry in entries {
                let entry = entry
                    .map_err(|e| Error::io(format_args!("cannot list {}", dir.display()), e))?;
                let name = entry.file_name();
                let digest = name
                    .to_str()
                    .and_then(|hex| format!("{}:{hex}", algorithm.as_str()).parse().ok());
                if let Some(digest) = digest {
                    found.push((digest, disk::bytes_on_disk(&entry.path())));
                }
            }
        }
        Ok(found)
    }

    /// The directories that blobs are in.
    pub(crate) fn dirs(&self) -> impl Iterator<Item = PathBuf> {
        let algorithms = ALGORITHMS.iter().map(|algorithm| algorithm.as_str());
        algorithms
            .chain(["ingest"])
            .map(|name| self.root.join(name))
    }

    /// Bytes on disk of all blobs, those on their way in included.
    pub(crate) fn bytes(&self) -> Result<u64> {
        let blobs: u64 = self.list()?.iter().map(|(_, bytes)| bytes).sum();
        let ingests = self.ingests();
        let incoming: u64 = ingests.iter().map(|(p, _)| disk::bytes_on_disk(p)).sum();
        Ok(blobs + incoming)
    }

    /// Moves the blob out of sight, into `trash`. Only the collector calls it.
    pub(crate) fn discard(&self, digest: &Digest, trash: &Path) -> Result<()> {
        let to = trash.join(durable::unique_name()?);
        match fs::rename(self.path(digest), to) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::io(format_args!("cannot remove blob {digest}"), e)),
        }
    }
}

/// A blob on its way in. Dropped before [`commit`](Ingest::commit), it never was.
#[derive(Debug)]
pub struct Ingest {
    file: File,
    path: PathBuf,
    /// Whether what has come may stay for another try.
    is_part: bool,
    hasher: Hasher,
    expected: Option<(Digest, u64)>,
    content: Content,
    lease: Lease,
}

impl Ingest {
    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.hasher.seen()
    }

    /// Verifies the blob, puts it on disk and makes it visible. Returns its digest and size.
    pub fn commit(mut self) -> Result<(Digest, u64)> {
        // Bytes that turn out to be wrong are no good for another try.
        let was_part = std::mem::take(&mut self.is_part);
        let size = self.hasher.seen();
        let digest = self.hasher.clone().finish();
        if let Some((wanted, wanted_size)) = &self.expected {
            if size < *wanted_size {
                self.is_part = was_part;
            }
            if *wanted != digest {
                return Err(Error::invalid(format!(
                    "content verification failed for {wanted}: the bytes have the digest {digest}"
                )));
            }
            if *wanted_size != size {
                return Err(Error::invalid(format!(
                    "content verification failed for {wanted}: {size} bytes instead of {wanted_size}"
                )));
            }
        }
        self.lease.hold_blob(&digest);
        self.file
            .sync_all()
            .map_err(|e| Error::io(format_args!("cannot store blob {digest}"), e))?;
        // Somebody else's identical blob is replaced by an identical one.
        durable::publish(&self.path, &self.content.path(&digest))?;
        berth_sys::fail_point("content.ingest.published");
        Ok((digest, size))
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some((digest, size)) = &self.expected
            && self.hasher.seen() + bytes.len() as u64 > *size
        {
            return Err(Error::invalid(format!(
                "content verification failed for {digest}: more than {size} bytes"
            ))
            .into());
        }
        let n = self.file.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        if self.is_part && self.hasher.seen() >= part::WORTH_KEEPING {
            return;
        }
        // After a commit there is nothing under this name; otherwise the sweep at start is behind us.
        let _ = fs::remove_file(&self.path);
    }
}
