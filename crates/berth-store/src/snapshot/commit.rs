//! What was written to a snapshot, as the tar of a layer.

use std::io::Write;
use std::path::Path;

use berth_sys::root::RootFd;
use rustix::io::Errno;

use super::below::Below;
use super::stubs::is_stub;
use crate::layer::pipe::pipe;
use crate::layer::{Layer, Layers};
use crate::tree::tar_writer::{Header, TarWriter};
use crate::tree::walk::{Found, Next, walk};
use crate::tree::{Failure, write_found, xattr};
use crate::{Error, ErrorKind, Lease, Result};

/// Makes a layer of the upper directory at `upper` over the mounted layers `below`: packed, hashed,
/// written and indexed in one pass.
pub(super) fn commit(
    layers: &Layers,
    lease: &Lease,
    upper: &Path,
    below: &RootFd,
) -> Result<Layer> {
    let (mut writer, mut reader) = pipe();
    std::thread::scope(|scope| {
        let packer = scope.spawn(move || {
            pack(upper, below, &mut writer)?;
            writer
                .finish()
                .map_err(|e| Error::io("cannot pack the snapshot", e))
        });
        let imported = layers.import_tar(lease, &mut reader);
        drop(reader);
        match packer.join() {
            // When the import failed, that is why the packer did.
            Ok(Err(packed)) if imported.is_ok() || is_broken_pipe(&imported) => Err(packed),
            Ok(_) => imported,
            Err(_) => Err(Error::new(ErrorKind::Internal, "packing stopped")),
        }
    })
}

/// Whether the import failed for no other reason than that the packer went away.
fn is_broken_pipe(imported: &Result<Layer>) -> bool {
    matches!(imported, Err(e) if e.to_string().contains("roken pipe"))
}

/// Writes the upper directory as a layer's tar. The same tree gives the same bytes.
fn pack(upper: &Path, below: &RootFd, out: &mut dyn Write) -> Result<()> {
    let below = Below(below);
    let failed = |e: std::io::Error| Error::io("cannot pack the snapshot", e);
    let root = RootFd::open(upper).map_err(failed)?;
    let mut writer = TarWriter::new(out);
    walk(root.into_fd(), &mut |found| {
        append(&mut writer, found, &below)
    })
    .and_then(|()| writer.finish().map_err(Failure::Io))
    .map(drop)
    .map_err(|e| match e {
        Failure::Io(e) => failed(e),
        Failure::Found(text, e) => Error::io(text, e),
    })
}

fn append<W: Write>(
    writer: &mut TarWriter<W>,
    found: &Found,
    below: &Below<'_>,
) -> std::result::Result<Next, Failure> {
    if found.path.is_empty() {
        // The layer's root is that of the layers below.
        return Ok(Next::Enter);
    }
    if is_stub(found, below)? {
        return Ok(Next::Pass);
    }
    if found.is_whiteout() {
        mark(writer, &whiteout(&found.path))?;
        return Ok(Next::Enter);
    }
    write_found(writer, found, found.path.clone(), b"", None)?;
    if found.is_directory() && is_opaque(found)? {
        mark(writer, &[&found.path, &b"/.wh..wh..opq"[..]].concat())?;
    }
    Ok(Next::Enter)
}

/// Whether a directory of an upper layer hides what the layers below have under its name.
pub(super) fn is_opaque(found: &Found) -> std::result::Result<bool, Errno> {
    Ok(xattr::get(found.handle(), "trusted.overlay.opaque")?.as_deref() == Some(b"y"))
}

/// `dir/NAME` as `dir/.wh.NAME`.
fn whiteout(path: &[u8]) -> Vec<u8> {
    let name = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
    [&path[..name], b".wh.", &path[name..]].concat()
}

/// An empty file whose name says it all. Of a removed thing nothing else is known that would be the
/// same each time.
fn mark<W: Write>(writer: &mut TarWriter<W>, path: &[u8]) -> std::io::Result<()> {
    writer.append(&Header {
        path,
        mode: 0o600,
        ..Header::default()
    })
}
