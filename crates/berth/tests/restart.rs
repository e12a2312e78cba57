//! Restart policies, restarts of unhealthy containers, and the order in which containers come up
//! again.

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

fn until(engine: &Engine, line: &str, wanted: &str) {
    testkit::wait::until(&format!("{line}: {wanted}"), || {
        (engine.line(line) == wanted).then_some(())
    });
}

#[test]
fn policies_restart_what_ended() {
    let engine = Engine::start(BERTH);
    engine.line("run -d --name f1 --network none --restart on-failure:2 busybox sh -c 'exit 3'");
    until(
        &engine,
        "inspect -f '{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}' f1",
        "exited 2 3",
    );
    engine.line("run -d --name ok --network none --restart on-failure busybox true");
    assert_eq!(engine.line("wait ok"), "0");
    until(
        &engine,
        "inspect -f '{{.State.Status}} {{.RestartCount}}' ok",
        "exited 0",
    );
    engine.line("run -d --name a1 --network none --restart always busybox sleep 1000");
    let pid = engine.line("inspect -f {{.State.Pid}} a1");
    engine.line("exec a1 kill -9 1");
    let killed = std::process::Command::new("kill")
        .args(["-9", &pid])
        .status();
    assert!(killed.expect("kill").success());
    until(
        &engine,
        "inspect -f '{{.State.Running}} {{.RestartCount}}' a1",
        "true 1",
    );
    // What a user stopped stays stopped.
    engine.line("stop a1");
    assert_eq!(engine.line("inspect -f {{.State.Status}} a1"), "exited");
    engine.line("update --restart no a1");
    engine.line("start a1");
    engine.line("kill a1");
    assert_eq!(engine.line("inspect -f {{.State.Status}} a1"), "exited");
    for (flags, words) in [
        (
            "--restart bogus",
            "invalid restart policy: unknown policy 'bogus'",
        ),
        (
            "--restart always:3",
            "maximum retry count can only be used with 'on-failure'",
        ),
        (
            "--rm --restart always",
            "cannot specify both --restart and --rm",
        ),
    ] {
        let err = engine.line_fails(125, &format!("run {flags} busybox true"));
        assert!(err.contains(words), "{flags}: {err}");
    }
}

#[test]
fn the_engine_starts_what_it_should() {
    let mut engine = Engine::start(BERTH);
    for (name, policy) in [("a1", "always"), ("u1", "unless-stopped"), ("n1", "no")] {
        engine.line(&format!(
            "run -d --name {name} --network none --restart {policy} busybox sleep 1000"
        ));
    }
    engine.line("stop a1 u1 n1");
    engine.terminate();
    engine.launch();
    until(&engine, "ps --format {{.Names}}", "a1");
    assert_eq!(engine.line("inspect -f {{.State.Status}} u1"), "exited");
}

#[test]
fn an_unhealthy_container_is_restarted_where_that_is_asked_for() {
    let engine = Engine::start(BERTH);
    engine.line(
        "run -d --name h1 --network none --health-restart --health-cmd 'test -e /run.ok' \
         --health-interval 100ms --health-retries 2 --stop-timeout 0 busybox \
         sh -c 'if test -e /second; then touch /run.ok; fi; touch /second; sleep 1000'",
    );
    until(
        &engine,
        "inspect -f '{{.State.Health.Status}} {{.RestartCount}}' h1",
        "healthy 1",
    );
    let actions =
        engine.line("events --since 0 --until 0s --filter container=h1 --format {{.Action}}");
    let order: Vec<&str> = actions
        .lines()
        .filter(|a| a.starts_with("health") || *a == "restart")
        .collect();
    assert_eq!(
        order,
        [
            "health_status: unhealthy",
            "restart",
            "health_status: healthy"
        ]
    );
    // Docker's own way: nobody asked, nothing is done.
    engine.line(
        "run -d --name l1 --network none --health-cmd false --health-interval 50ms --health-retries 1 \
         busybox sleep 1000",
    );
    until(
        &engine,
        "inspect -f {{.State.Health.Status}} l1",
        "unhealthy",
    );
    assert_eq!(engine.line("inspect -f {{.RestartCount}} l1"), "0");
}

#[test]
fn containers_come_up_in_the_order_of_what_they_need() {
    let mut engine = Engine::start(BERTH);
    let always = "--restart always --network none";
    engine.line(&format!(
        "run -d --name db {always} --health-cmd 'test -e /up' --health-interval 50ms busybox \
         sh -c 'rm -f /up; sleep 1; touch /up; sleep 1000'"
    ));
    engine.line(&format!(
        "run -d --name web {always} --label berth.depends-on=db:healthy busybox sleep 1000"
    ));
    engine.line("run -d --name side --restart always --network container:web busybox sleep 1000");
    let started = "inspect -f '{{.State.Pid}} {{.State.StartedAt}}' db web side";
    let before = engine.line(started);
    engine.terminate();
    // As after a start of the machine: nothing runs any more.
    let pids = before.lines().filter_map(|line| line.split(' ').next());
    let killed = std::process::Command::new("kill")
        .arg("-9")
        .args(pids)
        .status();
    assert!(killed.expect("kill").success());
    engine.launch();
    testkit::wait::until("all three to be up again", || {
        (engine.line("ps -q").lines().count() == 3
            && !engine
                .line("ps --format {{.Status}}")
                .contains("Restarting"))
        .then_some(())
    });
    let after = engine.line(started);
    let times: Vec<&str> = after.lines().filter_map(|l| l.split(' ').nth(1)).collect();
    assert!(times[0] < times[1] && times[1] < times[2], "{after}");
    let healthy = engine.line("inspect -f '{{(index .State.Health.Log 0).Start}}' db");
    assert!(
        healthy.as_str() < times[1] || times[0] < times[1],
        "{healthy} {after}"
    );
    assert_eq!(
        engine.line("inspect -f {{.State.Health.Status}} db"),
        "healthy"
    );
}
