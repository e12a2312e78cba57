//! `build -`: an archive on standard input, or a Dockerfile alone.

use std::io::{self, Read};

use super::archive::Archive;
use super::{Context, Source, dockerfile};

/// As much as tells an archive from text: a tar header.
const HEAD: usize = 512;

/// How compressed streams begin: gzip, bzip2, xz, zstd.
const COMPRESSED: [&[u8]; 4] = [
    &[0x1f, 0x8b, 0x08],
    b"BZh",
    &[0xfd, b'7', b'z', b'X', b'Z', 0],
    &[0x28, 0xb5, 0x2f, 0xfd],
];

pub(super) fn context(named: &str) -> Result<Context, String> {
    from_reader(io::stdin(), named)
}

fn from_reader(mut source: impl Read + Send + 'static, named: &str) -> Result<Context, String> {
    let failed = |e: io::Error| format!("failed to peek context header from STDIN: {e}");
    let mut head = Vec::with_capacity(HEAD);
    source
        .by_ref()
        .take(HEAD as u64)
        .read_to_end(&mut head)
        .map_err(failed)?;
    if is_archive(&head) {
        return Ok(Context {
            dockerfile: named.to_owned(),
            source: Source::Archive(Archive::Ready(Box::new(
                io::Cursor::new(head).chain(source),
            ))),
        });
    }
    if !named.is_empty() {
        return Err(
            "ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles".to_owned(),
        );
    }
    source
        .take(dockerfile::MAX + 1)
        .read_to_end(&mut head)
        .map_err(|e| format!("failed to read Dockerfile from STDIN: {e}"))?;
    if head.len() as u64 > dockerfile::MAX {
        return Err(format!(
            "failed to read Dockerfile from STDIN: it has more than {} bytes",
            dockerfile::MAX
        ));
    }
    Ok(Context {
        dockerfile: "Dockerfile".to_owned(),
        source: Source::Archive(Archive::File {
            name: "Dockerfile".to_owned(),
            content: head,
        }),
    })
}

/// Whether a stream that begins like this is an archive, compressed or not.
fn is_archive(head: &[u8]) -> bool {
    COMPRESSED.iter().any(|magic| head.starts_with(magic)) || is_tar_header(head)
}

/// Whether the sum in a header is right: of its bytes, with blanks where the sum itself stands.
fn is_tar_header(head: &[u8]) -> bool {
    const SUM: std::ops::Range<usize> = 148..156;
    if head.len() < HEAD {
        return false;
    }
    let said = String::from_utf8_lossy(&head[SUM]);
    let said = said.trim_matches(['\0', ' ']);
    let Ok(said) = u32::from_str_radix(said, 8) else {
        return false;
    };
    let byte = |(at, &byte): (usize, &u8)| u32::from(if SUM.contains(&at) { b' ' } else { byte });
    said == head.iter().enumerate().map(byte).sum::<u32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(input: Vec<u8>, named: &str) -> Result<&'static str, String> {
        from_reader(io::Cursor::new(input), named).map(|context| match context.source {
            Source::Archive(Archive::Ready(_)) => "archive",
            Source::Archive(Archive::File { .. }) => "dockerfile",
            _ => "other",
        })
    }

    #[test]
    fn archives_and_dockerfiles() {
        let mut tar = Vec::new();
        berth_store::tree::append(&mut tar, "a", 0o644, b"x").expect("an archive");
        assert_eq!(kind(tar.clone(), "D"), Ok("archive"));
        assert_eq!(kind(vec![0x1f, 0x8b, 8, 0], ""), Ok("archive"));
        assert_eq!(kind(b"FROM scratch\n".to_vec(), ""), Ok("dockerfile"));
        assert_eq!(kind(vec![b'#'; 4096], ""), Ok("dockerfile"));
        tar[0] = b'b';
        assert_eq!(kind(tar, ""), Ok("dockerfile"), "the sum is wrong");
        assert_eq!(
            kind(b"FROM scratch\n".to_vec(), "D"),
            Err(
                "ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles"
                    .to_owned()
            )
        );
        assert!(kind(vec![b'x'; dockerfile::MAX as usize + 1], "").is_err());
    }

    #[test]
    fn what_was_looked_at_is_sent_too() {
        let mut tar = Vec::new();
        berth_store::tree::append(&mut tar, "a", 0o644, b"x").expect("an archive");
        let context = from_reader(io::Cursor::new(tar.clone()), "").expect("a context");
        let Source::Archive(archive) = context.source else {
            panic!("no archive");
        };
        let mut sent = Vec::new();
        archive.write(&mut sent).expect("it all");
        assert_eq!(sent, tar);
    }
}
