//! How many processes a container may have where nobody says it: a bound that no ordinary program
//! meets and that leaves the machine to the others when one forks without end.

use berth_spec::oci::runtime::{LinuxResources, Pids};

/// Processes and threads of a container on a machine that has room for many more.
const MOST: i64 = 32_768;
/// Least of them, however little the machine has room for: it has its own limits then.
const LEAST: i64 = 256;
/// No container has more than this part of what the machine has room for, in all.
const SHARE: i64 = 4;

/// The limit of containers that ask for none, by what the engine was told (`--default-pids-limit`:
/// a number, -1 for no limit, 0 for a limit that fits the machine).
pub(crate) fn default_limit(told: i64) -> Option<i64> {
    match told {
        0 => Some(fitting(room())),
        limit if limit < 0 => None,
        limit => Some(limit),
    }
}

/// Puts `default` where a container says nothing.
pub(crate) fn bound_processes(
    mut resources: LinuxResources,
    default: Option<i64>,
) -> LinuxResources {
    if resources.pids.is_none() {
        resources.pids = default.map(|limit| Pids { limit });
    }
    resources
}

fn fitting(room: i64) -> i64 {
    (room / SHARE).clamp(LEAST, MOST)
}

/// How many processes and threads this machine has room for.
fn room() -> i64 {
    let read = |name: &str| -> Option<i64> {
        let text = std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?;
        text.trim().parse().ok()
    };
    let limits = [read("pid_max"), read("threads-max")];
    limits.into_iter().flatten().min().unwrap_or(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_machine() {
        for (room, limit) in [(4_194_304, MOST), (32_768, 8192), (1900, 475), (300, LEAST)] {
            assert_eq!(fitting(room), limit, "of {room}");
        }
    }

    #[test]
    fn what_is_told_goes_first() {
        assert_eq!(default_limit(-1), None);
        assert_eq!(default_limit(17), Some(17));
        assert!(default_limit(0).is_some_and(|limit| limit <= room().max(LEAST)));
        let asked = LinuxResources {
            pids: Some(Pids { limit: -1 }),
            ..LinuxResources::default()
        };
        let limit = |resources, default| bound_processes(resources, default).pids.map(|p| p.limit);
        assert_eq!(limit(asked, Some(9)), Some(-1));
        assert_eq!(limit(LinuxResources::default(), Some(9)), Some(9));
        assert_eq!(limit(LinuxResources::default(), None), None);
    }
}
