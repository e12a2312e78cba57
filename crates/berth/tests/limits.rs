//! Limits of `run`, `create` and `update`: what the kernel was told, seen from inside, and what is
//! refused.

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// A file of the container's own cgroup, whichever version it is of; nothing where it is not there.
fn inside(engine: &Engine, flags: &str, v1: &str, v2: &str) -> String {
    let script = format!("cat /sys/fs/cgroup/{v2} 2>/dev/null || cat /sys/fs/cgroup/{v1}");
    engine.line(&format!(
        "run --rm --network none --cgroupns private {flags} busybox sh -c '{script}'"
    ))
}

#[test]
fn memory() {
    let engine = Engine::start(BERTH);
    for (flags, v1, v2, expected) in [
        (
            "-m 64m",
            "memory/memory.limit_in_bytes",
            "memory.max",
            &["67108864"][..],
        ),
        // As much swap as memory; version 2 counts it by itself.
        (
            "-m 64m",
            "memory/memory.memsw.limit_in_bytes",
            "memory.swap.max",
            &["134217728", "67108864"],
        ),
        (
            "-m 64m --memory-swap 96m",
            "memory/memory.memsw.limit_in_bytes",
            "memory.swap.max",
            &["100663296", "33554432"],
        ),
        (
            "-m 64m --memory-reservation 32m",
            "memory/memory.soft_limit_in_bytes",
            "memory.low",
            &["33554432"],
        ),
    ] {
        let found = inside(&engine, flags, v1, v2);
        assert!(expected.contains(&found.as_str()), "{flags}: {found}");
    }
    for (flags, words) in [
        ("-m 1m", "Minimum memory limit allowed is 6MB"),
        (
            "--memory-swap 64m",
            "You should always set the Memory limit when using Memoryswap limit",
        ),
        (
            "-m 64m --memory-swap 32m",
            "Minimum memoryswap limit should be larger than memory limit",
        ),
        (
            "--memory-swappiness 101",
            "Valid memory swappiness range is 0-100",
        ),
        (
            "--oom-score-adj 1001",
            "range for oom score adj is [-1000, 1000]",
        ),
    ] {
        let err = engine.line_fails(125, &format!("run --rm {flags} busybox true"));
        assert!(err.contains(words), "{flags}: {err}");
    }
    assert_eq!(
        engine.line("run --rm --oom-score-adj 300 busybox cat /proc/self/oom_score_adj"),
        "300"
    );
}

#[test]
fn swappiness_and_the_oom_killer() {
    let engine = Engine::start(BERTH);
    if !std::path::Path::new("/sys/fs/cgroup/memory/memory.swappiness").exists() {
        return testkit::skipped("cgroups of version 2 have neither");
    }
    let run = "run --rm --network none";
    assert_eq!(
        engine.line(&format!(
            "{run} --memory-swappiness 10 busybox cat /sys/fs/cgroup/memory/memory.swappiness"
        )),
        "10"
    );
    let control = engine.line(&format!(
        "{run} -m 64m --oom-kill-disable busybox cat /sys/fs/cgroup/memory/memory.oom_control"
    ));
    assert!(control.starts_with("oom_kill_disable 1"), "{control}");
    let warned = engine.run_line(&format!("{run} --oom-kill-disable busybox true"));
    assert!(
        warned
            .err
            .contains("OOM killer is disabled for the container, but no memory limit is set"),
        "{}",
        warned.err
    );
}

#[test]
fn what_died_of_its_limit_says_so() {
    let engine = Engine::start(BERTH);
    // A shell that holds more than it may; the file system of /dev/shm counts as its memory.
    let ran = engine.run_line(
        "run --name big -m 16m --memory-swap 16m --network none --shm-size 64m busybox \
         sh -c 'exec dd if=/dev/zero of=/dev/shm/x bs=1M count=60'",
    );
    assert_eq!(ran.code, 137, "{}", ran.err);
    let cause = "over its memory limit of 16 MiB";
    assert!(
        ran.err
            .contains(&format!("the container was killed: {cause}")),
        "{}",
        ran.err
    );
    assert_eq!(
        engine.line("inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}} {{.State.Error}}' big"),
        format!("true 137 {cause}")
    );
    let status = engine.line("ps -a --format {{.Status}} --filter name=big");
    assert!(
        status.starts_with("Exited (137) ") && status.ends_with(&format!(" ago: {cause}")),
        "{status}"
    );
    assert_eq!(
        engine.line("events --since 0 --until 0s --filter event=oom --format {{.Action}}"),
        "oom"
    );
    // Killed from outside, and by the user.
    engine.line("run -d --name other --network none busybox sleep 1000");
    let pid = engine.line("inspect -f {{.State.Pid}} other");
    let killed = std::process::Command::new("kill")
        .args(["-9", &pid])
        .status();
    assert!(killed.expect("kill").success());
    assert_eq!(engine.line("wait other"), "137");
    let error = "inspect -f {{.State.Error}} other";
    assert_eq!(engine.line(error), "killed by SIGKILL");
    engine.line("start other");
    engine.line("kill other");
    assert_eq!(engine.line(error), "");
}

#[test]
fn processors() {
    let engine = Engine::start(BERTH);
    for (flags, v1, v2, expected) in [
        (
            "--cpus 0.5",
            "cpu/cpu.cfs_quota_us",
            "cpu.max",
            &["50000", "50000 100000"][..],
        ),
        (
            "--cpu-period 50000 --cpu-quota 25000",
            "cpu/cpu.cfs_quota_us",
            "cpu.max",
            &["25000", "25000 50000"],
        ),
        (
            "--cpu-period 50000 --cpu-quota 25000",
            "cpu/cpu.cfs_period_us",
            "cpu.max",
            &["50000", "25000 50000"],
        ),
        (
            "-c 512",
            "cpu/cpu.shares",
            "cpu.weight",
            &["512", "20", "59"],
        ),
        (
            "--cpuset-cpus 0",
            "cpuset/cpuset.cpus",
            "cpuset.cpus",
            &["0"],
        ),
        (
            "--cpuset-mems 0",
            "cpuset/cpuset.mems",
            "cpuset.mems",
            &["0"],
        ),
    ] {
        let found = inside(&engine, flags, v1, v2);
        assert!(expected.contains(&found.as_str()), "{flags}: {found}");
    }
    assert_eq!(
        engine.line("run --rm --cpuset-cpus 0 busybox grep Cpus_allowed_list /proc/self/status"),
        "Cpus_allowed_list:\t0"
    );
    for (flags, words) in [
        ("--cpus 4096", "range of CPUs is from 0.01 to"),
        (
            "--cpuset-cpus 4000",
            "Requested CPUs are not available - requested 4000",
        ),
        (
            "--cpuset-mems 900",
            "Requested memory nodes are not available - requested 900",
        ),
        ("--cpu-period 1", "CPU cfs period can not be less than 1ms"),
        ("--cpu-rt-runtime 950000", "cpu.rt_runtime_us"),
        (
            "--cpus 1 --cpu-quota 5000",
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
        ),
    ] {
        let err = engine.line_fails(125, &format!("run --rm {flags} busybox true"));
        assert!(err.contains(words), "{flags}: {err}");
    }
}

#[test]
fn processes_and_their_own_limits() {
    let engine = Engine::start(BERTH);
    assert_eq!(
        inside(&engine, "--pids-limit 20", "pids/pids.max", "pids.max"),
        "20"
    );
    assert_eq!(
        inside(&engine, "--pids-limit -1", "pids/pids.max", "pids.max"),
        "max"
    );
    let many = "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; kill $(jobs -p)";
    let ran = engine.run(&[
        "run",
        "--rm",
        "--pids-limit",
        "4",
        "busybox",
        "sh",
        "-c",
        many,
    ]);
    assert!(ran.err.contains("can't fork"), "{}", ran.err);
    assert_eq!(
        engine.line("run --rm --ulimit nofile=100:200 busybox sh -c 'ulimit -n; ulimit -Hn'"),
        "100\n200"
    );
    assert_eq!(
        engine.line("run --rm --ulimit core=-1 busybox sh -c 'ulimit -c'"),
        "unlimited"
    );
    for (ulimit, words) in [
        (
            "nofile=300:200",
            "ulimit soft limit must be less than or equal to hard limit: 300 > 200",
        ),
        ("bogus=1", "invalid ulimit type: bogus"),
    ] {
        let err = engine.line_fails(125, &format!("run --rm --ulimit {ulimit} busybox true"));
        assert!(err.contains(words), "{err}");
    }
    assert_eq!(
        engine.line(
            "run --rm --shm-size 8m busybox sh -c 'df -k /dev/shm | tail -1 | awk \"{print \\$2}\"'"
        ),
        "8192"
    );
}

/// `pids.max` inside a container, and inside a step of a build.
fn bounds(engine: &Engine, tag: &str) -> (String, String) {
    let run = inside(engine, "", "pids/pids.max", "pids.max");
    let dockerfile = "FROM busybox\nRUN cat /sys/fs/cgroup/pids.max >/max 2>/dev/null || cat /sys/fs/cgroup/pids/pids.max >/max\n";
    let dir = engine.dir_with(tag, &[("Dockerfile", dockerfile)]);
    engine.ok(&["build", "-q", "-t", tag, &dir.display().to_string()]);
    (
        run,
        engine.line(&format!("run --rm --network none {tag} cat /max")),
    )
}

#[test]
fn processes_have_a_bound_by_default() {
    let engine = Engine::start(BERTH);
    let (run, step) = bounds(&engine, "fitting");
    let machine = |name: &str| -> u64 {
        let text = std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).expect("a limit");
        text.trim().parse().expect("a number")
    };
    let room = machine("pid_max").min(machine("threads-max"));
    let bound: u64 = run.parse().expect("a bound");
    assert!(
        (256..=32_768).contains(&bound) && bound <= (room / 4).max(256),
        "{bound} of {room}"
    );
    assert_eq!(step, run);
    // Nobody asked for it, so it is not part of what was asked, and an update of another limit leaves it.
    engine.line("run -d --network none --cgroupns private -m 64m --name box busybox sleep 1000");
    assert_eq!(
        engine.line("inspect -f '{{.HostConfig.PidsLimit}}' box"),
        "<nil>"
    );
    let of = |name: &str| {
        engine.line(&format!(
            "exec {name} sh -c 'cat /sys/fs/cgroup/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids/pids.max'"
        ))
    };
    engine.line("update -m 96m --memory-swap 96m box");
    assert_eq!(of("box"), run);
    engine.line("update --pids-limit -1 box");
    assert_eq!(of("box"), "max");
    // What was taken away stays away.
    engine.line("restart -t 0 box");
    assert_eq!(of("box"), "max");
    engine.line("rm -f box");
    let Some(id) = engine.docker_ok(&[
        "run",
        "-d",
        "--network=none",
        "--cgroupns=private",
        "busybox",
        "sleep",
        "1000",
    ]) else {
        return;
    };
    assert_eq!(of(&id), run);
    let format = "{{.HostConfig.PidsLimit}}";
    assert_eq!(
        engine.docker_ok(&["inspect", "-f", format, &id]).as_deref(),
        Some("<nil>")
    );
}

#[test]
fn the_engine_is_told_the_bound_of_processes() {
    for (told, found) in [("77", "77"), ("-1", "max")] {
        let engine = Engine::start_empty(BERTH, &["--default-pids-limit", told]);
        engine.load_busybox();
        assert_eq!(
            bounds(&engine, "told"),
            (found.to_owned(), found.to_owned())
        );
    }
}

/// A block device of this machine and its numbers.
fn disk() -> Option<(String, String)> {
    let entries = std::fs::read_dir("/sys/block").ok()?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|name| std::path::Path::new("/dev").join(name).exists())
        .collect();
    names.sort();
    let name = names
        .iter()
        .find(|n| n.starts_with(['v', 's', 'n']))
        .or(names.first())?;
    let numbers = std::fs::read_to_string(format!("/sys/block/{name}/dev")).ok()?;
    Some((format!("/dev/{name}"), numbers.trim().to_owned()))
}

#[test]
fn block_devices() {
    let engine = Engine::start(BERTH);
    let Some((disk, numbers)) = disk() else {
        return testkit::skipped("there is no block device");
    };
    for (flag, rate, v1, v2) in [
        ("--device-read-bps", "1mb", "read_bps", "rbps=1048576"),
        ("--device-write-bps", "2mb", "write_bps", "wbps=2097152"),
        ("--device-read-iops", "100", "read_iops", "riops=100"),
        ("--device-write-iops", "200", "write_iops", "wiops=200"),
    ] {
        let found = inside(
            &engine,
            &format!("{flag} {disk}:{rate}"),
            &format!("blkio/blkio.throttle.{v1}_device"),
            "io.max",
        );
        let number = v2.split('=').next_back().unwrap_or_default();
        assert!(
            found == format!("{numbers} {number}")
                || (found.starts_with(&numbers) && found.contains(v2)),
            "{flag}: {found}"
        );
    }
    let weighed = engine.run_line(&format!(
        "create --name weighed --blkio-weight 300 --blkio-weight-device {disk}:200 busybox"
    ));
    assert_eq!(weighed.out.trim_end().len(), 64, "{weighed:?}");
    // Said where the scheduler of the machine's disks knows none.
    let v1 = std::path::Path::new("/sys/fs/cgroup/blkio");
    let known = ["blkio.weight", "blkio.bfq.io_serviced"].map(|name| v1.join(name));
    if v1.exists() && !known.iter().any(|path| path.exists()) {
        for words in ["Block I/O weight or", "Block I/O weight_device or"] {
            let warning = format!("WARNING: Your kernel does not support {words}");
            assert!(weighed.err.contains(&warning), "{weighed:?}");
        }
    } else {
        assert_eq!(weighed.err, "");
    }
    assert_eq!(
        engine.line("inspect -f '{{.HostConfig.BlkioWeight}} {{(index .HostConfig.BlkioWeightDevice 0).Weight}}' weighed"),
        "300 200"
    );
    let err = engine.line_fails(127, "run --rm --device-read-bps /dev/nope:1mb busybox true");
    assert!(
        err.contains("stat /dev/nope: no such file or directory"),
        "{err}"
    );
    let err = engine.line_fails(125, "run --rm --blkio-weight 5 busybox true");
    assert!(
        err.contains("Range of blkio weight is from 10 to 1000"),
        "{err}"
    );
}

#[test]
fn limits_of_another_system_are_refused() {
    let engine = Engine::start(BERTH);
    for flag in [
        "cpu-count 1",
        "cpu-percent 1",
        "io-maxiops 1",
        "io-maxbandwidth 1m",
    ] {
        let err = engine.line_fails(1, &format!("run --rm --{flag} busybox true"));
        let name = flag.split(' ').next().unwrap_or_default();
        assert_eq!(
            err.trim(),
            format!(
                "\"--{name}\" is only supported on a Docker daemon running on windows, but the Docker daemon is running on linux"
            )
        );
    }
}

#[test]
fn limits_change_while_it_runs() {
    let engine = Engine::start(BERTH);
    engine.line("run -d --name c1 --network none --cgroupns private -m 64m busybox sleep 1000");
    let read = |v1: &str, v2: &str| {
        engine.line(&format!(
            "exec c1 sh -c 'cat /sys/fs/cgroup/{v2} 2>/dev/null || cat /sys/fs/cgroup/{v1}'"
        ))
    };
    engine.line("update -m 32m --memory-swap 48m --cpus 0.3 --pids-limit 30 --cpuset-cpus 0 c1");
    assert_eq!(
        read("memory/memory.limit_in_bytes", "memory.max"),
        "33554432"
    );
    assert!(read("cpu/cpu.cfs_quota_us", "cpu.max").starts_with("30000"));
    assert_eq!(read("pids/pids.max", "pids.max"), "30");
    assert_eq!(read("cpuset/cpuset.cpus", "cpuset.cpus"), "0");
    engine.line("update --pids-limit -1 --restart on-failure:3 c1");
    assert_eq!(read("pids/pids.max", "pids.max"), "max");
    assert_eq!(
        engine.line("inspect -f '{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.RestartPolicy.Name}}:{{.HostConfig.RestartPolicy.MaximumRetryCount}}' c1"),
        "33554432 300000000 on-failure:3"
    );
    let err = engine.line_fails(1, "update --cpu-quota 5000 c1");
    assert!(
        err.contains(
            "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set"
        ),
        "{err}"
    );
    let err = engine.line_fails(1, "update c1");
    assert!(err.contains("you must provide one or more flags"), "{err}");
}

#[test]
fn what_is_accepted_and_does_nothing() {
    let engine = Engine::start(BERTH);
    for flags in [
        "--kernel-memory 64m",
        "--disable-content-trust=false",
        "--disable-content-trust",
    ] {
        let ran = engine.run_line(&format!("run --rm --network none {flags} busybox echo x"));
        assert_eq!((ran.code, ran.out.as_str()), (0, "x\n"), "{flags}: {ran:?}");
    }
    let socket = "run --rm --network none --use-api-socket busybox sh -c 'test -S /var/run/docker.sock && echo there'";
    assert_eq!(engine.line(socket), "there");
}
