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

/// Bytes of memory that an xz stream may ask for; `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 68 << 20;
/// The largest window of a zstd stream, as a power of two: `zstd --ultra -20` needs it.
const ZSTD_WINDOW: u32 = 25;
/// A window that every reader of zstd must take (RFC 8878, 3.1.1.1.2).
const ZSTD_USUAL_WINDOW: u32 = 23;

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
    open(source).map(|(reader, _)| reader)
}

/// The same, with the bytes of memory that decompressing takes beyond a few MiB.
pub(super) fn open<'a>(source: &'a mut dyn Read) -> Result<(Box<dyn Read + 'a>, usize)> {
    let mut head = Vec::with_capacity(Compression::HEAD);
    source
        .take(Compression::HEAD as u64)
        .read_to_end(&mut head)
        .map_err(|e| Error::io("cannot read the archive", e))?;
    let compression = Compression::detect(&head);
    let window = zstd_window(&head);
    let whole = BufReader::with_capacity(128 << 10, io::Cursor::new(head).chain(source));
    let fail = |e: io::Error| Error::io("cannot decompress the archive", e);
    let mut memory = 0;
    let reader: Box<dyn Read + 'a> = match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(Named(flate2::bufread::MultiGzDecoder::new(whole))),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(whole).map_err(fail)?;
            let mut most = ZSTD_USUAL_WINDOW;
            if window > 1 << ZSTD_USUAL_WINDOW {
                most = ZSTD_WINDOW;
                memory = 1 << ZSTD_WINDOW;
            }
            decoder.window_log_max(most).map_err(fail)?;
            Box::new(Named(decoder))
        }
        Compression::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(
                XZ_MEMORY,
                liblzma::stream::CONCATENATED,
            )
            .map_err(|e| fail(e.into()))?;
            memory = XZ_MEMORY as usize;
            Box::new(Named(liblzma::bufread::XzDecoder::new_stream(
                whole, stream,
            )))
        }
        Compression::Bzip2 => Box::new(Named(bzip2::bufread::MultiBzDecoder::new(whole))),
    };
    Ok((reader, memory))
}

/// The window that the first frame of a zstd stream asks for (RFC 8878, 3.1.1.1.2); one that holds
/// its size instead needs a window of that size.
fn zstd_window(head: &[u8]) -> u64 {
    let [0x28, 0xb5, 0x2f, 0xfd, descriptor, rest @ ..] = head else {
        return 0;
    };
    if descriptor & 0x20 == 0 {
        let Some(window) = rest.first() else { return 0 };
        let base = 1u64 << (10 + (window >> 3));
        return base + base / 8 * u64::from(window & 7);
    }
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let Some(bytes) = rest.get(dictionary..dictionary + size) else {
        return 0;
    };
    let mut number = [0; 8];
    number[..size].copy_from_slice(bytes);
    u64::from_le_bytes(number)
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
