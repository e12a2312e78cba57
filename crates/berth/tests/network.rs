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

#[test]
fn ranges_of_ports() {
    let engine = Engine::start(BERTH);
    // Free ones in a row, as far as one can know.
    let first = testkit::wait::until("free ports in a row", || {
        let first = free_port();
        let free = |port: u16| std::net::TcpListener::bind(("0.0.0.0", port)).is_ok();
        (first < 65_500 && (first..first + 6).all(free)).then_some(first)
    });
    let last = first + 2;
    // The first free one of a range.
    let spec = format!("{first}-{last}:80");
    for (name, expected) in [("a1", first), ("a2", first + 1), ("a3", last)] {
        engine.ok(&[
            "run", "-d", "--name", name, "-p", &spec, "busybox", "sleep", "600",
        ]);
        let shown = engine.ok(&["port", name, "80"]);
        assert_eq!(shown, format!("0.0.0.0:{expected}\n[::]:{expected}"));
    }
    let err = engine.fails(125, &["run", "-d", "-p", &spec, "busybox", "sleep", "600"]);
    assert!(err.contains(&format!("{first}-{last}")), "{err}");
    // Ranges of the same length go together.
    let (a, b) = (first + 3, first + 5);
    let spec = format!("127.0.0.1:{a}-{b}:8000-8002/tcp");
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "b1",
        "-p",
        &spec,
        "busybox",
        "sh",
        "-c",
        "echo r > /tmp/index.html; exec httpd -f -p 8001 -h /tmp",
    ]);
    assert_eq!(
        engine.ok(&["port", "b1"]),
        format!(
            "8000/tcp -> 127.0.0.1:{a}\n8001/tcp -> 127.0.0.1:{}\n8002/tcp -> 127.0.0.1:{b}",
            a + 1
        )
    );
    assert_eq!(get_when_up(at("127.0.0.1", a + 1), "/index.html"), "r\n");
    let err = engine.fails(125, &["create", "-p", "5000-5002:80-81", "busybox", "true"]);
    assert!(
        err.contains("invalid ranges specified for container and host Ports"),
        "{err}"
    );
}

#[test]
fn ports_on_one_address_of_either_kind() {
    let engine = Engine::start(BERTH);
    let (four, six) = (free_port(), free_port());
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "--hostname",
        "web",
        "-p",
        &format!("127.0.0.1:{four}:80"),
        "-p",
        &format!("[::1]:{six}:80"),
        "busybox",
        "sh",
        "-c",
        SERVE,
    ]);
    assert_eq!(get_when_up(at("127.0.0.1", four), "/index.html"), "web\n");
    assert_eq!(get_when_up(at("::1", six), "/index.html"), "web\n");
    assert!(get(at("::1", four), "/").is_err());
    assert!(get(at("127.0.0.1", six), "/").is_err());
    let shown = engine.ok(&["port", "web", "80/tcp"]);
    assert_eq!(shown, format!("127.0.0.1:{four}\n[::1]:{six}"));
    // A protocol that few use: the port is claimed, on IPv4 alone where the network has no IPv6.
    let sctp = free_port();
    let spec = format!("{sctp}:7/sctp");
    engine.ok(&[
        "run", "-d", "--name", "s1", "-p", &spec, "busybox", "sleep", "600",
    ]);
    assert_eq!(
        engine.ok(&["port", "s1"]),
        format!("7/sctp -> 0.0.0.0:{sctp}")
    );
}

#[test]
fn a_network_with_ipv6() {
    let engine = Engine::start(BERTH);
    // Of this engine's own, so that tests side by side do not meet.
    let part = engine
        .bip()
        .split('.')
        .nth(2)
        .expect("a third number")
        .to_owned();
    let second = engine
        .bip()
        .split('.')
        .nth(1)
        .expect("a second number")
        .to_owned();
    let subnet = format!("fd0e:{second}:{part}::/64");
    engine.ok(&["network", "create", "--ipv6", "--subnet", &subnet, "six"]);
    engine.ok(&["network", "create", "--ipv6", "chosen"]);
    engine.ok(&["network", "create", "four"]);
    let configs = "{{.EnableIPv6}} {{range .IPAM.Config}}{{.Subnet}} {{end}}";
    let shown = engine.ok(&["network", "inspect", "-f", configs, "six"]);
    assert!(
        shown.starts_with("true ") && shown.trim_end().ends_with(&subnet),
        "{shown}"
    );
    let shown = engine.ok(&["network", "inspect", "-f", configs, "chosen"]);
    assert!(
        shown.starts_with("true ") && shown.contains(" fd"),
        "{shown}"
    );
    assert!(
        engine
            .ok(&["network", "inspect", "-f", configs, "four"])
            .starts_with("false ")
    );
    let fixed = format!("fd0e:{second}:{part}::77");
    let port = free_port();
    let publish = format!("{port}:80");
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "--hostname",
        "web",
        "--network",
        "six",
        "--ip6",
        &fixed,
        "-p",
        &publish,
        "busybox",
        "sh",
        "-c",
        SERVE,
    ]);
    let fields = "{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}}/{{.GlobalIPv6PrefixLen}} {{.IPv6Gateway}}{{end}}";
    assert_eq!(
        engine.ok(&["inspect", "-f", fields, "web"]),
        format!("{fixed}/64 fd0e:{second}:{part}::1")
    );
    let members = "{{range .Containers}}{{.IPv6Address}}{{end}}";
    assert_eq!(
        engine.ok(&["network", "inspect", "-f", members, "six"]),
        format!("{fixed}/64")
    );
    // By name, by address, and back from the address to the name.
    let inside = |command: &str| {
        engine.ok(&[
            "run",
            "--rm",
            "--network",
            "six",
            "busybox",
            "sh",
            "-c",
            command,
        ])
    };
    let url = format!("wget -qO- 'http://[{fixed}]/index.html'");
    assert_eq!(inside(&url), "web");
    assert!(inside("nslookup -type=aaaa web 127.0.0.11").contains(&fixed));
    assert!(inside(&format!("nslookup {fixed} 127.0.0.11")).contains("web.six"));
    assert!(inside("cat /etc/hosts").contains(&format!("fd0e:{second}:{part}::")));
    // From the host, by both of its kinds of addresses.
    assert_eq!(get_when_up(at("127.0.0.1", port), "/index.html"), "web\n");
    assert_eq!(get_when_up(at("::1", port), "/index.html"), "web\n");
    let gateway = format!("fd0e:{second}:{part}::1");
    assert_eq!(get_when_up(at(&gateway, port), "/index.html"), "web\n");
    assert_eq!(get_when_up(at(&fixed, 80), "/index.html"), "web\n");
    let err = engine.fails(
        125,
        &[
            "run",
            "--rm",
            "--network",
            "four",
            "--ip6",
            "fd00::7",
            "busybox",
            "true",
        ],
    );
    assert!(
        err.contains("no configured subnet contains IP address fd00::7"),
        "{err}"
    );
}

#[test]
fn ipv6_of_the_default_network() {
    let prefix = format!("fd0d:{:x}::", std::process::id() & 0xffff);
    let subnet = format!("{prefix}/64");
    let engine = Engine::start_empty(BERTH, &["--ipv6", "--fixed-cidr-v6", &subnet]);
    engine.load_busybox();
    let subnets = "{{.EnableIPv6}} {{range .IPAM.Config}}{{.Subnet}} {{end}}";
    let shown = engine.ok(&["network", "inspect", "-f", subnets, "bridge"]);
    assert!(
        shown.starts_with("true ") && shown.contains(&subnet),
        "{shown}"
    );
    let shown = engine.ok(&[
        "run", "--rm", "busybox", "ip", "-6", "addr", "show", "dev", "eth0",
    ]);
    assert!(shown.contains(&prefix), "{shown}");
    let route = engine.ok(&["run", "--rm", "busybox", "ip", "-6", "route"]);
    assert!(route.contains(&format!("default via {prefix}1")), "{route}");
}

#[test]
fn macvlan_networks() {
    let engine = Engine::start(BERTH);
    // Outside of what the pools of this machine's engines have.
    let subnet = format!("100.127.{}.0/28", std::process::id() % 250);
    let made = engine.run(&[
        "network", "create", "-d", "macvlan", "--subnet", &subnet, "lan",
    ]);
    assert_eq!(made.code, 0, "{made:?}");
    let format = "{{.Driver}} {{range .IPAM.Config}}{{.Subnet}}{{end}}";
    assert_eq!(
        engine.ok(&["network", "inspect", "-f", format, "lan"]),
        format!("macvlan {subnet}")
    );
    let started = engine.run(&[
        "run",
        "-d",
        "--name",
        "web",
        "--hostname",
        "web",
        "--network",
        "lan",
        "busybox",
        "sh",
        "-c",
        SERVE,
    ]);
    if started.err.contains("CONFIG_MACVLAN") {
        return testkit::skipped("this kernel has no macvlan");
    }
    assert_eq!(started.code, 0, "{started:?}");
    testkit::wait::until("the server by its name", || {
        let url = "http://web/index.html";
        let got = engine.run(&[
            "run",
            "--rm",
            "--network",
            "lan",
            "busybox",
            "wget",
            "-qO-",
            url,
        ]);
        (got.out == "web\n").then_some(())
    });
    engine.ok(&["rm", "-f", "web"]);
    engine.ok(&["network", "rm", "lan"]);
    for (driver, words) in [
        ("ipvlan", "the ipvlan driver is not supported"),
        ("odd", "could not find plugin odd"),
    ] {
        let err = engine.fails(1, &["network", "create", "-d", driver, "x1"]);
        assert!(err.contains(words), "{err}");
    }
    let option = "parent=nowhere0";
    let err = engine.fails(
        1,
        &["network", "create", "-d", "macvlan", "-o", option, "x1"],
    );
    assert!(err.contains("invalid macvlan parent nowhere0"), "{err}");
}

#[test]
fn names_of_the_host_and_search_domains() {
    let engine = Engine::start(BERTH);
    let gateway = engine
        .bip()
        .split('/')
        .next()
        .expect("an address")
        .to_owned();
    let hosts = engine.ok(&[
        "run",
        "--rm",
        "--add-host",
        "host.docker.internal:host-gateway",
        "busybox",
        "cat",
        "/etc/hosts",
    ]);
    assert!(
        hosts.contains(&format!("{gateway}\thost.docker.internal")),
        "{hosts}"
    );
    engine.ok(&["network", "create", "net1"]);
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "net1",
        "--network-alias",
        "www.corp.example",
        "busybox",
        "sleep",
        "600",
    ]);
    // By itself in a network with names.
    let inside = |args: &[&str], command: &str| {
        let mut all = vec!["run", "--rm", "--network", "net1"];
        all.extend_from_slice(args);
        all.extend_from_slice(&["busybox", "sh", "-c", command]);
        engine.ok(&all)
    };
    let of_net1 = engine.ok(&[
        "network",
        "inspect",
        "-f",
        "{{range .IPAM.Config}}{{.Gateway}}{{end}}",
        "net1",
    ]);
    let found = inside(&[], "nslookup -type=a host.docker.internal 127.0.0.11");
    assert!(found.contains(&of_net1), "{found}");
    // Short names are completed by the search domains.
    let resolv = inside(&["--dns-search", "corp.example"], "cat /etc/resolv.conf");
    assert!(
        resolv.contains("search corp.example") && resolv.contains("nameserver 127.0.0.11"),
        "{resolv}"
    );
    inside(&["--dns-search", "corp.example"], "ping -c1 -W5 www");
    // By ID, short and by its start, as Docker has it.
    let id = engine.ok(&["inspect", "-f", "{{.Id}}", "web"]);
    inside(&[], &format!("ping -c1 -W5 {}", &id[..12]));
}

#[test]
fn ports_are_published_and_taken_back_while_the_container_runs() {
    let mut engine = Engine::start(BERTH);
    let (first, second) = (free_port(), free_port());
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "--hostname",
        "web",
        "busybox",
        "sh",
        "-c",
        SERVE,
    ]);
    let pid = engine.ok(&["inspect", "-f", "{{.State.Pid}}", "web"]);
    let add = format!("{first}:80");
    assert_eq!(engine.ok(&["update", "--publish-add", &add, "web"]), "web");
    assert_eq!(get_when_up(at("127.0.0.1", first), "/index.html"), "web\n");
    let shown = format!("80/tcp -> 0.0.0.0:{first}\n80/tcp -> [::]:{first}");
    assert_eq!(engine.ok(&["port", "web"]), shown);
    // One that another has is refused, and what was there stays.
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "other",
        "-p",
        &format!("{second}:80"),
        "busybox",
        "sleep",
        "600",
    ]);
    let taken = format!("{second}:80");
    let old = first.to_string();
    let args = [
        "update",
        "--publish-rm",
        &old,
        "--publish-add",
        &taken,
        "web",
    ];
    let err = engine.fails(1, &args);
    assert!(err.contains("port is already allocated"), "{err}");
    assert_eq!(engine.ok(&["port", "web"]), shown);
    assert_eq!(get_when_up(at("127.0.0.1", first), "/index.html"), "web\n");
    let err = engine.fails(1, &["update", "--publish-rm", "1", "web"]);
    assert!(
        err.contains("port 1/tcp of the host is not published to it"),
        "{err}"
    );
    // It outlives the engine, whether that ends or is killed, and the container.
    engine.kill();
    engine.launch();
    assert_eq!(get_when_up(at("127.0.0.1", first), "/index.html"), "web\n");
    assert_eq!(engine.ok(&["inspect", "-f", "{{.State.Pid}}", "web"]), pid);
    engine.ok(&["restart", "-t", "0", "web"]);
    assert_eq!(engine.ok(&["port", "web"]), shown);
    assert_eq!(get_when_up(at("127.0.0.1", first), "/index.html"), "web\n");
    // One for another, at once.
    engine.ok(&["rm", "-f", "other"]);
    engine.ok(&args);
    assert!(get(at("127.0.0.1", first), "/").is_err());
    assert_eq!(get_when_up(at("127.0.0.1", second), "/index.html"), "web\n");
    engine.ok(&["update", "--publish-rm", &format!("{second}/tcp"), "web"]);
    assert_eq!(engine.ok(&["port", "web"]), "");
    assert!(get(at("127.0.0.1", second), "/").is_err());
    // Of one that does not run it holds from the start on.
    engine.ok(&["stop", "-t", "0", "web"]);
    let only = format!("127.0.0.1:{first}:80");
    engine.ok(&["update", "--publish-add", &only, "-m", "64m", "web"]);
    assert_eq!(
        engine.ok(&["inspect", "-f", "{{.HostConfig.Memory}}", "web"]),
        "67108864"
    );
    engine.ok(&["start", "web"]);
    assert_eq!(
        engine.ok(&["port", "web"]),
        format!("80/tcp -> 127.0.0.1:{first}")
    );
    assert_eq!(get_when_up(at("127.0.0.1", first), "/index.html"), "web\n");
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "bare",
        "--network",
        "none",
        "busybox",
        "sleep",
        "600",
    ]);
    let err = engine.fails(1, &["update", "--publish-add", "1234:80", "bare"]);
    assert!(err.contains("not with --network none"), "{err}");
}
