//! An archive of `save` without the layers that the other side has: members are passed on byte for byte,
//! or not at all.

use std::collections::HashSet;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Sent;

const BLOCK: u64 = 512;
/// Bytes of an extended header that is looked into.
const PAX_MAX: u64 = 1 << 20;

/// Passes `archive` on to `out`, but for members `blobs/sha256/<hex>` of the digests `held`.
pub(super) async fn pass(
    mut archive: impl AsyncRead + Unpin,
    mut out: impl AsyncWrite + Unpin,
    held: &HashSet<String>,
) -> io::Result<Sent> {
    let mut sent = Sent::default();
    // Headers about the member that follows them.
    let mut before = Vec::new();
    let mut said_size = None;
    loop {
        let mut header = [0; BLOCK as usize];
        match archive.read_exact(&mut header).await {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(e) => return Err(e),
        }
        if header.iter().all(|b| *b == 0) {
            out.write_all(&header).await?;
            continue;
        }
        let size = size(&header)?;
        if matches!(header[156], b'x' | b'L' | b'K') {
            if size > PAX_MAX {
                return Err(invalid("a header of the archive is too long"));
            }
            let mut content = vec![0; size.next_multiple_of(BLOCK) as usize];
            archive.read_exact(&mut content).await?;
            if header[156] == b'x' {
                said_size = pax_size(&content[..size as usize]).or(said_size);
            }
            before.extend(header);
            before.extend(content);
            continue;
        }
        let size = said_size.take().unwrap_or(size);
        let digest = digest(&header);
        let leave = digest.as_ref().is_some_and(|digest| held.contains(digest));
        let mut member = (&mut archive).take(size.next_multiple_of(BLOCK));
        let copied = if leave {
            tokio::io::copy(&mut member, &mut tokio::io::sink()).await?
        } else {
            out.write_all(&before).await?;
            out.write_all(&header).await?;
            sent.bytes += size;
            tokio::io::copy(&mut member, &mut out).await?
        };
        before.clear();
        if copied < size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Manifests and configs are blobs too, but small and no tars.
        if !leave && digest.is_some() && size.is_multiple_of(BLOCK) && size > 0 {
            sent.layers += 1;
        }
    }
    out.shutdown().await?;
    Ok(sent)
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The digest that a member of an OCI layout is called by.
fn digest(header: &[u8; BLOCK as usize]) -> Option<String> {
    let name = header[..100].split(|b| *b == 0).next()?;
    let hex = std::str::from_utf8(name)
        .ok()?
        .strip_prefix("blobs/sha256/")?;
    (hex.len() == 64).then(|| format!("sha256:{hex}"))
}

/// The size field: octal digits, or a number of 64 bits behind a set first bit.
fn size(header: &[u8; BLOCK as usize]) -> io::Result<u64> {
    let field = &header[124..136];
    if field[0] & 0x80 != 0 {
        let mut number = [0; 8];
        number.copy_from_slice(&field[4..]);
        return Ok(u64::from_be_bytes(number));
    }
    let text = std::str::from_utf8(field).unwrap_or("x");
    let text = text.trim_matches(|c: char| c == ' ' || c == '\0');
    match text {
        "" => Ok(0),
        digits => u64::from_str_radix(digits, 8).map_err(|_| invalid("the archive is damaged")),
    }
}

/// `LENGTH size=NUMBER\n` among the records of an extended header.
fn pax_size(mut records: &[u8]) -> Option<u64> {
    loop {
        let space = records.iter().position(|b| *b == b' ')?;
        let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
        let record = records.get(space + 1..length)?;
        if let Some(value) = record.strip_prefix(b"size=") {
            return std::str::from_utf8(value).ok()?.trim_end().parse().ok();
        }
        records = records.get(length..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(out: &mut Vec<u8>, name: &str, kind: u8, content: &[u8]) {
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[156] = kind;
        out.extend(header);
        out.extend(content);
        out.resize(out.len().next_multiple_of(512), 0);
    }

    #[tokio::test]
    async fn what_is_held_stays_behind() {
        let (one, two) = ("1".repeat(64), "2".repeat(64));
        let mut archive = Vec::new();
        member(
            &mut archive,
            &format!("blobs/sha256/{one}"),
            b'0',
            &[1; 1024],
        );
        let begin = archive.len();
        member(&mut archive, "PaxHeaders/x", b'x', b"15 comment=abc\n");
        member(
            &mut archive,
            &format!("blobs/sha256/{two}"),
            b'0',
            &[2; 1536],
        );
        member(&mut archive, "manifest.json", b'0', b"[]");
        archive.extend([0; 1024]);
        let held = HashSet::from([format!("sha256:{one}")]);
        let mut out = Vec::new();
        let sent = pass(&archive[..], &mut out, &held).await.unwrap();
        assert!(out == archive[begin..]);
        assert_eq!((sent.layers, sent.bytes), (1, 1538));
        let held = HashSet::from([format!("sha256:{two}")]);
        let mut out = Vec::new();
        pass(&archive[..], &mut out, &held).await.unwrap();
        // Its extended header has gone with it.
        assert_eq!(out.len(), 512 + 1024 + 512 + 512 + 1024);
        assert!(pass(&archive[..700], &mut Vec::new(), &held).await.is_err());
    }

    #[test]
    fn sizes() {
        let mut header = [0; 512];
        header[124..135].copy_from_slice(b"00000001000");
        assert_eq!(size(&header).unwrap(), 512);
        header[124] = 0x80;
        header[125..136].copy_from_slice(&[0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
        assert_eq!(size(&header).unwrap(), 2 << 32);
        assert_eq!(pax_size(b"11 path=ab\n22 size=12345678901\n"), None);
        assert_eq!(
            pax_size(b"11 path=ab\n19 size=1234567890\n"),
            Some(1_234_567_890)
        );
    }
}
