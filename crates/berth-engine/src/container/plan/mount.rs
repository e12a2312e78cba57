//! Mounts: `-v`, `--mount`, `--tmpfs`, the image's volumes.

use std::collections::BTreeMap;

use berth_spec::docker::config::Mount;
use berth_spec::docker::{ContainerConfig, HostConfig, VolumeCreateBody};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What sort of thing is mounted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MountKind {
    #[default]
    Bind,
    Volume,
    Tmpfs,
    /// Another image's files, read-only.
    Image,
}

impl MountKind {
    pub fn as_str(self) -> &'static str {
        match self {
            MountKind::Bind => "bind",
            MountKind::Volume => "volume",
            MountKind::Tmpfs => "tmpfs",
            MountKind::Image => "image",
        }
    }
}

/// A mount of a container, as it is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MountRecord {
    pub kind: MountKind,
    /// The volume's name; empty for an anonymous one that is not made yet.
    pub name: String,
    /// A path of the host (bind), an image's name (image).
    pub source: String,
    /// Where, inside.
    pub target: String,
    /// What `inspect` shows of a `-v`.
    pub mode: String,
    pub read_only: bool,
    /// `rprivate` where nothing is said.
    pub propagation: String,
    /// Options of a tmpfs.
    pub options: Vec<String>,
    /// Below the volume or image.
    pub subpath: String,
    /// A fresh volume stays empty.
    pub no_copy: bool,
    /// The volume goes with the container (`rm -v`, `--rm`).
    pub anonymous: bool,
    /// A missing source is made (`-v`, not `--mount`).
    pub create_source: bool,
    pub non_recursive: bool,
    /// Read-only at the top only.
    pub read_only_non_recursive: bool,
    /// From `--tmpfs`, which inspect does not list.
    pub unlisted: bool,
    /// How the volume is made where there is none of that name.
    pub volume: VolumeCreateBody,
}

impl MountRecord {
    /// Reads one of `-v`. `driver` is that of volumes that are made for it.
    pub fn of_bind(text: &str, driver: &str) -> Result<Self> {
        parse_bind(text, driver)
    }

    /// Reads one of `--mount`.
    pub fn of_mount(asked: &Mount) -> Result<Self> {
        parse_mount(asked)
    }
}

/// All mounts of a container, each target once. What is asked for goes before what the image says.
pub(super) fn plan(config: &ContainerConfig, host: &HostConfig) -> Result<Vec<MountRecord>> {
    let mut mounts: BTreeMap<String, MountRecord> = BTreeMap::new();
    let mut add = |mount: MountRecord| {
        let target = mount.target.clone();
        match mounts.insert(target.clone(), mount) {
            Some(_) => Err(Error::invalid(format!("Duplicate mount point: {target}"))),
            None => Ok(()),
        }
    };
    for bind in host.binds.iter().flatten() {
        add(parse_bind(bind, &host.volume_driver)?)?;
    }
    for mount in host.mounts.iter().flatten() {
        add(parse_mount(mount)?)?;
    }
    for (target, options) in host.tmpfs.iter().flatten() {
        add(MountRecord {
            kind: MountKind::Tmpfs,
            target: clean_target(target, target)?,
            options: split_options(options),
            unlisted: true,
            ..MountRecord::default()
        })?;
    }
    for target in config.volumes.iter().flat_map(BTreeMap::keys) {
        let target = clean_target(target, target)?;
        mounts.entry(target.clone()).or_insert_with(|| MountRecord {
            kind: MountKind::Volume,
            target,
            anonymous: true,
            volume: VolumeCreateBody {
                driver: host.volume_driver.clone(),
                ..VolumeCreateBody::default()
            },
            ..MountRecord::default()
        });
    }
    Ok(mounts.into_values().collect())
}

fn split_options(text: &str) -> Vec<String> {
    text.split(',')
        .filter(|o| !o.is_empty())
        .map(str::to_owned)
        .collect()
}

/// An absolute path without dots and doubled slashes, that is not the root; `whole` is for the words.
fn clean_target(target: &str, whole: &str) -> Result<String> {
    if !target.starts_with('/') {
        return Err(Error::invalid(format!(
            "invalid volume specification: '{whole}': invalid mount path: '{target}' mount path must be absolute"
        )));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Err(Error::invalid(format!(
            "invalid volume specification: '{whole}': invalid specification: destination can't be '/'"
        )));
    }
    Ok(format!("/{}", parts.join("/")))
}

/// Docker's rule for names of volumes.
pub(crate) fn is_volume_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() >= 2
        && bytes.len() <= 255
        && bytes[0].is_ascii_alphanumeric()
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Docker's words for a name that is none.
pub(crate) fn check_volume_name(name: &str) -> Result<()> {
    if is_volume_name(name) {
        return Ok(());
    }
    if name.len() == 1 {
        return Err(Error::invalid(
            "volume name is too short, names should be at least two alphanumeric characters",
        ));
    }
    Err(Error::invalid(format!(
        "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
         \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )))
}

/// Reads `[source:]target[:mode]`.
fn parse_bind(text: &str, driver: &str) -> Result<MountRecord> {
    let refused = || Error::invalid(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts[..] {
        [target] => ("", target, ""),
        [source, target] if target.starts_with('/') || !is_mode(target) => (source, target, ""),
        // `target:mode` of an anonymous volume.
        [target, mode] => ("", target, mode),
        [source, target, mode] => (source, target, mode),
        _ => return Err(refused()),
    };
    if target.is_empty() || (parts.len() > 1 && source.is_empty() && parts[0].is_empty()) {
        return Err(refused());
    }
    let mut mount = MountRecord {
        target: clean_target(target, text)?,
        mode: mode.to_owned(),
        ..MountRecord::default()
    };
    apply_mode(&mut mount, mode, text)?;
    if source.starts_with('/') {
        mount.kind = MountKind::Bind;
        mount.source = clean_source(source);
        mount.create_source = true;
        if mount.propagation.is_empty() {
            mount.propagation = "rprivate".to_owned();
        }
    } else {
        mount.kind = MountKind::Volume;
        mount.anonymous = source.is_empty();
        if !source.is_empty() {
            check_volume_name(source)?;
            source.clone_into(&mut mount.name);
            if mount.mode.is_empty() {
                mount.mode = "z".to_owned();
            }
        }
        if !mount.propagation.is_empty() {
            return Err(Error::invalid(format!("invalid mode: {mode}")));
        }
        driver.clone_into(&mut mount.volume.driver);
    }
    Ok(mount)
}

fn clean_source(source: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in source.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

const MODES: [&str; 17] = [
    "rw",
    "ro",
    "z",
    "Z",
    "nocopy",
    "consistent",
    "cached",
    "delegated",
    "default",
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "bind",
    "rbind",
];

fn is_mode(text: &str) -> bool {
    text.split(',').all(|word| MODES.contains(&word))
}

fn apply_mode(mount: &mut MountRecord, mode: &str, whole: &str) -> Result<()> {
    for word in mode.split(',').filter(|_| !mode.is_empty()) {
        match word {
            "ro" => mount.read_only = true,
            "rw" | "z" | "Z" | "consistent" | "cached" | "delegated" | "default" | "rbind" => {}
            "bind" => mount.non_recursive = true,
            "nocopy" => mount.no_copy = true,
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => {
                word.clone_into(&mut mount.propagation);
            }
            _ => {
                return Err(Error::invalid(format!(
                    "invalid volume specification: '{whole}': invalid mode: {mode}"
                )));
            }
        }
    }
    Ok(())
}

/// Reads one `--mount`.
fn parse_mount(asked: &Mount) -> Result<MountRecord> {
    let refused = |why: &str| {
        Error::invalid(format!(
            "invalid mount config for type \"{}\": {why}",
            asked.kind
        ))
    };
    if asked.target.is_empty() {
        return Err(refused("field Target must not be empty"));
    }
    if !asked.target.starts_with('/') {
        return Err(refused(&format!(
            "invalid mount path: '{}' mount path must be absolute",
            asked.target
        )));
    }
    let mut mount = MountRecord {
        target: clean_target(&asked.target, &asked.target)
            .map_err(|_| refused("invalid specification: destination can't be '/'"))?,
        read_only: asked.read_only,
        ..MountRecord::default()
    };
    let only = |option: bool, name: &str| match option {
        true => Err(refused(&format!("field {name} must not be specified"))),
        false => Ok(()),
    };
    match asked.kind.as_str() {
        "bind" => {
            only(asked.volume_options.is_some(), "VolumeOptions")?;
            only(asked.tmpfs_options.is_some(), "TmpfsOptions")?;
            fill_bind(&mut mount, asked, &refused)?;
        }
        "volume" => {
            only(asked.bind_options.is_some(), "BindOptions")?;
            only(asked.tmpfs_options.is_some(), "TmpfsOptions")?;
            fill_volume(&mut mount, asked, &refused)?;
        }
        "tmpfs" => {
            only(asked.bind_options.is_some(), "BindOptions")?;
            only(asked.volume_options.is_some(), "VolumeOptions")?;
            only(!asked.source.is_empty(), "Source")?;
            fill_tmpfs(&mut mount, asked);
        }
        "image" => {
            only(asked.bind_options.is_some(), "BindOptions")?;
            if asked.source.is_empty() {
                return Err(refused("field Source must not be empty"));
            }
            mount.kind = MountKind::Image;
            mount.source.clone_from(&asked.source);
            mount.read_only = true;
            if let Some(options) = &asked.image_options {
                mount.subpath = clean_subpath(&options.subpath)
                    .ok_or_else(|| refused("subpath must be a relative path within the image"))?;
            }
        }
        _ => return Err(refused("mount type unknown")),
    }
    Ok(mount)
}

fn fill_bind(
    mount: &mut MountRecord,
    asked: &Mount,
    refused: &dyn Fn(&str) -> Error,
) -> Result<()> {
    if asked.source.is_empty() {
        return Err(refused("field Source must not be empty"));
    }
    if !asked.source.starts_with('/') {
        return Err(refused(&format!(
            "invalid mount path: '{}' mount path must be absolute",
            asked.source
        )));
    }
    mount.kind = MountKind::Bind;
    mount.source = clean_source(&asked.source);
    mount.propagation = "rprivate".to_owned();
    if let Some(options) = &asked.bind_options {
        if !options.propagation.is_empty() {
            let known = [
                "private", "rprivate", "shared", "rshared", "slave", "rslave",
            ];
            if !known.contains(&options.propagation.as_str()) {
                return Err(refused(&format!(
                    "invalid propagation mode: {}",
                    options.propagation
                )));
            }
            mount.propagation.clone_from(&options.propagation);
        }
        mount.non_recursive = options.non_recursive;
        mount.create_source = options.create_mountpoint;
        mount.read_only_non_recursive = options.read_only_non_recursive;
    }
    Ok(())
}

fn fill_volume(
    mount: &mut MountRecord,
    asked: &Mount,
    refused: &dyn Fn(&str) -> Error,
) -> Result<()> {
    mount.kind = MountKind::Volume;
    mount.anonymous = asked.source.is_empty();
    mount.mode = "z".to_owned();
    if !mount.anonymous {
        check_volume_name(&asked.source)?;
        mount.name.clone_from(&asked.source);
    }
    if let Some(options) = &asked.volume_options {
        mount.no_copy = options.no_copy;
        mount.subpath = clean_subpath(&options.subpath)
            .ok_or_else(|| refused("subpath must be a relative path within the volume"))?;
        mount.volume.labels.clone_from(&options.labels);
        if let Some(driver) = &options.driver_config {
            mount.volume.driver.clone_from(&driver.name);
            mount.volume.driver_opts.clone_from(&driver.options);
        }
    }
    Ok(())
}

fn fill_tmpfs(mount: &mut MountRecord, asked: &Mount) {
    mount.kind = MountKind::Tmpfs;
    if mount.read_only {
        mount.options.push("ro".to_owned());
    }
    let Some(options) = &asked.tmpfs_options else {
        return;
    };
    if options.mode != 0 {
        mount.options.push(format!("mode={:o}", options.mode));
    }
    if options.size_bytes > 0 {
        mount.options.push(format!("size={}", options.size_bytes));
    }
    for option in &options.options {
        match &option[..] {
            [name] => mount.options.push(name.clone()),
            [name, value] => mount.options.push(format!("{name}={value}")),
            _ => {}
        }
    }
}

/// A relative path that does not climb.
fn clean_subpath(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some(String::new());
    }
    let climbs = text.starts_with('/') || text.split('/').any(|part| part == "..");
    (!climbs).then(|| text.trim_end_matches('/').to_owned())
}

/// Reads `container[:mode]` of `--volumes-from`: the name, and whether it is read-only.
pub(crate) fn parse_volumes_from(text: &str) -> Result<(&str, bool)> {
    let (name, mode) = text.split_once(':').unwrap_or((text, "rw"));
    if name.is_empty() {
        return Err(Error::invalid(
            "malformed volumes-from specification: an empty string is invalid",
        ));
    }
    if !is_mode(mode) {
        return Err(Error::invalid(format!(
            "invalid mode for volumes-from: {mode}"
        )));
    }
    Ok((name, mode.split(',').any(|word| word == "ro")))
}
