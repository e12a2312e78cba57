//! Where in the trees a cgroup stands.

use std::fmt;

use super::{Error, Result};

/// Bytes and components a path may have at most.
const MAX_BYTES: usize = 2048;
const MAX_DEPTH: usize = 32;
const MAX_NAME: usize = 255;

/// A checked path below the root of each hierarchy: not empty, no `..`, no odd bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CgroupPath(String);

impl CgroupPath {
    /// Checks a path; a slash at its start, as `config.json` has it, means the hierarchy's root.
    pub fn parse(path: &str) -> Result<CgroupPath> {
        let refuse = |why| {
            Err(Error::Path {
                path: path.chars().take(128).collect(),
                why,
            })
        };
        if path.len() > MAX_BYTES {
            return refuse("too long");
        }
        let names: Vec<&str> = path.split('/').filter(|n| !n.is_empty()).collect();
        if names.is_empty() {
            return refuse("it names the root");
        }
        if names.len() > MAX_DEPTH {
            return refuse("too deep");
        }
        for name in &names {
            if matches!(*name, "." | "..") {
                return refuse("it has a dot component");
            }
            if name.len() > MAX_NAME {
                return refuse("a component is too long");
            }
            if name.bytes().any(|b| b.is_ascii_control()) {
                return refuse("it has a control character");
            }
        }
        Ok(CgroupPath(names.join("/")))
    }

    /// The path that a `config.json` asks for: `cgroupsPath`, the container's ID where it is empty,
    /// and for the systemd form `slice:prefix:name` the directory that systemd would use.
    pub fn from_bundle(cgroups_path: &str, id: &str) -> Result<CgroupPath> {
        if cgroups_path.is_empty() {
            return CgroupPath::parse(id);
        }
        let parts: Vec<&str> = cgroups_path.split(':').collect();
        match parts[..] {
            [slice, prefix, name] if !cgroups_path.contains('/') => {
                let slice = if slice.is_empty() {
                    "system.slice"
                } else {
                    slice
                };
                let unit = match (prefix, name.ends_with(".slice")) {
                    (_, true) => name.to_owned(),
                    ("", _) => format!("{name}.scope"),
                    _ => format!("{prefix}-{name}.scope"),
                };
                CgroupPath::parse(&format!("{}/{unit}", expand_slice(slice)))
            }
            _ => CgroupPath::parse(cgroups_path),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directories on the way, outermost first, without the last.
    pub(super) fn parents(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(at, _)| &self.0[..at])
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `a-b.slice` stands in `a.slice/a-b.slice` (systemd.slice(5)); `-.slice` is the root.
fn expand_slice(slice: &str) -> String {
    let stem = slice.strip_suffix(".slice").unwrap_or(slice);
    if stem == "-" {
        return String::new();
    }
    let mut path = String::new();
    for (at, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(&stem[..at]);
        path.push_str(".slice");
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        assert_eq!(
            CgroupPath::parse("/berth//a1/").unwrap().as_str(),
            "berth/a1"
        );
        for bad in ["", "/", "../x", "a/../../x", "a/./b", "a\nb", "a/b\0"] {
            assert!(CgroupPath::parse(bad).is_err(), "{bad:?}");
        }
        assert!(CgroupPath::parse(&"x/".repeat(33)).is_err());
        assert!(CgroupPath::parse(&"x".repeat(256)).is_err());
        let path = CgroupPath::parse("a/b/c").unwrap();
        assert_eq!(path.parents().collect::<Vec<_>>(), ["a", "a/b"]);
    }

    #[test]
    fn systemd_form_becomes_its_directory() {
        let of = |text| CgroupPath::from_bundle(text, "id7").unwrap().0;
        assert_eq!(of(""), "id7");
        assert_eq!(of("/docker/x"), "docker/x");
        assert_eq!(of("system.slice:docker:x"), "system.slice/docker-x.scope");
        assert_eq!(of("a-b.slice:cri:x"), "a.slice/a-b.slice/cri-x.scope");
        assert_eq!(of(":p:x"), "system.slice/p-x.scope");
        assert_eq!(of("-.slice:p:x"), "p-x.scope");
        assert_eq!(of("/kubepods:odd"), "kubepods:odd");
    }
}
