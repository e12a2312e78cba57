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

/// Execs of before are known afterwards: those that go on, those that ended while nobody looked, and those that
/// never began.
#[test]
fn execs_outlive_the_engine() {
    let mut engine = Engine::start(BERTH);
    let dir = engine.dir_with("gate", &[]);
    std::fs::create_dir_all(&dir).expect("a directory");
    let bind = format!("{}:/gate", dir.display());
    for name in ["stays", "ends"] {
        let script = "while ! [ -e /gate/end ]; do sleep 0.01; done; exit 3";
        let script = if name == "ends" { script } else { "sleep 1000" };
        engine.ok(&[
            "run", "-d", "--name", name, "-v", &bind, "busybox", "sh", "-c", script,
        ]);
    }
    let api = engine.api();
    let create = |container: &str, script: &str| {
        let body = format!(r#"{{"Cmd":["sh","-c","{script}"],"AttachStdout":true}}"#);
        let made = api.post(&format!("/containers/{container}/exec"), &body);
        made["Id"].as_str().expect("an id").to_owned()
    };
    let start = |id: &str| api.post(&format!("/exec/{id}/start"), r#"{"Detach":true}"#);
    let inspect = |id: &str| api.get(&format!("/exec/{id}/json"));
    let idle = create("stays", "exit 1");
    let waits = create(
        "stays",
        "while ! [ -e /gate/later ]; do sleep 0.01; done; exit 8",
    );
    let away = create(
        "stays",
        "while ! [ -e /gate/now ]; do sleep 0.01; done; touch /gate/one; exit 7",
    );
    let gone = create(
        "ends",
        "while ! [ -e /gate/now ]; do sleep 0.01; done; touch /gate/two; exit 6",
    );
    let before = create("stays", "exit 5");
    for id in [&waits, &away, &gone, &before] {
        start(id);
    }
    testkit::wait::until("the end of one", || inspect(&before)["ExitCode"].as_i64());
    let pid = inspect(&waits)["Pid"].clone();
    engine.kill();
    std::fs::write(dir.join("now"), "").expect("a file");
    testkit::wait::until("two execs' last words", || {
        (dir.join("one").exists() && dir.join("two").exists()).then_some(())
    });
    // The shim has the end of its exec before that of its container, as the kernel tells of both.
    std::fs::write(dir.join("end"), "").expect("a file");
    engine.launch();

    let seen = inspect(&waits);
    assert_eq!(
        (&seen["Running"], &seen["Pid"]),
        (&true.into(), &pid),
        "{seen}"
    );
    assert_eq!(seen["ProcessConfig"]["entrypoint"], "sh");
    let ids = api.get("/containers/stays/json")["ExecIDs"].to_string();
    assert!(
        ids.contains(&waits) && ids.contains(&idle) && !ids.contains(&before),
        "{ids}"
    );
    for (id, code) in [(&before, 5), (&away, 7)] {
        testkit::wait::until("its code", || {
            inspect(id)["ExitCode"].as_i64().filter(|c| *c == code)
        });
    }
    let code = testkit::wait::until("its code", || inspect(&gone)["ExitCode"].as_i64());
    // It may have been on its way out when its container took everything along.
    assert!([6, 137].contains(&code), "{code}");
    let seen = inspect(&idle);
    assert_eq!(
        (&seen["Running"], &seen["ExitCode"]),
        (&false.into(), &serde_json::Value::Null)
    );
    start(&idle);
    std::fs::write(dir.join("later"), "").expect("a file");
    for (id, code) in [(&idle, 1), (&waits, 8)] {
        testkit::wait::until("its code", || {
            inspect(id)["ExitCode"].as_i64().filter(|c| *c == code)
        });
    }
    engine.ok(&["rm", "-f", "stays"]);
    let answer = api
        .call("GET", &format!("/exec/{waits}/json"), b"")
        .expect("an answer");
    assert_eq!(answer.status, 404);
}

/// A build's step does not outlive an engine that is asked to end.
#[test]
fn steps_end_with_the_engine() {
    let mut engine = Engine::start(BERTH);
    let context = engine.dir_with(
        "context",
        &[("Dockerfile", "FROM busybox\nRUN echo begun; sleep 98765\n")],
    );
    let mut build = engine
        .berth()
        .args([
            "build",
            "--progress",
            "plain",
            &context.display().to_string(),
        ])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the berth binary");
    let step = testkit::wait::until("the step's process", || {
        let found = testkit::proc::with_arguments(&["sleep", "98765"]);
        found.into_iter().next()
    });
    engine.terminate();
    assert!(
        !std::path::Path::new(&format!("/proc/{step}")).exists(),
        "it goes on"
    );
    let ended = build.wait().expect("its end");
    assert!(!ended.success());
    let left = std::fs::read_dir(engine.path("run/containers")).expect("the run directory");
    assert_eq!(left.count(), 0, "directories of steps");
    engine.launch();
}
