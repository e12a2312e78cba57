//! The engine may be killed: containers run on, and nothing of them is lost.

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
