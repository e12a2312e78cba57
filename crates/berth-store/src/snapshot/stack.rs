//! Layers put on each other: which of them, in what order, with what over and under them.

use std::fs::{self, DirBuilder};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::Path;
use std::sync::Arc;

use berth_spec::Digest;

use super::overlay::Upper;
use super::{MountOptions, RootMount, unlisted};
use crate::layer::mapped::{self, Owners};
use crate::layer::{Layers, Mounted};
use crate::tree::remove::remove;
use crate::{Error, ErrorKind, Result, durable};

/// Lower directories that overlayfs takes (`OVL_MAX_STACK`), less those that we add.
const DEPTH_MAX: usize = 490;

/// Mounts `layers` under the upper directory of the snapshot in `dir`.
pub(super) fn mount(
    layers: &Layers,
    diff_ids: &[Digest],
    dir: &Path,
    options: &MountOptions<'_>,
) -> Result<RootMount> {
    let stack = Stack::new(layers, diff_ids)?;
    // Both have to be of one mount.
    let own = match &options.owners {
        Some(owners) => Some(layers.mapped(open_dir(dir)?.as_fd(), owners)?),
        None => None,
    };
    let part = |name: &str| match &own {
        Some(own) => mapped::below(own.fd(), name)
            .map_err(|e| Error::io(format_args!("cannot open {}", dir.join(name).display()), e)),
        None => open_dir(&dir.join(name)),
    };
    let (upper, work) = (part("upper")?, part("work")?);
    // The mark of an earlier volatile mount would refuse this one. The machine has not gone down
    // since, or the snapshot would have been swept.
    let _ = remove(&dir.join("work").join("work").join("incompat"));
    let upper = Upper {
        upper: upper.as_fd(),
        work: work.as_fd(),
        volatile: options.volatile,
    };
    stack.mount(layers, Some(upper), None, options.owners.as_ref())
}

/// Mounts `layers` with nothing over them.
pub(super) fn view(
    layers: &Layers,
    diff_ids: &[Digest],
    owners: Option<&Owners<'_>>,
) -> Result<RootMount> {
    Stack::new(layers, diff_ids)?.mount(layers, None, None, owners)
}

/// Mounts `layers` with the upper directory of the snapshot in `dir` over them, read-only. The
/// directory lies among the lower ones: another mount that writes to it is not disturbed.
pub(super) fn view_of(layers: &Layers, diff_ids: &[Digest], dir: &Path) -> Result<RootMount> {
    let upper = open_dir(&dir.join("upper"))?;
    Stack::new(layers, diff_ids)?.mount(layers, None, Some(upper.as_fd()), None)
}

/// Makes the directories of a new snapshot. The root of an overlay is its upper directory: it gets
/// the attributes that the layers give their root.
pub(super) fn make_upper(layers: &Layers, diff_ids: &[Digest], dir: &Path) -> Result<()> {
    let stack = Stack::new(layers, diff_ids)?;
    durable::make_dir(&dir.join("work"))?;
    let upper = dir.join("upper");
    let (mode, uid, gid) = stack.root_attributes()?;
    let make = || {
        match DirBuilder::new().mode(0o700).create(&upper) {
            // A creation that died halfway: its record never came.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                remove(&upper)?;
                fs::create_dir(&upper)?;
            }
            other => other?,
        }
        chown(&upper, Some(uid), Some(gid))?;
        fs::set_permissions(&upper, fs::Permissions::from_mode(mode))
    };
    make().map_err(|e| Error::io(format_args!("cannot make {}", upper.display()), e))
}

/// The layers that have a part in what is seen, topmost first.
pub(super) struct Stack {
    pub(super) layers: Vec<Arc<Mounted>>,
}

impl Stack {
    /// From the layers of an image, lowest first. One that comes twice counts where it is highest,
    /// since all it shows is shown there; what lies below an opaque root is not seen at all.
    pub(super) fn new(layers: &Layers, diff_ids: &[Digest]) -> Result<Stack> {
        let mut mounted = Vec::with_capacity(diff_ids.len());
        for (i, diff_id) in diff_ids.iter().enumerate().rev() {
            if diff_ids[i + 1..].contains(diff_id) {
                continue;
            }
            let layer = layers.mounted(diff_id)?;
            let opaque = layer.stacking.opaque;
            mounted.push(layer);
            if opaque {
                break;
            }
        }
        if mounted.len() > DEPTH_MAX {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{} layers are more than overlayfs takes ({DEPTH_MAX})",
                    mounted.len()
                ),
            ));
        }
        Ok(Stack { layers: mounted })
    }

    fn mount(
        &self,
        layers: &Layers,
        upper: Option<Upper<'_>>,
        topmost: Option<BorrowedFd<'_>>,
        owners: Option<&Owners<'_>>,
    ) -> Result<RootMount> {
        let repaired = unlisted::repair(self)?
            .map(|fd| layers.nameable(fd))
            .transpose()?;
        let mut lowers: Vec<BorrowedFd<'_>> = topmost.into_iter().collect();
        lowers.extend(repaired.iter().map(Mounted::fd));
        lowers.extend(self.layers.iter().map(|layer| layer.fd()));
        // Overlayfs wants one directory below a writable one, and two where there is none.
        let need = if upper.is_some() { 1 } else { 2 };
        let empty = empty_dirs(layers.dir(), need - lowers.len().min(need))?;
        lowers.extend(empty.iter().map(AsFd::as_fd));
        if let Some(owners) = owners {
            let mapped = lowers.iter().map(|lower| layers.mapped(*lower, owners));
            let mapped = mapped.collect::<Result<Vec<_>>>()?;
            let lowers: Vec<_> = mapped.iter().map(Mounted::fd).collect();
            let overlay = layers.overlay_mapped(&lowers, upper, owners);
            return overlay.map(|fd| RootMount { fd });
        }
        layers.overlay(&lowers, upper).map(|fd| RootMount { fd })
    }

    /// Mode and owner of the root: those of the topmost layer that lists it.
    fn root_attributes(&self) -> Result<(u32, u32, u32)> {
        let lists_root =
            |layer: &&Arc<Mounted>| !layer.stacking.unlisted.iter().any(|path| path.is_empty());
        let Some(layer) = self.layers.iter().find(lists_root) else {
            return Ok((0o755, 0, 0));
        };
        let stat = rustix::fs::statat(layer.fd(), "", rustix::fs::AtFlags::EMPTY_PATH)
            .map_err(|e| Error::io("cannot look at the root of a layer", e))?;
        Ok((stat.st_mode & 0o7777, stat.st_uid, stat.st_gid))
    }
}

/// `count` empty directories, to lie at the bottom.
fn empty_dirs(layers: &Path, count: usize) -> Result<Vec<OwnedFd>> {
    (0..count)
        .map(|i| {
            let path = layers.join("none").join(i.to_string());
            durable::make_dir(&path)?;
            open_dir(&path)
        })
        .collect()
}

fn open_dir(path: &Path) -> Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    open(path, flags, Mode::empty())
        .map_err(|e| Error::io(format_args!("cannot open {}", path.display()), e))
}
