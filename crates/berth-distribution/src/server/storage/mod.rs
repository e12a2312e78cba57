//! Bytes on disk and the record of them, in step.
//!
//! ```text
//! <root>/lock                        held by the one process that has the registry open
//! <root>/registry.db                 the record
//! <root>/blobs/sha256/ab/<hex>       a blob: immutable, verified before it got this name
//! <root>/uploads/<id>-<repository>   an upload on its way in; resumed after a restart
//! <root>/trash/                      condemned by the collector
//! ```
//!
//! A row of the record means that the file is there: the file gets its name before the row is
//! committed and loses it after the row is gone. What a crash leaves between the two is a file
//! without a row, which the next start removes. The two steps for one digest are made under one
//! lock, so that a collector cannot take a file that an upload has just brought.

pub(crate) mod files;
pub(crate) mod upload;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use berth_spec::Digest;
use berth_spec::digest::Algorithm;
use rustix::fs::{FlockOperation, flock};

use super::fault::{Code, Fault, Reply};
use super::record::{self, Record, blobs};

/// Locks for "file and row of one digest"; digests share them by their first hexadecimal digits.
const LOCKS: usize = 64;

const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

/// A registry's storage. Everything here blocks.
pub(crate) struct Storage {
    root: PathBuf,
    pub(crate) record: Record,
    locks: Vec<Mutex<()>>,
    _lock: File,
}

impl Storage {
    /// Opens or makes the storage below `root`, and removes what a crash left.
    pub(crate) fn open(root: &Path) -> Reply<Self> {
        for dir in ["", "uploads", "trash"] {
            files::make_dir(&root.join(dir))?;
        }
        for algorithm in ALGORITHMS {
            files::make_dir(&root.join("blobs").join(algorithm.as_str()))?;
        }
        let lock = take_lock(root)?;
        let storage = Self {
            record: Record::open(&root.join("registry.db"))?,
            locks: (0..LOCKS).map(|_| Mutex::new(())).collect(),
            root: root.to_owned(),
            _lock: lock,
        };
        storage.empty_trash();
        storage.remove_strangers()?;
        Ok(storage)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the blob is, or would be.
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root
            .join("blobs")
            .join(digest.algorithm().as_str())
            .join(&digest.hex()[..2])
            .join(digest.hex())
    }

    /// The lock for the file and the row of `digest`.
    fn hold(&self, digest: &Digest) -> MutexGuard<'_, ()> {
        let number = usize::from_str_radix(&digest.hex()[..4], 16).unwrap_or(0) % LOCKS;
        self.locks[number]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a blob that `repository` has; its size with it.
    pub(crate) fn open_blob(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Reply<Option<(File, u64)>> {
        let Some(size) = self
            .record
            .read(|c| blobs::size_in(c, repository, digest))?
        else {
            return Ok(None);
        };
        match File::open(self.blob_path(digest)) {
            Ok(file) => Ok(Some((file, size))),
            // Taken away between the two looks.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Fault::io(format_args!("cannot open blob {digest}"), e)),
        }
    }

    /// Makes the synced file at `from` the blob `digest` of `repository`. `admit` may refuse, inside
    /// the same transaction.
    pub(crate) fn publish(
        &self,
        from: &Path,
        repository: &str,
        digest: &Digest,
        size: u64,
        admit: impl FnOnce(&rusqlite::Transaction) -> Reply<()>,
    ) -> Reply<()> {
        let to = self.blob_path(digest);
        let _held = self.hold(digest);
        // The same bytes may be there already; the new file takes their place, which changes nothing.
        if let Some(dir) = to.parent() {
            files::make_dir_durably(dir)?;
        }
        self.record.write(|tx| {
            admit(tx)?;
            fs::rename(from, &to)
                .map_err(|e| Fault::io(format_args!("cannot store blob {digest}"), e))?;
            if let Some(dir) = to.parent() {
                files::sync_dir(dir)?;
            }
            Ok(blobs::add(tx, repository, digest, size)?)
        })
    }

    /// Removes blobs that the record calls unlinked and untouched since `before`; how many, and their
    /// bytes.
    pub(crate) fn sweep_blobs(&self, before: i64, count: usize) -> Reply<(usize, u64)> {
        let found = self
            .record
            .read(|c| record::sweep::unlinked(c, before, count))?;
        let (mut removed, mut bytes) = (0, 0);
        for aged in found {
            let Ok(digest) = aged.digest.parse::<Digest>() else {
                continue;
            };
            if let Some(size) = self.sweep_blob(&digest, before)? {
                removed += 1;
                bytes += size;
            }
        }
        Ok((removed, bytes))
    }

    fn sweep_blob(&self, digest: &Digest, before: i64) -> Reply<Option<u64>> {
        let path = self.blob_path(digest);
        let trash = self.root.join("trash").join(files::unique_name()?);
        {
            let _held = self.hold(digest);
            let gone = self
                .record
                .write(|tx| Ok(record::sweep::forget_blob(tx, digest.as_str(), before)?))?;
            if !gone {
                return Ok(None);
            }
            match fs::rename(&path, &trash) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Some(0)),
                Err(e) => return Err(Fault::io(format_args!("cannot remove blob {digest}"), e)),
            }
        }
        // Unlinking a large file takes a while: that is why it is done without the lock.
        let size = fs::symlink_metadata(&trash).map_or(0, |m| m.len());
        // What stays in the trash goes at the next start.
        let _ = fs::remove_file(&trash);
        Ok(Some(size))
    }

    fn empty_trash(&self) {
        let Ok(entries) = fs::read_dir(self.root.join("trash")) else {
            return;
        };
        for entry in entries.flatten() {
            // What cannot be removed now is tried again at the next start.
            let _ = fs::remove_file(entry.path());
        }
    }

    /// Removes files that no row tells of: a crash came between their name and their row.
    fn remove_strangers(&self) -> Reply<()> {
        for algorithm in ALGORITHMS {
            let dir = self.root.join("blobs").join(algorithm.as_str());
            for shard in files::entries(&dir)? {
                for path in files::entries(&shard)? {
                    let name = path
                        .file_name()
                        .and_then(|n| n.to_str())
                        .unwrap_or_default();
                    let digest = format!("{}:{name}", algorithm.as_str());
                    if !self
                        .record
                        .read(|c| record::sweep::knows_blob(c, &digest))?
                    {
                        tracing::info!(path = %path.display(), "removing a blob that was never committed");
                        // Tried again at the next start.
                        let _ = fs::remove_file(&path);
                    }
                }
            }
        }
        Ok(())
    }
}

fn take_lock(root: &Path) -> Reply<File> {
    let path = root.join("lock");
    let lock = files::private()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| Fault::io(format_args!("cannot open {}", path.display()), e))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Fault::new(
            Code::Unavailable,
            format!(
                "another registry uses {}: stop it, or give this one a root of its own",
                root.display()
            ),
        )),
        Err(e) => Err(Fault::io(
            format_args!("cannot lock {}", path.display()),
            e.into(),
        )),
    }
}
