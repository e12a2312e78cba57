//! Parts: what has come of a blob whose fetch was broken off, kept for the next try, also across a
//! restart.
//!
//! A part is an ingest whose file is named after the digest that is wanted. Who writes it holds a
//! lock on it; a second writer gets an ingest of its own. Its bytes are hashed again when it is taken
//! up, and thrown away if they turn out to be wrong.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use berth_spec::Digest;
use rustix::fs::{FlockOperation, flock};

use super::{Content, Ingest};
use crate::hash::Hasher;
use crate::{Error, Lease, Result, disk};

/// Less than this many bytes is quicker fetched anew.
pub(super) const WORTH_KEEPING: u64 = 1 << 20;
/// A part that nobody took up for so long is swept when the store is opened.
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// A part that nobody touched for so long goes with the next collection.
const IDLE: Duration = Duration::from_secs(10 * 60);
const PREFIX: &str = "part-";

impl Content {
    /// Begins the blob `digest`, or goes on where an earlier try stopped: [`Ingest::written`] says
    /// where, [`Ingest::read_back`] gives what is there.
    pub fn ingest_part(&self, lease: &Lease, digest: &Digest, size: u64) -> Result<Ingest> {
        let name = format!("{PREFIX}{}-{}", digest.algorithm().as_str(), digest.hex());
        let path = self.ingest_dir().join(name);
        let failed = |e: io::Error| Error::io(format_args!("cannot open {}", path.display()), e);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        if !owns(&file, &path) {
            return self.ingest(lease, Some((digest, size)));
        }
        if file.metadata().map_err(failed)?.len() > size {
            file.set_len(0).map_err(failed)?;
        }
        let mut hasher = Hasher::with(digest.algorithm());
        let mut buffer = vec![0; 128 << 10];
        loop {
            match file.read(&mut buffer).map_err(failed)? {
                0 => break,
                n => hasher.update(&buffer[..n]),
            }
        }
        Ok(Ingest {
            file,
            path,
            is_part: true,
            hasher,
            expected: Some((digest.clone(), size)),
            content: self.clone(),
            lease: lease.clone(),
        })
    }

    /// Removes what is on its way in, but for parts that somebody may still take up.
    pub(super) fn sweep_ingest(&self) {
        for (path, age) in self.ingests() {
            let is_part = path
                .file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with(PREFIX));
            if !is_part || age > LIFE {
                remove(&path);
            }
        }
    }

    /// Removes parts that nobody writes or has touched lately; the bytes that are free again.
    pub(crate) fn discard_parts(&self) -> u64 {
        let mut freed = 0;
        for (path, age) in self.ingests() {
            let idle = age > IDLE && File::open(&path).is_ok_and(|file| owns(&file, &path));
            if idle {
                freed += disk::bytes_on_disk(&path);
                remove(&path);
            }
        }
        freed
    }

    /// Files of blobs on their way in, and how long ago each was written to.
    pub(super) fn ingests(&self) -> Vec<(std::path::PathBuf, Duration)> {
        let Ok(entries) = fs::read_dir(self.ingest_dir()) else {
            return Vec::new();
        };
        entries
            .flatten()
            .map(|entry| {
                let written = entry.metadata().and_then(|m| m.modified());
                // A time in the future is no age.
                let age = written.ok().and_then(|t| t.elapsed().ok());
                (entry.path(), age.unwrap_or_default())
            })
            .collect()
    }
}

impl Ingest {
    /// What had come before this try, from the start.
    pub fn read_back(&self) -> Result<impl Read + Send + 'static> {
        let mut file = File::open(&self.path)
            .map_err(|e| Error::io(format_args!("cannot open {}", self.path.display()), e))?;
        file.seek(SeekFrom::Start(0))
            .map_err(|e| Error::io(format_args!("cannot read {}", self.path.display()), e))?;
        Ok(file.take(self.written()))
    }
}

/// Locks the file; false where another has it, or where it is no longer what `path` names.
fn owns(file: &File, path: &Path) -> bool {
    if flock(file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return false;
    }
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(named)) => (ours.dev(), ours.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "cannot remove what is left over");
    }
}
