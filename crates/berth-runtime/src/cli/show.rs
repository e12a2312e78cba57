//! `state`, `list`, `ps`, `spec` and `features`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use berth_spec::oci::runtime::{Capabilities, Namespace, NamespaceKind, OCI_VERSION, Status};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::Global;
use super::flags::{Flag, Given};
use super::state::{self, Directory, Saved, list as all};
use crate::capability::CapSet;
use crate::cgroup::Layout;
use crate::defaults;
use crate::error::{Context, Error, Result};

const LIST: &[Flag] = &[(&["format", "f"], true), (&["quiet", "q"], false)];
const PS: &[Flag] = &[(&["format", "f"], true)];
const SPEC: &[Flag] = &[(&["bundle", "b"], true)];

fn word(status: Status) -> String {
    format!("{status:?}").to_lowercase()
}

/// A container as `state` and `list` tell it, in runc's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Described<'a> {
    oci_version: &'a str,
    id: &'a str,
    pid: i32,
    status: String,
    bundle: &'a Path,
    rootfs: PathBuf,
    created: Timestamp,
    annotations: &'a BTreeMap<String, String>,
    owner: &'a str,
}

fn describe(saved: &Saved, status: Status) -> Described<'_> {
    Described {
        oci_version: &saved.spec.oci_version,
        id: &saved.id,
        pid: if status == Status::Stopped {
            0
        } else {
            saved.pid
        },
        status: word(status),
        bundle: &saved.bundle,
        rootfs: saved.rootfs(),
        created: saved.created,
        annotations: &saved.spec.annotations,
        owner: "",
    }
}

fn print(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).context(|| "answer".to_owned())?;
    println!("{text}");
    Ok(())
}

pub(super) fn state(
    global: &Global,
    arguments: impl Iterator<Item = OsString>,
) -> Result<ExitCode> {
    let given = Given::parse(arguments, &[], false)?;
    let directory = Directory::of(&global.root, given.id()?);
    let saved = directory.load()?;
    print(&describe(&saved, saved.status(&directory)))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn list(global: &Global, arguments: impl Iterator<Item = OsString>) -> Result<ExitCode> {
    let given = Given::parse(arguments, LIST, false)?;
    let found = all(&global.root);
    if given.on("quiet") {
        for (saved, _) in &found {
            println!("{}", saved.id);
        }
        return Ok(ExitCode::SUCCESS);
    }
    match given.value("format").unwrap_or("table") {
        "json" => {
            let described: Vec<_> = found
                .iter()
                .map(|(s, status)| describe(s, *status))
                .collect();
            let text = serde_json::to_string(&described).context(|| "list".to_owned())?;
            println!("{text}");
        }
        "table" => {
            let mut rows =
                vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
            rows.extend(found.iter().map(|(saved, status)| {
                let pid = if *status == Status::Stopped {
                    0
                } else {
                    saved.pid
                };
                [
                    saved.id.clone(),
                    pid.to_string(),
                    word(*status),
                    saved.bundle.display().to_string(),
                    saved.created.to_string(),
                    "root".to_owned(),
                ]
            }));
            table(&rows);
        }
        other => return Err(Error::invalid(format!("invalid format option {other:?}"))),
    }
    Ok(ExitCode::SUCCESS)
}

/// Columns, three blanks apart, at least twelve wide.
fn table<const N: usize>(rows: &[[String; N]]) {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len() + 3).max(12);
        }
    }
    for row in rows {
        let cells: String = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        println!("{}", cells.trim_end());
    }
}

pub(super) fn ps(global: &Global, arguments: impl Iterator<Item = OsString>) -> Result<ExitCode> {
    let given = Given::parse(arguments, PS, true)?;
    let saved = Directory::of(&global.root, given.id()?).load()?;
    let pids = saved
        .open_cgroup()?
        .pids()
        .map_err(|e| Error::internal(e.to_string()))?;
    if given.value("format") == Some("json") {
        println!("{}", json!(pids));
        return Ok(ExitCode::SUCCESS);
    }
    let options = match &given.words[1..] {
        [] => vec!["-ef".to_owned()],
        options => options.to_vec(),
    };
    let output = std::process::Command::new("ps")
        .args(options)
        .output()
        .context(|| "ps".to_owned())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let title = lines.next().unwrap_or_default();
    let column = title
        .split_whitespace()
        .position(|word| word == "PID")
        .ok_or_else(|| Error::invalid("couldn't find PID field in ps output"))?;
    println!("{title}");
    for line in lines {
        let pid = line
            .split_whitespace()
            .nth(column)
            .and_then(|p| p.parse().ok());
        if pid.is_some_and(|pid: i32| pids.contains(&pid)) {
            println!("{line}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn spec(arguments: impl Iterator<Item = OsString>) -> Result<ExitCode> {
    let given = Given::parse(arguments, SPEC, false)?;
    let path = Path::new(given.value("bundle").unwrap_or(".")).join("config.json");
    let mut spec = defaults::docker_spec();
    let process = spec.process.get_or_insert_default();
    process.terminal = true;
    process.args = vec!["sh".to_owned()];
    process.env = vec![format!("PATH={}", defaults::PATH), "TERM=xterm".to_owned()];
    process.no_new_privileges = true;
    // runc's, which are fewer than Docker's.
    let few = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"].map(str::to_owned);
    process.capabilities = Some(Capabilities {
        bounding: few.to_vec(),
        effective: few.to_vec(),
        permitted: few.to_vec(),
        ..Capabilities::default()
    });
    let root = spec.root.get_or_insert_default();
    root.path = "rootfs".to_owned();
    root.readonly = true;
    spec.hostname = "berth".to_owned();
    // As runc: with v2 alone, the container is to see its own cgroup as the root.
    let namespaces = &mut spec.linux.get_or_insert_default().namespaces;
    let kind = NamespaceKind::Cgroup;
    let unified = state::cgroups().is_ok_and(|cgroups| cgroups.layout() == Layout::V2);
    if unified && !namespaces.iter().any(|n| n.kind == kind) {
        namespaces.push(Namespace {
            kind,
            path: String::new(),
        });
    }
    let text = serde_json::to_string_pretty(&spec).context(|| "config.json".to_owned())?;
    let what = || path.display().to_string();
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .invalid(what)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).context(what)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn features() -> Result<ExitCode> {
    print(&json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": [
            "async", "atime", "bind", "defaults", "dev", "diratime", "exec", "idmap", "noatime", "nodev", "nodiratime", "noexec",
            "norelatime", "nostrictatime", "nosuid", "nosymfollow", "private", "ratime", "rbind", "rdev", "rdiratime",
            "relatime", "rexec", "ridmap", "rnoatime", "rnodev", "rnodiratime", "rnoexec", "rnorelatime", "rnostrictatime",
            "rnosuid", "rnosymfollow", "ro", "rprivate", "rrelatime", "rro", "rrw", "rshared", "rslave", "rstrictatime",
            "rsuid", "rsymfollow", "runbindable", "rw", "shared", "slave", "strictatime", "suid", "symfollow", "sync",
            "unbindable",
        ],
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": CapSet::all().names(),
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": false, "rdma": true },
            "seccomp": {
                "enabled": true,
                "actions": [
                    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
                    "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
                ],
                "operators": [
                    "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ",
                    "SCMP_CMP_NE",
                ],
                "archs": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"],
            },
            "apparmor": { "enabled": false },
            "selinux": { "enabled": false },
            "intelRdt": { "enabled": false },
            "mountExtensions": { "idmap": { "enabled": true } },
        },
    }))?;
    Ok(ExitCode::SUCCESS)
}
