//! Starts containers one after another and prints what that takes: from the request to the exec of
//! the program, to its exit, and to the end of its shim. `starts ROOT [N]`; ROOT needs `/bin/true`.

use std::path::Path;
use std::time::{Duration, Instant};

use berth_runtime::capability::CapSet;
use berth_runtime::launcher::Launcher;
use berth_runtime::task::{TaskFds, TaskSpec};
use berth_runtime::{defaults, seccomp};
use berth_sys::mount;

fn median(mut times: Vec<Duration>) -> (u128, u128, u128) {
    times.sort();
    let at = |n: usize| times[n.min(times.len() - 1)].as_micros();
    (at(0), at(times.len() / 2), at(times.len() * 95 / 100))
}

fn main() {
    let mut words = std::env::args().skip(1);
    let root = words.next().expect("a root file system");
    let count = words.next().map_or(200, |n| n.parse().expect("a number"));
    let launcher = Launcher::fork().expect("a launcher");
    let temp = tempfile::tempdir().expect("a directory");
    let (mut started, mut ended, mut exec) = (Vec::new(), Vec::new(), Vec::new());
    let mut last = None;
    for n in 0..count {
        let mut spec = defaults::docker_spec();
        spec.process.as_mut().expect("a process").args = vec!["/bin/true".to_owned()];
        let linux = spec.linux.as_mut().expect("a linux object");
        linux.cgroups_path = format!("/berth-starts/{n}");
        linux.seccomp = Some(seccomp::default_profile(CapSet::docker_default()));
        let task = TaskSpec {
            id: format!("starts-{n}"),
            dir: temp.path().join(n.to_string()),
            spec,
            ..TaskSpec::default()
        };
        let tree = mount::clone_path(rustix::fs::CWD, Path::new(&root), false).expect("a root");
        let begin = Instant::now();
        let task = launcher.spawn(task, TaskFds::new(tree)).expect("a start");
        started.push(begin.elapsed());
        assert_eq!(task.wait().expect("an end").code, 0);
        ended.push(begin.elapsed());
        exec.push(begin.elapsed() - started[started.len() - 1]);
        last = Some(task.shim_pid());
    }
    for (what, times) in [
        ("started", started),
        ("from started to ended", exec),
        ("ended", ended),
    ] {
        let (least, middle, most) = median(times);
        println!("{what:24} min {least:6} median {middle:6} p95 {most:6} µs");
    }
    let pid = last
        .and_then(rustix::process::Pid::from_raw)
        .expect("a shim");
    testkit::wait::until("the last shim to end", || {
        rustix::process::test_kill_process(pid)
            .is_err()
            .then_some(())
    });
    if let Ok(cgroups) = berth_runtime::cgroup::Cgroups::detect() {
        // Another run of this may use it.
        let _ = cgroups.remove_if_empty("/berth-starts");
    }
}
