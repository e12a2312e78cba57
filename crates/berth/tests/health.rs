//! Health checks.

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

fn status(engine: &Engine) -> String {
    engine.ok(&["inspect", "-f", "{{.State.Health.Status}}", "box"])
}

fn until(engine: &Engine, wanted: &str) {
    testkit::wait::until(wanted, || (status(engine) == wanted).then_some(()));
}

#[test]
fn health_follows_the_probe() {
    let engine = Engine::start(BERTH);
    let probe = "test -e /well && echo fine || { echo ill; exit 1; }";
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "box",
        "--health-cmd",
        probe,
        "--health-interval",
        "100ms",
        "--health-retries",
        "2",
        "--health-timeout",
        "10s",
        "busybox",
        "sleep",
        "1000",
    ]);
    until(&engine, "unhealthy");
    assert!(
        engine
            .ok(&["ps", "--format", "{{.Status}}"])
            .ends_with("(unhealthy)")
    );
    engine.ok(&["exec", "box", "touch", "/well"]);
    until(&engine, "healthy");
    assert!(
        engine
            .ok(&["ps", "--format", "{{.Status}}"])
            .ends_with("(healthy)")
    );
    assert_eq!(
        engine
            .ok(&["ps", "-q", "--filter", "health=healthy"])
            .lines()
            .count(),
        1
    );
    let log = testkit::wait::until("five results", || {
        let log = engine.ok(&[
            "inspect",
            "-f",
            "{{range .State.Health.Log}}{{.ExitCode}} {{.Output}}{{end}}",
            "box",
        ]);
        (log.trim() == "0 fine\n0 fine\n0 fine\n0 fine\n0 fine").then_some(log)
    });
    assert_eq!(log.lines().count(), 5);
    let events = engine.ok(&[
        "events",
        "--since",
        "0",
        "--until",
        "0s",
        "--filter",
        "event=health_status",
        "--format",
        "{{.Action}}",
    ]);
    assert_eq!(events, "health_status: unhealthy\nhealth_status: healthy");
}

#[test]
fn probes_that_hang_and_images_with_probes() {
    let engine = Engine::start(BERTH);
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "box",
        "--health-cmd",
        "sleep 100",
        "--health-interval",
        "50ms",
        "--health-timeout",
        "200ms",
        "--health-retries",
        "1",
        "busybox",
        "sleep",
        "1000",
    ]);
    until(&engine, "unhealthy");
    let output = engine.ok(&[
        "inspect",
        "-f",
        "{{(index .State.Health.Log 0).ExitCode}} {{(index .State.Health.Log 0).Output}}",
        "box",
    ]);
    assert!(
        output.starts_with("-1 Health check exceeded timeout (200ms)"),
        "{output}"
    );
    // What timed out is gone.
    testkit::wait::until("its processes to be gone", || {
        (!engine.ok(&["exec", "box", "ps"]).contains("sleep 100\n")).then_some(())
    });
    engine.ok(&[
        "commit",
        "-c",
        "HEALTHCHECK --interval=50ms CMD true",
        "box",
        "probed",
    ]);
    engine.ok(&["rm", "-f", "box"]);
    engine.ok(&["run", "-d", "--name", "box", "probed", "sleep", "1000"]);
    until(&engine, "healthy");
    engine.ok(&["rm", "-f", "box"]);
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "box",
        "--no-healthcheck",
        "probed",
        "sleep",
        "1000",
    ]);
    assert_eq!(
        engine.ok(&[
            "inspect",
            "-f",
            "{{if .State.Health}}some{{else}}none{{end}}",
            "box"
        ]),
        "none"
    );
}

#[test]
fn a_start_period_forgives() {
    let engine = Engine::start(BERTH);
    let run = |flags: &str| {
        engine.line(&format!(
            "run -d --name box --network none --health-cmd 'test -e /well' --health-retries 1 {flags} busybox sleep 1000"
        ))
    };
    let failures = || {
        let format = "{{range .State.Health.Log}}{{.ExitCode}}{{end}}";
        engine.ok(&["inspect", "-f", format, "box"])
    };
    // Failures of that time are seen and do not count; the probe comes more often meanwhile.
    run("--health-interval 1000s --health-start-period 1000s --health-start-interval 50ms");
    testkit::wait::until("failures", || (failures().len() >= 3).then_some(()));
    assert_eq!(status(&engine), "starting");
    engine.ok(&["exec", "box", "touch", "/well"]);
    until(&engine, "healthy");
    let format =
        "{{json .Config.Healthcheck.StartPeriod}} {{json .Config.Healthcheck.StartInterval}}";
    assert_eq!(
        engine.ok(&["inspect", "-f", format, "box"]),
        "1000000000000 50000000"
    );
    engine.line("rm -f box");
    // Once it is over, or where there is none, they count.
    run("--health-interval 50ms --health-start-period 1ms --health-start-interval 50ms");
    until(&engine, "unhealthy");
}
