//! Blobs as files.
//!
//! ```text
//! <root>/lock                        held by the one process that has the registry open
//! <root>/registry.db                 the record, unless PostgreSQL has it
//! <root>/blobs/sha256/ab/<hex>       a blob: immutable, verified before it got this name
//! <root>/uploads/<id>-<repository>   an upload on its way in; resumed after a restart
//! <root>/trash/                      condemned by the collector
//! ```
//!
//! The file gets its name before the row is committed and loses it after the row is gone. What a crash
//! leaves between the two is a file without a row, which the next start removes. The two steps for one
//! digest are made under one lock, so that a collector cannot take a file that an upload has just
//! brought.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use berth_spec::Digest;
use berth_spec::digest::Algorithm;
use rustix::fs::{FlockOperation, flock};

use super::files;
use super::upload::Upload;
use crate::server::fault::{Code, Fault, Reply};
use crate::server::record::sweep::{self, Aged};
use crate::server::record::{Record, Transaction, blobs};

/// Locks for "file and row of one digest"; digests share them by their first hexadecimal digits.
const LOCKS: usize = 64;

const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

/// The files of a registry. Everything here blocks.
pub(super) struct Disk {
    root: PathBuf,
    locks: Vec<Mutex<()>>,
    _lock: File,
}

impl Disk {
    /// Makes the directories below `root`, and takes them for this process.
    pub(super) fn open(root: &Path) -> Reply<Self> {
        for dir in ["", "uploads", "trash"] {
            files::make_dir(&root.join(dir))?;
        }
        for algorithm in ALGORITHMS {
            files::make_dir(&root.join("blobs").join(algorithm.as_str()))?;
        }
        let disk = Self {
            _lock: take_lock(root)?,
            locks: (0..LOCKS).map(|_| Mutex::new(())).collect(),
            root: root.to_owned(),
        };
        disk.empty_trash();
        Ok(disk)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the blob is, or would be.
    fn blob_path(&self, digest: &Digest) -> PathBuf {
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

    /// Opens a blob that the record tells of.
    pub(super) fn open_blob(&self, digest: &Digest) -> Reply<Option<File>> {
        match File::open(self.blob_path(digest)) {
            Ok(file) => Ok(Some(file)),
            // Taken away between the two looks.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Fault::io(format_args!("cannot open blob {digest}"), e)),
        }
    }

    /// Makes the upload, verified and synced, the blob `digest` of its repository. `admit` may refuse,
    /// inside the same transaction.
    pub(super) fn publish(
        &self,
        record: &Record,
        upload: Upload,
        digest: &Digest,
        admit: impl FnOnce(&Transaction) -> Reply<()>,
    ) -> Reply<()> {
        let to = self.blob_path(digest);
        let published = {
            let _held = self.hold(digest);
            // The same bytes may be there already; the new file takes their place, which changes nothing.
            let made = to.parent().map_or(Ok(()), files::make_dir_durably);
            made.and_then(|()| {
                record.write(|tx| {
                    admit(tx)?;
                    upload.rename(&to)?;
                    if let Some(dir) = to.parent() {
                        files::sync_dir(dir)?;
                    }
                    Ok(blobs::add(tx, &upload.repository, digest, upload.size())?)
                })
            })
        };
        // After a rename there is nothing under the upload's name.
        let discarded = upload.discard();
        published.and(discarded)
    }

    /// Removes a blob if it is still as `aged` says; whether it was.
    pub(super) fn sweep_blob(&self, record: &Record, aged: &Aged, before: i64) -> Reply<bool> {
        let Ok(digest) = aged.digest.parse::<Digest>() else {
            return Ok(false);
        };
        let path = self.blob_path(&digest);
        let trash = self.root.join("trash").join(files::unique_name()?);
        {
            let _held = self.hold(&digest);
            if !record.write(|tx| Ok(sweep::forget_blob(tx, digest.as_str(), before)?))? {
                return Ok(false);
            }
            match fs::rename(&path, &trash) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(true),
                Err(e) => return Err(Fault::io(format_args!("cannot remove blob {digest}"), e)),
            }
        }
        // Unlinking a large file takes a while: that is why it is done without the lock. What stays in
        // the trash goes at the next start.
        let _ = fs::remove_file(&trash);
        Ok(true)
    }

    /// Removes uploads that nobody wrote to for `idle`, except those that `is_open`; how many.
    pub(super) fn sweep_uploads(
        &self,
        idle: Duration,
        is_open: impl Fn(&str) -> bool,
    ) -> Reply<usize> {
        let mut removed = 0;
        for path in files::entries(&self.root.join("uploads"))? {
            let name = path
                .file_name()
                .and_then(|n| n.to_str())
                .unwrap_or_default();
            let id = name.split('-').next().unwrap_or_default();
            let age = fs::symlink_metadata(&path)
                .and_then(|m| m.modified())
                .ok()
                .and_then(|at| SystemTime::now().duration_since(at).ok());
            // A clock that went backwards makes nothing old.
            if is_open(id) || age.is_none_or(|age| age < idle) {
                continue;
            }
            if fs::remove_file(&path).is_ok() {
                removed += 1;
            }
        }
        Ok(removed)
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
    pub(super) fn remove_strangers(&self, record: &Record) -> Reply<()> {
        for algorithm in ALGORITHMS {
            let dir = self.root.join("blobs").join(algorithm.as_str());
            for shard in files::entries(&dir)? {
                for path in files::entries(&shard)? {
                    let name = path
                        .file_name()
                        .and_then(|n| n.to_str())
                        .unwrap_or_default();
                    let digest = format!("{}:{name}", algorithm.as_str());
                    if !record.read(|c| sweep::knows_blob(c, &digest))? {
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
