//! From start to end.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::Shutdown;

use berth_runtime::ErrorKind;
use berth_runtime::cgroup::Cgroups;
use berth_runtime::launcher::Launcher;
use berth_runtime::task::{Event, ExitStatus, Reconnected, Task};
use berth_spec::oci::runtime::{Hook, Hooks};

use crate::bundle::{Bundle, await_end};

pub fn output_and_exit_code(launcher: &Launcher) {
    let (out, errors, status) = Bundle::new("echo out; echo err >&2; exit 3").run(launcher);
    assert_eq!((out.as_str(), errors.as_str()), ("out\n", "err\n"));
    assert_eq!(
        (status.code, status.signal, status.oom_killed),
        (3, None, false)
    );
}

pub fn a_signal_ends_it(launcher: &Launcher) {
    let mut running = Bundle::new(
        "trap 'echo caught; exit 5' USR1; echo ready; while :; do sleep 1 & wait; done",
    )
    .spawn(launcher)
    .unwrap();
    running.await_output("ready");
    running.task.kill(10).unwrap();
    let (_, _, status) = running.finish();
    assert_eq!(status.code, 5);
    let running = Bundle::new("exec sleep 1000").spawn(launcher).unwrap();
    running.task.kill(9).unwrap();
    let status = running.task.wait().unwrap();
    assert_eq!((status.code, status.signal), (137, Some(9)));
    let error = running.task.kill(9).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone);
    assert!(running.task.kill(0).is_err() && running.task.kill(65).is_err());
}

pub fn standard_input_reaches_it(launcher: &Launcher) {
    let mut bundle = Bundle::new("cat; echo end");
    bundle.task.open_stdin = true;
    bundle.task.stdin_once = true;
    let mut running = bundle.spawn(launcher).unwrap();
    running.client.write_all(b"hello\n").unwrap();
    running.client.shutdown(Shutdown::Write).unwrap();
    let (out, _, status) = running.finish();
    assert_eq!((out.as_str(), status.code), ("hello\nend\n", 0));
    // Without, there is nothing to read.
    assert_eq!(Bundle::new("cat; echo end").output(launcher), "end\n");
}

pub fn programs_that_cannot_run(launcher: &Launcher) {
    let refused = |args: &[&str]| {
        let mut bundle = Bundle::new("");
        std::fs::write(bundle.root.join("noexec"), "#!/bin/sh\n").unwrap();
        std::fs::write(bundle.root.join("garbage"), "\u{1}\u{2}").unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(bundle.root.join("garbage"), executable).unwrap();
        bundle.spec().process.as_mut().unwrap().args =
            args.iter().map(|a| (*a).to_owned()).collect();
        let error = bundle.refusal(launcher);
        (error.kind(), error.to_string())
    };
    use ErrorKind::{Invalid, ProgramNotExecutable, ProgramNotFound};
    let expected = [
        (
            "nothing",
            ProgramNotFound,
            r#"exec: "nothing": executable file not found in $PATH"#,
        ),
        (
            "/nothing",
            ProgramNotFound,
            r#"exec: "/nothing": stat /nothing: no such file or directory"#,
        ),
        (
            "/etc",
            ProgramNotExecutable,
            r#"exec: "/etc": is a directory"#,
        ),
        (
            "/noexec",
            ProgramNotExecutable,
            r#"exec: "/noexec": permission denied"#,
        ),
        (
            "/garbage",
            ProgramNotExecutable,
            "exec /garbage: exec format error",
        ),
    ];
    for (program, kind, text) in expected {
        assert_eq!(refused(&[program]), (kind, text.to_owned()));
    }
    assert_eq!(refused(&[]).0, Invalid);
}

pub fn a_start_can_wait(launcher: &Launcher) {
    let mut bundle = Bundle::new("echo ran");
    bundle.task.wait_for_start = true;
    let running = bundle.spawn(launcher).unwrap();
    let Ok(Reconnected::Running(task)) = Task::reconnect(&running.dir()) else {
        panic!("it waits");
    };
    task.start().unwrap();
    assert!(task.start().is_err());
    let (out, _, status) = running.finish();
    assert_eq!((out.as_str(), status.code), ("ran\n", 0));
}

pub fn the_exit_is_found_after_the_shim(launcher: &Launcher) {
    let mut bundle = Bundle::new("read x; exit 7");
    bundle.task.open_stdin = true;
    let mut running = bundle.spawn(launcher).unwrap();
    let Ok(Reconnected::Running(task)) = Task::reconnect(&running.dir()) else {
        panic!("it runs");
    };
    assert_eq!(task.pid(), running.task.pid());
    assert_eq!(task.start_time(), running.task.start_time());
    assert_eq!(ExitStatus::read(&running.dir()).unwrap(), None);
    running.client.write_all(b"go\n").unwrap();
    assert_eq!(running.task.wait().unwrap().code, 7);
    // The file was there before anybody was told.
    assert_eq!(ExitStatus::read(&running.dir()).unwrap().unwrap().code, 7);
    let Ok(Reconnected::Exited(status)) = Task::reconnect(&running.dir()) else {
        panic!("it has ended");
    };
    assert_eq!(status.code, 7);
    // And later, when nobody answers at the socket.
    assert_eq!(task.events().unwrap().wait().unwrap().code, 7);
}

pub fn a_killed_shim_takes_its_container_along(launcher: &Launcher) {
    let mut running = Bundle::new("echo ready; exec sleep 1000")
        .spawn(launcher)
        .unwrap();
    running.await_output("ready");
    let pidfd = running.task.pidfd().unwrap();
    let shim = rustix::process::Pid::from_raw(running.task.shim_pid()).unwrap();
    let mut events = running.task.events().unwrap();
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
    assert_eq!(events.wait().unwrap().code, 137);
    let mut polls = [rustix::event::PollFd::new(
        &pidfd,
        rustix::event::PollFlags::IN,
    )];
    rustix::event::poll(&mut polls, None).unwrap();
    let Ok(Reconnected::Exited(status)) = Task::reconnect(&running.dir()) else {
        panic!("it has ended");
    };
    assert_eq!(status.code, 137);
    // What a shim cannot take away itself.
    Cgroups::detect()
        .unwrap()
        .open(&running.cgroup)
        .unwrap()
        .remove()
        .unwrap();
}

pub fn a_restart_in_the_same_directory(launcher: &Launcher) {
    let mut bundle = Bundle::new("exit 1");
    let keep = bundle.temp;
    bundle.temp = tempfile::tempdir().unwrap();
    for _ in 0..5 {
        let again = Bundle {
            temp: tempfile::tempdir().unwrap(),
            task: bundle.task.clone(),
            root: bundle.root.clone(),
            sources: Vec::new(),
        };
        let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(here);
        let fds = berth_runtime::task::TaskFds::new(crate::bundle::root_of(&again.root));
        // No waiting for the one before to be gone altogether.
        let task = launcher.spawn(again.task, fds).unwrap();
        assert_eq!(task.wait().unwrap().code, 1);
    }
    drop(keep);
}

pub fn events_are_told_to_everybody(launcher: &Launcher) {
    let mut bundle = Bundle::new("read x; exit 2");
    bundle.task.open_stdin = true;
    let mut running = bundle.spawn(launcher).unwrap();
    let mut first = running.task.events().unwrap();
    let mut second = running.task.events().unwrap();
    second.set_nonblocking().unwrap();
    assert_eq!(
        second.next().unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    running.client.write_all(b"\n").unwrap();
    let event = first.next().unwrap().unwrap();
    assert!(matches!(event, Event::Exit(status) if status.code == 2));
    assert_eq!(first.next().unwrap(), None);
    let mut polls = [rustix::event::PollFd::new(
        &second,
        rustix::event::PollFlags::IN,
    )];
    rustix::event::poll(&mut polls, None).unwrap();
    assert_eq!(second.next().unwrap().unwrap(), event);
}

pub fn many_at_once(launcher: &Launcher) {
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..16)
            .map(|n| scope.spawn(move || Bundle::new(&format!("echo {n}; exit {n}")).run(launcher)))
            .collect();
        for (n, run) in runs.into_iter().enumerate() {
            let (out, _, status) = run.join().unwrap();
            assert_eq!((out, status.code), (format!("{n}\n"), n as i32));
        }
    });
}

pub fn nothing_is_left_over(launcher: &Launcher) {
    let mounted = |of: &std::path::Path| {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        mounts.contains(of.to_str().unwrap())
    };
    let files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let open = files();
    for _ in 0..3 {
        let running = Bundle::new("sleep 1000 & echo x").spawn(launcher).unwrap();
        let (cgroup, dir, shim) = (
            running.cgroup.clone(),
            running.dir(),
            running.task.shim_pid(),
        );
        running.task.wait().unwrap();
        await_end(shim);
        assert!(Cgroups::detect().unwrap().open(&cgroup).is_err());
        assert!(!mounted(running.temp.path()));
        let left: BTreeSet<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(left, BTreeSet::from(["exit".to_owned(), "lock".to_owned()]));
    }
    assert_eq!(files(), open);
    let error = Bundle::new("").refusal_after(|b| b.spec().hostname = "x".repeat(65), launcher);
    assert!(error.contains("name too long"), "{error}");
    assert_eq!(files(), open);
}

pub fn a_shim_is_small(launcher: &Launcher) {
    let mut bundle = Bundle::new("yes | head -c 1000000; echo ready >&2; exec sleep 1000");
    bundle.log(0, 0);
    let mut running = bundle.spawn(launcher).unwrap();
    running.await_output("ready");
    let path = format!("/proc/{}/smaps_rollup", running.task.shim_pid());
    let text = std::fs::read_to_string(path).unwrap();
    let private: u64 = text
        .lines()
        .filter(|line| line.starts_with("Private_"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum();
    assert!(private < 1024, "{private} KiB are the shim's own:\n{text}");
}

impl Bundle {
    fn refusal_after(mut self, change: impl Fn(&mut Self), launcher: &Launcher) -> String {
        change(&mut self);
        self.refusal(launcher).to_string()
    }
}

pub fn hooks_run_at_their_points(launcher: &Launcher) {
    let mut bundle = Bundle::new("cat /mark; echo program");
    let trace = bundle.temp.path().join("trace");
    let hook = |script: String| Hook {
        path: "/bin/sh".into(),
        args: vec!["sh".into(), "-c".into(), script],
        timeout: Some(30),
        ..Hook::default()
    };
    let note = |point: &str| {
        vec![hook(format!(
            "cat >/dev/null; echo {point} >> {}",
            trace.display()
        ))]
    };
    bundle.spec().hooks = Some(Hooks {
        prestart: note("prestart"),
        create_runtime: note("createRuntime"),
        create_container: note("createContainer"),
        start_container: vec![hook("echo inside > /mark".into())],
        poststart: note("poststart"),
        poststop: note("poststop"),
    });
    let running = bundle.spawn(launcher).unwrap();
    let (temp, shim) = (running.temp.path().to_owned(), running.task.shim_pid());
    let mut client = running.client.try_clone().unwrap();
    running.task.wait().unwrap();
    let text = crate::bundle::await_text(&mut client, "program");
    assert!(text.contains("inside"), "{text}");
    await_end(shim);
    let trace = std::fs::read_to_string(temp.join("trace")).unwrap();
    assert_eq!(
        trace,
        "prestart\ncreateRuntime\ncreateContainer\npoststart\npoststop\n"
    );
}

pub fn it_outlives_its_launcher(_: &Launcher) {
    let launcher = Launcher::fork().unwrap();
    let mut bundle = Bundle::new("echo one; read x; echo two $x; exit 6");
    bundle.task.open_stdin = true;
    let log = bundle.log(0, 0);
    let mut running = bundle.spawn(&launcher).unwrap();
    running.await_output("one");
    drop(launcher);
    let Ok(Reconnected::Running(task)) = Task::reconnect(&running.dir()) else {
        panic!("it runs");
    };
    let stream = task
        .attach(berth_runtime::task::AttachOptions::ALL)
        .unwrap();
    let mut stream: std::os::unix::net::UnixStream = stream.into();
    stream.write_all(b"more\n").unwrap();
    crate::bundle::await_text(&mut stream, "two more");
    assert_eq!(task.wait().unwrap().code, 6);
    let text = std::fs::read_to_string(log).unwrap();
    assert!(text.contains("one") && text.contains("two more"), "{text}");
}

pub fn want_of_memory_is_told(launcher: &Launcher) {
    let mut bundle = Bundle::new("head -c 200000000 /dev/zero | tail | wc -c");
    let resources = bundle.spec().linux.as_mut().unwrap().resources.as_mut();
    resources.unwrap().memory = Some(berth_spec::oci::runtime::Memory {
        limit: Some(16 << 20),
        swap: Some(16 << 20),
        ..Default::default()
    });
    let (_, _, status) = bundle.run(launcher);
    assert!(status.oom_killed, "{status:?}");
}
