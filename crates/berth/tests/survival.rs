//! The engine may be killed: containers run on, and nothing of them is lost.

use std::process::Stdio;

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

#[test]
fn containers_outlive_the_engine() {
    let mut engine = Engine::start(BERTH);
    let port = testkit::http::free_port();
    let publish = format!("127.0.0.1:{port}:80");
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        &publish,
        "busybox",
        "sh",
        "-c",
        "echo alive > /tmp/index.html; httpd -f -p 80 -h /tmp",
    ]);
    engine.ok(&[
        "run",
        "-d",
        "-i",
        "--name",
        "waits",
        "busybox",
        "sh",
        "-c",
        "echo before; read x; echo after; exit 9",
    ]);
    let pid = engine.ok(&["inspect", "-f", "{{.State.Pid}}", "web"]);
    let address = format!("127.0.0.1:{port}").parse().expect("an address");
    assert_eq!(
        testkit::http::get_when_up(address, "/index.html"),
        "alive\n"
    );

    engine.kill();
    assert_eq!(
        testkit::http::get_when_up(address, "/index.html"),
        "alive\n",
        "served without an engine"
    );
    engine.launch();

    assert_eq!(
        engine.ok(&["inspect", "-f", "{{.State.Pid}} {{.State.Running}}", "web"]),
        format!("{pid} true")
    );
    assert_eq!(
        testkit::http::get_when_up(address, "/index.html"),
        "alive\n"
    );
    assert_eq!(
        engine.ok(&["exec", "web", "cat", "/tmp/index.html"]),
        "alive"
    );
    let ran = engine.run_with_input(&["attach", "waits"], b"go\n");
    assert_eq!(ran.code, 9, "{ran:?}");
    assert_eq!(engine.ok(&["logs", "waits"]), "before\nafter");
}

#[test]
fn an_engine_that_ends_lets_its_watchers_go_and_another_takes_over() {
    let mut engine = Engine::start(BERTH);
    engine.ok(&["run", "-d", "--name", "c1", "busybox", "sleep", "600"]);
    let connections = || {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", engine.pid())).ok()?;
        let links = entries.filter_map(|e| std::fs::read_link(e.ok()?.path()).ok());
        Some(
            links
                .filter(|l| l.to_string_lossy().starts_with("socket:"))
                .count(),
        )
    };
    let idle = testkit::wait::until("the connections of before to be closed", || {
        let (now, later) = (connections()?, connections()?);
        (now == later).then_some(now)
    });
    let mut watchers: Vec<_> = [
        &["events"][..],
        &["logs", "-f", "c1"],
        &["stats", "c1"],
        &["wait", "c1"],
        &["attach", "c1"],
    ]
    .iter()
    .map(|args| {
        let mut command = engine.berth();
        command.args(*args).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("the berth binary")
    })
    .collect();
    testkit::wait::until("all watchers", || {
        (connections()? >= idle + watchers.len()).then_some(())
    });
    // Only a request that has work to do is waited for: none of these has.
    engine.relaunch();
    for watcher in &mut watchers {
        watcher.wait().expect("its end");
    }
    assert_eq!(
        engine.ok(&["inspect", "-f", "{{.State.Running}}", "c1"]),
        "true"
    );
}

#[test]
fn an_exit_while_the_engine_is_away_is_known_afterwards() {
    let mut engine = Engine::start(BERTH);
    let dir = engine.dir_with("gate", &[]);
    std::fs::create_dir_all(&dir).expect("a directory");
    let bind = format!("{}:/gate", dir.display());
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "c1",
        "-v",
        &bind,
        "busybox",
        "sh",
        "-c",
        "mknod /gate/fifo p; echo up; cat /gate/fifo; exit 6",
    ]);
    testkit::wait::until("the fifo", || dir.join("fifo").exists().then_some(()));
    let pid = engine.ok(&["inspect", "-f", "{{.State.Pid}}", "c1"]);
    engine.kill();
    std::fs::write(dir.join("fifo"), "last words\n").expect("a reader");
    testkit::wait::until("its end", || {
        (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    });
    engine.launch();
    assert_eq!(engine.ok(&["wait", "c1"]), "6");
    assert_eq!(
        engine.ok(&[
            "inspect",
            "-f",
            "{{.State.Status}} {{.State.ExitCode}}",
            "c1"
        ]),
        "exited 6"
    );
    assert_eq!(engine.ok(&["logs", "c1"]), "up\nlast words");
    assert_eq!(engine.ok(&["rm", "c1"]), "c1");
}
