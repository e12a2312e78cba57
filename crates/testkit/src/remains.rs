//! What an engine has outside its databases: in the kernel and in its directories. Taken before and
//! after, it shows what was left over.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::engine::Engine;

/// Directories whose entries come and go with what users make.
const DIRECTORIES: [&str; 8] = [
    "data/containers",
    "data/volumes",
    "data/trash",
    "data/layers",
    "data/layers/new",
    "data/content/ingest",
    "data/content/sha256",
    "run/containers",
];

/// How many there are of each kind.
pub type Remains = BTreeMap<String, usize>;

/// What this engine has now.
pub fn of(engine: &Engine) -> Remains {
    let dir = engine.path("");
    let dir = dir.display().to_string();
    let dir = dir.trim_end_matches('/');
    let mut found: Remains = DIRECTORIES
        .iter()
        .map(|name| {
            let mut names = entries(&engine.path(name));
            // What stands below an image without layers is made once.
            names.retain(|n| n != "none");
            ((*name).to_owned(), names.len())
        })
        .collect();
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    let mounts = mounts.lines().filter(|line| line.contains(dir)).count();
    found.insert("mounts".to_owned(), mounts);
    found.insert("processes".to_owned(), holders(dir).len());
    let tag = engine.tag();
    for (kind, prefix) in [("veths", "bv"), ("bridges", "bn")] {
        let links = entries(Path::new("/sys/class/net"));
        let own = links
            .iter()
            .filter(|l| l.starts_with(&format!("{prefix}{tag}")));
        found.insert(kind.to_owned(), own.count());
    }
    let mut groups = 0;
    count_dirs(
        Path::new("/sys/fs/cgroup"),
        engine.cgroup_parent(),
        false,
        &mut groups,
    );
    found.insert("cgroups".to_owned(), groups);
    if let Some(nft) = crate::find_command("nft") {
        for family in ["inet", "bridge"] {
            let table = format!("berth-{}", engine.instance());
            let rules = Command::new(&nft)
                .args(["list", "table", family, &table])
                .output();
            let rules = String::from_utf8_lossy(&rules.expect("nft").stdout).into_owned();
            // Elements of sets share lines: a comma parts them.
            let size = rules.lines().count() + rules.matches(',').count();
            found.insert(format!("{family} rules"), size);
        }
    }
    found
}

/// Names in a directory; of one that is not there, none.
pub fn entries(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect()
}

/// PIDs of processes that hold something below `dir` open: engines, launchers, shims.
pub fn holders(dir: &str) -> Vec<i32> {
    let pids = entries(Path::new("/proc"));
    let pids = pids.iter().filter_map(|name| name.parse().ok());
    pids.filter(|pid: &i32| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten();
        fds.flatten().any(|fd| {
            let target = fs::read_link(fd.path()).unwrap_or_default();
            target.starts_with(dir)
        })
    })
    .collect()
}

/// Counts directories below one named `parent`.
fn count_dirs(dir: &Path, parent: &str, inside: bool, count: &mut usize) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            *count += usize::from(inside);
            let below = inside || entry.file_name() == parent;
            count_dirs(&entry.path(), parent, below, count);
        }
    }
}

/// Waits until the engine has what it had `before`: what nobody waits for is removed behind the
/// scenes.
pub fn until_as_before(engine: &Engine, before: &Remains, what: &str) {
    let end = std::time::Instant::now() + crate::wait::DEADLINE;
    loop {
        let now = of(engine);
        if now == *before {
            return;
        }
        let differences: Vec<_> = before
            .iter()
            .filter(|(kind, count)| now.get(*kind) != Some(count))
            .map(|(kind, count)| format!("{kind}: {count} before, {:?} now", now.get(kind)))
            .collect();
        assert!(
            std::time::Instant::now() < end,
            "{what}: left over: {differences:?}\nengine: {}",
            fs::read_to_string(engine.log()).unwrap_or_default()
        );
        crate::wait::pause();
    }
}

/// What there is once nothing changes any more behind the scenes.
pub fn settled(engine: &Engine) -> Remains {
    let mut last = of(engine);
    let mut same = 0;
    crate::wait::until("an engine that does nothing", || {
        let now = of(engine);
        same = if now == last { same + 1 } else { 0 };
        last = now;
        (same > 8).then(|| last.clone())
    })
}
