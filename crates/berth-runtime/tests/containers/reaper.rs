//! The init that stays before the program.

use berth_runtime::launcher::Launcher;

use crate::bundle::Bundle;

fn with_init(script: &str) -> Bundle {
    let mut bundle = Bundle::new(script);
    bundle.task.init = true;
    bundle
}

pub fn it_ends_as_its_program_does(launcher: &Launcher) {
    let (out, errors, status) = with_init("echo $$ $PPID; echo err >&2; exit 3").run(launcher);
    assert_eq!((out.as_str(), errors.as_str()), ("2 1\n", "err\n"));
    assert_eq!((status.code, status.signal), (3, None));
    let (_, _, status) = with_init("kill -KILL $$").run(launcher);
    assert_eq!((status.code, status.signal), (137, None));
    let mut missing = with_init("");
    missing.spec().process.as_mut().unwrap().args = vec!["no-such-program".into()];
    let error = missing.refusal(launcher).to_string();
    assert!(
        error.contains("executable file not found in $PATH"),
        "{error}"
    );
}

pub fn it_hands_signals_on(launcher: &Launcher) {
    // 35 is a real-time signal.
    for (trapped, sent) in [("TERM", 15), ("USR1", 10), ("35", 35), ("WINCH", 28)] {
        let script = format!(
            "trap 'echo caught; exit 5' {trapped}; echo ready; while :; do sleep 1 & wait; done"
        );
        let mut running = with_init(&script).spawn(launcher).unwrap();
        running.await_output("ready");
        running.task.kill(sent).unwrap();
        let (out, _, status) = running.finish();
        assert_eq!((out.as_str(), status.code), ("caught\n", 5), "{trapped}");
    }
    // The default action of a signal is the program's, which is not the first process.
    let mut running = with_init("echo ready; exec sleep 1000")
        .spawn(launcher)
        .unwrap();
    running.await_output("ready");
    running.task.kill(15).unwrap();
    assert_eq!(running.task.wait().unwrap().code, 128 + 15);
}

pub fn it_takes_in_orphans(launcher: &Launcher) {
    // The grandchild is left behind, and ends when it has read from the FIFO.
    let script = "mkfifo /f; (sh -c 'echo $$ > /pid; read x < /f' &); \
        while ! [ -s /pid ]; do sleep 0.01; done; pid=$(cat /pid); \
        grep PPid /proc/$pid/status; echo > /f; \
        while [ -d /proc/$pid ]; do sleep 0.01; done; echo gone";
    let out = with_init(script).output(launcher);
    assert_eq!(out, "PPid:\t1\ngone\n");
}

pub fn it_has_given_up_what_its_program_has(launcher: &Launcher) {
    let script = "for n in 1 2; do grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:)' /proc/$n/status; done";
    let mut bundle = with_init(script);
    let process = bundle.spec().process.as_mut().unwrap();
    process.no_new_privileges = true;
    let out = bundle.output(launcher);
    let lines: Vec<&str> = out.lines().collect();
    let (init, program) = lines.split_at(lines.len() / 2);
    assert_eq!(init, program);
    assert!(
        out.contains("NoNewPrivs:\t1") && out.contains("Seccomp:\t2"),
        "{out}"
    );

    let mut running = with_init("echo ready; exec sleep 1000")
        .spawn(launcher)
        .unwrap();
    running.await_output("ready");
    let of = |name: &str| format!("/proc/{}/{name}", running.task.pid());
    // What it closes and forgets after the program was born is not told: it is waited for.
    testkit::wait::until("the init to have closed everything", || {
        std::fs::read_dir(of("fd"))
            .unwrap()
            .next()
            .is_none()
            .then_some(())
    });
    assert_eq!(
        std::fs::read_to_string(of("comm")).unwrap(),
        "docker-init\n"
    );
    let shown = std::fs::read_to_string(of("cmdline")).unwrap();
    assert!(
        shown.starts_with("/sbin/docker-init\0--\0") || shown.starts_with("/sbin/docker-init -- "),
        "{shown:?}"
    );
    let environment = std::fs::read(of("environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    assert!(!environment.contains("PATH="), "{environment:?}");
    let memory = std::fs::read_to_string(of("smaps_rollup")).unwrap();
    let line = memory
        .lines()
        .find_map(|l| l.strip_prefix("Private_Dirty:"));
    let kilobytes: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    assert!(kilobytes < 1536, "{kilobytes} kB of its own");
}

/// CVE-2019-5736's class: the init runs from the host's program.
pub fn the_hosts_binary_is_out_of_reach(launcher: &Launcher) {
    let script = "readlink /proc/1/exe; cat /proc/1/exe; ls /proc/1/fd; ls /proc/1/root; cat /proc/1/environ /proc/1/maps";
    let (out, errors, _) = with_init(script).run(launcher);
    assert_eq!(out, "", "{errors}");
    assert_eq!(errors.matches("ermission denied").count(), 4, "{errors}");
    // Who may trace reads it, and cannot write it.
    let mut bundle =
        with_init("chmod 755 /proc/1/exe; echo >> /proc/1/exe; echo; ls -l /proc/1/exe | wc -l");
    let process = bundle.spec().process.as_mut().unwrap();
    let all = process.capabilities.get_or_insert_default();
    for set in [&mut all.bounding, &mut all.effective, &mut all.permitted] {
        set.push("CAP_SYS_PTRACE".into());
    }
    let (out, errors, _) = bundle.run(launcher);
    assert_eq!(out, "\n1\n", "{errors}");
    assert!(errors.contains("Read-only file system"), "{errors}");
}

pub fn with_a_terminal(launcher: &Launcher) {
    use std::io::Write;
    let mut bundle = with_init(
        "trap 'echo interrupted; exit 9' INT; ps -o pid,pgid,tty; echo ready; while :; do sleep 1 & wait; done",
    );
    bundle.spec().process.as_mut().unwrap().terminal = true;
    bundle.task.open_stdin = true;
    let mut running = bundle.spawn(launcher).unwrap();
    running.await_output("ready");
    // Typed, it goes to the program's group alone.
    running.client.write_all(b"\x03").unwrap();
    let (out, _, status) = running.finish();
    assert!(out.contains("interrupted"), "{out}");
    assert_eq!(status.code, 9);
}
