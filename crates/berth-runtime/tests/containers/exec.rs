//! Further processes.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use berth_runtime::ErrorKind;
use berth_runtime::launcher::Launcher;
use berth_runtime::task::{AttachOptions, Event, ExecSpec};
use berth_spec::oci::runtime::ConsoleSize;

use crate::bundle::{Bundle, Running, frames};

fn container(launcher: &Launcher) -> Running {
    let mut running = Bundle::new("echo ready; exec sleep 1000")
        .spawn(launcher)
        .unwrap();
    running.await_output("ready");
    running
}

/// A process as the container's own, with another script.
fn spec(id: &str, script: &str) -> ExecSpec {
    let mut process = Bundle::new("").task.spec.process.unwrap();
    process.args = ["sh", "-c", script].map(str::to_owned).to_vec();
    ExecSpec {
        id: id.to_owned(),
        process,
        attach: AttachOptions::OUTPUT,
    }
}

fn run(running: &Running, spec: ExecSpec) -> (String, String) {
    let exec = running.task.exec(spec).unwrap();
    let mut raw = Vec::new();
    let mut stream: UnixStream = exec.stream.unwrap().into();
    stream.read_to_end(&mut raw).unwrap();
    frames(&raw)
}

pub fn output_input_and_exit_code(launcher: &Launcher) {
    let running = container(launcher);
    let mut events = running.task.events().unwrap();
    let mut asked = spec("e1", "cat; echo err >&2; exit 9");
    asked.attach.stdin = true;
    let exec = running.task.exec(asked).unwrap();
    assert!(exec.pid > 0);
    let mut stream: UnixStream = exec.stream.unwrap().into();
    stream.write_all(b"through\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).unwrap();
    assert_eq!(frames(&raw), ("through\n".to_owned(), "err\n".to_owned()));
    let Some(Event::ExecExit { id, status }) = events.next().unwrap() else {
        panic!("the exec has ended");
    };
    assert_eq!((id.as_str(), status.code), ("e1", 9));
    // Who asks later is told as well.
    let mut later = running.task.events().unwrap();
    assert!(matches!(
        later.next().unwrap(),
        Some(Event::ExecExit { .. })
    ));
    // Without streams.
    let mut quiet = spec("e2", "echo lost; exit 1");
    quiet.attach = AttachOptions::default();
    assert!(running.task.exec(quiet).unwrap().stream.is_none());
    let Some(Event::ExecExit { id, .. }) = events.next().unwrap() else {
        panic!("the exec has ended");
    };
    assert_eq!(id, "e2");
}

pub fn it_joins_the_container(launcher: &Launcher) {
    let running = container(launcher);
    let script = "for n in pid mnt uts ipc net; do [ $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) ] || echo $n; done; \
        cmp /proc/1/cgroup /proc/self/cgroup 2>/dev/null || cat /proc/1/cgroup > /tmp/a; cat /proc/self/cgroup > /tmp/b; \
        [ \"$(cat /proc/1/cgroup)\" = \"$(cat /proc/self/cgroup)\" ] || echo cgroup; \
        grep -E 'CapEff|Seccomp:|NoNewPrivs' /proc/self/status; ls /proc/self/fd; pwd";
    let (out, errors) = run(&running, spec("e", script));
    let expected = "CapEff:\t00000000a80425fb\nNoNewPrivs:\t0\nSeccomp:\t2\n0\n1\n2\n3\n/\n";
    assert_eq!((out.as_str(), errors.as_str()), (expected, ""));
}

pub fn a_terminal_of_its_own(launcher: &Launcher) {
    let running = container(launcher);
    let mut asked = spec(
        "e",
        "tty; stty size; read x; stty size; kill -INT $$; echo no",
    );
    asked.process.terminal = true;
    asked.process.console_size = Some(ConsoleSize {
        height: 20,
        width: 90,
    });
    asked.attach = AttachOptions::ALL;
    let exec = running.task.exec(asked).unwrap();
    let mut stream: UnixStream = exec.stream.unwrap().into();
    let text = crate::bundle::await_text(&mut stream, "20 90\r\n");
    assert!(text.starts_with("/dev/pts/0"), "{text:?}");
    running.task.resize_exec("e", 77, 33).unwrap();
    assert!(running.task.resize_exec("other", 1, 1).is_err());
    assert!(running.task.resize(1, 1).is_err());
    stream.write_all(b"\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(
        text.contains("33 77\r\n") && !text.contains("no"),
        "{text:?}"
    );
}

pub fn failures_are_precise(launcher: &Launcher) {
    let running = container(launcher);
    let mut asked = spec("e", "");
    asked.process.args = vec!["nothing".into()];
    let error = running.task.exec(asked.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ProgramNotFound);
    assert_eq!(
        error.to_string(),
        r#"exec: "nothing": executable file not found in $PATH"#
    );
    asked.process.args = vec!["true".into()];
    asked.process.cwd = "/nowhere".into();
    let error = running.task.exec(asked.clone()).unwrap_err();
    assert!(
        error.to_string().contains("chdir to cwd (\"/nowhere\")"),
        "{error}"
    );
    asked.process.cwd = "/".into();
    asked.process.user.uid = u32::MAX;
    assert_eq!(
        running.task.exec(asked).unwrap_err().kind(),
        ErrorKind::Invalid
    );
    running.task.kill(9).unwrap();
    running.task.wait().unwrap();
    let error = running.task.exec(spec("e", "true")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone);
}

pub fn many_execs_leave_nothing_open(launcher: &Launcher) {
    let running = container(launcher);
    let files = || {
        std::fs::read_dir(format!("/proc/{}/fd", running.task.shim_pid()))
            .unwrap()
            .count()
    };
    let first = run(&running, spec("warm", "echo x"));
    assert_eq!(first.0, "x\n");
    let before = files();
    for n in 0..50 {
        let (out, _) = run(
            &running,
            spec(&format!("e{n}"), "echo $$ >/dev/null; echo done"),
        );
        assert_eq!(out, "done\n");
    }
    testkit::wait::until("descriptors to be closed", || {
        (files() <= before).then_some(())
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.task.shim_pid()));
    assert!(status.unwrap().contains("berth-shim"));
    // Nobody but PID 1 and the listing is left inside.
    let (out, _) = run(&running, spec("ps", "ls /proc | grep -cE '^[0-9]+$'"));
    assert!(out.trim().parse::<u32>().unwrap() <= 4, "{out}");
}

pub fn an_exec_may_meet_the_end(launcher: &Launcher) {
    for _ in 0..5 {
        let mut bundle = Bundle::new("read x");
        bundle.task.open_stdin = true;
        let mut running = bundle.spawn(launcher).unwrap();
        std::thread::scope(|scope| {
            let task = &running.task;
            let execs: Vec<_> = (0..8)
                .map(|n| scope.spawn(move || task.exec(spec(&format!("e{n}"), "exec sleep 1000"))))
                .collect();
            running.client.write_all(b"\n").unwrap();
            for exec in execs {
                // It ran and was ended, or came too late; in both cases this returns.
                match exec.join().unwrap() {
                    Ok(exec) => {
                        let mut stream: UnixStream = exec.stream.unwrap().into();
                        stream.read_to_end(&mut Vec::new()).unwrap();
                    }
                    Err(error) => assert!(!error.to_string().is_empty()),
                }
            }
        });
        running.task.wait().unwrap();
    }
}
