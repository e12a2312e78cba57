//! `--mount type=…,source=…,target=…`.

use std::path::{Path, absolute};

use berth_spec::docker::config::{BindOptions, ImageOptions, Mount, TmpfsOptions, VolumeOptions};

use super::csv;
use super::value::go_bool;
use crate::format::size;

/// Reads one.
pub fn parse(text: &str) -> Result<Mount, String> {
    let mut mount = Mount {
        kind: "volume".to_owned(),
        ..Mount::default()
    };
    for field in csv::fields(text)? {
        match field.split_once('=') {
            Some((key, value)) => set(&mut mount, &key.to_lowercase(), value, &field)?,
            None => set_bare(&mut mount, &field)?,
        }
    }
    check(&mount)?;
    Ok(mount)
}

fn set_bare(mount: &mut Mount, field: &str) -> Result<(), String> {
    match field.to_lowercase().as_str() {
        "readonly" | "ro" => mount.read_only = true,
        "volume-nocopy" => volume(mount).no_copy = true,
        "bind-nonrecursive" => bind(mount).non_recursive = true,
        _ => return Err(format!("invalid field '{field}' must be a key=value pair")),
    }
    Ok(())
}

fn bind(mount: &mut Mount) -> &mut BindOptions {
    mount.bind_options.get_or_insert_default()
}

fn volume(mount: &mut Mount) -> &mut VolumeOptions {
    let options = mount.volume_options.get_or_insert_default();
    options.driver_config.get_or_insert_default();
    options
}

fn tmpfs(mount: &mut Mount) -> &mut TmpfsOptions {
    mount.tmpfs_options.get_or_insert_default()
}

fn set(mount: &mut Mount, key: &str, value: &str, field: &str) -> Result<(), String> {
    let invalid = || format!("invalid value for {key}: {value}");
    let boolean = || go_bool(value).map_err(|_| invalid());
    match key {
        "type" => mount.kind = value.to_lowercase(),
        "source" | "src" => mount.source = source(value),
        "target" | "dst" | "destination" => mount.target = value.to_owned(),
        "readonly" | "ro" => mount.read_only = boolean()?,
        "consistency" => mount.consistency = value.to_lowercase(),
        "bind-propagation" => bind(mount).propagation = value.to_lowercase(),
        "bind-nonrecursive" => bind(mount).non_recursive = boolean()?,
        "bind-recursive" => match value {
            "enabled" => {}
            "disabled" => bind(mount).non_recursive = true,
            "writable" => bind(mount).read_only_non_recursive = true,
            "readonly" => bind(mount).read_only_force_recursive = true,
            _ => {
                return Err(format!(
                    "invalid value for {key}: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                ));
            }
        },
        "volume-subpath" => volume(mount).subpath = value.to_owned(),
        "volume-nocopy" => volume(mount).no_copy = boolean()?,
        "volume-label" => insert(&mut volume(mount).labels, value),
        "volume-driver" => {
            volume(mount).driver_config.get_or_insert_default().name = value.to_owned();
        }
        "volume-opt" => {
            let driver = volume(mount).driver_config.get_or_insert_default();
            insert(&mut driver.options, value);
        }
        "image-subpath" => {
            let options: &mut ImageOptions = mount.image_options.get_or_insert_default();
            options.subpath = value.to_owned();
        }
        "tmpfs-size" => {
            tmpfs(mount).size_bytes = size::parse_ram(value).map_err(|_| invalid())?;
        }
        "tmpfs-mode" => {
            tmpfs(mount).mode = u32::from_str_radix(value, 8).map_err(|_| invalid())?;
        }
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

fn insert(map: &mut std::collections::BTreeMap<String, String>, pair: &str) {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    if !name.is_empty() {
        map.insert(name.to_owned(), value.to_owned());
    }
}

/// A path relative to here is made absolute.
fn source(value: &str) -> String {
    if value.starts_with('.') {
        clean_absolute(value)
    } else {
        value.to_owned()
    }
}

/// An absolute path without `.` and `..`.
pub fn clean_absolute(path: &str) -> String {
    let Ok(path) = absolute(Path::new(path)) else {
        return path.to_owned();
    };
    let mut clean = std::path::PathBuf::from("/");
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => drop(clean.pop()),
            std::path::Component::Normal(name) => clean.push(name),
            _ => {}
        }
    }
    clean.display().to_string()
}

fn check(mount: &Mount) -> Result<(), String> {
    if mount.kind.is_empty() {
        return Err("type is required".to_owned());
    }
    if mount.target.is_empty() {
        return Err("target is required".to_owned());
    }
    for (set, kind) in [
        (mount.volume_options.is_some(), "volume"),
        (mount.image_options.is_some(), "image"),
        (mount.bind_options.is_some(), "bind"),
        (mount.tmpfs_options.is_some(), "tmpfs"),
    ] {
        if set && mount.kind != kind {
            return Err(format!(
                "cannot mix '{kind}-*' options with mount type '{}'",
                mount.kind
            ));
        }
    }
    if let Some(bind) = &mount.bind_options {
        if bind.read_only_non_recursive && !mount.read_only {
            return Err("option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction".to_owned());
        }
        if bind.read_only_force_recursive && !mount.read_only {
            return Err("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction".to_owned());
        }
        if bind.read_only_force_recursive && bind.propagation != "rprivate" {
            return Err("option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction".to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read() {
        let mount = parse("type=bind,src=/a,dst=/b,ro,bind-propagation=rslave").unwrap();
        assert_eq!(
            (&*mount.kind, &*mount.source, &*mount.target),
            ("bind", "/a", "/b")
        );
        assert!(mount.read_only && mount.bind_options.unwrap().propagation == "rslave");
        let mount = parse("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770").unwrap();
        let tmpfs = mount.tmpfs_options.unwrap();
        assert_eq!((tmpfs.size_bytes, tmpfs.mode), (1 << 20, 0o1770));
        let mount = parse("source=v,target=/t,volume-label=a=b,\"volume-opt=o=x,y\"").unwrap();
        let volume = mount.volume_options.unwrap();
        assert_eq!(volume.labels["a"], "b");
        assert_eq!(volume.driver_config.unwrap().options["o"], "x,y");
    }

    #[test]
    fn mistakes_are_told_in_dockers_words() {
        for (text, error) in [
            ("type=bind", "target is required"),
            ("x", "invalid field 'x' must be a key=value pair"),
            ("x=y", "unexpected key 'x' in 'x=y'"),
            ("target=/a,ro=maybe", "invalid value for ro: maybe"),
            (
                "type=bind,target=/a,volume-nocopy",
                "cannot mix 'volume-*' options with mount type 'bind'",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), error, "{text}");
        }
    }
}
