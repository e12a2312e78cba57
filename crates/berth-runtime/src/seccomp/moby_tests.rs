//! The defaults held against moby's, as `moby.txt` has them: neither more nor less than a container
//! gets from Docker today. The table names its sources and their dates; who brings it up to date sees
//! here what changed.

use std::collections::{BTreeMap, BTreeSet};

use berth_spec::oci::runtime::{LinuxSeccomp, SeccompAction, SeccompOperator};

use super::default_profile;
use crate::capability::CapSet;
use crate::defaults;

/// The words of each part of the table.
fn table() -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut parts: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut part = "";
    let lines = include_str!("moby.txt").lines();
    for line in lines.filter(|line| !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            Some(name) => part = name,
            None => {
                let words = line.split_whitespace().map(str::to_owned);
                parts.entry(part).or_default().extend(words);
            }
        }
    }
    parts
}

/// A profile in the words of the table.
fn words(profile: &LinuxSeccomp) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for rule in &profile.syscalls {
        let conditions: Vec<String> = rule
            .args
            .iter()
            .map(|arg| {
                let (index, value) = (arg.index, arg.value);
                match arg.op {
                    SeccompOperator::Less => format!("{index}<{value}"),
                    SeccompOperator::Equal => format!("{index}={value}"),
                    SeccompOperator::Greater => format!("{index}>{value}"),
                    SeccompOperator::MaskedEqual => format!("{index}&{value}={}", arg.value_two),
                    other => panic!("the table has no sign for {other:?}"),
                }
            })
            .collect();
        let condition = match conditions.is_empty() {
            true => String::new(),
            false => format!("({})", conditions.join(",")),
        };
        let action = match (rule.action, rule.errno_ret) {
            (SeccompAction::Allow, _) => String::new(),
            (SeccompAction::Errno, Some(errno)) => format!(":errno={errno}"),
            other => panic!("the table has no word for {other:?}"),
        };
        words.extend(rule.names.iter().map(|n| format!("{n}{condition}{action}")));
    }
    words
}

/// What moby's profile says for these capabilities.
fn expected(table: &BTreeMap<&str, BTreeSet<String>>, caps: CapSet) -> BTreeSet<String> {
    let own = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let holds = |part: &str| match part.strip_prefix('!') {
        Some(capability) => !caps.has(capability),
        None => part == "*" || part == own || (part.starts_with("CAP_") && caps.has(part)),
    };
    let parts = table.iter().filter(|(part, _)| holds(part));
    parts.flat_map(|(_, words)| words.clone()).collect()
}

#[test]
fn system_calls_are_mobys() {
    let table = table();
    let capabilities = table.keys().filter(|part| part.starts_with("CAP_"));
    let single = capabilities.map(|c| CapSet::from_names(&[c]).unwrap());
    let sets = [CapSet::EMPTY, CapSet::docker_default(), CapSet::all()];
    for caps in sets.into_iter().chain(single) {
        let profile = default_profile(caps);
        assert_eq!(profile.default_action, SeccompAction::Errno);
        assert_eq!(profile.default_errno_ret, Some(1));
        let (ours, theirs) = (words(&profile), expected(&table, caps));
        let more: Vec<_> = ours.difference(&theirs).collect();
        let less: Vec<_> = theirs.difference(&ours).collect();
        assert!(
            more.is_empty() && less.is_empty(),
            "{:?}: more than moby's: {more:?}; less: {less:?}",
            caps.names()
        );
    }
}

#[test]
fn capabilities_and_paths_are_mobys() {
    let table = table();
    let set = |words: Vec<String>| words.into_iter().collect::<BTreeSet<_>>();
    for (part, ours) in [
        ("capabilities", CapSet::docker_default().names()),
        ("masked", defaults::masked_paths()),
        ("readonly", defaults::readonly_paths()),
    ] {
        assert_eq!(set(ours), table[part], "{part}");
    }
    assert_eq!(table["capabilities"].len(), 14);
    let process = defaults::docker_spec().process.unwrap();
    let sets = process.capabilities.unwrap();
    assert!(sets.inheritable.is_empty() && sets.ambient.is_empty());
}

/// Kernel bugs that had been behind calls which no container needs (rule D).
#[test]
fn calls_that_cost_kernels_dear_are_closed() {
    let open = words(&default_profile(CapSet::all()));
    for name in [
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "userfaultfd",
        "keyctl",
        "add_key",
        "request_key",
        "kexec_load",
        "kexec_file_load",
        "nfsservctl",
        "socket",
    ] {
        assert!(!open.contains(name), "{name}");
    }
    // AF_ALG is 38, AF_VSOCK 40.
    let sockets: Vec<_> = open.iter().filter(|w| w.starts_with("socket(")).collect();
    assert_eq!(sockets, ["socket(0<38)", "socket(0=39)", "socket(0>40)"]);
}
