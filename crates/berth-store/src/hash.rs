//! Hashing bytes as they pass.

use std::io::{self, Read, Write};

use aws_lc_rs::digest::{Context, SHA256, SHA512};
use berth_spec::Digest;
use berth_spec::digest::Algorithm;

/// A running hash and the number of bytes it has seen.
#[derive(Clone)]
pub struct Hasher {
    context: Context,
    algorithm: Algorithm,
    seen: u64,
}

impl Hasher {
    /// Begins a sha256.
    pub fn new() -> Self {
        Self::with(Algorithm::Sha256)
    }

    /// Begins a hash of `algorithm`.
    pub fn with(algorithm: Algorithm) -> Self {
        let context = Context::new(match algorithm {
            Algorithm::Sha256 => &SHA256,
            Algorithm::Sha512 => &SHA512,
        });
        Self {
            context,
            algorithm,
            seen: 0,
        }
    }

    /// Takes more bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        self.seen += bytes.len() as u64;
    }

    /// Bytes taken in so far.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The digest of all of them.
    pub fn finish(self) -> Digest {
        let hash = self.context.finish();
        match self.algorithm {
            Algorithm::Sha256 => {
                let mut bytes = [0; 32];
                bytes.copy_from_slice(hash.as_ref());
                Digest::sha256(&bytes)
            }
            Algorithm::Sha512 => {
                let mut bytes = [0; 64];
                bytes.copy_from_slice(hash.as_ref());
                Digest::sha512(&bytes)
            }
        }
    }
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Hasher({}, {} bytes)",
            self.algorithm.as_str(),
            self.seen
        )
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

/// The sha256 digest of `bytes`.
pub fn sha256(bytes: &[u8]) -> Digest {
    digest_with(Algorithm::Sha256, bytes)
}

/// The digest of `bytes` by `algorithm`.
pub fn digest_with(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::with(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

/// A reader that hashes what is read through it.
pub struct HashingReader<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> HashingReader<R> {
    /// Reads `inner`, hashing with sha256.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            hasher: Hasher::new(),
        }
    }

    /// The digest of what was read, and its length in bytes.
    pub fn finish(self) -> (Digest, u64) {
        let seen = self.hasher.seen();
        (self.hasher.finish(), seen)
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

/// A writer that hashes what is written through it.
pub struct HashingWriter<W> {
    inner: W,
    hasher: Hasher,
}

impl<W: Write> HashingWriter<W> {
    /// Writes to `inner`, hashing with sha256.
    pub fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Hasher::new(),
        }
    }

    /// The writer below, the digest of what was written, and its length in bytes.
    pub fn finish(self) -> (W, Digest, u64) {
        let seen = self.hasher.seen();
        (self.inner, self.hasher.finish(), seen)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
