//! Cgroups that systemd makes: each container's is a transient scope (`--systemd-cgroup`).
//!
//! systemd owns the tree and may write to it whenever it likes, so limits are told to it as properties
//! and written by us as well: it does not know all of them. The scope is delegated; what is below it
//! is the container's.

mod bus;
mod properties;
mod wire;

use std::path::Path;

use berth_spec::oci::runtime::{LinuxResources, Spec};

use crate::error::{Error, Result};
use bus::Bus;
use properties::Property;
use wire::{Body, Value};

/// A scope of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    pub unit: String,
    slice: String,
}

impl Scope {
    /// The one that `cgroupsPath` names: `slice:prefix:name`.
    pub fn of(cgroups_path: &str, id: &str) -> Result<Self> {
        let default = format!("system.slice:runc:{id}");
        let path = match cgroups_path {
            "" => &default,
            path => path,
        };
        let parts: Vec<&str> = path.split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            return Err(Error::invalid(format!(
                "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead"
            )));
        };
        let slice = if slice.is_empty() {
            "system.slice"
        } else {
            slice
        };
        if !slice.ends_with(".slice") || name.is_empty() || path.contains('/') {
            return Err(Error::invalid(format!("invalid slice or name in {path:?}")));
        }
        if name.ends_with(".slice") {
            let text = "a container whose cgroup is a slice is not supported";
            return Err(Error::invalid(format!("{path:?}: {text}")));
        }
        let unit = match prefix {
            "" => format!("{name}.scope"),
            prefix => format!("{prefix}-{name}.scope"),
        };
        let slice = slice.to_owned();
        Ok(Self { unit, slice })
    }

    /// The same in the form in which the cgroup's path is read from it.
    pub fn cgroups_path(&self) -> String {
        let stem = self.unit.strip_suffix(".scope").unwrap_or(&self.unit);
        format!("{}::{stem}", self.slice)
    }

    /// Has systemd make it around a process.
    pub fn start(&self, spec: &Spec, id: &str, pid: u32, unified: bool) -> Result<()> {
        let resources = spec
            .linux
            .as_ref()
            .and_then(|linux| linux.resources.as_ref());
        let mut all: Vec<Property> = [
            ("Description", Value::Text(format!("container {id}"))),
            ("Slice", Value::Text(self.slice.clone())),
            ("Delegate", Value::Bool(true)),
            ("PIDs", Value::Numbers(vec![pid])),
            ("MemoryAccounting", Value::Bool(true)),
            ("CPUAccounting", Value::Bool(true)),
            ("TasksAccounting", Value::Bool(true)),
            ("IOAccounting", Value::Bool(true)),
            ("DefaultDependencies", Value::Bool(false)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        all.extend(properties::annotated(&spec.annotations)?);
        if let Some(resources) = resources {
            all.extend(properties::of(resources, unified)?);
        }
        let mut body = Body::default();
        body.text(&self.unit).text("replace");
        list(&mut body, &all);
        // Auxiliary units: none.
        body.array(8, |_| {});
        let mut bus = Bus::connect()?;
        // One of that name may have failed, and is in the way then.
        let mut reset = Body::default();
        let _ = bus.call("ResetFailedUnit", "s", reset.text(&self.unit));
        bus.job("StartTransientUnit", "ssa(sv)a(sa(sv))", &body)
    }
}

/// Tells systemd of changed limits.
pub(crate) fn update(unit: &str, resources: &LinuxResources, unified: bool) -> Result<()> {
    let changed = properties::of(resources, unified)?;
    if changed.is_empty() {
        return Ok(());
    }
    let mut body = Body::default();
    // Until the unit is gone.
    body.text(unit).u32(1);
    list(&mut body, &changed);
    Bus::connect()?.call("SetUnitProperties", "sba(sv)", &body)
}

/// Ends a unit and has it forgotten. One that is gone already is no error.
pub(crate) fn stop(unit: &str) -> Result<()> {
    let mut bus = Bus::connect()?;
    let mut body = Body::default();
    // It is gone by itself once its last process has ended.
    let _ = bus.job("StopUnit", "ss", body.text(unit).text("replace"));
    let mut body = Body::default();
    let _ = bus.call("ResetFailedUnit", "s", body.text(unit));
    Ok(())
}

fn list(body: &mut Body, properties: &[Property]) {
    body.array(8, |body| {
        for (name, value) in properties {
            body.structure().text(name).variant(value);
        }
    });
}

/// Whether systemd is this machine's first process.
pub(crate) fn is_there() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_a_scope_in_a_slice() {
        let scope = Scope::of("a-b.slice:cri:x", "id").unwrap();
        assert_eq!(
            (scope.unit.as_str(), scope.slice.as_str()),
            ("cri-x.scope", "a-b.slice")
        );
        let path = crate::cgroup::CgroupPath::from_bundle(&scope.cgroups_path(), "id").unwrap();
        assert_eq!(path.as_str(), "a.slice/a-b.slice/cri-x.scope");
        assert_eq!(Scope::of("", "id").unwrap().unit, "runc-id.scope");
        assert_eq!(Scope::of("::x", "id").unwrap().unit, "x.scope");
        for bad in [
            "/a/b",
            "x",
            "a:b",
            "a:b:c",
            "a.slice::",
            "a.slice:p:x.slice",
            "a.slice:p:x/y",
        ] {
            assert!(Scope::of(bad, "id").is_err(), "{bad}");
        }
    }
}
