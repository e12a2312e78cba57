//! Beside the host's firewall, and beside dockerd, each on a host of the test's own (a network namespace).
#![allow(dead_code)]

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use berth_network::{Existing, HostPort, Networks};

mod world;
use world::{Neighbour, World, from, from_host, kept_from, run, serve, serve_in, tcp};

/// Runs on a host with nothing but loopback, whose bridged packets pass the IP hooks as dockerd has it.
fn on_a_host(test: impl FnOnce() + Send + 'static) {
    let host = || {
        berth_sys::netns::unshare_network().unwrap();
        run("ip link set lo up");
        let setting = "/proc/sys/net/bridge/bridge-nf-call-iptables";
        if std::path::Path::new(setting).exists() {
            std::fs::write(setting, "1").unwrap();
        }
        test();
    };
    std::thread::spawn(host).join().unwrap();
}

/// What dockerd does to a host that did not forward before.
fn dockers_rules() {
    for rule in [
        "-N DOCKER-USER",
        "-A DOCKER-USER -j RETURN",
        "-P FORWARD DROP",
        "-A FORWARD -j DOCKER-USER",
    ] {
        run(&format!("iptables {rule}"));
    }
}

fn forward_rules() -> String {
    let out = Command::new("iptables").args(["-S", "FORWARD"]).output();
    let out = out.unwrap();
    assert!(out.status.success(), "iptables reads its table: {out:?}");
    String::from_utf8(out.stdout).unwrap()
}

fn own_rules() -> usize {
    forward_rules().matches("berth-").count()
}

#[test]
fn dockers_policy_cuts_nobody_off() {
    if !testkit::has_command("iptables") {
        return testkit::skipped("no iptables");
    }
    on_a_host(|| {
        dockers_rules();
        let world = World::new();
        let neighbour = Neighbour::new(&world);
        let (server, at) = world.member("server", vec![tcp(80, None, HostPort::Any)]);
        let (client, _) = world.member("client", vec![]);
        serve(&server, 80);
        serve_in(&neighbour, 81);
        let port = at.ports[0].host_port;
        let gateway = world.gateway();
        let everywhere = || {
            from_host((Ipv4Addr::LOCALHOST, port)).unwrap();
            from(client.netns(), (at.ip, 80)).unwrap();
            from(client.netns(), (gateway, port)).unwrap();
            let outside = from(client.netns(), (neighbour.own, 81)).unwrap();
            assert_eq!(outside, IpAddr::V4(neighbour.host));
            let seen = from(&neighbour, (neighbour.host, port)).unwrap();
            assert_eq!(seen, IpAddr::V4(neighbour.own));
        };
        everywhere();
        assert!(kept_from(&neighbour, (at.ip, 80)), "not published");
        assert!(world.networks().forbidding_chains().is_empty());
        // A network that comes later has its rules too, and takes them with it.
        let before = own_rules();
        let spec = berth_network::NetworkSpec {
            name: "own".into(),
            ..Default::default()
        };
        world.networks().create(spec).unwrap();
        assert_eq!(own_rules(), before + 2);
        world.networks().remove("own").unwrap();
        assert_eq!(own_rules(), before);
        // Who flushes the chain gets them back.
        run("iptables -F FORWARD");
        testkit::wait::until("our rules", || (own_rules() == before).then_some(()));
        everywhere();
        // What the users of Docker forbid stays forbidden.
        run("iptables -A FORWARD -j DOCKER-USER");
        run(&format!("iptables -I FORWARD -s {} -j DROP", neighbour.own));
        assert!(kept_from(&neighbour, (neighbour.host, port)));
        drop((server, client));
        drop(world);
        assert_eq!(own_rules(), 0);
    });
}

#[test]
fn a_dockerd_that_comes_later_changes_nothing() {
    if !testkit::has_command("iptables") {
        return testkit::skipped("no iptables");
    }
    on_a_host(|| {
        let world = World::new();
        let (server, at) = world.member("server", vec![]);
        let (client, _) = world.member("client", vec![]);
        serve(&server, 80);
        dockers_rules();
        testkit::wait::until("our rules", || (own_rules() == 2).then_some(()));
        from(client.netns(), (at.ip, 80)).unwrap();
        // The policy is the host's own again: nothing of ours is needed.
        run("iptables -P FORWARD ACCEPT");
        testkit::wait::until("no rules", || (own_rules() == 0).then_some(()));
    });
}

#[test]
fn the_hosts_own_policy_stands() {
    on_a_host(|| {
        let world = World::new();
        run("nft add table inet host");
        run(
            "nft add chain inet host forward { type filter hook forward priority 0 ; policy drop ; }",
        );
        let neighbour = Neighbour::new(&world);
        let (server, at) = world.member("server", vec![tcp(80, None, HostPort::Any)]);
        serve(&server, 80);
        let port = at.ports[0].host_port;
        from_host((Ipv4Addr::LOCALHOST, port)).unwrap();
        from_host((neighbour.host, port)).unwrap();
        assert!(kept_from(&neighbour, (neighbour.host, port)));
        assert_eq!(world.networks().forbidding_chains(), ["inet host forward"]);
        drop(server);
    });
}

#[test]
fn a_subnet_that_others_took_meanwhile_is_given_up() {
    on_a_host(|| {
        let mut world = World::with(|options| options.bip = None);
        let before = world.networks().default_network().unwrap();
        let records = world.networks().list();
        world.close();
        run("ip link add docker0 type bridge");
        run(&format!(
            "ip addr add {}/{} dev docker0",
            before.gateway.unwrap(),
            before.subnet.unwrap().prefix_len()
        ));
        run("ip link set docker0 up");
        world.open(Existing {
            networks: records,
            sandboxes: Vec::new(),
        });
        let after = world.networks().default_network().unwrap();
        assert_eq!(after.id, before.id);
        assert_ne!(after.subnet, before.subnet);
        // It stays there when it is opened once more, over what is there.
        world.networks().shutdown();
        let again = Networks::open(
            world.options.clone(),
            Existing {
                networks: world.networks().list(),
                sandboxes: Vec::new(),
            },
        )
        .unwrap();
        assert_eq!(again.default_network().unwrap().subnet, after.subnet);
        again.destroy().unwrap();
    });
}
