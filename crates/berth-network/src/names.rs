//! How the kernel objects of one engine are named. Every name carries the instance, so that engines stand side by side and
//! each can tell what it left behind; interface names have at most 15 characters.

use crate::options::NetworkOptions;

const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The names of one instance.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    /// The nftables tables (one each in families `inet` and `bridge`).
    pub table: String,
    /// The bridge of the default network.
    pub default_bridge: String,
    /// What all veths of this instance on the host begin with.
    pub veth_prefix: String,
    /// What bridges of user-defined networks begin with.
    bridge_prefix: String,
}

impl Names {
    pub(crate) fn new(options: &NetworkOptions) -> Self {
        let instance = &options.instance;
        let tag = spell(hash(instance.as_bytes()), 6);
        let (table, bridge) = match instance.as_str() {
            "" => ("berth".to_owned(), "berth0".to_owned()),
            name => (format!("berth-{}", table_safe(name)), format!("berth{tag}")),
        };
        Self {
            table,
            default_bridge: options.bridge_name.clone().unwrap_or(bridge),
            veth_prefix: format!("bv{tag}"),
            bridge_prefix: format!("bn{tag}"),
        }
    }

    /// The host's end of a veth pair, from a random number.
    pub(crate) fn veth(&self, random: u64) -> String {
        format!("{}{}", self.veth_prefix, spell(random, 7))
    }

    /// The bridge of a user-defined network.
    pub(crate) fn bridge(&self, network_id: &str) -> String {
        format!(
            "{}{}",
            self.bridge_prefix,
            spell(hash(network_id.as_bytes()), 7)
        )
    }

    /// Whether an interface of this name is one that we make (a bridge named by the user is not told from others).
    pub(crate) fn is_veth(&self, name: &str) -> bool {
        name.starts_with(&self.veth_prefix)
    }

    /// See [`is_veth`](Self::is_veth).
    pub(crate) fn is_bridge(&self, name: &str) -> bool {
        name.starts_with(&self.bridge_prefix)
    }
}

/// FNV-1a. Names must be the same in the next engine, which the standard library's hasher does not promise.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The instance as part of a table's name: at most 100 bytes that need no quoting.
fn table_safe(instance: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if instance.len() <= 100 && instance.chars().all(plain) {
        instance.to_owned()
    } else {
        spell(hash(instance.as_bytes()), 12)
    }
}

fn spell(number: u64, letters: usize) -> String {
    (0..letters)
        .map(|i| DIGITS[(number >> (5 * i)) as usize % 32] as char)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_the_instance_and_fit() {
        let of = |instance: &str| Names::new(&NetworkOptions::new(instance, "/run"));
        let (default, other, odd) = (of(""), of("second"), of("/a b/ü"));
        assert_eq!(
            (&*default.table, &*default.default_bridge),
            ("berth", "berth0")
        );
        assert_eq!(other.table, "berth-second");
        assert!(odd.table.is_ascii() && !odd.table.contains([' ', '/']));
        for names in [&default, &other, &odd] {
            for name in [
                &names.veth(u64::MAX),
                &names.bridge("0123"),
                &names.default_bridge,
            ] {
                assert!(name.len() <= 15, "{name}");
            }
            assert!(names.is_veth(&names.veth(7)) && names.is_bridge(&names.bridge("7")));
        }
        assert!(!default.is_veth(&other.veth(7)));
        assert!(!default.is_bridge(&default.veth(7)));
    }
}
