//! Snapshots: a writable overlay over a stack of layers.
//!
//! ```text
//! <root>/containers/<key>/upper    what was written over the layers
//! <root>/containers/<key>/layers   the layers' diff IDs, lowest first, as JSON: should the database be lost
//! <root>/containers/<key>/work     overlayfs' own
//! ```
//!
//! A snapshot is known by its *key* (the container's ID). It is mounted on demand, detached: the
//! mount is a descriptor, which moves into a container's mount namespace and goes with it; the
//! host's mount table never shows it.

mod below;
mod commit;
mod diff;
pub(crate) mod overlay;
mod stack;
mod stubs;
#[cfg(test)]
mod tests;
mod unlisted;

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use berth_spec::Digest;
use berth_sys::root::RootFd;
use rusqlite::{OptionalExtension, params};

use crate::db::Db;
use crate::layer::Layers;
use crate::layer::mapped::Owners;
use crate::tree::remove::remove;
use crate::{Error, ErrorKind, Layer, Lease, Result, disk, durable};

/// What the list of layers beside a snapshot's files is called.
const LAYERS: &str = "layers";

/// The writable overlays of a store; cheap to clone.
#[derive(Clone)]
pub struct Snapshots(Arc<Parts>);

struct Parts {
    dir: PathBuf,
    trash: PathBuf,
    db: Db,
    layers: Layers,
}

/// One difference between a snapshot and the layers below it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Absolute path inside the root.
    pub path: String,
    pub kind: ChangeKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    Modified,
    Added,
    Deleted,
}

/// A mounted root file system that no mount table shows. It goes when the last descriptor and the
/// last mount namespace that has it go.
#[derive(Debug)]
pub struct RootMount {
    fd: OwnedFd,
}

/// How a snapshot is mounted.
#[derive(Debug, Clone, Copy, Default)]
pub struct MountOptions<'a> {
    /// Nothing is ever synced: see [`Snapshots::mount_volatile`].
    pub volatile: bool,
    /// Owners are mapped.
    pub owners: Option<Owners<'a>>,
}

impl RootMount {
    /// The root directory of the mount.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// For looking up paths in it.
    pub fn root(&self) -> Result<RootFd> {
        self.fd
            .try_clone()
            .and_then(RootFd::new)
            .map_err(|e| Error::io("cannot use the mounted root", e))
    }
}

/// Files in the trash that nobody needs.
#[derive(Debug)]
#[must_use = "until finished, its bytes stay on disk"]
pub struct Condemned(Option<PathBuf>);

impl Condemned {
    /// Takes them off the disk. Blocks: a file system may need milliseconds for each of them.
    pub fn finish(self) -> Result<()> {
        match self.0 {
            None => Ok(()),
            Some(path) => match remove(&path) {
                // The collector empties the trash, too.
                Err(rustix::io::Errno::NOENT) | Ok(()) => Ok(()),
                Err(e) => Err(Error::io(
                    format_args!("cannot remove {}", path.display()),
                    e,
                )),
            },
        }
    }
}

impl Snapshots {
    /// The snapshots below `dir`, of which `db` keeps the record. `trash` is on the same file system
    /// and swept at start.
    pub(crate) fn at(dir: PathBuf, trash: PathBuf, db: Db, layers: Layers) -> Result<Snapshots> {
        durable::make_dir(&dir)?;
        durable::make_dir(&trash)?;
        Ok(Snapshots(Arc::new(Parts {
            dir,
            trash,
            db,
            layers,
        })))
    }

    /// Makes an empty writable layer over `layers` (lowest first).
    ///
    /// # Errors
    /// `NotFound` when a layer is not there, `Conflict` when the key is taken.
    pub fn create(&self, key: &str, layers: &[Digest]) -> Result<()> {
        check_key(key)?;
        if self.exists(key)? {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("snapshot {key} exists already"),
            ));
        }
        stack::make_upper(&self.0.layers, layers, &self.path(key))?;
        let list = serde_json::to_vec(layers).unwrap_or_default();
        let path = self.path(key).join(LAYERS);
        fs::write(&path, list)
            .map_err(|e| Error::io(format_args!("cannot write {}", path.display()), e))?;
        berth_sys::fail_point("snapshot.create.upper");
        match self.record(key, layers)? {
            None => Ok(()),
            Some(diff_id) => {
                self.remove(key)?;
                Err(Error::not_found(format!("no such layer: {diff_id}")))
            }
        }
    }

    /// Records a snapshot; answers a layer that is not there.
    fn record<'l>(&self, key: &str, layers: &'l [Digest]) -> Result<Option<&'l Digest>> {
        // In one transaction, so that the collector cannot come between.
        self.0.db.write(|tx| {
            let mut known = tx.prepare_cached("SELECT 1 FROM layer WHERE diff_id = ?")?;
            for diff_id in layers {
                if !known.exists([diff_id.as_str()])? {
                    return Ok(Some(diff_id));
                }
            }
            let now = jiff::Timestamp::now().as_nanosecond() as i64;
            tx.execute(
                "INSERT INTO snapshot (key, created) VALUES (?, ?)",
                params![key, now],
            )?;
            for (position, diff_id) in layers.iter().enumerate() {
                tx.execute(
                    "INSERT INTO snapshot_layer (key, position, diff_id) VALUES (?, ?, ?)",
                    params![key, position as i64, diff_id.as_str()],
                )?;
            }
            Ok(None)
        })
    }

    /// Records the snapshots whose directories are there: the database was lost. One whose layers are
    /// gone stays unknown, and its files where they are.
    pub(crate) fn restore(&self) -> Result<()> {
        let failed = |e| Error::io(format_args!("cannot list {}", self.0.dir.display()), e);
        for entry in fs::read_dir(&self.0.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let list = fs::read(entry.path().join(LAYERS)).ok();
            let layers = list.and_then(|list| serde_json::from_slice::<Vec<Digest>>(&list).ok());
            let (Ok(key), Some(layers)) = (entry.file_name().into_string(), layers) else {
                continue;
            };
            if self.record(&key, &layers)?.is_some() {
                tracing::warn!(snapshot = %key, "a layer of a snapshot is gone");
            }
        }
        Ok(())
    }

    /// Whether there is a snapshot of that key.
    pub fn exists(&self, key: &str) -> Result<bool> {
        self.0.db.read(|c| {
            c.prepare_cached("SELECT 1 FROM snapshot WHERE key = ?")?
                .query_row([key], |_| Ok(()))
                .optional()
                .map(|row| row.is_some())
        })
    }

    /// The layers that a snapshot lies on, lowest first.
    pub fn layers(&self, key: &str) -> Result<Vec<Digest>> {
        if !self.exists(key)? {
            return Err(not_found(key));
        }
        let texts = self.0.db.read(|c| {
            c.prepare_cached("SELECT diff_id FROM snapshot_layer WHERE key = ? ORDER BY position")?
                .query_map([key], |row| row.get::<_, String>(0))?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        texts
            .iter()
            .map(|text| {
                text.parse()
                    .map_err(|e| Error::invalid(format!("snapshot {key}: {e}")))
            })
            .collect()
    }

    /// The keys of all snapshots.
    pub fn list(&self) -> Result<Vec<String>> {
        self.0.db.read(|c| {
            c.prepare_cached("SELECT key FROM snapshot ORDER BY key")?
                .query_map([], |row| row.get(0))?
                .collect()
        })
    }

    /// Removes every snapshot whose key begins with `prefix`, and what there is of one whose maker died
    /// before it had a record.
    pub fn remove_all(&self, prefix: &str) -> Result<()> {
        let failed = |e| Error::io(format_args!("cannot list {}", self.0.dir.display()), e);
        let mut keys = self.list()?;
        for entry in fs::read_dir(&self.0.dir).map_err(failed)? {
            keys.extend(entry.map_err(failed)?.file_name().into_string());
        }
        for key in keys.iter().filter(|key| key.starts_with(prefix)) {
            self.remove(key)?;
        }
        Ok(())
    }

    /// Removes the snapshot and all that was written to it. One that is not there is no error.
    pub fn remove(&self, key: &str) -> Result<()> {
        check_key(key)?;
        // Out of sight first: what a crash leaves behind then is in the trash.
        let mut condemned = Vec::new();
        for part in ["upper", "work"] {
            let path = self.path(key).join(part);
            let to = self.0.trash.join(durable::unique_name()?);
            match fs::rename(&path, &to) {
                Ok(()) => condemned.push(to),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => {
                    return Err(Error::io(
                        format_args!("cannot remove {}", path.display()),
                        e,
                    ));
                }
            }
        }
        self.0
            .db
            .write(|tx| tx.execute("DELETE FROM snapshot WHERE key = ?", [key]))?;
        let _ = fs::remove_file(self.path(key).join(LAYERS));
        // Its owner may keep more there, and removes it then.
        let _ = fs::remove_dir(self.path(key));
        for path in condemned {
            remove(&path)
                .map_err(|e| Error::io(format_args!("cannot remove {}", path.display()), e))?;
        }
        Ok(())
    }

    /// Removes the snapshot with all else that its owner keeps in `<root>/containers/<key>`: it is out
    /// of sight when this returns, and off the disk after [`Condemned::finish`], or at the next start.
    /// One that is not there is no error.
    pub fn condemn(&self, key: &str) -> Result<Condemned> {
        check_key(key)?;
        let path = self.path(key);
        let to = self.0.trash.join(durable::unique_name()?);
        let condemned = match fs::rename(&path, &to) {
            Ok(()) => Some(to),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => {
                let what = format_args!("cannot remove {}", path.display());
                return Err(Error::io(what, e));
            }
        };
        self.0
            .db
            .write(|tx| tx.execute("DELETE FROM snapshot WHERE key = ?", [key]))?;
        Ok(Condemned(condemned))
    }

    /// Mounts the snapshot, writable.
    pub fn mount(&self, key: &str) -> Result<RootMount> {
        self.mount_as(key, MountOptions::default())
    }

    /// Mounts the snapshot, writable, without ever syncing it: for a build step, whose result is
    /// committed as a whole or thrown away, and for a container that is removed at its end.
    pub fn mount_volatile(&self, key: &str) -> Result<RootMount> {
        self.mount_as(
            key,
            MountOptions {
                volatile: true,
                ..MountOptions::default()
            },
        )
    }

    /// Mounts the snapshot, writable.
    ///
    /// # Errors
    /// `Unsupported` where owners are to be mapped and the kernel cannot.
    pub fn mount_as(&self, key: &str, options: MountOptions<'_>) -> Result<RootMount> {
        stack::mount(
            &self.0.layers,
            &self.layers(key)?,
            &self.path(key),
            &options,
        )
    }

    /// Whether owners can be mapped so in what is mounted here.
    ///
    /// # Errors
    /// `Unsupported` where they cannot, with the reason.
    pub fn try_mapped(&self, owners: &Owners<'_>) -> Result<()> {
        self.0.layers.try_mapped(owners)
    }

    /// Mounts a stack of layers (lowest first), read-only.
    pub fn view(&self, layers: &[Digest]) -> Result<RootMount> {
        stack::view(&self.0.layers, layers, None)
    }

    /// The same, with owners mapped.
    pub fn view_mapped(&self, layers: &[Digest], owners: &Owners<'_>) -> Result<RootMount> {
        stack::view(&self.0.layers, layers, Some(owners))
    }

    /// Mounts the snapshot as it is now, read-only, also while it is mounted elsewhere to be written
    /// to. What is written after this call may be seen or not.
    pub fn view_of(&self, key: &str) -> Result<RootMount> {
        stack::view_of(&self.0.layers, &self.layers(key)?, &self.path(key))
    }

    /// What `docker diff` shows: the snapshot against its layers, in the order of the paths. Mount
    /// points that were made for `/proc`, `/etc/hosts` and the like do not count.
    pub fn diff(&self, key: &str) -> Result<Vec<Change>> {
        let layers = stack::view(&self.0.layers, &self.layers(key)?, None)?.root()?;
        diff::diff(&self.path(key).join("upper"), &layers)
    }

    /// Makes a layer of what was written to the snapshot, which stays as it is. Mount points are left
    /// out as in [`Snapshots::diff`]. The same content gives the same layer, but for modification
    /// times.
    pub fn commit(&self, lease: &Lease, key: &str) -> Result<Layer> {
        let layers = &self.0.layers;
        let below = stack::view(layers, &self.layers(key)?, None)?.root()?;
        commit::commit(layers, lease, &self.path(key).join("upper"), &below)
    }

    /// Bytes on disk of the files that the snapshot holds beyond its layers. Directories count nothing: one that
    /// was only started shows 0 bytes, as with Docker.
    pub fn usage(&self, key: &str) -> Result<u64> {
        check_key(key)?;
        Ok(disk::bytes_of_files(&self.path(key).join("upper")))
    }

    /// Bytes on disk of all that stands in the snapshot's directory: what was written to it, and
    /// what its owner keeps beside (logs).
    pub fn bytes(&self, key: &str) -> Result<u64> {
        check_key(key)?;
        Ok(disk::bytes_on_disk(&self.path(key)))
    }

    fn path(&self, key: &str) -> PathBuf {
        self.0.dir.join(key)
    }
}

fn not_found(key: &str) -> Error {
    Error::not_found(format!("no such snapshot: {key}"))
}

/// A key is a file name of letters, digits, `_`, `.` and `-`, not beginning with a dot.
fn check_key(key: &str) -> Result<()> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if key.is_empty() || key.len() > 255 || key.starts_with('.') || !key.bytes().all(good) {
        return Err(Error::invalid(format!("{key:?} is no key of a snapshot")));
    }
    Ok(())
}
