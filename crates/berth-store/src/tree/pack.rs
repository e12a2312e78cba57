//! A tree of files as a tar.

use std::io::Write;
use std::path::Path;

use berth_sys::root::RootFd;
use rustix::fs::FileType;
use rustix::io::Errno;
use tar_core::EntryType;

use super::tar_writer::{Header, TarWriter};
use super::walk::{Found, FoundKind, Next, walk};
use crate::{Error, Result};

/// What to do about something in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Take,
    /// Leave it out; of a directory, look at what is in it all the same.
    Skip,
    /// Leave it out with all below it.
    Prune,
}

/// Decides what of a tree is taken, by the path below where the tree begins.
pub type Filter<'a> = dyn Fn(&Path, FileType) -> Verdict + Sync + 'a;

/// How a tree becomes a tar.
#[derive(Default)]
pub struct PackOptions<'a> {
    /// What the packed thing is called in the archive, instead of by its own last name. An empty
    /// name leaves a directory itself out: what is in it stands at the top of the archive.
    pub name: Option<&'a str>,
    /// When the path ends in a symbolic link, pack what it points at.
    pub follow: bool,
    /// What is taken; everything without one. Not asked about the beginning itself.
    pub filter: Option<&'a Filter<'a>>,
    /// The owner that everything has in the archive, instead of its own.
    pub owner: Option<(u32, u32)>,
    /// What user and group are called in the archive, by what they are here.
    pub rename: Option<&'a Rename<'a>>,
}

/// Names owners otherwise.
pub type Rename<'a> = dyn Fn(u32, u32) -> (u32, u32) + Sync + 'a;

/// Packs what `path` names inside `root`, with all below it. Sockets are left out. Returns the bytes
/// written.
pub fn pack(
    root: &RootFd,
    path: &Path,
    out: &mut dyn Write,
    options: &PackOptions<'_>,
) -> Result<u64> {
    let failed = |e| Error::io(format_args!("cannot pack {}", path.display()), e);
    let start = if options.follow {
        root.handle(path)
    } else {
        root.handle_nofollow(path)
    }
    .map_err(failed)?;
    let own_name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = options.name.unwrap_or(&own_name).trim_matches('/');
    let mut writer = TarWriter::new(out);
    walk(start, &mut |found| {
        append_found(&mut writer, found, name.as_bytes(), options)
    })
    .and_then(|()| writer.finish().map_err(Failure::Io))
    .map_err(|e| match e {
        Failure::Io(e) => failed(e),
        Failure::Found(text, e) => Error::io(text, e),
    })
}

/// Writes one file with this content, owned by root, as an entry of an archive that goes on with
/// something else, or with nothing: [`end`].
pub fn append(out: &mut dyn Write, name: &str, mode: u32, content: &[u8]) -> Result<()> {
    let header = Header {
        path: name.as_bytes(),
        mode: mode & 0o7777,
        size: content.len() as u64,
        ..Header::default()
    };
    TarWriter::new(out)
        .append_file(&header, &mut &*content)
        .map_err(|e| Error::io(format_args!("cannot pack {name}"), e))
}

/// Ends an archive.
pub fn end(out: &mut dyn Write) -> Result<()> {
    let ended = TarWriter::new(out).finish();
    ended
        .map(drop)
        .map_err(|e| Error::io("cannot end an archive", e))
}

/// Why a walk ended.
pub(crate) enum Failure {
    Io(std::io::Error),
    /// About something in particular.
    Found(String, Errno),
}

impl From<Errno> for Failure {
    fn from(e: Errno) -> Self {
        Failure::Io(e.into())
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Failure::Io(e)
    }
}

/// Asks the filter, if there is one.
pub(super) fn judge(filter: Option<&Filter<'_>>, found: &Found) -> Verdict {
    use std::os::unix::ffi::OsStrExt;
    match filter {
        Some(filter) if !found.path.is_empty() => {
            let path = Path::new(std::ffi::OsStr::from_bytes(&found.path));
            filter(path, FileType::from_raw_mode(found.stat.st_mode))
        }
        _ => Verdict::Take,
    }
}

fn append_found<W: Write>(
    writer: &mut TarWriter<W>,
    found: &Found,
    prefix: &[u8],
    options: &PackOptions<'_>,
) -> std::result::Result<Next, Failure> {
    match judge(options.filter, found) {
        Verdict::Prune => return Ok(Next::Pass),
        Verdict::Skip => return Ok(Next::Skip),
        Verdict::Take => {}
    }
    let path = join(prefix, &found.path);
    if path.is_empty() && found.is_directory() {
        return Ok(Next::Enter);
    }
    let renamed = options
        .rename
        .map(|rename| rename(found.stat.st_uid, found.stat.st_gid));
    write_found(writer, found, path, prefix, options.owner.or(renamed))?;
    Ok(Next::Enter)
}

/// Writes one thing under the name `path`; hard links point below `prefix`.
pub(crate) fn write_found<W: Write>(
    writer: &mut TarWriter<W>,
    found: &Found,
    mut path: Vec<u8>,
    prefix: &[u8],
    owner: Option<(u32, u32)>,
) -> std::result::Result<(), Failure> {
    let about = |e| {
        Failure::Found(
            format!("cannot pack {}", super::entry::shown(&found.path)),
            e,
        )
    };
    let (uid, gid) = owner.unwrap_or((found.stat.st_uid, found.stat.st_gid));
    let xattrs: Vec<_> = match found.kind {
        FoundKind::HardLink(_) | FoundKind::Socket => Vec::new(),
        _ => found.xattrs().map_err(about)?.into_iter().collect(),
    };
    let mut header = Header {
        mode: found.stat.st_mode & 0o7777,
        uid,
        gid,
        mtime: found.stat.st_mtime,
        xattrs: &xattrs,
        ..Header::default()
    };
    let target;
    match &found.kind {
        FoundKind::Socket => return Ok(()),
        FoundKind::File => {
            let mut file = match found.open() {
                Ok(file) => file,
                // Gone between look and open.
                Err(Errno::NOENT) => return Ok(()),
                Err(e) => return Err(about(e)),
            };
            header.path = &path;
            header.size = found.stat.st_size as u64;
            writer.append_file(&header, &mut file)?;
            return Ok(());
        }
        FoundKind::Directory => {
            header.kind = EntryType::Directory;
            path.push(b'/');
        }
        FoundKind::Symlink(link) => {
            header.kind = EntryType::Symlink;
            header.link = link;
        }
        FoundKind::HardLink(first) => {
            header.kind = EntryType::Link;
            target = join(prefix, first);
            header.link = &target;
        }
        FoundKind::Device {
            block,
            major,
            minor,
        } => {
            header.kind = if *block {
                EntryType::Block
            } else {
                EntryType::Char
            };
            header.device = (*major, *minor);
        }
        FoundKind::Fifo => header.kind = EntryType::Fifo,
    }
    header.path = &path;
    writer.append(&header)?;
    Ok(())
}

fn join(prefix: &[u8], path: &[u8]) -> Vec<u8> {
    match (prefix, path) {
        (b"", path) => path.to_vec(),
        (prefix, b"") => prefix.to_vec(),
        (prefix, path) => [prefix, b"/", path].concat(),
    }
}
