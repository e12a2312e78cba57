//! Networks with IPv6, each test on a host of its own (a network namespace), whose settings it may change.
#![allow(dead_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;

use berth_network::{
    Endpoint, EndpointRequest, Error, Existing, HostPort, NetworkSpec, Protocol, Sandbox,
    SandboxRecord,
};
use ipnet::Ipv6Net;

mod world;
use world::{
    Neighbour, World, from, from_host, kept_from, request, run, serve_everywhere, tcp, within,
};

const HOST: &str = "2001:db8:1::1";
const OUTSIDE: &str = "2001:db8:1::2";

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn on_a_host(test: impl FnOnce() + Send + 'static) {
    if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return testkit::skipped("this machine has no IPv6");
    }
    let host = || {
        berth_sys::netns::unshare_network().unwrap();
        run("ip link set lo up");
        test();
    };
    std::thread::spawn(host).join().unwrap();
}

fn spec(name: &str, subnet: Option<&str>) -> NetworkSpec {
    NetworkSpec {
        name: name.into(),
        ipv6: true,
        subnet6: subnet.map(|s| s.parse().unwrap()),
        ..NetworkSpec::default()
    }
}

fn join(world: &World, network: &str, request: EndpointRequest) -> (Sandbox, Endpoint) {
    let sandbox = world.networks().sandbox_none().unwrap();
    let endpoint = world.networks().attach(&sandbox, network, request).unwrap();
    (sandbox, endpoint)
}

/// A machine outside with an IPv6 address, which knows a way to everybody by the host.
fn neighbour(world: &World) -> Neighbour {
    let neighbour = Neighbour::new(world);
    let link = neighbour.link.clone();
    run(&format!("ip addr add {HOST}/64 dev {link} nodad"));
    within(neighbour.as_fd(), move || {
        run(&format!("ip addr add {OUTSIDE}/64 dev {link}f nodad"));
        run(&format!("ip -6 route add default via {HOST}"));
    });
    neighbour
}

fn sysctl(name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap();
    text.trim().to_owned()
}

#[test]
fn endpoints_reach_each_other_and_the_outside() {
    on_a_host(|| {
        let world = World::new();
        assert_eq!(
            sysctl("ipv6/conf/all/forwarding"),
            "0",
            "not before it is needed"
        );
        let outside = neighbour(&world);
        let link = outside.link.clone();
        run(&format!("sysctl -qw net.ipv6.conf.{link}.accept_ra=1"));
        let record = world
            .networks()
            .create(spec("six", Some("fd00:7::/64")))
            .unwrap();
        assert_eq!(record.gateway6, Some(ip("fd00:7::1")));
        assert_eq!(sysctl("ipv6/conf/all/forwarding"), "1");
        let listens = format!("ipv6/conf/{link}/accept_ra");
        assert_eq!(sysctl(&listens), "2", "the host still hears its routers");
        let (server, at) = join(
            &world,
            "six",
            request("server", vec![tcp(80, None, HostPort::Any)]),
        );
        let (client, there) = join(&world, "six", request("client", vec![]));
        assert_eq!(at.ip6(), Some(ip("fd00:7::2")));
        assert_eq!(there.ip6(), Some(ip("fd00:7::3")));
        assert_eq!(at.gateway6, record.gateway6);
        serve_everywhere(server.netns(), 80);
        serve_everywhere(&outside, 81);
        let own = IpAddr::V6(ip("fd00:7::3"));
        assert_eq!(from(client.netns(), (ip("fd00:7::2"), 80)).unwrap(), own);
        assert!(from_host((ip("fd00:7::2"), 80)).is_ok());
        // Out under the host's address.
        let seen = from(client.netns(), (ip(OUTSIDE), 81)).unwrap();
        assert_eq!(seen, IpAddr::V6(ip(HOST)));
        // In by published ports only, and as what they are.
        let port = at
            .ports
            .iter()
            .find(|p| p.host_ip.is_ipv6())
            .unwrap()
            .host_port;
        let seen = from(&outside, (ip(HOST), port)).unwrap();
        assert_eq!(seen, IpAddr::V6(ip(OUTSIDE)));
        assert!(kept_from(&outside, (ip("fd00:7::2"), 80)), "direct routing");
        // From the host by all its addresses, from a neighbour and from itself.
        for address in ["::1", HOST, "fd00:7::1"] {
            assert!(from_host((ip(address), port)).is_ok(), "{address}");
        }
        assert!(from(client.netns(), (ip("fd00:7::1"), port)).is_ok());
        let gateway = IpAddr::V6(ip("fd00:7::1"));
        assert_eq!(
            from(server.netns(), (ip("fd00:7::1"), port)).unwrap(),
            gateway
        );
        // The default network has none.
        let (plain, at) = world.member("plain", vec![]);
        assert_eq!((at.ipv6, at.gateway6), (None, None));
        within(plain.netns(), || {
            assert_eq!(sysctl("ipv6/conf/eth0/disable_ipv6"), "1");
        });
        within(client.netns(), || {
            assert_eq!(sysctl("ipv6/conf/eth0/accept_ra"), "0");
        });
    });
}

#[test]
fn what_is_asked_for_and_what_is_chosen() {
    on_a_host(|| {
        let mut world = World::with(|options| {
            options.ipv6 = true;
            options.fixed_cidr6 = Some("fd00:9::/64".parse().unwrap());
        });
        let default = world.networks().default_network().unwrap();
        assert_eq!(default.subnet6, Some("fd00:9::/64".parse().unwrap()));
        let networks = world.networks();
        let chosen = networks.create(spec("chosen", None)).unwrap();
        let subnet: Ipv6Net = chosen.subnet6.unwrap();
        assert_eq!((subnet.addr().octets()[0], subnet.prefix_len()), (0xfd, 64));
        let other = networks.create(spec("other", None)).unwrap();
        assert_ne!(other.subnet6, chosen.subnet6);
        let mut wish = spec("ranged", Some("fd00:8::/64"));
        wish.ip_range6 = Some("fd00:8::100/120".parse().unwrap());
        wish.gateway6 = Some(ip("fd00:8::fe"));
        wish.reserved = [("x".to_owned(), IpAddr::V6(ip("fd00:8::101")))].into();
        networks.create(wish).unwrap();
        let (_a, at) = join(&world, "ranged", request("a", vec![]));
        assert_eq!(at.ip6(), Some(ip("fd00:8::102")));
        let mut fixed = request("b", vec![]);
        fixed.ip6 = Some(ip("fd00:8::7"));
        let (b, at) = join(&world, "ranged", fixed.clone());
        assert_eq!(at.ip6(), fixed.ip6);
        let networks = world.networks();
        let sandbox = networks.sandbox_none().unwrap();
        let taken = networks.attach(&sandbox, "ranged", fixed.clone());
        assert!(matches!(taken, Err(Error::AddressInUse)), "{taken:?}");
        fixed.ip6 = Some(ip("fd00:1::7"));
        assert!(networks.attach(&sandbox, "ranged", fixed).is_err());
        for wrong in ["fe80::/64", "ff00::/64", "::1/127", "fd00:8::/65"] {
            assert!(
                networks.create(spec("wrong", Some(wrong))).is_err(),
                "{wrong}"
            );
        }
        // An engine that starts again knows it all, and gives no address twice.
        let b = SandboxRecord {
            id: b.id().to_owned(),
            endpoints: vec![at.clone()],
        };
        world.restart(vec![b]);
        let again = world.networks().get("ranged").unwrap();
        assert_eq!(again.gateway6, Some(ip("fd00:8::fe")));
        let found = world.networks().endpoints("ranged").unwrap();
        assert_eq!(found, std::slice::from_ref(&at));
        let (_c, there) = join(&world, "ranged", request("c", vec![]));
        assert_ne!(there.ip6(), at.ip6());
        // Without the option the default network has none again.
        let networks = world.networks().list();
        world.networks().shutdown();
        world.options.ipv6 = false;
        world.close();
        world.open(Existing {
            networks,
            sandboxes: Vec::new(),
        });
        assert_eq!(world.networks().default_network().unwrap().subnet6, None);
    });
}

#[test]
fn nobody_speaks_for_another() {
    on_a_host(|| {
        let world = World::new();
        world
            .networks()
            .create(spec("six", Some("fd00:7::/64")))
            .unwrap();
        let (server, at) = join(&world, "six", request("server", vec![]));
        let (rogue, _) = join(&world, "six", request("rogue", vec![]));
        serve_everywhere(server.netns(), 80);
        let server_at = (at.ip6().unwrap(), 80);
        assert!(from(rogue.netns(), server_at).is_ok());
        // Another address of the same network.
        within(rogue.netns(), || {
            run("ip addr add fd00:7::66/64 dev eth0 nodad");
            run("ip addr del fd00:7::3/64 dev eth0");
        });
        assert!(kept_from(rogue.netns(), server_at));
        // Router advertisements reach nobody: they would say that the rogue leads out.
        let advertisement = [
            134, 0, 0, 0, 64, 0, 0x0e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, // router lifetime 3600 s
        ];
        let heard = within(server.netns(), || {
            std::fs::write("/proc/sys/net/ipv6/conf/eth0/accept_ra", "2").unwrap();
            let socket = raw_icmpv6();
            socket
                .set_read_timeout(Some(std::time::Duration::from_secs(1)))
                .unwrap();
            socket
        });
        within(rogue.netns(), move || {
            let all = SocketAddr::from((ip("ff02::1"), 0));
            let SocketAddr::V6(mut all) = all else { return };
            all.set_scope_id(index_of("eth0"));
            let socket = raw_icmpv6();
            rustix::net::sockopt::set_ipv6_multicast_hops(&socket, 255).unwrap();
            let _ = socket.send_to(&advertisement, all);
        });
        let mut bytes = [0; 256];
        while let Ok(len) = heard.recv(&mut bytes) {
            assert!(
                len == 0 || bytes[0] != 134,
                "a router advertisement came through"
            );
        }
    });
}

fn index_of(link: &str) -> u32 {
    // Not from /sys, which shows the namespace that it was mounted in.
    let out = Command::new("ip")
        .args(["-o", "link", "show", link])
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    text.split(':').next().unwrap().parse().unwrap()
}

fn raw_icmpv6() -> UdpSocket {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET6,
        rustix::net::SocketType::RAW,
        Some(rustix::net::ipproto::ICMPV6),
    );
    UdpSocket::from(socket.unwrap())
}

#[test]
fn udp_and_one_address_alone() {
    on_a_host(|| {
        let world = World::new();
        let outside = neighbour(&world);
        world.networks().create(spec("six", None)).unwrap();
        let mut udp = tcp(53, None, HostPort::Any);
        udp.protocol = Protocol::Udp;
        let ports = vec![tcp(80, Some(HOST), HostPort::Any), udp];
        let (server, at) = join(&world, "six", request("server", ports));
        serve_everywhere(server.netns(), 80);
        let socket = within(server.netns(), || {
            UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 53)).unwrap()
        });
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(peer.ip().to_canonical().to_string().as_bytes(), peer);
            }
        });
        let one = at.ports[0].host_port;
        assert!(from(&outside, (ip(HOST), one)).is_ok());
        let gateway = world.networks().get("six").unwrap().gateway6.unwrap();
        assert!(from_host((gateway, one)).is_err(), "not at another address");
        assert!(from_host((Ipv4Addr::LOCALHOST, one)).is_err());
        let udp = at
            .ports
            .iter()
            .find(|p| p.protocol == Protocol::Udp && p.host_ip.is_ipv6());
        let udp = udp.unwrap().host_port;
        let seen = within(outside.as_fd(), move || {
            world::from_host_udp((ip(HOST), udp))
        });
        assert_eq!(seen.unwrap(), IpAddr::V6(ip(OUTSIDE)));
    });
}

/// Whether bridged packets pass the host's IP rules or not, the neighbours of such a network are kept apart.
#[test]
fn neighbours_that_shall_not_talk_do_not_by_ipv6_either() {
    for hooks in ["1", "0"] {
        on_a_host(move || {
            for kind in ["iptables", "ip6tables"] {
                let setting = format!("/proc/sys/net/bridge/bridge-nf-call-{kind}");
                if std::path::Path::new(&setting).exists() {
                    std::fs::write(setting, hooks).unwrap();
                }
            }
            let world = World::new();
            let mut wish = spec("apart", Some("fd00:7::/64"));
            let option = "com.docker.network.bridge.enable_icc";
            wish.options.insert(option.into(), "false".into());
            world.networks().create(wish).unwrap();
            let ports = vec![tcp(80, None, HostPort::Any)];
            let (server, at) = join(&world, "apart", request("server", ports));
            let (client, _) = join(&world, "apart", request("client", vec![]));
            serve_everywhere(server.netns(), 80);
            assert!(from_host((at.ip6().unwrap(), 80)).is_ok());
            assert!(kept_from(client.netns(), (at.ip, 80)));
            assert!(
                kept_from(client.netns(), (at.ip6().unwrap(), 80)),
                "{hooks}"
            );
            // What is published stays open to them.
            let port = at
                .ports
                .iter()
                .find(|p| p.host_ip.is_ipv6())
                .unwrap()
                .host_port;
            assert!(from(client.netns(), (ip("fd00:7::1"), port)).is_ok());
        });
    }
}
