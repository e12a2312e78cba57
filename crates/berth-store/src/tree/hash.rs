//! A checksum of what a tree of files is, for caches: names, kinds, modes, owners, targets and
//! contents, but no times.

use std::path::Path;

use berth_sys::root::RootFd;

use super::pack::{Failure, Filter, Verdict, judge};
use super::walk::{Found, FoundKind, Next, walk};
use crate::{Error, Result};

/// What is hashed.
#[derive(Default)]
pub struct HashOptions<'a> {
    /// When the path ends in a symbolic link, hash what it points at.
    pub follow: bool,
    /// What counts; everything without one. Not asked about the beginning itself.
    pub filter: Option<&'a Filter<'a>>,
    /// Leave owners out of account.
    pub ignore_owner: bool,
}

/// The checksum of what `path` names inside `root`, with all below it. The last name of `path` itself
/// does not count. Never written to disk in a format of ours; it may change between versions.
pub fn hash(root: &RootFd, path: &Path, options: &HashOptions<'_>) -> Result<[u8; 32]> {
    let failed = |e| Error::io(format_args!("cannot read {}", path.display()), e);
    let start = if options.follow {
        root.handle(path)
    } else {
        root.handle_nofollow(path)
    }
    .map_err(failed)?;
    let mut hasher = blake3::Hasher::new();
    walk(start, &mut |found| {
        match judge(options.filter, found) {
            Verdict::Prune => return Ok(Next::Pass),
            Verdict::Skip => return Ok(Next::Skip),
            Verdict::Take => {}
        }
        feed(&mut hasher, found, options)?;
        Ok(Next::Enter)
    })
    .map_err(|e| match e {
        Failure::Io(e) => failed(e),
        Failure::Found(text, e) => Error::io(text, e),
    })?;
    Ok(*hasher.finalize().as_bytes())
}

fn feed(
    hasher: &mut blake3::Hasher,
    found: &Found,
    options: &HashOptions<'_>,
) -> std::result::Result<(), Failure> {
    if found.kind == FoundKind::Socket {
        return Ok(());
    }
    // Each part with its length before it, so that no two trees give the same bytes.
    let mut put = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    put(&found.path);
    put(&found.stat.st_mode.to_le_bytes());
    if !options.ignore_owner {
        put(&found.stat.st_uid.to_le_bytes());
        put(&found.stat.st_gid.to_le_bytes());
    }
    match &found.kind {
        FoundKind::Symlink(target) => put(target),
        FoundKind::Device { major, minor, .. } => {
            put(&major.to_le_bytes());
            put(&minor.to_le_bytes());
        }
        // Its content is that of the first name, but a copy would be another tree.
        FoundKind::HardLink(first) => put(first),
        _ => {}
    }
    let xattrs = match found.kind {
        FoundKind::HardLink(_) => Default::default(),
        _ => found.xattrs()?,
    };
    for (name, value) in &xattrs {
        put(name);
        put(value);
    }
    if found.kind == FoundKind::File {
        let mut content = blake3::Hasher::new();
        content.update_reader(found.open()?)?;
        put(content.finalize().as_bytes());
    }
    Ok(())
}
