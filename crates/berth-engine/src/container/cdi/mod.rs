//! Devices that a vendor describes in files (Container Device Interface): nodes, mounts, variables and
//! hooks under one name, as `--device vendor.com/class=name` and `--gpus` ask for them.

mod format;

use std::io::Read;
use std::path::{Path, PathBuf};

use berth_spec::docker::HostConfig;
use berth_spec::docker::config::DeviceRequest;
use berth_spec::oci::runtime::{Device, DeviceRule, Hook, Hooks, Mount};

use self::format::{Edits, Node, Specification};
use super::device;
use crate::{Error, Result};

/// Bytes that a file may have.
const FILE_MAX: u64 = 4 << 20;
/// Files that one directory may have.
const FILES_MAX: usize = 256;
/// The kind that `--gpus` means.
const GPU: &str = "nvidia.com/gpu";

/// What devices do to a container's document.
#[derive(Debug, Clone, Default)]
pub(crate) struct Additions {
    /// `NAME=value`, over what is there.
    pub env: Vec<String>,
    pub nodes: Vec<Device>,
    pub rules: Vec<DeviceRule>,
    pub mounts: Vec<Mount>,
    pub hooks: Hooks,
    pub groups: Vec<u32>,
}

/// Everything the devices of a container add; `dirs` are those of the files, the later before the earlier.
pub(super) fn additions(host: &HostConfig, dirs: &[PathBuf]) -> Result<Additions> {
    let requests = host.device_requests.as_deref().unwrap_or_default();
    let mut found = Additions::default();
    if requests.is_empty() {
        return Ok(found);
    }
    let files = read_all(dirs);
    let mut names = Vec::new();
    for request in requests {
        names.extend(wanted(request, &files)?);
    }
    let (mut missing, mut used) = (Vec::new(), Vec::new());
    for name in &names {
        let Some((number, edits)) = find(&files, name) else {
            missing.push(name.as_str());
            continue;
        };
        // What all devices of a file need, once and first.
        if !used.contains(&number) {
            used.push(number);
            found.take(&files[number].container_edits)?;
        }
        found.take(edits)?;
    }
    if !missing.is_empty() {
        return Err(Error::invalid(format!(
            "CDI device injection failed: unresolvable CDI devices {}",
            missing.join(", ")
        )));
    }
    Ok(found)
}

/// Who asks for no driver, or for one that is not there, is told so when the container is made.
pub(super) fn check(host: &HostConfig, dirs: &[PathBuf]) -> Result<()> {
    let requests = host.device_requests.as_deref().unwrap_or_default();
    if requests.iter().all(|request| request.driver == "cdi") {
        return Ok(());
    }
    let files = read_all(dirs);
    for request in requests {
        wanted(request, &files)?;
    }
    Ok(())
}

/// The full names of what a request means.
fn wanted(request: &DeviceRequest, files: &[Specification]) -> Result<Vec<String>> {
    let ids = request.device_ids.clone().unwrap_or_default();
    if request.driver == "cdi" {
        return Ok(ids);
    }
    let capabilities = request.capabilities.clone().unwrap_or_default();
    let gpu = capabilities.iter().flatten().any(|c| c == "gpu")
        && matches!(request.driver.as_str(), "" | "nvidia")
        && files.iter().any(|file| file.kind == GPU);
    if !gpu {
        let lists = capabilities
            .iter()
            .map(|list| format!("[{}]", list.join(" ")));
        return Err(Error::invalid(format!(
            "could not select device driver {:?} with capabilities: [{}]",
            request.driver,
            lists.collect::<Vec<_>>().join(" ")
        )));
    }
    let named = |id: &str| match id.contains('=') {
        true => id.to_owned(),
        false => format!("{GPU}={id}"),
    };
    Ok(match request.count {
        _ if !ids.is_empty() => ids.iter().map(|id| named(id)).collect(),
        count if count < 0 => vec![named("all")],
        count => (0..count.min(64)).map(|n| named(&n.to_string())).collect(),
    })
}

fn find<'a>(files: &'a [Specification], name: &str) -> Option<(usize, &'a Edits)> {
    let (kind, name) = name.split_once('=')?;
    let mut numbered = files.iter().enumerate().filter(|(_, f)| f.kind == kind);
    numbered.find_map(|(number, file)| {
        let device = file.devices.iter().find(|d| d.name == name)?;
        Some((number, &device.container_edits))
    })
}

/// The files of all directories, those of the last first. One that cannot be read costs its own devices.
fn read_all(dirs: &[PathBuf]) -> Vec<Specification> {
    let mut files = Vec::new();
    for dir in dirs.iter().rev() {
        let Ok(entries) = std::fs::read_dir(dir) else {
            continue;
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
        paths.sort();
        for path in paths.into_iter().take(FILES_MAX) {
            match path.extension().and_then(|e| e.to_str()) {
                Some("json") => match read(&path) {
                    Ok(file) => files.push(file),
                    Err(error) => {
                        tracing::warn!(path = %path.display(), %error, "devices of a CDI file are not known");
                    }
                },
                Some("yaml" | "yml") => tracing::warn!(
                    path = %path.display(),
                    "devices of a CDI file are not known: only JSON is read (nvidia-ctk cdi generate --format=json)"
                ),
                _ => {}
            }
        }
    }
    files
}

fn read(path: &Path) -> std::result::Result<Specification, String> {
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    let mut text = String::new();
    let mut bounded = file.take(FILE_MAX + 1);
    let read = bounded
        .read_to_string(&mut text)
        .map_err(|e| e.to_string())?;
    if read as u64 > FILE_MAX {
        return Err(format!("it has more than {FILE_MAX} bytes"));
    }
    let file: Specification = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let version = file
        .cdi_version
        .strip_prefix('v')
        .unwrap_or(&file.cdi_version);
    if !version.starts_with("0.") && !version.starts_with("1.") {
        return Err(format!("cdiVersion {:?} is not known", file.cdi_version));
    }
    if !file.kind.contains('/') {
        return Err(format!("kind {:?} is not vendor/class", file.kind));
    }
    Ok(file)
}

impl Additions {
    fn take(&mut self, edits: &Edits) -> Result<()> {
        for variable in &edits.env {
            let name = variable.split_once('=').map(|(name, _)| name);
            if name.is_none_or(str::is_empty) || variable.contains('\0') {
                return Err(refused(format_args!("{variable:?} is no variable")));
            }
        }
        self.env.extend(edits.env.iter().cloned());
        for node in &edits.device_nodes {
            let (node, rule) = made(node)?;
            self.nodes.push(node);
            self.rules.push(rule);
        }
        for mount in &edits.mounts {
            absolute(&mount.container_path)?;
            let kind = match mount.kind.as_str() {
                "" => "bind",
                kind => kind,
            };
            let mut options = mount.options.clone();
            if kind == "bind" && !options.iter().any(|o| o == "bind" || o == "rbind") {
                options.push("rbind".to_owned());
            }
            self.mounts.push(Mount {
                destination: mount.container_path.clone(),
                kind: kind.to_owned(),
                source: mount.host_path.clone(),
                options,
                ..Mount::default()
            });
        }
        for hook in &edits.hooks {
            absolute(&hook.path)?;
            let list = match hook.hook_name.as_str() {
                "prestart" => &mut self.hooks.prestart,
                "createRuntime" => &mut self.hooks.create_runtime,
                "createContainer" => &mut self.hooks.create_container,
                "startContainer" => &mut self.hooks.start_container,
                "poststart" => &mut self.hooks.poststart,
                "poststop" => &mut self.hooks.poststop,
                name => return Err(refused(format_args!("there is no hook {name:?}"))),
            };
            list.push(Hook {
                path: hook.path.clone(),
                args: hook.args.clone(),
                env: hook.env.clone(),
                timeout: hook.timeout,
            });
        }
        self.groups.extend(&edits.additional_groups);
        Ok(())
    }

    /// Whether there are hooks at all.
    pub(crate) fn hooks(&self) -> Option<Hooks> {
        (self.hooks != Hooks::default()).then(|| self.hooks.clone())
    }
}

/// A node, with what the host's says where the file says nothing, and the rule that lets it be used.
fn made(node: &Node) -> Result<(Device, DeviceRule)> {
    absolute(&node.path)?;
    let source = match node.host_path.as_str() {
        "" => node.path.as_str(),
        path => path,
    };
    let found = device::node(Path::new(source), &node.path).ok().flatten();
    let found =
        found.ok_or_else(|| refused(format_args!("{source} is no device of this machine")))?;
    let access = match node.permissions.as_str() {
        "" => "rwm",
        access => access,
    };
    super::plan::check_device_access(access)?;
    let device = Device {
        major: node.major.unwrap_or(found.major),
        minor: node.minor.unwrap_or(found.minor),
        file_mode: node.file_mode.map(|mode| mode & 0o7777).or(found.file_mode),
        uid: node.uid.or(found.uid),
        gid: node.gid.or(found.gid),
        ..found
    };
    let kind = match node.kind.as_str() {
        "b" => "b",
        "" | "c" | "u" => "c",
        other => return Err(refused(format_args!("{other:?} is no type of a device"))),
    };
    let is_block = device.kind == berth_spec::oci::runtime::DeviceKind::Block;
    if !node.kind.is_empty() && is_block != (kind == "b") {
        return Err(refused(format_args!("{source} is of another type")));
    }
    let rule = DeviceRule {
        allow: true,
        kind: device.kind,
        major: Some(device.major),
        minor: Some(device.minor),
        access: access.to_owned(),
    };
    Ok((device, rule))
}

fn absolute(path: &str) -> Result<()> {
    if path.starts_with('/') && !path.contains('\0') {
        return Ok(());
    }
    Err(refused(format_args!("{path:?} is no absolute path")))
}

fn refused(why: std::fmt::Arguments<'_>) -> Error {
    Error::invalid(format!("CDI device injection failed: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPUS: &str = r#"{"cdiVersion":"0.6.0","kind":"nvidia.com/gpu","containerEdits":{"env":["ALL=1"]},
        "devices":[{"name":"0","containerEdits":{"deviceNodes":[{"path":"/dev/nvidia0","hostPath":"/dev/null","permissions":"rw"}],
            "mounts":[{"hostPath":"/etc/hosts","containerPath":"/lib/hosts","options":["ro"]}],
            "hooks":[{"hookName":"createContainer","path":"/usr/bin/ldconfig","args":["ldconfig"]}],"additionalGids":[44]}},
          {"name":"all","containerEdits":{"env":["EVERY=1"]}}]}"#;

    fn asked(request: DeviceRequest) -> HostConfig {
        HostConfig {
            device_requests: Some(vec![request]),
            ..HostConfig::default()
        }
    }

    fn named(names: &[&str]) -> HostConfig {
        asked(DeviceRequest {
            driver: "cdi".to_owned(),
            device_ids: Some(names.iter().map(|n| (*n).to_owned()).collect()),
            ..DeviceRequest::default()
        })
    }

    #[test]
    fn edits_of_a_device_and_its_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("gpu.json"), GPUS).unwrap();
        std::fs::write(dir.path().join("bad.json"), "{").unwrap();
        let dirs = [dir.path().to_owned()];
        let found = additions(&named(&["nvidia.com/gpu=0"]), &dirs).unwrap();
        assert_eq!(found.env, ["ALL=1"]);
        assert_eq!((found.nodes[0].major, found.nodes[0].minor), (1, 3));
        assert_eq!(found.nodes[0].path, "/dev/nvidia0");
        assert_eq!(found.rules[0].access, "rw");
        assert_eq!(found.mounts[0].options, ["ro", "rbind"]);
        assert_eq!(found.hooks.create_container[0].args, ["ldconfig"]);
        assert_eq!(found.groups, [44]);
        // Both devices, the file's own edits once.
        let both = additions(&named(&["nvidia.com/gpu=0", "nvidia.com/gpu=all"]), &dirs).unwrap();
        assert_eq!(both.env, ["ALL=1", "EVERY=1"]);
        let error = additions(&named(&["nvidia.com/gpu=9", "a.com/b=c"]), &dirs).unwrap_err();
        assert_eq!(
            error.to_string(),
            "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=9, a.com/b=c"
        );
    }

    #[test]
    fn gpus_are_devices_of_one_kind() {
        let gpu = |count, ids: Option<&[&str]>| DeviceRequest {
            count,
            device_ids: ids.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect()),
            capabilities: Some(vec![vec!["gpu".to_owned()]]),
            ..DeviceRequest::default()
        };
        let files = [serde_json::from_str::<Specification>(GPUS).unwrap()];
        let names = |request| wanted(&request, &files).unwrap();
        assert_eq!(names(gpu(-1, None)), ["nvidia.com/gpu=all"]);
        assert_eq!(
            names(gpu(2, None)),
            ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]
        );
        assert_eq!(names(gpu(0, Some(&["GPU-1"]))), ["nvidia.com/gpu=GPU-1"]);
        let error = check(&asked(gpu(-1, None)), &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "could not select device driver \"\" with capabilities: [[gpu]]"
        );
    }
}
