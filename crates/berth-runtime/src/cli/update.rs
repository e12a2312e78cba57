//! `update`.

use std::ffi::OsString;
use std::io::Read;
use std::process::ExitCode;

use berth_spec::oci::runtime::{CONFIG_MAX, LinuxResources, Pids};

use super::Global;
use super::flags::{Flag, Given};
use super::state::{self, Directory};
use crate::cgroup::Layout;
use crate::error::{Context, Error, Result};
use crate::systemd;

const UPDATE: &[Flag] = &[
    (&["resources", "r"], true),
    (&["blkio-weight"], true),
    (&["cpu-period"], true),
    (&["cpu-quota"], true),
    (&["cpu-burst"], true),
    (&["cpu-share"], true),
    (&["cpu-rt-period"], true),
    (&["cpu-rt-runtime"], true),
    (&["kernel-memory"], true),
    (&["kernel-memory-tcp"], true),
    (&["l3-cache-schema"], true),
    (&["mem-bw-schema"], true),
    (&["cpu-idle"], true),
    (&["cpuset-cpus"], true),
    (&["cpuset-mems"], true),
    (&["memory"], true),
    (&["memory-reservation"], true),
    (&["memory-swap"], true),
    (&["pids-limit"], true),
];

pub(super) fn update(
    global: &Global,
    arguments: impl Iterator<Item = OsString>,
) -> Result<ExitCode> {
    let given = Given::parse(arguments, UPDATE, false)?;
    let directory = Directory::of(&global.root, given.id()?);
    let _lock = directory.lock()?;
    let saved = directory.load()?;
    let asked = match given.value("resources") {
        Some(path) => read(path)?,
        None => from_flags(&given)?,
    };
    if let Some(unit) = &saved.unit {
        let unified = state::cgroups()?.layout() == Layout::V2;
        systemd::update(unit, &asked, unified)?;
    }
    let warnings = saved
        .open_cgroup()?
        .update(&asked)
        .map_err(|e| Error::internal(e.to_string()))?;
    for warning in warnings {
        super::note("warning", &warning);
    }
    Ok(ExitCode::SUCCESS)
}

/// A `resources` object from a file, or from standard input.
fn read(path: &str) -> Result<LinuxResources> {
    let what = || format!("resources {path}");
    let mut text = Vec::new();
    if path == "-" {
        std::io::stdin()
            .take(CONFIG_MAX)
            .read_to_end(&mut text)
            .context(what)?;
    } else {
        let file = std::fs::File::open(path).invalid(what)?;
        file.take(CONFIG_MAX).read_to_end(&mut text).context(what)?;
    }
    serde_json::from_slice(&text).invalid(what)
}

fn from_flags(given: &Given) -> Result<LinuxResources> {
    for schema in ["l3-cache-schema", "mem-bw-schema"] {
        if given.value(schema).is_some() {
            let text = format!("--{schema}: Intel RDT is not supported");
            return Err(Error::invalid(text));
        }
    }
    if ["kernel-memory", "kernel-memory-tcp"]
        .iter()
        .any(|name| given.value(name).is_some())
    {
        // As runc: no kernel that is still looked after has them.
        super::note("warning", "kernel memory settings are ignored");
    }
    let mut resources = LinuxResources::default();
    let cpu = resources.cpu.get_or_insert_default();
    cpu.period = given.number("cpu-period")?;
    cpu.quota = given.number("cpu-quota")?;
    cpu.burst = given.number("cpu-burst")?;
    cpu.shares = given.number("cpu-share")?;
    cpu.realtime_period = given.number("cpu-rt-period")?;
    cpu.realtime_runtime = given.number("cpu-rt-runtime")?;
    cpu.idle = given.number("cpu-idle")?;
    given
        .value("cpuset-cpus")
        .unwrap_or_default()
        .clone_into(&mut cpu.cpus);
    given
        .value("cpuset-mems")
        .unwrap_or_default()
        .clone_into(&mut cpu.mems);
    let memory = resources.memory.get_or_insert_default();
    let bytes = |name: &str| given.value(name).map(bytes).transpose();
    memory.limit = bytes("memory")?;
    memory.reservation = bytes("memory-reservation")?;
    memory.swap = bytes("memory-swap")?;
    resources.pids = given.number("pids-limit")?.map(|limit| Pids { limit });
    if let Some(weight) = given.number("blkio-weight")? {
        resources.block_io.get_or_insert_default().weight = Some(weight);
    }
    Ok(resources)
}

/// A number of bytes, with a unit in powers of 1024 if there is one.
fn bytes(text: &str) -> Result<i64> {
    let bad = || Error::invalid(format!("invalid size: {text:?}"));
    let lower = text.to_ascii_lowercase();
    let lower = lower.trim_end_matches("ib").trim_end_matches('b');
    let (number, shift) = match lower.chars().last() {
        Some('k') => (&lower[..lower.len() - 1], 10),
        Some('m') => (&lower[..lower.len() - 1], 20),
        Some('g') => (&lower[..lower.len() - 1], 30),
        Some('t') => (&lower[..lower.len() - 1], 40),
        _ => (lower, 0),
    };
    let number: i64 = number.trim().parse().map_err(|_| bad())?;
    number.checked_mul(1 << shift).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, size) in [
            ("-1", -1),
            ("4096", 4096),
            ("64m", 64 << 20),
            ("1GiB", 1 << 30),
            ("2kb", 2048),
        ] {
            assert_eq!(bytes(text).unwrap(), size, "{text}");
        }
        for text in ["", "x", "1x", "99999999999t"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
