//! A container's volumes: made, and filled from its image.

use std::path::Path;

use berth_spec::docker::VolumeCreateBody;
use berth_store::Image;
use berth_store::tree::CopyOptions;
use berth_sys::root::RootFd;

use super::create::tell_volume;
use super::plan::{MountKind, MountRecord};
use crate::undo::Undo;
use crate::{Engine, Error, Result, random};

/// Makes the volumes that a container names and that are not there, and fills fresh ones with what
/// the image has at their place. They are the container's from here on: nobody removes them, and they
/// go with it should it get no record. Blocks.
pub(super) fn make(
    engine: &Engine,
    id: &str,
    image: &Image,
    mounts: &mut [MountRecord],
    undo: &mut Undo,
) -> Result<()> {
    undo.push({
        let (engine, id) = (engine.clone(), id.to_owned());
        move || engine.0.volumes.let_go(&id)
    });
    let mut view = None;
    for mount in mounts.iter_mut() {
        match mount.kind {
            MountKind::Bind => check_bind(mount)?,
            MountKind::Volume => {
                let fresh = make_one(engine, id, mount)?;
                let driven = engine
                    .0
                    .volumes
                    .get(&mount.name)?
                    .options
                    .contains_key("type");
                if (fresh || !engine.0.volumes.get(&mount.name)?.used) && !mount.no_copy && !driven
                {
                    if view.is_none() {
                        let root = engine.0.store.snapshots().view(image.layers())?;
                        view = Some(root_of(root.into_fd())?);
                    }
                    if let Some(root) = &view {
                        fill(engine, root, mount)?;
                        berth_sys::fail_point("container.create.filled");
                    }
                }
                engine.0.volumes.set_used(&mount.name)?;
            }
            MountKind::Image => {
                engine.0.store.images().resolve(&mount.source)?;
            }
            MountKind::Tmpfs => {}
        }
    }
    Ok(())
}

pub(crate) fn root_of(fd: std::os::fd::OwnedFd) -> Result<RootFd> {
    RootFd::new(fd).map_err(|e| Error::io("cannot open a root file system", e))
}

/// A `--mount` of a path that is not there is refused now, and not at the start.
fn check_bind(mount: &MountRecord) -> Result<()> {
    if mount.create_source || Path::new(&mount.source).exists() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "invalid mount config for type \"bind\": bind source path does not exist: {}",
        mount.source
    )))
}

fn make_one(engine: &Engine, id: &str, mount: &mut MountRecord) -> Result<bool> {
    if mount.anonymous && mount.name.is_empty() {
        mount.name = random::id();
    }
    let body = VolumeCreateBody {
        name: mount.name.clone(),
        ..mount.volume.clone()
    };
    let (record, fresh) = engine.0.volumes.claim(&body, mount.anonymous, id)?;
    if fresh {
        tell_volume(engine, "create", &record.name, &[]);
    }
    Ok(fresh)
}

/// Copies what the image has at the mount's target into an empty volume.
fn fill(engine: &Engine, image: &RootFd, mount: &MountRecord) -> Result<()> {
    let target = Path::new(&mount.target);
    match image.stat(target) {
        Ok(stat) if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() => {}
        _ => return Ok(()),
    }
    let data = engine.0.volumes.data(&mount.name);
    let empty = std::fs::read_dir(&data)
        .map_err(|e| Error::io(format_args!("cannot read volume {}", mount.name), e))?
        .next()
        .is_none();
    if !empty {
        return Ok(());
    }
    let volume = RootFd::open(&data)
        .map_err(|e| Error::io(format_args!("cannot open volume {}", mount.name), e))?;
    engine.0.store.extractor().copy(
        image,
        target,
        &volume,
        Path::new(""),
        // The place may be a link of the image's, which leads inside it.
        &CopyOptions {
            follow: true,
            ..CopyOptions::default()
        },
    )?;
    Ok(())
}
