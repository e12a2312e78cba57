//! Writing a tar: POSIX headers, PAX records where they do not suffice, nothing that varies.

use std::io::{self, Read, Write};

use tar_core::EntryType;
use tar_core::builder::EntryBuilder;

use super::place::pump;

/// What a header says.
pub(crate) struct Header<'a> {
    pub(crate) path: &'a [u8],
    pub(crate) kind: EntryType,
    /// `0o7777` at most.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since the epoch; archives of images have no fractions.
    pub(crate) mtime: i64,
    /// Bytes of content that follow.
    pub(crate) size: u64,
    pub(crate) link: &'a [u8],
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

impl Default for Header<'_> {
    fn default() -> Self {
        Self {
            path: b"",
            kind: EntryType::Regular,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: 0,
            size: 0,
            link: b"",
            device: (0, 0),
            xattrs: &[],
        }
    }
}

/// A tar being written.
pub(crate) struct TarWriter<W> {
    out: W,
    written: u64,
}

impl<W: Write> TarWriter<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, written: 0 }
    }

    /// An entry without content.
    pub(crate) fn append(&mut self, header: &Header<'_>) -> io::Result<()> {
        let bytes = encode(header)?;
        self.put(&bytes)
    }

    /// An entry with `header.size` bytes of content. A file that has become shorter meanwhile is
    /// filled up with zeros, as its size was announced already; of a longer one the rest is left.
    pub(crate) fn append_file(
        &mut self,
        header: &Header<'_>,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        self.append(header)?;
        let copied = pump(&mut content.take(header.size), &mut self.out)?;
        self.written += copied;
        self.zeros(header.size.next_multiple_of(512) - copied)
    }

    /// The two empty blocks at the end.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        self.zeros(1024)?;
        self.out.flush()?;
        Ok(self.written)
    }

    fn zeros(&mut self, count: u64) -> io::Result<()> {
        io::copy(&mut io::repeat(0).take(count), &mut self.out)?;
        self.written += count;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

fn encode(header: &Header<'_>) -> io::Result<Vec<u8>> {
    let mut builder = EntryBuilder::new_ustar();
    let fill = |builder: &mut EntryBuilder| {
        builder
            .path(header.path)
            .entry_type(header.kind)
            .mode(header.mode & 0o7777)?
            .uid(u64::from(header.uid))?
            .gid(u64::from(header.gid))?
            .mtime(header.mtime.max(0) as u64)?
            .size(header.size)?;
        if !header.link.is_empty() {
            builder.link_name(header.link);
        }
        if matches!(header.kind, EntryType::Char | EntryType::Block) {
            builder.device(header.device.0, header.device.1)?;
        }
        Ok::<_, tar_core::HeaderError>(())
    };
    fill(&mut builder).map_err(|e| {
        let name = super::entry::shown(header.path);
        io::Error::new(io::ErrorKind::InvalidInput, format!("{name}: {e}"))
    })?;
    if header.mtime < 0 {
        builder.add_pax("mtime", header.mtime.to_string());
    }
    for (name, value) in header.xattrs {
        // A name that is no text has no place in a PAX record.
        if let Ok(name) = std::str::from_utf8(name) {
            builder.add_pax(&format!("SCHILY.xattr.{name}"), value);
        }
    }
    Ok(builder.finish_bytes())
}
