//! The members of an archive, taken in as they come: layers become layers, small files blobs.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use berth_spec::Digest;
use berth_spec::oci::image::{CONFIG_MAX, Descriptor, media_type};

use super::LoadEvent;
use crate::layer::Compression;
use crate::tree::entry::{Entry, EntryKind, components};
use crate::tree::tar_reader::TarReader;
use crate::{Error, ErrorKind, Ingest, Lease, Result, Store};

/// Members that an archive may have.
const MEMBERS_MAX: usize = 20_000;
/// Bytes that their names may have together.
const NAMES_MAX: usize = 16 << 20;
/// Bytes that all small files together may have.
const SMALL_TOTAL_MAX: u64 = 256 << 20;
/// Links that are followed from one name.
const LINKS_MAX: usize = 8;
const BLOCK: usize = 512;
/// Bytes between two events of a layer.
const EVENT_STEP: u64 = 1 << 20;

/// What a member turned out to be.
#[derive(Clone)]
pub(super) enum Member {
    /// A layer, which is in the store now.
    Layer(Digest),
    /// A small file, which is a blob now.
    Blob { digest: Digest, size: u64 },
    /// Another name of another member.
    Link(String),
    /// Something that looked like a layer; an error if an image needs it.
    Broken(String),
}

/// All members of an archive, by name and by digest.
#[derive(Default)]
pub(super) struct Contents {
    names: HashMap<String, Member>,
    /// With the bytes that stand in the archive.
    digests: HashMap<Digest, (Member, u64)>,
    small: u64,
    /// Bytes of the names.
    named: usize,
}

impl Contents {
    /// Reads the archive to its end.
    pub(super) fn read(
        store: &Store,
        lease: &Lease,
        archive: &mut dyn Read,
        events: &mut dyn FnMut(LoadEvent),
    ) -> Result<Self> {
        let mut contents = Self::default();
        let mut tar = TarReader::new(archive);
        while let Some(entry) = tar.next()? {
            // A name that leaves the archive names nothing in it.
            let Some(name) = normal(&entry.path) else {
                continue;
            };
            contents.named += name.len() + entry.link.len();
            if contents.named > NAMES_MAX {
                return Err(Error::invalid(
                    "the names of the archive's members are too long together",
                ));
            }
            if contents.names.len() >= MEMBERS_MAX {
                return Err(Error::invalid(format!(
                    "the archive has more than {MEMBERS_MAX} members"
                )));
            }
            let member = match entry.kind {
                EntryKind::File if entry.sparse.is_none() => {
                    let mut taken = Taking {
                        store,
                        lease,
                        events,
                        contents: &mut contents,
                    };
                    taken.file(&name, &entry, &mut tar)?
                }
                EntryKind::Symlink => beside(&name, &entry.link).map(Member::Link),
                EntryKind::HardLink => normal(&entry.link).map(Member::Link),
                _ => None,
            };
            if let Some(member) = member {
                contents.names.insert(name, member);
            }
        }
        Ok(contents)
    }

    /// The member of that name, links followed.
    pub(super) fn named(&self, name: &str) -> Option<&Member> {
        let mut name = normal(name.as_bytes())?;
        for _ in 0..LINKS_MAX {
            match self.names.get(&name)? {
                Member::Link(to) => name.clone_from(to),
                member => return Some(member),
            }
        }
        None
    }

    /// The member that a descriptor is of.
    ///
    /// # Errors
    /// `Invalid` where it has another size than the descriptor says: who goes by sizes would read
    /// something else.
    pub(super) fn described(&self, descriptor: &Descriptor) -> Result<Option<&Member>> {
        match self.digests.get(&descriptor.digest) {
            Some((_, size)) if *size != descriptor.size => Err(Error::invalid(format!(
                "invalid archive: {} has {size} bytes, its descriptor says {}",
                descriptor.digest, descriptor.size
            ))),
            found => Ok(found.map(|(member, _)| member)),
        }
    }
}

impl Member {
    /// The bytes of a small file.
    pub(super) fn read(&self, store: &Store, what: &str, max: u64) -> Result<Vec<u8>> {
        match self {
            Member::Blob { digest, size } if *size <= max => store.content().read(digest, max),
            Member::Blob { size, .. } => Err(Error::invalid(format!(
                "{what} has {size} bytes, more than {max}"
            ))),
            Member::Broken(why) => Err(Error::invalid(format!("{what}: {why}"))),
            Member::Layer(_) | Member::Link(_) => {
                Err(Error::invalid(format!("{what} is not what it should be")))
            }
        }
    }

    /// The diff ID of a layer.
    pub(super) fn layer(&self, what: &str) -> Result<&Digest> {
        match self {
            Member::Layer(diff_id) => Ok(diff_id),
            Member::Broken(why) => Err(Error::invalid(format!("layer {what}: {why}"))),
            Member::Blob { .. } | Member::Link(_) => {
                Err(Error::invalid(format!("layer {what} is no tar")))
            }
        }
    }
}

/// What taking in one file needs.
struct Taking<'a> {
    store: &'a Store,
    lease: &'a Lease,
    events: &'a mut dyn FnMut(LoadEvent),
    contents: &'a mut Contents,
}

impl Taking<'_> {
    fn file<R: Read>(
        &mut self,
        name: &str,
        entry: &Entry,
        tar: &mut TarReader<R>,
    ) -> Result<Option<Member>> {
        let mut head = Vec::with_capacity(BLOCK);
        tar.content()
            .take(BLOCK as u64)
            .read_to_end(&mut head)
            .map_err(|e| Error::io(format_args!("cannot read {name}"), e))?;
        let compression = Compression::detect(&head);
        if compression != Compression::None || is_tar(&head, entry.size) {
            if let Some(member) = self.known(name, entry.size)? {
                return Ok(Some(member));
            }
            let content = io::Cursor::new(head).chain(tar.content());
            return self.layer(name, entry.size, compression, content).map(Some);
        }
        if entry.size > CONFIG_MAX {
            return Ok(None);
        }
        self.contents.small += entry.size;
        if self.contents.small > SMALL_TOTAL_MAX {
            return Err(Error::invalid(format!(
                "the files of the archive that are no layers have more than {SMALL_TOTAL_MAX} bytes"
            )));
        }
        let mut bytes = head;
        tar.content()
            .read_to_end(&mut bytes)
            .map_err(|e| Error::io(format_args!("cannot read {name}"), e))?;
        let digest = self.store.content().put(self.lease, &bytes)?;
        let size = bytes.len() as u64;
        let member = Member::Blob {
            digest: digest.clone(),
            size,
        };
        self.contents.digests.insert(digest, (member.clone(), size));
        Ok(Some(member))
    }

    /// A member whose name is the diff ID of a layer that is here: its bytes need not be read. That
    /// they are what the name says does not matter: what is here is.
    fn known(&mut self, name: &str, size: u64) -> Result<Option<Member>> {
        let digest = name
            .strip_prefix("blobs/")
            .and_then(|rest| rest.replacen('/', ":", 1).parse::<Digest>().ok());
        let Some(digest) = digest else {
            return Ok(None);
        };
        self.lease.hold_layer(&digest);
        if self.store.layers().get(&digest)?.is_none() {
            return Ok(None);
        }
        let member = Member::Layer(digest.clone());
        self.contents.digests.insert(digest, (member.clone(), size));
        Ok(Some(member))
    }

    fn layer(
        &mut self,
        name: &str,
        size: u64,
        compression: Compression,
        content: impl Read,
    ) -> Result<Member> {
        // A compressed layer is kept as it travelled too, where registries have a name for that.
        let media_type = match compression {
            Compression::Gzip => Some(media_type::OCI_LAYER_GZIP),
            Compression::Zstd => Some(media_type::OCI_LAYER_ZSTD),
            Compression::None | Compression::Xz | Compression::Bzip2 => None,
        };
        let blob = media_type
            .map(|_| self.store.content().ingest(self.lease, None))
            .transpose()?;
        let mut source = Source {
            inner: content,
            blob,
            id: label(name),
            current: 0,
            told: 0,
            total: size,
            events: &mut *self.events,
        };
        let layer = match self.store.layers().import(self.lease, &mut source, None) {
            Ok(layer) => layer,
            Err(e) if e.kind() == ErrorKind::Invalid => return Ok(Member::Broken(e.to_string())),
            Err(e) => return Err(e),
        };
        io::copy(&mut source, &mut io::sink())
            .map_err(|e| Error::io(format_args!("cannot read {name}"), e))?;
        let member = Member::Layer(layer.diff_id.clone());
        let travelled = match (source.blob.take(), media_type) {
            (Some(blob), Some(media_type)) => {
                let (digest, size) = blob.commit()?;
                let descriptor = Descriptor::new(media_type, digest.clone(), size);
                self.store
                    .layers()
                    .record_blob(&layer.diff_id, &descriptor)?;
                digest
            }
            _ => layer.diff_id,
        };
        let entry = (member.clone(), size);
        self.contents.digests.insert(travelled, entry);
        Ok(member)
    }
}

/// A layer's bytes on their way in: kept as a blob, counted, told of.
struct Source<'a, R> {
    inner: R,
    blob: Option<Ingest>,
    id: String,
    current: u64,
    told: u64,
    total: u64,
    events: &'a mut dyn FnMut(LoadEvent),
}

impl<R: Read> Read for Source<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        if let Some(blob) = &mut self.blob {
            blob.write_all(&buffer[..n])?;
        }
        self.current += n as u64;
        let step = self.current - self.told;
        if step >= EVENT_STEP || (step > 0 && self.current == self.total) {
            self.told = self.current;
            (self.events)(LoadEvent::Layer {
                id: self.id.clone(),
                current: self.current,
                total: self.total,
            });
        }
        Ok(n)
    }
}

/// Twelve characters of the name that tell the layer: of `blobs/sha256/<hex>` or `<id>/layer.tar`.
fn label(name: &str) -> String {
    let mut parts = name.rsplit('/');
    let last = parts.next().unwrap_or_default();
    let telling = match last {
        "layer.tar" => parts.next().unwrap_or(last),
        last => last,
    };
    telling.chars().take(12).collect()
}

/// Whether a file that begins with `head` is a tar: a header with the right sum, or nothing but the
/// end of an archive.
fn is_tar(head: &[u8], size: u64) -> bool {
    let Ok(block) = <&[u8; BLOCK]>::try_from(head) else {
        return false;
    };
    if block.iter().all(|b| *b == 0) {
        return size.is_multiple_of(BLOCK as u64);
    }
    tar_core::Header::from_bytes(block)
        .verify_checksum()
        .is_ok()
}

/// The name without `.`, `..` and slashes that mean nothing; none if it leaves the archive.
fn normal(path: &[u8]) -> Option<String> {
    let names = components(path).ok()?;
    let text = String::from_utf8(names.join(&b'/')).ok()?;
    (!text.is_empty()).then_some(text)
}

/// What a symbolic link called `name` leads to.
fn beside(name: &str, target: &[u8]) -> Option<String> {
    if target.starts_with(b"/") {
        return normal(target);
    }
    let dir = name.rsplit_once('/').map_or("", |(dir, _)| dir);
    normal(&[dir.as_bytes(), b"/", target].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        for (name, expected) in [
            ("a/b", Some("a/b")),
            ("./a//b/", Some("a/b")),
            ("/etc/passwd", Some("etc/passwd")),
            ("a/../b", Some("b")),
            ("../b", None),
            ("a/../../b", None),
            ("", None),
            (".", None),
        ] {
            assert_eq!(normal(name.as_bytes()).as_deref(), expected, "{name}");
        }
        assert_eq!(
            beside("x/layer.tar", b"../y/layer.tar").unwrap(),
            "y/layer.tar"
        );
        assert_eq!(beside("layer.tar", b"../../etc/shadow"), None);
        assert_eq!(label("blobs/sha256/0123456789abcdef"), "0123456789ab");
        assert_eq!(label("0123456789abcdef/layer.tar"), "0123456789ab");
    }
}
