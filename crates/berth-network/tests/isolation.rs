//! What a hostile container may not do, and what is left after many.
#![allow(dead_code)]

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use berth_network::{HostPort, NetworkSpec, Sandbox};

mod world;
use world::{Neighbour, World, from, from_host, kept_from, request, serve, tcp, within};

fn in_sandbox(sandbox: &Sandbox, commands: &[String]) {
    let commands = commands.to_vec();
    within(sandbox.netns(), move || {
        for command in commands {
            world::run(&command);
        }
    });
}

#[test]
fn nobody_takes_anothers_address() {
    let world = World::new();
    let (victim, at) = world.member("victim", vec![]);
    let (thief, own) = world.member("thief", vec![]);
    let (_friend, friend) = world.member("friend", vec![]);
    serve(&victim, 80);
    assert!(from(thief.netns(), (at.ip, 80)).is_ok());
    // With a stolen address nothing is sent, neither packets nor ARP.
    let prefix = own.prefix_len;
    in_sandbox(
        &thief,
        &[
            format!("ip addr del {}/{prefix} dev eth0", own.ip),
            format!("ip addr add {}/{prefix} dev eth0", friend.ip),
            "ip neigh flush all".into(),
        ],
    );
    assert!(kept_from(thief.netns(), (at.ip, 80)));
    assert!(kept_from(thief.netns(), (world.gateway(), 80)));
    // Nor with the own address and another's Ethernet address.
    in_sandbox(
        &thief,
        &[
            "ip addr flush dev eth0".to_owned(),
            format!("ip addr add {}/{prefix} dev eth0", own.ip),
            format!("ip link set eth0 address {}", friend.mac),
        ],
    );
    assert!(kept_from(thief.netns(), (at.ip, 80)));
    in_sandbox(&thief, &[format!("ip link set eth0 address {}", own.mac)]);
    assert!(from(thief.netns(), (at.ip, 80)).is_ok());
    // The victim is where it was.
    assert!(from_host((at.ip, 80)).is_ok());
}

#[test]
fn loopback_is_no_source_address() {
    let world = World::new();
    let (sandbox, own) = world.member("thief", vec![]);
    let gateway = world.gateway();
    let socket = UdpSocket::bind((gateway, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    let send = move |source: Ipv4Addr| {
        within(sandbox.netns(), move || {
            let socket = UdpSocket::bind((source, 0)).unwrap();
            // The kernel inside refuses by itself, or the host's rules drop it.
            let _ = socket.send_to(b"x", (gateway, port));
        });
    };
    send(Ipv4Addr::LOCALHOST);
    send(own.ip);
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let (_, peer) = socket.recv_from(&mut [0; 8]).unwrap();
    assert_eq!(peer.ip(), IpAddr::V4(own.ip));
}

#[test]
fn neighbours_may_be_kept_apart() {
    let world = World::with(|options| options.icc = false);
    let (server, at) = world.member("server", vec![tcp(80, None, HostPort::Any)]);
    let (client, _) = world.member("client", vec![]);
    serve(&server, 80);
    assert!(kept_from(client.netns(), (at.ip, 80)));
    assert!(from_host((at.ip, 80)).is_ok());
    // What is published is open to all.
    let port = at.ports[0].host_port;
    assert!(from(client.netns(), (world.gateway(), port)).is_ok());
}

#[test]
fn ipv6_is_off_but_on_loopback() {
    let world = World::new();
    let (sandbox, _) = world.member("one", vec![]);
    within(sandbox.netns(), || {
        let addresses = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
        assert!(addresses.lines().all(|l| l.ends_with(" lo")), "{addresses}");
    });
    let bridge = world.networks().default_network().unwrap().bridge;
    let host = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    assert!(!host.contains(&bridge), "{host}");
}

/// Number of interfaces, of bound namespaces and of this process's descriptors.
fn counts(world: &World) -> [usize; 3] {
    let bridge = world.networks().default_network().unwrap().bridge;
    let ports = std::fs::read_dir(format!("/sys/class/net/{bridge}/brif")).unwrap();
    let bound = std::fs::read_dir(world.options.run_dir.join("netns")).unwrap();
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    [ports.count(), bound.count(), open.count()]
}

#[test]
fn many_come_and_go_and_nothing_stays() {
    let world = World::with(|options| options.ready = 0);
    let before = counts(&world);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let world = &world;
            scope.spawn(move || {
                for round in 0..10 {
                    let name = format!("w{worker}r{round}");
                    let ports = vec![tcp(80, None, HostPort::Any)];
                    let (sandbox, _) = world.member(&name, ports);
                    world.networks().release(sandbox.id()).unwrap();
                }
            });
        }
    });
    testkit::wait::until("the remains to go", || {
        let now = counts(&world);
        // Other tests of this process open descriptors too.
        (now[..2] == before[..2]).then_some(())
    });
    if let Some(nft) = testkit::find_command("nft") {
        let table = format!("berth-{}", world.options.instance);
        let out = Command::new(nft)
            .args(["list", "map", "inet", &table, "published"])
            .output()
            .unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(!text.contains("elements"), "{text}");
    }
}

#[test]
fn hosts_routes_are_avoided_by_those_who_choose() {
    let world = World::new();
    let mut names = Vec::new();
    for n in 0..3 {
        let spec = NetworkSpec {
            name: format!("n{n}"),
            ..NetworkSpec::default()
        };
        names.push(world.networks().create(spec).unwrap());
    }
    for (i, one) in names.iter().enumerate() {
        for other in &names[i + 1..] {
            assert_ne!(one.subnet, other.subnet);
            assert_ne!(one.bridge, other.bridge);
        }
    }
    let sandbox = world.networks().sandbox_none().unwrap();
    let asked = request("x", vec![]);
    world.networks().attach(&sandbox, "n1", asked).unwrap();
}

#[test]
fn the_way_out_is_the_hosts() {
    let world = World::new();
    let (client, at) = world.member("client", vec![]);
    let neighbour = Neighbour::new(&world);
    world::serve_in(&neighbour, 80);
    let host = IpAddr::V4(neighbour.host);
    assert_eq!(from(client.netns(), (neighbour.own, 80)).unwrap(), host);
    assert_eq!(at.gateway, Some(world.gateway()));
    // The host's own rules still decide.
    let bridge = world.networks().default_network().unwrap().bridge;
    let table = format!("policy-of-{bridge}");
    let nft = |words: &str| world::run(&format!("nft {words}"));
    nft(&format!("add table inet {table}"));
    nft(&format!(
        "add chain inet {table} forward {{ type filter hook forward priority 10 ; }}"
    ));
    nft(&format!(
        "add rule inet {table} forward iifname {bridge} drop"
    ));
    let kept = kept_from(client.netns(), (neighbour.own, 80));
    nft(&format!("delete table inet {table}"));
    assert!(kept);
    assert!(from(client.netns(), (neighbour.own, 80)).is_ok());
}

#[test]
fn without_masquerade_packets_keep_their_address() {
    let world = World::with(|options| options.masquerade = false);
    let (client, at) = world.member("client", vec![]);
    let neighbour = Neighbour::new(&world);
    world::serve_in(&neighbour, 80);
    assert_eq!(
        from(client.netns(), (neighbour.own, 80)).unwrap(),
        IpAddr::V4(at.ip)
    );
}

#[test]
fn a_bridge_of_the_users_own() {
    let name = format!("bu{}", std::process::id());
    let [a, b] = [
        (std::process::id() / 250 % 250) as u8,
        (std::process::id() % 250) as u8,
    ];
    let gateway = Ipv4Addr::new(100, 126, a ^ 0x55, b & 0xfe | 1);
    world::run(&format!("ip link add {name} type bridge"));
    world::run(&format!("ip addr add {gateway}/24 dev {name}"));
    let world = World::with(|options| {
        options.bip = None;
        options.bridge_name = Some(name.clone());
    });
    let network = world.networks().default_network().unwrap();
    assert_eq!((network.gateway, &network.bridge), (Some(gateway), &name));
    let (server, at) = world.member("server", vec![]);
    serve(&server, 80);
    let answer = from_host((at.ip, 80));
    drop(world);
    // It is still there.
    world::run(&format!("ip link del {name}"));
    answer.unwrap();
}

/// On a host of its own, whose bridged packets do not pass the IP hooks (on this one they do, if `br_netfilter` is there).
#[test]
fn where_bridges_know_no_ip_rules_all_is_the_same() {
    let host = || {
        berth_sys::netns::unshare_network().unwrap();
        world::run("ip link set lo up");
        let setting = "/proc/sys/net/bridge/bridge-nf-call-iptables";
        if std::path::Path::new(setting).exists() {
            std::fs::write(setting, "0").unwrap();
        }
        for icc in [true, false] {
            let world = World::with(|options| options.icc = icc);
            let (server, at) = world.member("server", vec![tcp(80, None, HostPort::Any)]);
            let (client, _) = world.member("client", vec![]);
            serve(&server, 80);
            let port = at.ports[0].host_port;
            let gateway = IpAddr::V4(world.gateway());
            assert_eq!(from_host((Ipv4Addr::LOCALHOST, port)).unwrap(), gateway);
            for place in [&server, &client] {
                let answer = from(place.netns(), (world.gateway(), port));
                assert_eq!(answer.unwrap(), gateway);
            }
            if icc {
                assert!(from(client.netns(), (at.ip, 80)).is_ok());
            } else {
                assert!(kept_from(client.netns(), (at.ip, 80)));
            }
        }
    };
    std::thread::spawn(host).join().unwrap();
}
