//! Published ports, from everywhere they should be reached from and from where they should not.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

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
    let taken = world::listener();
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

#[test]
fn ipv6_addresses_of_the_host_lead_to_the_container_too() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        testkit::skipped("this machine has no IPv6");
        return;
    }
    let world = World::new();
    let mut udp = tcp(53, None, HostPort::Any);
    udp.protocol = Protocol::Udp;
    let ports = vec![tcp(80, None, HostPort::Any), udp];
    let (server, at) = world.member("server", ports);
    serve(&server, 80);
    serve_udp(&server, 53);
    let gateway = IpAddr::V4(world.gateway());
    let [(tcp4, tcp6), (udp4, udp6)] = [(at.ports[0], at.ports[1]), (at.ports[2], at.ports[3])];
    assert_eq!(tcp6.host_ip, IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    assert_eq!(
        (tcp4.host_port, udp4.host_port),
        (tcp6.host_port, udp6.host_port)
    );
    let localhost = Ipv6Addr::LOCALHOST;
    assert_eq!(from_host((localhost, tcp6.host_port)).unwrap(), gateway);
    assert_eq!(from_host_udp((localhost, udp6.host_port)).unwrap(), gateway);
    // Many bytes, both ways, each end closed by itself.
    let (echo, at) = world.member("echo", vec![tcp(81, None, HostPort::Any)]);
    let listener = world::within(echo.netns(), || {
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, 81)).unwrap()
    });
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
    });
    let sent: Vec<u8> = (0..3_000_000u32).map(|i| (i * 7 / 3) as u8).collect();
    let mut stream = TcpStream::connect((localhost, at.ports[1].host_port)).unwrap();
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut came = Vec::new();
    stream.read_to_end(&mut came).unwrap();
    assert!(came == sent);
    // The port is free at once.
    world.networks().release(server.id()).unwrap();
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, tcp6.host_port)).unwrap();
}

#[test]
fn ports_come_and_go_while_the_container_runs() {
    let world = World::new();
    let (server, at) = world.member("server", vec![]);
    serve(&server, 80);
    let networks = world.networks();
    let wish = [tcp(80, None, HostPort::Any)];
    let endpoint = networks.publish(&at.id, &wish).unwrap();
    let port = endpoint.ports[0];
    assert!(from_host((LOCALHOST, port.host_port)).is_ok());
    assert_eq!(
        networks.endpoints("bridge").unwrap(),
        std::slice::from_ref(&endpoint)
    );
    assert!(
        networks
            .publish(&at.id, &[tcp(80, None, HostPort::Exact(port.host_port))])
            .is_err()
    );
    let endpoint = networks.unpublish(&at.id, &endpoint.ports).unwrap();
    assert!(endpoint.ports.is_empty());
    assert!(TcpStream::connect((LOCALHOST, port.host_port)).is_err());
    assert!(TcpStream::connect((Ipv6Addr::LOCALHOST, port.host_port)).is_err());
    networks.release(server.id()).unwrap();
}

#[test]
fn udp_clients_follow_the_port_to_its_next_holder() {
    let world = World::new();
    let held = world::listener();
    let port = held.local_addr().unwrap().port();
    let binding = || {
        let mut binding = tcp(53, None, HostPort::Exact(port));
        binding.protocol = Protocol::Udp;
        binding
    };
    // One socket all the time: the kernel takes its datagrams for one connection.
    let client = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    client
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    client.connect((world.gateway(), port)).unwrap();
    let ask = || {
        testkit::wait::until("an answer", || {
            // A refusal of an earlier datagram may come first.
            let _ = client.send(b"?");
            client.recv(&mut [0; 64]).ok()
        });
    };
    let _ = client.send(b"nobody is there yet");
    let (first, one) = world.member("first", vec![binding()]);
    serve_udp(&first, 53);
    ask();
    world.networks().release(first.id()).unwrap();
    let (second, two) = world.member("second", vec![binding()]);
    serve_udp(&second, 53);
    assert_ne!(one.ip, two.ip);
    ask();
}

#[test]
fn a_namespace_of_a_user_namespace_is_a_sandbox_like_others() {
    let world = World::new();
    let Some((_user, netns)) = testkit::userns::namespaces(500_000) else {
        return;
    };
    let sandbox = world.networks().sandbox_over(netns).unwrap();
    let request = world::request("server", vec![tcp(80, None, HostPort::Any)]);
    let at = world.networks().attach(&sandbox, "bridge", request);
    let at = at.unwrap();
    serve(&sandbox, 80);
    let gateway = IpAddr::V4(world.gateway());
    assert_eq!(from_host((at.ip, 80)).unwrap(), gateway);
    let port = at.ports[0].host_port;
    assert_eq!(from_host((LOCALHOST, port)).unwrap(), gateway);
    let (other, _) = world.member("other", vec![]);
    assert!(from(other.netns(), (at.ip, 80)).is_ok());
    world.networks().release(sandbox.id()).unwrap();
    assert!(world.networks().find_sandbox(sandbox.id()).is_err());
}

/// CRC-32C (Castagnoli), which RFC 9260 asks for.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// An SCTP packet with one chunk of an association's beginning: INIT (1) or INIT ACK (2).
fn sctp(from: u16, to: u16, tag: u32, chunk: u8) -> Vec<u8> {
    let mut packet = [from.to_be_bytes(), to.to_be_bytes()].concat();
    packet.extend_from_slice(&tag.to_be_bytes());
    packet.extend_from_slice(&[0; 4]);
    packet.extend_from_slice(&[chunk, 0, 0, 20]);
    // Its own tag, window, streams each way, first number.
    for word in [7u32, 65_536, 0x0001_0001, 1] {
        packet.extend_from_slice(&word.to_be_bytes());
    }
    let sum = crc32c(&packet);
    packet[8..12].copy_from_slice(&sum.to_le_bytes());
    packet
}

/// The ports and the chunk of an IPv4 packet whose sum is right.
fn read_sctp(packet: &[u8]) -> (u16, u16, u8) {
    let header = usize::from(packet[0] & 15) * 4;
    let mut packet = packet[header..].to_vec();
    let sum = u32::from_le_bytes(packet[8..12].try_into().unwrap());
    packet[8..12].fill(0);
    assert_eq!(
        crc32c(&packet),
        sum,
        "the sum is that of the packet as it came"
    );
    let port = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    (port(0), port(2), packet[12])
}

fn raw_sctp() -> UdpSocket {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::RAW,
        Some(rustix::net::ipproto::SCTP),
    );
    let socket = UdpSocket::from(socket.unwrap());
    let patience = Duration::from_secs(10);
    socket.set_read_timeout(Some(patience)).unwrap();
    socket
}

/// Packets are made by hand, since not every kernel that forwards SCTP speaks it.
#[test]
fn sctp_is_led_there_and_back() {
    let world = World::new();
    let mut binding = tcp(7, None, HostPort::Any);
    binding.protocol = Protocol::Sctp;
    let (server, at) = world.member("server", vec![binding]);
    let [port] = at.ports[..] else {
        panic!("a container with IPv4 alone has it on IPv4 alone: {at:?}");
    };
    assert_eq!(port.host_ip, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let neighbour = Neighbour::new(&world);
    let inside = world::within(server.netns(), raw_sctp);
    let outside = world::within(std::os::fd::AsFd::as_fd(&neighbour), raw_sctp);
    let mut bytes = [0; 256];
    outside
        .send_to(&sctp(4000, port.host_port, 0, 1), (neighbour.host, 0))
        .unwrap();
    let (len, _) = inside.recv_from(&mut bytes).unwrap();
    assert_eq!(read_sctp(&bytes[..len]), (4000, 7, 1));
    inside
        .send_to(&sctp(7, 4000, 7, 2), (neighbour.own, 0))
        .unwrap();
    let (len, _) = outside.recv_from(&mut bytes).unwrap();
    assert_eq!(read_sctp(&bytes[..len]), (port.host_port, 4000, 2));
    // On an IPv6 address there is nobody to carry it across.
    let mut binding = tcp(7, Some("::1"), HostPort::Any);
    binding.protocol = Protocol::Sctp;
    let refused = world.networks().publish(&at.id, &[binding]);
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
}
