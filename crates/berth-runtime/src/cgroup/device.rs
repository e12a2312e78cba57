//! Device rules, as an ordered list and as the lists that cgroup v1 keeps.
//!
//! What rules mean, in both versions: access to a node is allowed when, for each of the bits asked
//! for (read, write, mknod), the last rule that matches the node and has the bit says so; without
//! such a rule it is refused.

use std::collections::BTreeMap;

use berth_spec::oci::runtime::{DeviceKind, DeviceRule};

use super::{Error, Result};
use crate::defaults;

/// Bits of `bpf_cgroup_dev_ctx.access_type`, linux/bpf.h.
pub(super) const MKNOD: u8 = 1;
pub(super) const READ: u8 = 2;
pub(super) const WRITE: u8 = 4;
const ANY: u8 = MKNOD | READ | WRITE;

/// A checked rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub allow: bool,
    /// `true` for block, `None` for both kinds.
    pub block: Option<bool>,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub access: u8,
}

impl Rule {
    fn everything(&self) -> bool {
        self.block.is_none() && self.major.is_none() && self.minor.is_none() && self.access == ANY
    }
}

/// A bundle's rules, checked, with what the runtime allows in any case behind them.
pub(super) fn with_implied(rules: &[DeviceRule]) -> Result<Vec<Rule>> {
    rules
        .iter()
        .chain(&defaults::implied_device_rules())
        .map(check)
        .collect()
}

fn check(rule: &DeviceRule) -> Result<Rule> {
    let number = |n: Option<i64>| match n {
        // -1 is an old way to write "all".
        None | Some(-1) => Ok(None),
        Some(n) => u32::try_from(n)
            .map(Some)
            .map_err(|_| Error::Invalid(format!("invalid device number {n} in a device rule"))),
    };
    let access = access(rule)?;
    let block = match rule.kind {
        DeviceKind::All => None,
        DeviceKind::Block => Some(true),
        DeviceKind::Char => Some(false),
        DeviceKind::Fifo => {
            return Err(Error::Invalid(
                "a device rule cannot be about a FIFO".to_owned(),
            ));
        }
    };
    Ok(Rule {
        allow: rule.allow,
        block,
        major: number(rule.major)?,
        minor: number(rule.minor)?,
        access: if access == 0 { ANY } else { access },
    })
}

/// The bits that a rule is about. Letters beside r, w and m, which runc lets pass, may close but never
/// open anything: they deny everything and allow nothing.
fn access(rule: &DeviceRule) -> Result<u8> {
    let known = rule.access.chars().filter_map(|c| match c {
        'r' => Some(READ),
        'w' => Some(WRITE),
        'm' => Some(MKNOD),
        _ => None,
    });
    let bits = known.fold(0, |sum, bit| sum | bit);
    match (rule.access.chars().all(|c| "rwm".contains(c)), rule.allow) {
        (true, _) => Ok(bits),
        (false, false) => Ok(ANY),
        (false, true) if bits != 0 => Ok(bits),
        (false, true) => Err(Error::Invalid(format!(
            "invalid access {:?} in a device rule: only r, w and m are known",
            rule.access
        ))),
    }
}

/// Which nodes an entry of a v1 list is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Nodes {
    block: bool,
    major: Option<u32>,
    minor: Option<u32>,
}

impl Nodes {
    fn covers(&self, other: &Nodes) -> bool {
        self.block == other.block
            && (self.major.is_none() || self.major == other.major)
            && (self.minor.is_none() || self.minor == other.minor)
    }

    fn meets(&self, other: &Nodes) -> bool {
        let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.block == other.block && meet(self.major, other.major) && meet(self.minor, other.minor)
    }
}

/// The state of a v1 device cgroup: a default and the exceptions from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Policy {
    pub allow_by_default: bool,
    pub exceptions: BTreeMap<Nodes, u8>,
}

impl Policy {
    /// Plays the rules. v1 cannot say "all of these but that one" inside its exceptions: such a
    /// list is refused rather than widened.
    pub(super) fn from_rules(rules: &[Rule]) -> Result<Policy> {
        let mut policy = Policy::default();
        for rule in rules {
            policy.apply(rule)?;
        }
        policy.widen_covered();
        Ok(policy)
    }

    fn apply(&mut self, rule: &Rule) -> Result<()> {
        if rule.everything() {
            self.allow_by_default = rule.allow;
            self.exceptions.clear();
            return Ok(());
        }
        let kinds = match rule.block {
            Some(block) => [Some(block), None],
            None => [Some(false), Some(true)],
        };
        for block in kinds.into_iter().flatten() {
            let nodes = Nodes {
                block,
                major: rule.major,
                minor: rule.minor,
            };
            if rule.allow == self.allow_by_default {
                self.take_back(nodes, rule.access)?;
            } else {
                *self.exceptions.entry(nodes).or_default() |= rule.access;
            }
        }
        Ok(())
    }

    fn take_back(&mut self, nodes: Nodes, access: u8) -> Result<()> {
        for (exception, bits) in &mut self.exceptions {
            if nodes.covers(exception) {
                *bits &= !access;
            } else if nodes.meets(exception) && *bits & access != 0 {
                return Err(Error::Invalid(format!(
                    "a device rule for {} takes back a part of an earlier rule for {}: cgroup v1 cannot express that",
                    line(&nodes, access),
                    line(exception, *bits),
                )));
            }
        }
        self.exceptions.retain(|_, bits| *bits != 0);
        Ok(())
    }

    /// The kernel wants one exception that has all bits asked for; rules may spread them over a
    /// wide and a narrow one.
    fn widen_covered(&mut self) {
        let all: Vec<(Nodes, u8)> = self.exceptions.iter().map(|(n, b)| (*n, *b)).collect();
        for (nodes, bits) in &mut self.exceptions {
            *bits |= all
                .iter()
                .filter(|(wide, _)| wide.covers(nodes))
                .fold(0, |sum, (_, bits)| sum | bits);
        }
    }

    /// Reads `devices.list`; a default of "allow" does not tell its exceptions.
    pub(super) fn parse(list: &str) -> Policy {
        let mut policy = Policy::default();
        for text in list.lines() {
            let mut words = text.split([' ', ':']);
            let block = match words.next() {
                Some("a") => {
                    policy.allow_by_default = true;
                    continue;
                }
                Some("b") => true,
                Some("c") => false,
                _ => continue,
            };
            let mut number = || words.next().and_then(|w| w.parse().ok());
            let nodes = Nodes {
                block,
                major: number(),
                minor: number(),
            };
            let bits = words.next().unwrap_or_default().bytes().map(|b| match b {
                b'r' => READ,
                b'w' => WRITE,
                b'm' => MKNOD,
                _ => 0,
            });
            policy
                .exceptions
                .insert(nodes, bits.fold(0, |sum, bit| sum | bit));
        }
        policy
    }

    /// The writes, as file and line, that lead from `current` to this policy. What both allow is
    /// never refused in between.
    pub(super) fn writes_from(&self, current: &Policy) -> Vec<(&'static str, String)> {
        let (grant, take) = if self.allow_by_default {
            ("devices.deny", "devices.allow")
        } else {
            ("devices.allow", "devices.deny")
        };
        let mut writes = Vec::new();
        let same = self.allow_by_default == current.allow_by_default;
        // Exceptions of an open policy cannot be read back, so it is written anew.
        let fresh = !same || (self.allow_by_default && !self.exceptions.is_empty());
        if fresh {
            writes.push((take, "a".to_owned()));
        }
        let known = |nodes| match fresh {
            true => 0,
            false => current.exceptions.get(nodes).copied().unwrap_or(0),
        };
        for (nodes, &bits) in &self.exceptions {
            let missing = bits & !known(nodes);
            if missing != 0 {
                writes.push((grant, line(nodes, missing)));
            }
        }
        if !fresh {
            for (nodes, &bits) in &current.exceptions {
                let surplus = bits & !self.exceptions.get(nodes).copied().unwrap_or(0);
                if surplus != 0 {
                    writes.push((take, line(nodes, surplus)));
                }
            }
        }
        writes
    }
}

/// An entry as the kernel reads it: `c 1:* rw`.
fn line(nodes: &Nodes, bits: u8) -> String {
    let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
    let mut text = format!(
        "{} {}:{} ",
        if nodes.block { 'b' } else { 'c' },
        number(nodes.major),
        number(nodes.minor)
    );
    for (bit, c) in [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')] {
        if bits & bit != 0 {
            text.push(c);
        }
    }
    text
}

/// What the rules say to one access, by their definition: the reference for both versions.
#[cfg(test)]
pub(super) fn allowed(rules: &[Rule], block: bool, major: u32, minor: u32, access: u8) -> bool {
    [MKNOD, READ, WRITE]
        .into_iter()
        .filter(|bit| access & bit != 0)
        .all(|bit| {
            rules
                .iter()
                .rev()
                .find(|r| {
                    r.access & bit != 0
                        && r.block.is_none_or(|b| b == block)
                        && r.major.is_none_or(|m| m == major)
                        && r.minor.is_none_or(|m| m == minor)
                })
                .is_some_and(|r| r.allow)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel does with its lists (security/device_cgroup.c).
    fn kernel(policy: &Policy, block: bool, major: u32, minor: u32, access: u8) -> bool {
        let node = Nodes {
            block,
            major: Some(major),
            minor: Some(minor),
        };
        let mut matching = policy.exceptions.iter().filter(|(n, _)| n.covers(&node));
        if policy.allow_by_default {
            !matching.any(|(_, bits)| bits & access != 0)
        } else {
            matching.any(|(_, bits)| access & !bits == 0)
        }
    }

    #[test]
    fn docker_default_as_v1_writes() {
        let rules = with_implied(&defaults::device_rules()).unwrap();
        let policy = Policy::from_rules(&rules).unwrap();
        let root = Policy::parse("a *:* rwm\n");
        let writes = policy.writes_from(&root);
        assert_eq!(writes[0], ("devices.deny", "a".to_owned()));
        assert!(writes.contains(&("devices.allow", "c *:* m".to_owned())));
        assert!(writes.contains(&("devices.allow", "c 1:3 rwm".to_owned())));
        assert!(!writes.iter().any(|(_, line)| line.contains("10:229")));
    }

    #[test]
    fn privileged_below_an_open_root_writes_nothing() {
        let mut rules = defaults::device_rules();
        rules.push(defaults::all_devices_rule());
        let policy = Policy::from_rules(&with_implied(&rules).unwrap()).unwrap();
        assert!(policy.allow_by_default);
        assert_eq!(policy.writes_from(&Policy::parse("a *:* rwm")), []);
    }

    #[test]
    fn a_change_writes_the_difference() {
        let of = |text: &str| Policy::parse(text);
        let writes = of("c 1:3 rwm\nc 1:5 r\n").writes_from(&of("c 1:3 rm\nb 8:* rwm\nc 1:5 r\n"));
        assert_eq!(
            writes,
            [
                ("devices.allow", "c 1:3 w".to_owned()),
                ("devices.deny", "b 8:* rwm".to_owned())
            ]
        );
    }

    #[test]
    fn bad_rules_are_refused() {
        let rule = |access: &str, kind, major| DeviceRule {
            allow: true,
            kind,
            major,
            minor: None,
            access: access.to_owned(),
        };
        assert!(with_implied(&[rule("x", DeviceKind::Char, None)]).is_err());
        assert!(with_implied(&[rule("r", DeviceKind::Fifo, None)]).is_err());
        assert!(with_implied(&[rule("r", DeviceKind::Char, Some(-7))]).is_err());
    }

    #[test]
    fn odd_letters_open_nothing() {
        let rule = |allow, access: &str| DeviceRule {
            allow,
            kind: DeviceKind::Char,
            major: Some(1),
            minor: Some(11),
            access: access.to_owned(),
        };
        assert_eq!(check(&rule(true, "rwa")).unwrap().access, READ | WRITE);
        assert_eq!(check(&rule(false, "rwa")).unwrap().access, ANY);
        assert_eq!(check(&rule(true, "")).unwrap().access, ANY);
    }

    /// Rules over few numbers, so that they meet; the lists either agree with the rules or the
    /// rules were refused.
    #[test]
    fn lists_mean_what_the_rules_say() {
        let mut seed = 0x9e37_79b9_u32;
        let mut draw = |n: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % n
        };
        let mut expressible = 0;
        for _ in 0..2_000 {
            let rules: Vec<Rule> = (0..draw(6))
                .map(|_| Rule {
                    allow: draw(2) == 0,
                    block: [None, Some(true), Some(false)][draw(3) as usize],
                    major: [None, Some(1), Some(2)][draw(3) as usize],
                    minor: [None, Some(1), Some(2)][draw(3) as usize],
                    access: [ANY, READ, READ | WRITE, MKNOD][draw(4) as usize],
                })
                .collect();
            let Ok(policy) = Policy::from_rules(&rules) else {
                continue;
            };
            expressible += 1;
            for (block, major, minor) in (0..18).map(|i| (i % 2 == 0, i / 2 % 3, i / 6)) {
                for access in 1..=ANY {
                    let expected = allowed(&rules, block, major, minor, access);
                    let got = kernel(&policy, block, major, minor, access);
                    // The lists may be stricter for a mix of bits spread over crossing
                    // exceptions, never more open.
                    assert!(!got || expected, "{rules:?} {policy:?}");
                    if access.count_ones() == 1 {
                        assert_eq!(got, expected, "{rules:?} {policy:?}");
                    }
                }
            }
        }
        assert!(expressible > 500);
    }
}
