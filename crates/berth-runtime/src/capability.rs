//! Capabilities: their names and numbers, Docker's default set, and `--cap-add`/`--cap-drop`.
//!
//! A [`CapSet`] is 64 bits, as the kernel keeps it (capabilities(7)); names appear only where a
//! text comes in or a `config.json` goes out.

use std::fmt;

use rustix::thread::{CapabilitySet, capabilities, capability_is_in_bounding_set};

/// Names by bit, from linux/capability.h; the position is the number.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What Docker leaves to a container's root (moby `oci/caps/defaults.go`).
const DOCKER_DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// The magic word of `--cap-add` and `--cap-drop`.
const ALL: &str = "ALL";

/// A name that is no capability; Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("unknown capability: {0:?}")]
    Unknown(String),
    #[error("invalid CapAdd: unknown capability: {0:?}")]
    Add(String),
    #[error("invalid CapDrop: unknown capability: {0:?}")]
    Drop(String),
}

/// A set of capabilities.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CapSet(u64);

impl CapSet {
    pub const EMPTY: CapSet = CapSet(0);

    /// Every capability that has a name here.
    pub fn all() -> CapSet {
        CapSet((1 << NAMES.len()) - 1)
    }

    /// Docker's default set.
    pub fn docker_default() -> CapSet {
        CapSet(
            DOCKER_DEFAULT
                .iter()
                .filter_map(|name| number(name))
                .fold(0, |bits, n| bits | 1 << n),
        )
    }

    /// What this process can hand on: in its bounding set and permitted.
    pub fn available() -> rustix::io::Result<CapSet> {
        let permitted = capabilities(None)?.permitted.bits();
        let mut bits = 0;
        for n in 0..NAMES.len() {
            let bit = 1 << n;
            // A kernel that does not know the number says so with EINVAL.
            let bounding = capability_is_in_bounding_set(CapabilitySet::from_bits_retain(bit));
            if permitted & bit != 0 && bounding.unwrap_or(false) {
                bits |= bit;
            }
        }
        Ok(CapSet(bits))
    }

    /// The mask of capabilities(7).
    pub fn bits(self) -> u64 {
        self.0
    }

    pub fn from_bits(bits: u64) -> CapSet {
        CapSet(bits)
    }

    /// Reads names as a `config.json` has them; the `CAP_` may be absent, the case does not matter.
    pub fn from_names<S: AsRef<str>>(names: &[S]) -> Result<CapSet, Error> {
        names.iter().try_fold(CapSet::EMPTY, |set, name| {
            let name = normal(name.as_ref());
            match number(&name) {
                Some(n) => Ok(CapSet(set.0 | 1 << n)),
                None => Err(Error::Unknown(name)),
            }
        })
    }

    /// Whether the capability of this full name (`CAP_SYS_ADMIN`) is in.
    pub fn has(self, name: &str) -> bool {
        number(name).is_some_and(|n| self.0 & (1 << n) != 0)
    }

    /// The full names, in the order of their numbers.
    pub fn names(self) -> Vec<String> {
        NAMES
            .iter()
            .enumerate()
            .filter(|(n, _)| self.0 & (1 << n) != 0)
            .map(|(_, name)| (*name).to_owned())
            .collect()
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn union(self, other: CapSet) -> CapSet {
        CapSet(self.0 | other.0)
    }

    /// What is here and not in `other`.
    pub fn without(self, other: CapSet) -> CapSet {
        CapSet(self.0 & !other.0)
    }

    /// Keeps what `bound` allows; returns what is left, and what was cut.
    pub fn clamp(self, bound: CapSet) -> (CapSet, CapSet) {
        (CapSet(self.0 & bound.0), self.without(bound))
    }
}

impl fmt::Debug for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// What a container gets for `--cap-add`, `--cap-drop` and `--privileged`: an added `ALL` means
/// all but the dropped ones, a dropped `ALL` means the added ones alone, else the default set less
/// the dropped, plus the added.
pub fn docker(add: &[String], drop: &[String], privileged: bool) -> Result<CapSet, Error> {
    let (drops, drop_all) = legacy(drop).map_err(Error::Drop)?;
    let (adds, add_all) = legacy(add).map_err(Error::Add)?;
    Ok(
        if privileged || (add_all && !drop_all && drops.is_empty()) {
            CapSet::all()
        } else if add_all {
            CapSet::all().without(drops)
        } else if drop_all {
            adds
        } else {
            CapSet::docker_default().without(drops).union(adds)
        },
    )
}

/// A list in which `ALL` may stand: the named ones, and whether it does. The error is the name.
fn legacy(names: &[String]) -> Result<(CapSet, bool), String> {
    let mut set = CapSet::EMPTY;
    let mut all = false;
    for name in names {
        if name.eq_ignore_ascii_case(ALL) {
            all = true;
            continue;
        }
        let name = normal(name);
        match number(&name) {
            Some(n) => set.0 |= 1 << n,
            None => return Err(name),
        }
    }
    Ok((set, all))
}

fn normal(name: &str) -> String {
    let name = name.to_ascii_uppercase();
    if name.starts_with("CAP_") {
        name
    } else {
        format!("CAP_{name}")
    }
}

fn number(name: &str) -> Option<usize> {
    NAMES.iter().position(|n| *n == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn docker_rules() {
        let default = CapSet::docker_default();
        assert_eq!(default.names().len(), 14);
        // The well-known mask of a container's CapEff.
        assert_eq!(default.bits(), 0xa804_25fb);
        let of = |add, drop| docker(&words(add), &words(drop), false).unwrap();
        assert_eq!(of("", ""), default);
        assert!(of("net_admin", "").has("CAP_NET_ADMIN"));
        assert_eq!(of("", "all"), CapSet::EMPTY);
        assert_eq!(of("Cap_Chown", "ALL").names(), ["CAP_CHOWN"]);
        assert_eq!(of("ALL", ""), CapSet::all());
        assert!(!of("ALL", "SYS_ADMIN").has("CAP_SYS_ADMIN"));
        assert_eq!(of("ALL", "ALL"), CapSet::all());
        assert!(!of("", "CAP_MKNOD").has("CAP_MKNOD"));
        // Added wins over dropped.
        assert!(of("MKNOD", "MKNOD").has("CAP_MKNOD"));
        assert_eq!(docker(&[], &words("ALL"), true).unwrap(), CapSet::all());
    }

    #[test]
    fn unknown_names_are_refused_in_dockers_words() {
        let error = docker(&words("x"), &[], false).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"invalid CapAdd: unknown capability: "CAP_X""#
        );
        let error = docker(&[], &words("cap_y"), true).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"invalid CapDrop: unknown capability: "CAP_Y""#
        );
        let error = CapSet::from_names(&["CAP_CHOWN", "ALL"]).unwrap_err();
        assert_eq!(error.to_string(), r#"unknown capability: "CAP_ALL""#);
    }

    #[test]
    fn available_agrees_with_proc() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let mask = |field: &str| {
            let line = status.lines().find(|l| l.starts_with(field)).unwrap();
            u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
        };
        let expected = mask("CapBnd:") & mask("CapPrm:") & CapSet::all().bits();
        assert_eq!(CapSet::available().unwrap().bits(), expected);
    }

    #[test]
    fn clamp_tells_what_it_cut() {
        let asked = CapSet::from_names(&["CHOWN", "SYS_RESOURCE"]).unwrap();
        let bound = CapSet::all().without(CapSet::from_names(&["SYS_RESOURCE"]).unwrap());
        let (kept, cut) = asked.clamp(bound);
        assert_eq!(kept.names(), ["CAP_CHOWN"]);
        assert_eq!(cut.names(), ["CAP_SYS_RESOURCE"]);
    }
}
