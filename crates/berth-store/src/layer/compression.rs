//! Compressed streams: told apart by their first bytes, read as what they hold.

use std::io::{self, BufReader, Read};

use crate::{Error, Result};

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

/// Bytes of memory that an xz stream may ask for.
const XZ_MEMORY: u64 = 512 << 20;

impl Compression {
    /// Bytes that [`Compression::detect`] looks at.
    pub const HEAD: usize = 512;

    /// What a stream that begins like this is. [`Compression::HEAD`] bytes are enough; with fewer, a
    /// tar whose first name looks like a compressed stream is taken for one.
    pub fn detect(head: &[u8]) -> Compression {
        if head.get(257..262) == Some(b"ustar") {
            return Compression::None;
        }
        match head {
            [0x1f, 0x8b, 0x08, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            // A skippable frame, with which zstd streams may begin.
            [b, 0x2a, 0x4d, 0x18, ..] if b & 0xf0 == 0x50 => Compression::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            [b'B', b'Z', b'h', ..] => Compression::Bzip2,
            _ => Compression::None,
        }
    }
}

/// A reader of what `source` holds, decompressed if it is compressed: all members of a gzip or
/// bzip2 file, all frames of a zstd one.
pub fn decompress<'a>(source: &'a mut dyn Read) -> Result<Box<dyn Read + 'a>> {
    let mut head = Vec::with_capacity(Compression::HEAD);
    source
        .take(Compression::HEAD as u64)
        .read_to_end(&mut head)
        .map_err(|e| Error::io("cannot read the archive", e))?;
    let compression = Compression::detect(&head);
    let whole = BufReader::with_capacity(128 << 10, io::Cursor::new(head).chain(source));
    let fail = |e: io::Error| Error::io("cannot decompress the archive", e);
    Ok(match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(Named(flate2::bufread::MultiGzDecoder::new(whole))),
        Compression::Zstd => Box::new(Named(
            zstd::stream::read::Decoder::with_buffer(whole).map_err(fail)?,
        )),
        Compression::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(
                XZ_MEMORY,
                liblzma::stream::CONCATENATED,
            )
            .map_err(|e| fail(e.into()))?;
            Box::new(Named(liblzma::bufread::XzDecoder::new_stream(
                whole, stream,
            )))
        }
        Compression::Bzip2 => Box::new(Named(bzip2::bufread::MultiBzDecoder::new(whole))),
    })
}

/// A decoder whose complaints say what they are about.
struct Named<R>(R);

impl<R: Read> Read for Named<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|e| {
            // What the source below said of itself stays as it was.
            if e.get_ref().is_some_and(|inner| inner.is::<Error>()) || e.raw_os_error().is_some() {
                return e;
            }
            if e.kind() == io::ErrorKind::Interrupted {
                return e;
            }
            Error::invalid(format!("the archive is damaged: {e}")).into()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn plain() -> Vec<u8> {
        (0..200_000u32)
            .flat_map(|n| (n / 7).to_le_bytes())
            .collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<u8>> {
        let mut source = bytes;
        let mut out = Vec::new();
        decompress(&mut source)?
            .read_to_end(&mut out)
            .map_err(|e| Error::io("cannot read", e))?;
        Ok(out)
    }

    #[test]
    fn every_compression_is_told_apart() {
        let plain = plain();
        let (one, two) = plain.split_at(1234);
        let members = [gzip(one), gzip(two)].concat();
        let frames = [
            zstd::encode_all(one, 1).unwrap(),
            zstd::encode_all(two, 1).unwrap(),
        ]
        .concat();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&plain).unwrap();
        let mut bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bz.write_all(&plain).unwrap();
        for bytes in [
            plain.clone(),
            members,
            frames,
            xz.finish().unwrap(),
            bz.finish().unwrap(),
        ] {
            assert_eq!(read(&bytes).unwrap(), plain);
        }
        assert_eq!(read(b"").unwrap(), b"");
        let mut tar = vec![0; 512];
        tar[..5].copy_from_slice(b"BZh91");
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(read(&tar).unwrap(), tar);
        assert_eq!(read(b"BZ").unwrap(), b"BZ");
    }

    #[test]
    fn damage_is_the_senders_fault() {
        let mut bytes = gzip(&plain());
        bytes[40] ^= 0x55;
        assert_eq!(read(&bytes).unwrap_err().kind(), crate::ErrorKind::Invalid);
        let cut = gzip(&plain());
        let error = read(&cut[..cut.len() / 2]).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Invalid);
    }
}
