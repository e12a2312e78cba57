//! Which cgroup file systems are mounted where (`/proc/self/mountinfo`, proc_pid_mountinfo(5)).

/// One mount of a cgroup file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CgroupMount {
    pub point: String,
    /// v1: controllers and `name=…`; empty for v2.
    pub controllers: Vec<String>,
    pub v2: bool,
}

/// Options of a v1 superblock that are not controllers.
const NOT_CONTROLLERS: [&str; 8] = [
    "rw",
    "ro",
    "xattr",
    "noprefix",
    "clone_children",
    "favordynmods",
    "nofavordynmods",
    "cpuset_v2_mode",
];

/// Reads the cgroup mounts; the first mount of each controller counts, those below `/sys/fs/cgroup`
/// before others.
pub(super) fn parse(mountinfo: &str) -> Vec<CgroupMount> {
    let mut mounts: Vec<CgroupMount> = mountinfo.lines().filter_map(parse_line).collect();
    mounts.sort_by_key(|m| !m.point.starts_with("/sys/fs/cgroup"));
    let mut seen: Vec<Vec<String>> = Vec::new();
    mounts.retain(|m| {
        let new = !seen.contains(&m.controllers);
        if new {
            seen.push(m.controllers.clone());
        }
        new
    });
    mounts
}

fn parse_line(line: &str) -> Option<CgroupMount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let point = unescape(mount.split(' ').nth(4)?);
    let mut words = file_system.split(' ');
    let kind = words.next()?;
    let options = words.nth(1)?;
    match kind {
        "cgroup2" => Some(CgroupMount {
            point,
            controllers: Vec::new(),
            v2: true,
        }),
        "cgroup" => {
            let mut controllers: Vec<String> = options
                .split(',')
                .filter(|o| {
                    !NOT_CONTROLLERS.contains(o) && (!o.contains('=') || o.starts_with("name="))
                })
                .map(str::to_owned)
                .collect();
            controllers.sort();
            (!controllers.is_empty()).then_some(CgroupMount {
                point,
                controllers,
                v2: false,
            })
        }
        _ => None,
    }
}

/// Undoes the octal escapes of blanks and backslashes.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest
            .get(at + 1..at + 4)
            .and_then(|c| u8::from_str_radix(c, 8).ok());
        match code {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separate_v1_hierarchies_with_a_v2_tree() {
        let text = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
        let mounts = parse(text);
        let shown: Vec<_> = mounts
            .iter()
            .map(|m| (m.point.as_str(), m.controllers.join(","), m.v2))
            .collect();
        assert_eq!(
            shown,
            [
                ("/sys/fs/cgroup/cpu", "cpu".to_owned(), false),
                ("/sys/fs/cgroup/cpuacct", "cpuacct".to_owned(), false),
                ("/sys/fs/cgroup/systemd", "name=systemd".to_owned(), false),
                ("/sys/fs/cgroup/unified", String::new(), true),
            ]
        );
    }

    #[test]
    fn joint_hierarchies_and_second_mounts() {
        let text = "\
50 40 0:50 / /mnt/odd\\040place rw shared:9 - cgroup cgroup rw,cpu,cpuacct
30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:12 master:3 - cgroup cgroup rw,xattr,cpuacct,cpu
31 25 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/agent,name=systemd
32 25 0:28 / /mnt/odd\\040place rw - cgroup cgroup rw,net_cls
";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 3);
        assert_eq!(mounts[0].point, "/sys/fs/cgroup/cpu,cpuacct");
        assert_eq!(mounts[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(mounts[1].controllers, ["name=systemd"]);
        assert_eq!(mounts[2].point, "/mnt/odd place");
    }

    #[test]
    fn pure_v2() {
        let text = "29 24 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
        let mounts = parse(text);
        assert!(mounts.len() == 1 && mounts[0].v2);
    }
}
