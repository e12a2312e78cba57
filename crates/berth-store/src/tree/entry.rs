//! What one entry of a tar says, checked as far as it can be without a tree to put it in.

use tar_core::parse::ParsedEntry;
use tar_core::{EntryType, PaxExtensions, SparseEntry};

use crate::{Error, Result};

/// Bytes that a path, a link target or a name may have at most (`PATH_MAX`, `NAME_MAX`).
pub(crate) const PATH_MAX: usize = 4096;
pub(crate) const NAME_MAX: usize = 255;
/// Bytes that an extended attribute may have at most.
const XATTR_MAX: usize = 65535;
/// Bytes that all extended attributes of an entry may have together: what EROFS can hold.
const XATTRS_MAX: usize = 256 << 10;
/// Bytes that a file may have at most (the format stops there with blocks of 512 bytes).
const FILE_MAX: u64 = 2 << 40;

/// The kinds of entries that make something in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    Directory,
    Symlink,
    HardLink,
    Char,
    Block,
    Fifo,
}

/// An entry with all its extension headers applied.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// As it stands in the archive.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryKind,
    /// `0o7777` at most.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds since the epoch.
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Target of a link, empty for others.
    pub(crate) link: Vec<u8>,
    /// Bytes of content in the archive.
    pub(crate) stored: u64,
    /// Bytes of the file.
    pub(crate) size: u64,
    /// The regions that the stored bytes fill, when the file is stored sparsely.
    pub(crate) sparse: Option<Vec<Region>>,
    /// Major and minor number of a device.
    pub(crate) device: (u32, u32),
}

/// A piece of a sparse file that the archive holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl Entry {
    /// Takes over what the parser found. `sparse` is the map and the real size of a sparse file.
    pub(crate) fn new(
        parsed: &ParsedEntry<'_>,
        sparse: Option<(Vec<SparseEntry>, u64)>,
    ) -> Result<Entry> {
        let path = parsed.path.to_vec();
        let refuse = |why: &str| refused(&path, why);
        if path.contains(&0) {
            return Err(refuse("its name holds a NUL byte"));
        }
        let raw_type = parsed.header.as_bytes()[156];
        let kind = match parsed.entry_type {
            // What archives from before POSIX do for want of a type.
            EntryType::Regular if raw_type == 0 && path.ends_with(b"/") => EntryKind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GnuSparse => EntryKind::File,
            EntryType::Directory => EntryKind::Directory,
            EntryType::Symlink => EntryKind::Symlink,
            EntryType::Link => EntryKind::HardLink,
            EntryType::Char => EntryKind::Char,
            EntryType::Block => EntryKind::Block,
            EntryType::Fifo => EntryKind::Fifo,
            _ => return Err(refuse("it is of an unknown type")),
        };
        let pax = Pax::read(parsed, &path)?;
        let mtime = pax
            .mtime
            .unwrap_or((parsed.header.mtime().map_or(0, |m| m as i64), 0));
        let owner = |id: u64| match u32::try_from(id) {
            Ok(id) if id != u32::MAX => Ok(id),
            _ => Err(refuse("its owner is out of range")),
        };
        let mut entry = Entry {
            kind,
            mode: (parsed.mode & 0o7777) as u16,
            uid: owner(parsed.uid)?,
            gid: owner(parsed.gid)?,
            mtime,
            xattrs: xattrs(parsed, &path)?,
            link: Vec::new(),
            // Other kinds hold no content, whatever their size field says.
            stored: if kind == EntryKind::File {
                parsed.size
            } else {
                0
            },
            size: 0,
            sparse: None,
            device: (0, 0),
            path: Vec::new(),
        };
        entry.size = entry.stored;
        match kind {
            EntryKind::File => {
                if let Some((map, real_size)) = sparse {
                    entry.sparse = Some(regions(&map, real_size, entry.stored, &path)?);
                    entry.size = real_size;
                }
                if entry.size > FILE_MAX {
                    return Err(refuse("it is too large"));
                }
            }
            EntryKind::Symlink | EntryKind::HardLink => {
                entry.link = parsed.link_target.as_deref().unwrap_or_default().to_vec();
                if entry.link.is_empty() {
                    return Err(refuse("it is a link to nothing"));
                }
                if entry.link.len() >= PATH_MAX || entry.link.contains(&0) {
                    return Err(refuse("its link target is no path"));
                }
            }
            EntryKind::Char | EntryKind::Block => {
                let (major, minor) = (parsed.dev_major.unwrap_or(0), parsed.dev_minor.unwrap_or(0));
                if major >= 1 << 12 || minor >= 1 << 20 {
                    return Err(refuse("its device number is out of range"));
                }
                entry.device = (major, minor);
            }
            EntryKind::Directory | EntryKind::Fifo => {}
        }
        entry.path = path;
        Ok(entry)
    }
}

/// An entry that is not taken, with its name and the reason.
pub(crate) fn refused(path: &[u8], why: &str) -> Error {
    Error::invalid(format!("archive entry {}: {why}", shown(path)))
}

/// A name for an error text: quoted, and cut where it is absurdly long.
pub(crate) fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(&path[..path.len().min(300)]);
    format!("{text:?}{}", if path.len() > 300 { "…" } else { "" })
}

/// Splits a path into names: leading `/`, `.` and empty names mean nothing, `..` goes up lexically.
///
/// # Errors
/// When it climbs above where it starts, or is longer than the kernel takes.
pub(crate) fn components(path: &[u8]) -> std::result::Result<Vec<&[u8]>, &'static str> {
    if path.len() > PATH_MAX {
        return Err("its name is too long");
    }
    let mut names = Vec::new();
    for name in path.split(|b| *b == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop().ok_or("it escapes the root")?;
            }
            name if name.len() > NAME_MAX => return Err("its name is too long"),
            name => names.push(name),
        }
    }
    Ok(names)
}

/// What the PAX records say beyond what the parser applied. The parser takes whole seconds only and
/// is told to pass over values that it cannot read; those that matter are looked at here.
#[derive(Default)]
struct Pax {
    mtime: Option<(i64, u32)>,
}

impl Pax {
    fn read(parsed: &ParsedEntry<'_>, path: &[u8]) -> Result<Pax> {
        let mut pax = Pax::default();
        for record in parsed.pax.into_iter().flat_map(PaxExtensions::new) {
            let record = record.map_err(|e| refused(path, &e.to_string()))?;
            let value = || std::str::from_utf8(record.value_bytes()).unwrap_or("");
            match record.key_bytes() {
                b"uid" | b"gid" | b"size" if value().parse::<u64>().is_err() => {
                    return Err(refused(path, "an extended header is not a number"));
                }
                b"mtime" => {
                    pax.mtime = Some(
                        seconds(value())
                            .ok_or_else(|| refused(path, "its modification time is no number"))?,
                    );
                }
                _ => {}
            }
        }
        Ok(pax)
    }
}

/// `[-]SECONDS[.FRACTION]` as whole seconds and non-negative nanoseconds.
fn seconds(text: &str) -> Option<(i64, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let whole: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    match (negative, nanoseconds) {
        (true, 1..) => Some((whole.checked_sub(1)?, 1_000_000_000 - nanoseconds)),
        _ => Some((whole, nanoseconds)),
    }
}

/// The extended attributes to keep: overlayfs' own would let a layer forge what lies below it.
fn xattrs(parsed: &ParsedEntry<'_>, path: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut kept = Vec::new();
    let mut total = 0;
    for (name, value) in &parsed.xattrs {
        if name.starts_with(b"trusted.overlay.") {
            continue;
        }
        if name.is_empty() || name.len() > NAME_MAX || name.contains(&0) {
            return Err(refused(
                path,
                "the name of an extended attribute is invalid",
            ));
        }
        total += name.len() + value.len() + 8;
        if value.len() > XATTR_MAX || total > XATTRS_MAX - 16 {
            return Err(refused(path, "its extended attributes are too large"));
        }
        kept.push((name.to_vec(), value.to_vec()));
    }
    Ok(kept)
}

/// Checks a sparse map: regions in order, without overlap, within the file, as long as what is stored.
fn regions(map: &[SparseEntry], size: u64, stored: u64, path: &[u8]) -> Result<Vec<Region>> {
    let bad = || refused(path, "its sparse map is invalid");
    let mut end = 0u64;
    let mut total = 0u64;
    let mut regions = Vec::with_capacity(map.len());
    for piece in map {
        if piece.offset < end {
            return Err(bad());
        }
        end = piece.offset.checked_add(piece.length).ok_or_else(bad)?;
        total += piece.length;
        if end > size {
            return Err(bad());
        }
        if piece.length > 0 {
            regions.push(Region {
                offset: piece.offset,
                length: piece.length,
            });
        }
    }
    if total != stored {
        return Err(bad());
    }
    Ok(regions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_or_refused() {
        let cases: [(&str, std::result::Result<&str, &str>); 9] = [
            ("a/b", Ok("a/b")),
            ("./a//b/", Ok("a/b")),
            ("/etc/passwd", Ok("etc/passwd")),
            ("a/../b", Ok("b")),
            ("./", Ok("")),
            ("..", Err("it escapes the root")),
            ("a/../../b", Err("it escapes the root")),
            ("/../x", Err("it escapes the root")),
            ("a/./../..", Err("it escapes the root")),
        ];
        for (path, expected) in cases {
            let found = components(path.as_bytes())
                .map(|names| String::from_utf8(names.join(&b"/"[..])).unwrap());
            assert_eq!(found.as_deref(), expected.as_ref().map(|e| *e), "{path}");
        }
        assert!(components(&[b'x'; 256]).is_err());
        assert!(components(&b"x/".repeat(2100)).is_err());
    }

    #[test]
    fn times_have_fractions_and_signs() {
        assert_eq!(seconds("12"), Some((12, 0)));
        assert_eq!(seconds("12.5"), Some((12, 500_000_000)));
        assert_eq!(seconds("-1.25"), Some((-2, 750_000_000)));
        assert_eq!(seconds("-3"), Some((-3, 0)));
        assert_eq!(seconds("1.0000000019"), Some((1, 1)));
        for bad in ["", "x", "1.x", "9223372036854775808", "1.-5"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
