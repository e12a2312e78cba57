//! Published ports and networks, as users reach them.

use std::net::SocketAddr;

use testkit::engine::Engine;
use testkit::http::{free_port, get, get_when_up};

const BERTH: &str = env!("CARGO_BIN_EXE_berth");
const SERVE: &str = "echo $HOSTNAME > /tmp/index.html; exec httpd -f -p 80 -h /tmp";

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().expect("an address"), port)
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    let engine = Engine::start(BERTH);
    let port = free_port();
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "--hostname",
        "web",
        "-p",
        &format!("{port}:80"),
        "busybox",
        "sh",
        "-c",
        SERVE,
    ]);
    assert_eq!(get_when_up(at("127.0.0.1", port), "/index.html"), "web\n");
    // By the host's other addresses: the bridge's own is one that every machine has.
    let gateway = engine.ok(&["inspect", "-f", "{{.NetworkSettings.Gateway}}", "web"]);
    assert_eq!(get_when_up(at(&gateway, port), "/index.html"), "web\n");
    assert_eq!(get_when_up(at("::1", port), "/index.html"), "web\n");
    // From another container, by the host's address and by its own.
    let url = format!("http://{gateway}:{port}/index.html");
    assert_eq!(
        engine.ok(&["run", "--rm", "busybox", "wget", "-qO-", &url]),
        "web"
    );
    let own = engine.ok(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"]);
    let url = format!("http://{own}/index.html");
    assert_eq!(
        engine.ok(&["run", "--rm", "busybox", "wget", "-qO-", &url]),
        "web"
    );
    // From itself (hairpin).
    let url = format!("http://{gateway}:{port}/index.html");
    assert_eq!(engine.ok(&["exec", "web", "wget", "-qO-", &url]), "web");

    let shown = engine.ok(&["ps", "--format", "{{.Ports}}"]);
    assert_eq!(
        shown,
        format!("0.0.0.0:{port}->80/tcp, [::]:{port}->80/tcp")
    );
    engine.ok(&["rm", "-f", "web"]);
    assert!(
        get(at("127.0.0.1", port), "/").is_err(),
        "the port is closed again"
    );
}

#[test]
fn a_port_in_use_is_said_and_leaves_nothing() {
    let engine = Engine::start(BERTH);
    let holder = std::net::TcpListener::bind(("0.0.0.0", 0)).expect("a port");
    let port = holder.local_addr().expect("its address").port();
    let err = engine.fails(
        125,
        &[
            "run",
            "-d",
            "--name",
            "x1",
            "-p",
            &format!("{port}:80"),
            "busybox",
            "sleep",
            "9",
        ],
    );
    assert!(err.contains("address already in use"), "{err}");
    drop(holder);
    engine.ok(&["start", "x1"]);
    let err = engine.fails(
        125,
        &[
            "run",
            "--rm",
            "-p",
            &format!("{port}:81"),
            "busybox",
            "true",
        ],
    );
    assert!(err.contains("port is already allocated"), "{err}");
    assert_eq!(engine.ok(&["ps", "-q"]).lines().count(), 1);
}

#[test]
fn random_ports_and_publish_all() {
    let engine = Engine::start(BERTH);
    engine.ok(&[
        "run", "-d", "--name", "a1", "--expose", "80", "-P", "busybox", "sh", "-c", SERVE,
    ]);
    let port = engine.ok(&[
        "inspect",
        "-f",
        "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}",
        "a1",
    ]);
    let port: u16 = port.parse().expect("a port number");
    assert!(!get_when_up(at("127.0.0.1", port), "/index.html").is_empty());
}

#[test]
fn names_are_found_in_user_defined_networks() {
    let engine = Engine::start(BERTH);
    engine.ok(&["network", "create", "app"]);
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "app",
        "--network-alias",
        "www",
        "busybox",
        "sh",
        "-c",
        SERVE,
    ]);
    for name in ["web", "www"] {
        let url = format!("http://{name}/index.html");
        let page = testkit::wait::until(name, || {
            let ran = engine.run(&[
                "run",
                "--rm",
                "--network",
                "app",
                "busybox",
                "wget",
                "-qO-",
                &url,
            ]);
            (ran.code == 0).then_some(ran.out)
        });
        assert_eq!(page.trim().len(), 12);
    }
    // Not from the default network.
    let ran = engine.run(&[
        "run",
        "--rm",
        "busybox",
        "wget",
        "-qO-",
        "-T",
        "3",
        "http://web/index.html",
    ]);
    assert_ne!(ran.code, 0);
    let err = engine.fails(1, &["network", "rm", "app"]);
    assert!(err.contains("has active endpoints"), "{err}");
    engine.ok(&["rm", "-f", "web"]);
    engine.ok(&["network", "rm", "app"]);
}
