//! Published ports, from everywhere they should be reached from and from where they should not.
#![allow(dead_code)]

use std::net::{IpAddr, Ipv4Addr, TcpListener};

use berth_network::{Error, HostPort, Protocol};

mod world;
use world::{Neighbour, World, from, from_host, from_host_udp, kept_from, serve, serve_udp, tcp};

const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

#[test]
fn a_port_is_reached_from_everywhere() {
    let world = World::new();
    let (server, at) = world.member("server", vec![tcp(80, None, HostPort::Any)]);
    let (other, _) = world.member("other", vec![]);
    serve(&server, 80);
    let port = at.ports[0].host_port;
    assert_eq!(at.ports[0].host_ip, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let gateway = IpAddr::V4(world.gateway());

    assert_eq!(from_host((LOCALHOST, port)).unwrap(), gateway);
    assert_eq!(from_host((world.gateway(), port)).unwrap(), gateway);
    assert_eq!(from_host((at.ip, 80)).unwrap(), gateway);
    // By the host from a neighbour of the same network, and from itself.
    assert_eq!(
        from(other.netns(), (world.gateway(), port)).unwrap(),
        gateway
    );
    assert_eq!(
        from(server.netns(), (world.gateway(), port)).unwrap(),
        gateway
    );
    // Directly.
    assert!(from(other.netns(), (at.ip, 80)).is_ok());

    let neighbour = Neighbour::new(&world);
    assert_eq!(
        from(&neighbour, (neighbour.host, port)).unwrap(),
        IpAddr::V4(neighbour.own)
    );
    assert!(kept_from(&neighbour, (at.ip, 80)), "direct routing");
}

#[test]
fn loopback_ports_are_the_hosts_own() {
    let world = World::new();
    let ports = vec![tcp(80, Some("127.0.0.1"), HostPort::Any)];
    let (server, at) = world.member("server", ports);
    let (other, _) = world.member("other", vec![]);
    serve(&server, 80);
    let port = at.ports[0].host_port;
    assert!(from_host((LOCALHOST, port)).is_ok());
    let neighbour = Neighbour::new(&world);
    assert!(kept_from(&neighbour, (neighbour.host, port)));
    world::within(std::os::fd::AsFd::as_fd(&neighbour), {
        let host = neighbour.host;
        move || {
            world::run("ip addr del 127.0.0.1/8 dev lo");
            world::run("ip link set lo down");
            world::run(&format!("ip route add 127.0.0.1/32 via {host}"));
        }
    });
    assert!(kept_from(&neighbour, (LOCALHOST, port)));
    assert!(kept_from(other.netns(), (world.gateway(), port)));
    // A server of the host on loopback is none of the containers' business.
    let own = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let port = own.local_addr().unwrap().port();
    world::within(other.netns(), || {
        world::run("ip addr del 127.0.0.1/8 dev lo");
        world::run("ip route add 127.0.0.1/32 dev eth0");
    });
    assert!(kept_from(other.netns(), (LOCALHOST, port)));
}

#[test]
fn udp_too() {
    let world = World::new();
    let mut binding = tcp(53, None, HostPort::Any);
    binding.protocol = Protocol::Udp;
    let (server, at) = world.member("server", vec![binding]);
    serve_udp(&server, 53);
    let port = at.ports[0].host_port;
    let gateway = IpAddr::V4(world.gateway());
    assert_eq!(from_host_udp((LOCALHOST, port)).unwrap(), gateway);
    assert_eq!(from_host_udp((world.gateway(), port)).unwrap(), gateway);
}

#[test]
fn a_port_has_one_holder() {
    let world = World::new();
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let sandbox = world.networks().sandbox().unwrap();
    let ask = |port| {
        let ports = vec![tcp(80, None, HostPort::Exact(port))];
        let request = world::request("one", ports);
        world.networks().attach(&sandbox, "bridge", request)
    };
    let refused = ask(port).unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "failed to bind host port 0.0.0.0:{port}/tcp: listen tcp4 0.0.0.0:{port}: bind: address already in use"
        )
    );
    drop(taken);
    let endpoint = ask(port).unwrap();
    assert_eq!(endpoint.ports[0].host_port, port);
    assert!(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_err());

    let second = world.networks().sandbox().unwrap();
    let ports = vec![tcp(80, Some("127.0.0.1"), HostPort::Exact(port))];
    let request = world::request("two", ports);
    let refused = world.networks().attach(&second, "bridge", request);
    assert!(
        matches!(refused, Err(Error::PortAllocated(_))),
        "{refused:?}"
    );
    assert_eq!(
        refused.unwrap_err().to_string(),
        format!("Bind for 127.0.0.1:{port} failed: port is already allocated")
    );
    // A refused request leaves nothing: the sandbox can still join.
    world.networks().release(sandbox.id()).unwrap();
    let ports = vec![tcp(80, None, HostPort::Range(port, port))];
    let request = world::request("two", ports);
    world.networks().attach(&second, "bridge", request).unwrap();
}
