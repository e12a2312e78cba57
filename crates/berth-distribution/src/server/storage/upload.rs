//! Uploads on their way in.
//!
//! Into a file: it is named after its ID and its repository, and its length is how far it has come, which
//! is all there is to remember, and survives a restart. Into an object store: see
//! [`parts`](super::bucket::parts). The running hash lives in memory; where it is lost (a restart, another
//! replica), the bytes are read once more at the end.

use std::fs::{self, File};
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_spec::Digest;
use berth_spec::digest::Algorithm;
use berth_store::hash::{Hasher, sha256};
use bytes::Bytes;

use super::bucket::Bucket;
use super::bucket::parts::{Parts, PartsMark, unknown};
use super::files;
use crate::server::fault::{Code, Fault, Reply};
use crate::server::record::Transaction;

/// Bytes read at a time where a file is read once more.
const READ: usize = 1 << 20;

/// An upload that is open.
pub(crate) struct Upload {
    pub(crate) id: String,
    pub(crate) repository: String,
    size: u64,
    /// The hash of all bytes so far; nothing where it is not known.
    hasher: Option<Hasher>,
    place: Place,
}

enum Place {
    File { file: File, path: PathBuf },
    Object(Box<Parts>),
}

/// A place to come back to.
pub(crate) struct Mark {
    size: u64,
    hasher: Option<Hasher>,
    parts: Option<PartsMark>,
}

fn upload_path(root: &Path, repository: &str, id: &str) -> PathBuf {
    // A repository's name may be as long as a file's; its hash is not.
    let owner = sha256(repository.as_bytes());
    root.join("uploads").join(format!("{id}-{}", owner.short()))
}

impl Upload {
    pub(super) fn begin_file(root: &Path, repository: &str, algorithm: Algorithm) -> Reply<Self> {
        let id = files::unique_name()?;
        let path = upload_path(root, repository, &id);
        let file = files::private()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|e| Fault::io("cannot begin an upload", e))?;
        Ok(Self {
            id,
            repository: repository.to_owned(),
            size: 0,
            hasher: Some(Hasher::with(algorithm)),
            place: Place::File { file, path },
        })
    }

    pub(super) fn resume_file(root: &Path, repository: &str, id: &str) -> Reply<Self> {
        let path = upload_path(root, repository, id);
        let mut file = match files::private().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(unknown()),
            Err(e) => return Err(Fault::io(format_args!("cannot open upload {id}"), e)),
        };
        let size = file
            .seek(SeekFrom::End(0))
            .map_err(|e| Fault::io(format_args!("cannot open upload {id}"), e))?;
        Ok(Self {
            id: id.to_owned(),
            repository: repository.to_owned(),
            size,
            hasher: None,
            place: Place::File { file, path },
        })
    }

    pub(super) fn begin_object(
        bucket: &Arc<Bucket>,
        repository: &str,
        algorithm: Algorithm,
    ) -> Reply<Self> {
        let parts = Parts::begin(bucket, repository)?;
        Ok(Self {
            id: parts.id().to_owned(),
            repository: repository.to_owned(),
            size: 0,
            hasher: Some(Hasher::with(algorithm)),
            place: Place::Object(Box::new(parts)),
        })
    }

    pub(super) fn resume_object(bucket: &Arc<Bucket>, repository: &str, id: &str) -> Reply<Self> {
        let mut parts = Parts::resume(bucket, repository, id)?.ok_or_else(unknown)?;
        parts.fetch_rest()?;
        Ok(Self {
            id: id.to_owned(),
            repository: repository.to_owned(),
            size: parts.stored().size,
            hasher: None,
            place: Place::Object(Box::new(parts)),
        })
    }

    /// Moves a file's bytes, which are verified, into the store.
    pub(super) fn into_object(self, bucket: &Arc<Bucket>) -> Reply<Self> {
        use std::os::unix::fs::FileExt;
        let Place::File { file, path } = &self.place else {
            return Ok(self);
        };
        let mut parts = Parts::begin(bucket, &self.repository)?;
        let moved = (|| {
            let mut at = 0;
            while at < self.size {
                let mut chunk = vec![0; READ.min((self.size - at) as usize)];
                file.read_exact_at(&mut chunk, at)
                    .map_err(|e| Fault::io(format_args!("cannot read {}", path.display()), e))?;
                at += chunk.len() as u64;
                parts.append(&[chunk.into()])?;
            }
            Ok(())
        })();
        // Its followers have it open.
        let _ = fs::remove_file(path);
        match moved {
            Ok(()) => Ok(Self {
                id: parts.id().to_owned(),
                place: Place::Object(Box::new(parts)),
                ..self
            }),
            Err(fault) => {
                // The fault is what there is to know.
                let _ = parts.discard();
                Err(fault)
            }
        }
    }

    /// Bytes that have come.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn is_object(&self) -> bool {
        matches!(self.place, Place::Object(_))
    }

    /// Whether only what is stored of it is of any use.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(&self.place, Place::Object(parts) if parts.is_broken())
    }

    /// The version of its row, where it has one.
    pub(super) fn version(&self) -> Option<i64> {
        match &self.place {
            Place::File { .. } => None,
            Place::Object(parts) => Some(parts.stored().version),
        }
    }

    /// Appends `chunks`.
    pub(crate) fn append(&mut self, chunks: &[Bytes]) -> Reply<()> {
        match &mut self.place {
            Place::Object(parts) => parts.append(chunks)?,
            Place::File { file, .. } => {
                if let Err(e) = write_all(file, chunks) {
                    return Err(self.failed(e));
                }
            }
        }
        if let Some(hasher) = &mut self.hasher {
            for chunk in chunks {
                hasher.update(chunk);
            }
        }
        self.size += chunks.iter().map(|c| c.len() as u64).sum::<u64>();
        Ok(())
    }

    /// What a failed write left half done is taken back.
    fn failed(&mut self, error: io::Error) -> Fault {
        let mark = self.mark();
        if let Err(e) = self.rewind(mark) {
            tracing::error!(upload = %self.id, error = %e, "cannot take back a failed write");
        }
        Fault::io(format_args!("cannot write upload {}", self.id), error)
    }

    /// A place to come back to.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            size: self.size,
            hasher: self.hasher.clone(),
            parts: match &self.place {
                Place::File { .. } => None,
                Place::Object(parts) => Some(parts.mark()),
            },
        }
    }

    /// Goes back to a [`mark`](Self::mark).
    pub(crate) fn rewind(&mut self, mark: Mark) -> Reply<()> {
        self.size = mark.size;
        self.hasher = mark.hasher;
        match (&mut self.place, mark.parts) {
            (Place::Object(parts), Some(mark)) => parts.rewind(mark),
            (Place::Object(_), None) => Ok(()),
            (Place::File { file, .. }, _) => file
                .set_len(mark.size)
                .and_then(|()| file.seek(SeekFrom::Start(mark.size)).map(drop))
                .map_err(|e| Fault::io(format_args!("cannot truncate upload {}", self.id), e)),
        }
    }

    /// Keeps what has come for whoever goes on with it. A file keeps itself.
    pub(super) fn keep(&mut self) -> Reply<()> {
        let digest = self.hasher.clone().map(Hasher::finish);
        match &mut self.place {
            Place::File { .. } => Ok(()),
            Place::Object(parts) => parts.keep(self.size, digest),
        }
    }

    /// The digest of what has come, where it is known.
    fn known(&self, algorithm: Algorithm) -> Option<Digest> {
        let of_row = match &self.place {
            Place::Object(parts) if parts.stored().size == self.size => {
                parts.stored().digest.clone()
            }
            _ => None,
        };
        self.hasher
            .clone()
            .map(Hasher::finish)
            .or(of_row)
            .filter(|digest| digest.algorithm() == algorithm)
    }

    /// Compares what has come in a file with `digest`, and puts it on disk.
    pub(super) fn verify_file(&self, digest: &Digest) -> Reply<()> {
        let Place::File { file, .. } = &self.place else {
            return Ok(());
        };
        let found = match self.known(digest.algorithm()) {
            Some(found) => found,
            None => self.hash_file(file, digest.algorithm())?,
        };
        self.compare(&found, digest)?;
        file.sync_all()
            .map_err(|e| Fault::io(format_args!("cannot store blob {digest}"), e))
    }

    fn compare(&self, found: &Digest, digest: &Digest) -> Reply<()> {
        if found == digest {
            return Ok(());
        }
        Err(Fault::new(
            Code::DigestInvalid,
            format!(
                "provided digest did not match uploaded content: the {} bytes have the digest {found}, not {digest}",
                self.size
            ),
        ))
    }

    fn hash_file(&self, file: &File, algorithm: Algorithm) -> Reply<Digest> {
        use std::os::unix::fs::FileExt;
        let mut hasher = Hasher::with(algorithm);
        let mut buffer = vec![0; READ];
        while hasher.seen() < self.size {
            let n = file
                .read_at(&mut buffer, hasher.seen())
                .map_err(|e| Fault::io(format_args!("cannot read upload {}", self.id), e))?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
        }
        Ok(hasher.finish())
    }

    /// Makes the object of what has come, and the object the blob `digest`, if that is its digest.
    pub(super) fn commit_object(
        &mut self,
        digest: &Digest,
        admit: impl FnOnce(&Transaction) -> Reply<()>,
    ) -> Reply<()> {
        let known = self.known(digest.algorithm());
        if let Some(found) = &known {
            self.compare(found, digest)?;
        }
        let size = self.size;
        let Place::Object(parts) = &mut self.place else {
            return Ok(());
        };
        parts.finish(size)?;
        if known.is_none() {
            let found = parts.hash(size, Hasher::with(digest.algorithm()))?;
            self.compare(&found, digest)?;
        }
        match &mut self.place {
            Place::Object(parts) => parts.publish(digest, size, admit),
            Place::File { .. } => Ok(()),
        }
    }

    /// Gives the file its blob's name.
    pub(super) fn rename(&self, to: &Path) -> Reply<()> {
        match &self.place {
            Place::Object(_) => Ok(()),
            Place::File { path, .. } => fs::rename(path, to)
                .map_err(|e| Fault::io(format_args!("cannot store {}", to.display()), e)),
        }
    }

    /// The file, for readers that follow an upload.
    pub(crate) fn reader(&self) -> io::Result<File> {
        match &self.place {
            Place::File { path, .. } => File::open(path),
            Place::Object(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Throws it away.
    pub(super) fn discard(self) -> Reply<()> {
        match self.place {
            Place::File { path, .. } => {
                // After a commit there is nothing under this name; otherwise the sweep finds it.
                let _ = fs::remove_file(path);
                Ok(())
            }
            Place::Object(parts) => parts.discard(),
        }
    }
}

fn write_all(file: &mut File, chunks: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<_> = chunks.iter().map(|c| IoSlice::new(c)).collect();
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => IoSlice::advance_slices(&mut rest, n),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
