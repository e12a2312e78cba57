//! An archive taken in without a tree to put it in: the contents of its files go one after the other
//! into one file, everything else is told to the caller. What a build receives as its context is
//! never unpacked this way, so nothing in it can reach outside of anything.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;

use berth_spec::Digest;

use super::entry::{Entry, EntryKind, components, refused};
use super::tar_reader::TarReader;
use crate::hash::Hasher;
use crate::layer::decompress;
use crate::{Error, Result};

/// Bytes moved at a time.
const CHUNK: usize = 256 << 10;

/// Bounds of an archive.
#[derive(Debug, Clone, Copy)]
pub struct SpoolLimits {
    /// Bytes of all files together, after decompression.
    pub bytes: u64,
    /// Entries.
    pub entries: usize,
}

/// One entry of an archive.
#[derive(Debug, Clone)]
pub struct Spooled {
    /// Relative to the archive's root, without `.`, `..` and empty names; empty for the root itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: SpooledKind,
    /// `0o7777` at most.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes, by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpooledKind {
    /// A regular file, at `offset` of the spool.
    File {
        /// Where its content begins.
        offset: u64,
        /// Its length.
        size: u64,
        /// sha256 of its content.
        digest: Digest,
    },
    /// A directory.
    Directory,
    /// A symbolic link and where it points, as written.
    Symlink(Vec<u8>),
    /// Another name of an earlier entry, whose path is cleaned as `path` is.
    HardLink(Vec<u8>),
    /// A character device: major, minor.
    Char(u32, u32),
    /// A block device: major, minor.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// Reads an archive, plain or compressed, to its end. File contents are appended to `spool`, which
/// must be empty; `each` sees the entries in order.
///
/// # Errors
/// `Invalid` when it is no tar, when a name leaves it, or when a limit is passed.
pub fn spool(
    source: &mut dyn Read,
    spool: &File,
    limits: SpoolLimits,
    each: &mut dyn FnMut(Spooled) -> Result<()>,
) -> Result<()> {
    let mut tar = TarReader::new(decompress(source)?);
    let mut end = 0u64;
    let mut entries = 0usize;
    while let Some(entry) = tar.next()? {
        entries += 1;
        if entries > limits.entries {
            return Err(Error::invalid(format!(
                "the archive has more than {} entries",
                limits.entries
            )));
        }
        let path = clean(&entry.path, &entry.path)?;
        let kind = match entry.kind {
            EntryKind::File => {
                if entry.size > limits.bytes.saturating_sub(end) {
                    return Err(Error::invalid(format!(
                        "the files of the archive have more than {} bytes",
                        limits.bytes
                    )));
                }
                let digest = append(&mut tar, &entry, spool, end)?;
                let offset = end;
                end += entry.size;
                SpooledKind::File {
                    offset,
                    size: entry.size,
                    digest,
                }
            }
            EntryKind::Directory => SpooledKind::Directory,
            EntryKind::Symlink => SpooledKind::Symlink(entry.link),
            EntryKind::HardLink => SpooledKind::HardLink(clean(&entry.link, &entry.path)?),
            EntryKind::Char => SpooledKind::Char(entry.device.0, entry.device.1),
            EntryKind::Block => SpooledKind::Block(entry.device.0, entry.device.1),
            EntryKind::Fifo => SpooledKind::Fifo,
        };
        each(Spooled {
            path,
            kind,
            mode: entry.mode.into(),
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs: entry.xattrs,
        })?;
    }
    // A client that is still sending zeros would see a broken pipe.
    tar.drain()
}

fn clean(path: &[u8], entry: &[u8]) -> Result<Vec<u8>> {
    let names = components(path).map_err(|why| refused(entry, why))?;
    Ok(names.join(&b'/'))
}

/// Writes the file's content at `at`, with the holes of a sparse one filled in.
fn append<R: Read>(tar: &mut TarReader<R>, entry: &Entry, spool: &File, at: u64) -> Result<Digest> {
    let fail = |e| Error::io("cannot write what was received", e);
    let mut out = Hashing {
        file: spool,
        at,
        hasher: Hasher::new(),
    };
    let mut buffer = vec![0; CHUNK.min(usize::try_from(entry.size.max(1)).unwrap_or(CHUNK))];
    match &entry.sparse {
        None => loop {
            match tar.read(&mut buffer)? {
                0 => break,
                n => out.write_all(&buffer[..n]).map_err(fail)?,
            }
        },
        Some(regions) => {
            for region in regions {
                std::io::copy(
                    &mut std::io::repeat(0).take(at + region.offset - out.at),
                    &mut out,
                )
                .map_err(fail)?;
                std::io::copy(&mut tar.content().take(region.length), &mut out)
                    .map_err(|e| Error::io("cannot read the archive", e))?;
            }
            std::io::copy(
                &mut std::io::repeat(0).take(at + entry.size - out.at),
                &mut out,
            )
            .map_err(fail)?;
        }
    }
    Ok(out.hasher.finish())
}

struct Hashing<'a> {
    file: &'a File,
    at: u64,
    hasher: Hasher,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write_all_at(bytes, self.at)?;
        self.hasher.update(bytes);
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        builder.into_inner().unwrap()
    }

    fn file(builder: &mut tar::Builder<Vec<u8>>, name: &[u8], content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }

    fn take(bytes: &[u8], limits: SpoolLimits) -> Result<(Vec<Spooled>, Vec<u8>)> {
        let mut held = tempfile::tempfile().unwrap();
        let mut found = Vec::new();
        spool(&mut &bytes[..], &held, limits, &mut |entry| {
            found.push(entry);
            Ok(())
        })?;
        let mut content = Vec::new();
        std::io::Seek::rewind(&mut held).unwrap();
        held.read_to_end(&mut content).unwrap();
        Ok((found, content))
    }

    const AMPLE: SpoolLimits = SpoolLimits {
        bytes: 1 << 20,
        entries: 100,
    };

    #[test]
    fn contents_lie_one_after_the_other() {
        let bytes = archive(|tar| {
            file(tar, b"./a", b"one");
            file(tar, b"/d/../b", b"two!");
        });
        let (entries, content) = take(&bytes, AMPLE).unwrap();
        assert_eq!(content, b"onetwo!");
        assert_eq!(entries[0].path, b"a");
        assert_eq!(entries[1].path, b"b");
        assert_eq!(
            entries[1].kind,
            SpooledKind::File {
                offset: 3,
                size: 4,
                digest: crate::hash::sha256(b"two!"),
            }
        );
    }

    #[test]
    fn bounds_and_escapes() {
        let bytes = archive(|tar| file(tar, b"../x", b""));
        assert!(
            take(&bytes, AMPLE)
                .unwrap_err()
                .to_string()
                .contains("escapes the root")
        );
        let two = archive(|tar| {
            file(tar, b"a", b"12345");
            file(tar, b"b", b"12345");
        });
        let tight = |bytes, entries| SpoolLimits { bytes, entries };
        assert!(take(&two, tight(9, 2)).is_err());
        assert!(take(&two, tight(10, 1)).is_err());
        assert!(take(&two, tight(10, 2)).is_ok());
        assert!(take(&two[..514], AMPLE).is_err());
    }
}
