//! User-defined networks: addresses, isolation, and names at 127.0.0.11.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use berth_network::{
    Endpoint, EndpointRequest, Error, HostPort, NetworkSpec, Sandbox, SandboxRecord,
};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};

mod world;
use world::{World, from, from_host, kept_from, request, serve, tcp, within};

const RESOLVER: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 0, 0, 11), 53);

fn spec(name: &str) -> NetworkSpec {
    NetworkSpec {
        name: name.into(),
        ..NetworkSpec::default()
    }
}

/// Within the test's own /16 neighbourhood, so that no other test has it.
fn subnet(world: &World, part: u8) -> ipnet::Ipv4Net {
    let [_, second, third, _] = world.gateway().octets();
    format!("100.{}.{third}.{}/27", second - 120, part * 32)
        .parse()
        .unwrap()
}

fn network(world: &World, name: &str, part: u8) -> String {
    let mut spec = spec(name);
    spec.subnet = Some(subnet(world, part));
    world.networks().create(spec).unwrap().id
}

fn join(world: &World, network: &str, request: EndpointRequest) -> (Sandbox, Endpoint) {
    let sandbox = world.networks().sandbox_none().unwrap();
    let endpoint = world.networks().attach(&sandbox, network, request).unwrap();
    (sandbox, endpoint)
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn ask(place: &Sandbox, name: &str, kind: RecordType) -> Message {
    send(place, question(name, kind).to_vec().unwrap())
}

fn send(place: &Sandbox, bytes: Vec<u8>) -> Message {
    within(place.netns(), move || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        socket.connect(RESOLVER).unwrap();
        socket.send(&bytes).unwrap();
        let mut answer = [0; 4096];
        let len = socket.recv(&mut answer).unwrap();
        Message::from_vec(&answer[..len]).unwrap()
    })
}

fn ask_tcp(place: &Sandbox, name: &str) -> Message {
    let bytes = question(name, RecordType::A).to_vec().unwrap();
    within(place.netns(), move || {
        let mut stream = TcpStream::connect(RESOLVER).unwrap();
        stream
            .write_all(&(bytes.len() as u16).to_be_bytes())
            .unwrap();
        stream.write_all(&bytes).unwrap();
        let mut len = [0; 2];
        stream.read_exact(&mut len).unwrap();
        let mut answer = vec![0; u16::from_be_bytes(len).into()];
        stream.read_exact(&mut answer).unwrap();
        Message::from_vec(&answer).unwrap()
    })
}

fn ips(message: &Message) -> Vec<IpAddr> {
    message
        .answers
        .iter()
        .filter_map(|r| r.data.ip_addr())
        .collect()
}

#[test]
fn containers_are_found_by_their_names() {
    let world = World::new();
    let id = network(&world, "inner", 0);
    let mut web = request("web", vec![]);
    web.aliases = vec!["www".into()];
    let (_web, web) = join(&world, &id, web);
    let (client, _) = join(&world, "inner", request("client", vec![]));
    let ip = vec![IpAddr::V4(web.ip)];
    for name in ["web", "WEB.", "www", "web.inner", "web000000000"] {
        assert_eq!(ips(&ask(&client, name, RecordType::A)), ip, "{name}");
    }
    assert_eq!(ips(&ask_tcp(&client, "web")), ip);
    let empty = ask(&client, "web", RecordType::AAAA);
    assert_eq!(empty.metadata.response_code, ResponseCode::NoError);
    assert!(empty.answers.is_empty());
    let [a, b, c, d] = web.ip.octets();
    let back = ask(
        &client,
        &format!("{d}.{c}.{b}.{a}.in-addr.arpa."),
        RecordType::PTR,
    );
    assert_eq!(back.answers[0].data.to_string(), "web.inner.");
    // Names follow the containers, and end at the network's border.
    world.networks().rename(&web.container_id, "shop");
    assert_eq!(ips(&ask(&client, "shop", RecordType::A)), ip);
    let id = network(&world, "outer", 1);
    let (stranger, _) = join(&world, &id, request("stranger", vec![]));
    let unknown = ask(&stranger, "shop.inner", RecordType::A);
    assert!(ips(&unknown).is_empty(), "{unknown}");
}

/// A name server that knows one name, over UDP and TCP, inside a sandbox.
fn name_server(sandbox: &Sandbox, known: &'static str) {
    let (udp, tcp) = within(sandbox.netns(), || {
        // On all addresses: the resolver is not in the way.
        let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap();
        let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap();
        (udp, tcp)
    });
    let reply = move |bytes: &[u8]| {
        let asked = Message::from_vec(bytes).unwrap();
        let mut message = Message::response(asked.metadata.id, OpCode::Query);
        let query = asked.queries[0].clone();
        if query.name().to_ascii().trim_end_matches('.') == known {
            let data = RData::A(A(Ipv4Addr::new(192, 0, 2, 99)));
            message.add_answer(Record::from_rdata(query.name().clone(), 60, data));
        } else {
            message.metadata.response_code = ResponseCode::NXDomain;
        }
        message.add_query(query);
        message.to_vec().unwrap()
    };
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((len, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&reply(&buffer[..len]), peer);
        }
    });
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut len = [0; 2];
            stream.read_exact(&mut len).unwrap();
            let mut bytes = vec![0; u16::from_be_bytes(len).into()];
            stream.read_exact(&mut bytes).unwrap();
            let bytes = reply(&bytes);
            let _ = stream.write_all(&(bytes.len() as u16).to_be_bytes());
            let _ = stream.write_all(&bytes);
        }
    });
}

#[test]
fn other_names_are_asked_outside() {
    let mut world = World::new();
    let id = network(&world, "inner", 0);
    let (server, at) = join(&world, &id, request("server", vec![]));
    name_server(&server, "example.org");
    let mut patient = request("patient", vec![]);
    // The first answers nothing: the second is asked.
    patient.dns = vec![
        IpAddr::V4(subnet(&world, 0).hosts().nth(20).unwrap()),
        IpAddr::V4(at.ip),
    ];
    let (patient, _) = join(&world, &id, patient);
    let mut asking = request("client", vec![]);
    asking.dns = vec![IpAddr::V4(at.ip)];
    let (client, client_at) = join(&world, &id, asking);
    let expected = vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, 99))];
    assert_eq!(ips(&ask(&patient, "example.org.", RecordType::A)), expected);
    let unknown = ask(&client, "nowhere.example.", RecordType::A);
    assert_eq!(unknown.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(ips(&ask_tcp(&client, "example.org.")), expected);

    // The next engine answers in the same sandbox.
    let records = [(&server, at), (&client, client_at)].map(|(s, e)| SandboxRecord {
        id: s.id().to_owned(),
        endpoints: vec![e],
    });
    world.restart(records.to_vec());
    assert_eq!(ips(&ask(&client, "example.org.", RecordType::A)), expected);
    assert_eq!(ips(&ask(&client, "server", RecordType::A)).len(), 1);
}

#[test]
fn the_host_has_a_name_in_networks_that_lead_somewhere() {
    let world = World::new();
    let id = network(&world, "open", 2);
    let mut closed = spec("closed");
    closed.internal = true;
    closed.subnet = Some(subnet(&world, 3));
    world.networks().create(closed).unwrap();
    let (asker, at) = join(&world, &id, request("asker", vec![]));
    let name = "host.docker.internal";
    let gateway = vec![IpAddr::V4(at.gateway.unwrap())];
    assert_eq!(ips(&ask(&asker, name, RecordType::A)), gateway);
    assert_eq!(ips(&ask_tcp(&asker, "Host.Docker.Internal")), gateway);
    let none = ask(&asker, name, RecordType::AAAA);
    assert_eq!(none.metadata.response_code, ResponseCode::NoError);
    assert!(none.answers.is_empty());
    // It leads to the host's programs.
    let host = world::listener();
    let port = host.local_addr().unwrap().port();
    let target = (at.gateway.unwrap(), port);
    std::thread::spawn(move || {
        if let Ok((mut client, peer)) = host.accept() {
            let _ = write!(client, "{}", peer.ip());
        }
    });
    assert_eq!(from(asker.netns(), target).unwrap(), IpAddr::V4(at.ip));
    // A container of that name is itself, and a closed network knows no host.
    let mut taken = request("taken", vec![]);
    taken.aliases = vec![name.into()];
    let (_taken, taken) = join(&world, &id, taken);
    assert_eq!(
        ips(&ask(&asker, name, RecordType::A)),
        [IpAddr::V4(taken.ip)]
    );
    let (inside, _) = join(&world, "closed", request("inside", vec![]));
    assert!(ips(&ask(&inside, name, RecordType::A)).is_empty());
}

#[test]
fn the_host_has_the_addresses_that_it_was_given() {
    let given: IpAddr = "192.0.2.7".parse().unwrap();
    let world = World::with(|options| options.host_gateway = vec![given]);
    let id = network(&world, "open", 2);
    let (asker, _) = join(&world, &id, request("asker", vec![]));
    assert_eq!(
        ips(&ask(&asker, "host.docker.internal", RecordType::A)),
        [given]
    );
    assert_eq!(world.networks().host_gateways(), [given]);
}

#[test]
fn extended_questions_get_extended_answers() {
    let world = World::new();
    let id = network(&world, "many", 2);
    let mut sandboxes = Vec::new();
    for n in 0..3 {
        let mut request = request(&format!("c{n}"), vec![]);
        request.aliases = vec!["all".into()];
        sandboxes.push(join(&world, &id, request));
    }
    let (asker, _) = &sandboxes[0];
    let asked = |version: u8| {
        let mut message = question("all", RecordType::A);
        let mut edns = Edns::new();
        edns.set_version(version).set_max_payload(1232);
        message.edns = Some(edns);
        send(asker, message.to_vec().unwrap())
    };
    let answer = asked(0);
    assert_eq!(ips(&answer).len(), 3);
    assert_eq!(answer.edns.map(|e| e.version()), Some(0));
    let refused = asked(1);
    // `BADVERS`, which has its number with another.
    assert_eq!(u16::from(refused.metadata.response_code), 16);
    assert!(refused.answers.is_empty());
    // Who does not speak so is not spoken to so.
    assert!(ask(asker, "all", RecordType::A).edns.is_none());
}

#[test]
fn an_internal_network_has_no_way_out() {
    let world = World::new();
    let mut inner = spec("inner");
    inner.subnet = Some(subnet(&world, 0));
    inner.internal = true;
    world.networks().create(inner).unwrap();
    let (published, at) = world.member("published", vec![tcp(80, None, HostPort::Any)]);
    serve(&published, 80);
    let (client, client_at) = join(
        &world,
        "inner",
        request("client", vec![tcp(1, None, HostPort::Any)]),
    );
    let (peer, peer_at) = join(&world, "inner", request("peer", vec![]));
    serve(&peer, 80);
    assert!(client_at.ports.is_empty() && client_at.gateway.is_none());
    assert!(from(client.netns(), (peer_at.ip, 80)).is_ok());
    let gateway = subnet(&world, 0).hosts().next().unwrap();
    let route = format!("ip route add default via {gateway}");
    within(client.netns(), move || world::run(&route));
    assert!(kept_from(client.netns(), (at.ip, 80)));
    assert!(kept_from(
        client.netns(),
        (world.gateway(), at.ports[0].host_port)
    ));
    // Nor for names.
    let failed = ask(&client, "example.org.", RecordType::A);
    assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(ips(&ask(&client, "peer", RecordType::A)).len(), 1);
}

#[test]
fn networks_are_apart_until_joined() {
    let world = World::new();
    let (one, two) = (network(&world, "one", 0), network(&world, "two", 1));
    let (server, at) = join(
        &world,
        &one,
        request("server", vec![tcp(80, None, HostPort::Any)]),
    );
    serve(&server, 80);
    let (client, _) = join(&world, &two, request("client", vec![]));
    assert!(kept_from(client.netns(), (at.ip, 80)));
    // A published port is open to all networks.
    let gateway = subnet(&world, 1).hosts().next().unwrap();
    let port = at.ports[0].host_port;
    assert!(from(client.netns(), (gateway, port)).is_ok());
    let mut second = request("client", vec![]);
    second.default_route = false;
    let networks = world.networks();
    let endpoint = networks.attach(&client, "one", second.clone()).unwrap();
    assert_eq!(endpoint.interface, "eth1");
    assert!(from(client.netns(), (at.ip, 80)).is_ok());
    assert!(matches!(
        networks.attach(&client, "one", second),
        Err(Error::Forbidden(_))
    ));
    networks.detach(client.id(), "one").unwrap();
    assert!(kept_from(client.netns(), (at.ip, 80)));
    // The default route goes on through what is left.
    networks
        .attach(&client, "one", request("client", vec![]))
        .unwrap();
    networks.detach(client.id(), "two").unwrap();
    assert!(from(client.netns(), (at.ip, 80)).is_ok());
    let refused = networks.remove("one").unwrap_err().to_string();
    assert!(
        refused
            .starts_with("error while removing network: network one has active endpoints (name:\""),
        "{refused}"
    );
    networks.remove("two").unwrap();
    assert!(networks.get("two").is_err());
    assert!(from_host((Ipv4Addr::LOCALHOST, port)).is_ok());
}

#[test]
fn requests_are_checked() {
    let world = World::new();
    let mut first = spec("first");
    first.subnet = Some(subnet(&world, 0));
    first.reserved = BTreeMap::from([(
        "x".into(),
        IpAddr::V4(subnet(&world, 0).hosts().nth(1).unwrap()),
    )]);
    let networks = world.networks();
    let record = networks.create(first.clone()).unwrap();
    assert_eq!(networks.get(&record.id[..12]).unwrap(), record);
    assert_eq!(
        networks.create(first.clone()).unwrap_err().to_string(),
        "network with name first already exists"
    );
    for name in ["", "a b", "-x", "ä"] {
        assert!(networks.create(spec(name)).is_err(), "{name:?}");
    }
    first.name = "second".into();
    assert!(matches!(networks.create(first), Err(Error::Forbidden(_))));
    for name in ["bridge", "host", "none"] {
        assert!(matches!(networks.remove(name), Err(Error::Forbidden(_))));
    }
    // A network that chooses for itself avoids what others have.
    let chosen = networks.create(spec("third")).unwrap().subnet.unwrap();
    assert!(!chosen.contains(&world.gateway()));

    let fixed = subnet(&world, 0).hosts().nth(9).unwrap();
    let mut wish = request("fixed", vec![]);
    wish.ip = Some(fixed);
    wish.mac = Some("02:11:22:33:44:55".parse().unwrap());
    let (_kept, at) = join(&world, "first", wish.clone());
    assert_eq!(
        (at.ip, at.mac.to_string()),
        (fixed, "02:11:22:33:44:55".into())
    );
    let other = networks.sandbox_none().unwrap();
    wish.mac = None;
    assert!(matches!(
        networks.attach(&other, "first", wish.clone()),
        Err(Error::AddressInUse)
    ));
    wish.ip = None;
    let next = networks.attach(&other, "first", wish).unwrap();
    assert_eq!(
        next.ip,
        subnet(&world, 0).hosts().nth(2).unwrap(),
        "gateway and reserved are skipped"
    );
    let mut wish = request("x", vec![]);
    wish.ip = Some(world.gateway());
    let sandbox = networks.sandbox().unwrap();
    assert!(networks.attach(&sandbox, "bridge", wish).is_err());
    assert!(
        networks
            .attach(&sandbox, "host", request("x", vec![]))
            .is_err()
    );
    // A sandbox made ahead for the default network serves any other as well.
    let moved = networks
        .attach(&sandbox, "third", request("x", vec![]))
        .unwrap();
    let (server, at) = join(&world, "third", request("server", vec![]));
    serve(&server, 80);
    assert_eq!(moved.interface, "eth0");
    assert!(from(sandbox.netns(), (at.ip, 80)).is_ok());
}
