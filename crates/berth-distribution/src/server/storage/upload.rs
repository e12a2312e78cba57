//! Uploads on their way in.
//!
//! An upload is one file, named after its ID and its repository. The file's length is how far it has
//! come: that is all there is to remember, and it survives a restart. The running hash lives in
//! memory; where it is lost (a restart), the file is read once more at the end.

use std::fs::{self, File};
use std::io::{self, IoSlice, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use berth_spec::Digest;
use berth_spec::digest::Algorithm;
use berth_store::hash::{Hasher, sha256};
use bytes::Bytes;

use super::{Storage, files};
use crate::server::fault::{Code, Fault, Reply};

/// Bytes read at a time where a file is hashed once more.
const READ: usize = 1 << 20;

/// An upload that is open.
pub(crate) struct Upload {
    pub(crate) id: String,
    pub(crate) repository: String,
    file: File,
    path: PathBuf,
    size: u64,
    /// The hash of all bytes so far; nothing where it is not known.
    hasher: Option<Hasher>,
}

impl Storage {
    fn upload_path(&self, repository: &str, id: &str) -> PathBuf {
        // A repository's name may be as long as a file's; its hash is not.
        let owner = sha256(repository.as_bytes());
        self.root()
            .join("uploads")
            .join(format!("{id}-{}", owner.short()))
    }

    /// Begins an upload whose digest will probably be of `algorithm`.
    pub(crate) fn begin_upload(&self, repository: &str, algorithm: Algorithm) -> Reply<Upload> {
        let id = files::unique_name()?;
        let path = self.upload_path(repository, &id);
        let file = files::private()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|e| Fault::io("cannot begin an upload", e))?;
        Ok(Upload {
            id,
            repository: repository.to_owned(),
            file,
            path,
            size: 0,
            hasher: Some(Hasher::with(algorithm)),
        })
    }

    /// Takes up an upload of an earlier process.
    pub(crate) fn resume_upload(&self, repository: &str, id: &str) -> Reply<Upload> {
        use std::io::{Seek, SeekFrom};
        let path = self.upload_path(repository, id);
        let mut file = match files::private().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(Fault::new(
                    Code::BlobUploadUnknown,
                    "blob upload unknown to the registry",
                ));
            }
            Err(e) => return Err(Fault::io(format_args!("cannot open upload {id}"), e)),
        };
        let size = file
            .seek(SeekFrom::End(0))
            .map_err(|e| Fault::io(format_args!("cannot open upload {id}"), e))?;
        Ok(Upload {
            id: id.to_owned(),
            repository: repository.to_owned(),
            file,
            path,
            size,
            hasher: None,
        })
    }

    /// Removes uploads that nobody wrote to for `idle`, except those that `is_open`; how many.
    pub(crate) fn sweep_uploads(
        &self,
        idle: Duration,
        is_open: impl Fn(&str) -> bool,
    ) -> Reply<usize> {
        let mut removed = 0;
        for path in files::entries(&self.root().join("uploads"))? {
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
}

impl Upload {
    /// Bytes that have come.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Appends `chunks`.
    pub(crate) fn append(&mut self, chunks: &[Bytes]) -> Reply<()> {
        let total: u64 = chunks.iter().map(|c| c.len() as u64).sum();
        let mut slices: Vec<_> = chunks.iter().map(|c| IoSlice::new(c)).collect();
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            match self.file.write_vectored(rest) {
                Ok(0) => return Err(self.failed(io::ErrorKind::WriteZero.into())),
                Ok(n) => IoSlice::advance_slices(&mut rest, n),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed(e)),
            }
        }
        if let Some(hasher) = &mut self.hasher {
            for chunk in chunks {
                hasher.update(chunk);
            }
        }
        self.size += total;
        Ok(())
    }

    /// What a failed write left half done is taken back.
    fn failed(&mut self, error: io::Error) -> Fault {
        let (size, hasher) = self.mark();
        if let Err(e) = self.rewind(size, hasher) {
            tracing::error!(upload = %self.id, error = %e, "cannot take back a failed write");
        }
        Fault::io(format_args!("cannot write upload {}", self.id), error)
    }

    /// A place to come back to.
    pub(crate) fn mark(&self) -> (u64, Option<Hasher>) {
        (self.size, self.hasher.clone())
    }

    /// Goes back to a [`mark`](Self::mark).
    pub(crate) fn rewind(&mut self, size: u64, hasher: Option<Hasher>) -> Reply<()> {
        use std::io::{Seek, SeekFrom};
        self.size = size;
        self.hasher = hasher;
        self.file
            .set_len(size)
            .and_then(|()| self.file.seek(SeekFrom::Start(size)).map(drop))
            .map_err(|e| Fault::io(format_args!("cannot truncate upload {}", self.id), e))
    }

    /// Compares what has come with `digest`, and puts it on disk.
    pub(crate) fn verify(&self, digest: &Digest) -> Reply<()> {
        let known = self.hasher.clone().map(Hasher::finish);
        let found = match known.filter(|d| d.algorithm() == digest.algorithm()) {
            Some(found) => found,
            None => self.hash(digest.algorithm())?,
        };
        if found != *digest {
            return Err(Fault::new(
                Code::DigestInvalid,
                format!(
                    "provided digest did not match uploaded content: the {} bytes have the digest {found}, not {digest}",
                    self.size
                ),
            ));
        }
        self.file
            .sync_all()
            .map_err(|e| Fault::io(format_args!("cannot store blob {digest}"), e))
    }

    fn hash(&self, algorithm: Algorithm) -> Reply<Digest> {
        use std::os::unix::fs::FileExt;
        let mut hasher = Hasher::with(algorithm);
        let mut buffer = vec![0; READ];
        while hasher.seen() < self.size {
            let n = self
                .file
                .read_at(&mut buffer, hasher.seen())
                .map_err(|e| Fault::io(format_args!("cannot read upload {}", self.id), e))?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
        }
        Ok(hasher.finish())
    }

    /// Where the bytes are.
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The file, for readers that follow an upload.
    pub(crate) fn reader(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// Throws it away.
    pub(crate) fn remove(self) {
        // After a commit there is nothing under this name; otherwise the sweep finds it.
        let _ = fs::remove_file(&self.path);
    }
}
