//! An engine that starts again, and what others take away from it.
#![allow(dead_code)]

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;

use berth_network::{Existing, HostPort, NetworkOptions, NetworkRecord, Networks, SandboxRecord};

mod world;
use world::{World, from, from_host, serve, tcp};

const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn veths(world: &World) -> usize {
    let gateway = world.gateway();
    let out = Command::new("ip")
        .args(["-o", "link", "show", "type", "bridge_slave"])
        .output()
        .unwrap();
    let addresses = Command::new("ip")
        .args(["-o", "-4", "addr"])
        .output()
        .unwrap();
    let addresses = String::from_utf8(addresses.stdout).unwrap();
    let Some(bridge) = addresses
        .lines()
        .find(|l| l.contains(&format!(" {gateway}/")))
        .and_then(|l| l.split_whitespace().nth(1))
    else {
        return 0;
    };
    String::from_utf8(out.stdout)
        .unwrap()
        .lines()
        .filter(|l| l.contains(&format!("master {bridge} ")))
        .count()
}

#[test]
fn what_is_recorded_stays_and_the_rest_goes() {
    let mut world = World::with(|options| options.ready = 0);
    let (kept, at) = world.member("kept", vec![tcp(80, None, HostPort::Any)]);
    let (_lost, _) = world.member("lost", vec![tcp(80, None, HostPort::Any)]);
    serve(&kept, 80);
    let port = at.ports[0].host_port;
    assert_eq!(veths(&world), 2);
    let before = world.networks().list();

    world.restart(vec![
        SandboxRecord {
            id: kept.id().to_owned(),
            endpoints: vec![at.clone()],
        },
        SandboxRecord {
            id: "0".repeat(64),
            endpoints: vec![],
        },
    ]);
    let networks = world.networks();
    assert_eq!(networks.list(), before);
    assert_eq!(
        networks.endpoints("bridge").unwrap(),
        std::slice::from_ref(&at)
    );
    assert!(networks.find_sandbox(kept.id()).is_ok());
    assert!(networks.find_sandbox(&"0".repeat(64)).is_err());
    assert_eq!(veths(&world), 1);
    assert!(from_host((LOCALHOST, port)).is_ok());
    assert!(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_err());
    // Addresses are not given twice, and what was taken over can be released.
    let (_other, there) = world.member("other", vec![]);
    assert_ne!(there.ip, at.ip);
    world.networks().release(kept.id()).unwrap();
    drop(kept);
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
}

#[test]
fn nothing_is_left_after_the_end() {
    let world = World::new();
    let (_one, _) = world.member("one", vec![]);
    let gateway = world.gateway();
    let table = format!("berth-{}", world.options.instance);
    drop(world);
    let out = Command::new("ip")
        .args(["-o", "-4", "addr"])
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(!text.contains(&format!(" {gateway}/")), "{text}");
    if let Some(nft) = testkit::find_command("nft") {
        let out = Command::new(nft).args(["list", "tables"]).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(!text.contains(&table), "{text}");
    }
}

#[test]
fn an_engine_without_containers_leaves_nothing_and_finds_its_networks() {
    let mut world = World::new();
    let spec = berth_network::NetworkSpec {
        name: "own".into(),
        ..Default::default()
    };
    world.networks().create(spec).unwrap();
    let before = world.networks().list();
    let bridges: Vec<_> = before.iter().map(|n| n.bridge.clone()).collect();
    let there = |name: &String| std::path::Path::new("/sys/class/net").join(name).exists();
    let there = |names: &[String]| names.iter().filter(|n| !n.is_empty() && there(n)).count();
    assert_eq!(there(&bridges), 2);
    world.networks().shutdown();
    assert_eq!(there(&bridges), 0);
    assert!(!world.options.run_dir.join("netns").exists());
    world.restart(vec![]);
    assert_eq!(there(&bridges), 2);
    assert_eq!(world.networks().list(), before);
    let (server, at) = world.member("server", vec![]);
    serve(&server, 80);
    assert!(from_host((at.ip, 80)).is_ok());
}

#[test]
fn reconcile_builds_again_what_others_removed() {
    let world = World::new();
    let (server, at) = world.member("server", vec![tcp(80, None, HostPort::Any)]);
    let (client, _) = world.member("client", vec![]);
    serve(&server, 80);
    let port = at.ports[0].host_port;
    let bridge = world.networks().default_network().unwrap().bridge;
    world::run(&format!(
        "nft delete table inet berth-{}",
        world.options.instance
    ));
    world::run(&format!("ip link del {bridge}"));
    world.networks().reconcile().unwrap();
    assert!(from_host((LOCALHOST, port)).is_ok());
    assert!(from(client.netns(), (at.ip, 80)).is_ok());
    assert!(from(client.netns(), (world.gateway(), port)).is_ok());
}

#[test]
fn losses_are_noticed() {
    let world = World::new();
    let (server, at) = world.member("server", vec![tcp(80, None, HostPort::Any)]);
    let (client, _) = world.member("client", vec![]);
    serve(&server, 80);
    let port = at.ports[0].host_port;
    let table = format!("berth-{}", world.options.instance);
    let bridge = world.networks().default_network().unwrap().bridge;
    let count = |family: &str, table: &str| {
        let nft = testkit::find_command("nft").unwrap();
        let out = Command::new(nft)
            .args(["list", "table", family, table])
            .output()
            .unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        text.lines().filter(|l| !l.trim().is_empty()).count()
    };
    let (inet, guards) = (count("inet", &table), count("bridge", &table));
    for change in [
        format!("nft delete table inet {table}"),
        format!("nft flush table bridge {table}"),
        format!("nft flush chain inet {table} forward"),
        format!("nft flush map inet {table} published"),
    ] {
        world::run(&change);
        testkit::wait::until(&change, || {
            (count("inet", &table) == inet && count("bridge", &table) == guards).then_some(())
        });
        assert!(from_host((LOCALHOST, port)).is_ok());
    }
    for change in [
        format!("ip link del {bridge}"),
        format!("ip link set {bridge} down"),
        format!("ip addr flush dev {bridge}"),
    ] {
        world::run(&change);
        testkit::wait::until(&change, || {
            from(client.netns(), (world.gateway(), port)).ok()
        });
        assert!(from_host((LOCALHOST, port)).is_ok());
    }
}

#[test]
fn a_lost_interface_is_made_again() {
    let mut world = World::new();
    let (server, at) = world.member("server", vec![tcp(80, None, HostPort::Any)]);
    serve(&server, 80);
    let port = at.ports[0].host_port;
    let ask = |what: &str| {
        testkit::wait::until(what, || {
            let link = std::path::Path::new("/sys/class/net").join(&at.host_interface);
            link.exists().then(|| from_host((LOCALHOST, port)).ok())?
        })
    };
    world::run(&format!("ip link del {}", at.host_interface));
    ask("the interface to be back");
    // Also one that is lost while no engine runs.
    world.networks().shutdown();
    world::run(&format!("ip link del {}", at.host_interface));
    world.restart(vec![SandboxRecord {
        id: server.id().to_owned(),
        endpoints: vec![at.clone()],
    }]);
    ask("the interface to be back with the engine");
}

#[test]
fn two_engines_side_by_side() {
    let (one, two) = (World::new(), World::new());
    let (server, at) = one.member("server", vec![tcp(80, None, HostPort::Any)]);
    let (client, _) = two.member("client", vec![]);
    serve(&server, 80);
    let port = at.ports[0].host_port;
    assert!(from(client.netns(), (one.gateway(), port)).is_ok());
    assert!(world::kept_from(client.netns(), (at.ip, 80)));
    drop(client);
    drop(two);
    assert!(from_host((LOCALHOST, port)).is_ok());
}

#[test]
fn a_damaged_record_costs_itself_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new();
    let (sandbox, mut at) = world.member("server", vec![]);
    at.network_id = "gone".into();
    world.restart(vec![SandboxRecord {
        id: sandbox.id().to_owned(),
        endpoints: vec![at],
    }]);
    assert!(world.networks().find_sandbox(sandbox.id()).is_ok());
    assert!(world.networks().endpoints("bridge").unwrap().is_empty());
    let bad = berth_network::NetworkOptions::new("", dir.path().join("file/below"));
    std::fs::write(dir.path().join("file"), "").unwrap();
    assert!(Networks::open(bad, Existing::default()).is_err());
}

const CHILD: &str = "BERTH_NETWORK_TEST_CHILD";

/// Not a test of its own: the engine that [`a_killed_engine_costs_nothing`] kills.
#[test]
fn child_engine() {
    let Ok(place) = std::env::var(CHILD) else {
        return;
    };
    let (instance, rest) = place.split_once(',').unwrap();
    let (bip, dir) = rest.split_once(',').unwrap();
    let mut options = NetworkOptions::new(instance, dir);
    options.bip = Some(bip.parse().unwrap());
    let networks = Networks::open(options, Existing::default()).unwrap();
    let sandboxes = ["kept", "lost"].map(|name| {
        let sandbox = networks.sandbox().unwrap();
        let ports = vec![tcp(80, None, HostPort::Any)];
        let endpoint = networks
            .attach(&sandbox, "bridge", world::request(name, ports))
            .unwrap();
        SandboxRecord {
            id: sandbox.id().to_owned(),
            endpoints: vec![endpoint],
        }
    });
    let record = serde_json::to_string(&(networks.list(), sandboxes)).unwrap();
    std::fs::write(format!("{dir}/record"), record).unwrap();
    std::process::abort();
}

#[test]
fn a_killed_engine_costs_nothing() {
    // Its place is that of a world which is only then opened.
    let mut world = World::new();
    let place = format!(
        "{},{},{}",
        world.options.instance,
        world.options.bip.unwrap(),
        world.options.run_dir.display()
    );
    world.close();
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_engine", "--test-threads=1"])
        .env(CHILD, place)
        .output()
        .unwrap();
    assert!(!out.status.success());
    let record = std::fs::read_to_string(world.options.run_dir.join("record")).unwrap();
    let (networks, [kept, _]): (Vec<NetworkRecord>, [SandboxRecord; 2]) =
        serde_json::from_str(&record).unwrap();
    world.open(Existing {
        networks: networks.clone(),
        sandboxes: vec![kept.clone()],
    });
    let at = &kept.endpoints[0];
    let mut now = world.networks().list();
    now.sort_by(|a, b| a.name.cmp(&b.name));
    let mut before = networks;
    before.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(now, before);
    let sandbox = world.networks().find_sandbox(&kept.id).unwrap();
    serve(&sandbox, 80);
    assert!(from_host((LOCALHOST, at.ports[0].host_port)).is_ok());
    // The lost one's namespace and those made ahead by the killed engine are gone.
    let ready = world.options.ready;
    testkit::wait::until("only the kept one and those made ahead", || {
        (veths(&world) == 1 + ready && bound(&world).len() == 1 + 2 * ready).then_some(())
    });
}

/// IDs of the sandboxes that are there.
fn bound(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.options.run_dir.join("netns")).unwrap();
    let name = |e: std::io::Result<std::fs::DirEntry>| e.unwrap().file_name().into_string();
    entries.map(|e| name(e).unwrap()).collect()
}

#[test]
fn bare_sandboxes_are_made_ahead_too() {
    let world = World::new();
    let all_ready = || {
        testkit::wait::until("one of each kind", || {
            (bound(&world).len() == 2 && veths(&world) == 1).then_some(())
        })
    };
    all_ready();
    let before = bound(&world);
    let bare = world.networks().sandbox_none().unwrap();
    assert!(before.contains(&bare.id().to_owned()));
    let links = world::within(bare.netns(), || {
        let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        text.lines().skip(2).count()
    });
    assert_eq!(links, 1);
    // Another takes its place, and what was taken goes when it is given back.
    testkit::wait::until("another", || (bound(&world).len() == 3).then_some(()));
    world.networks().release(bare.id()).unwrap();
    all_ready();
    let netns = world.options.run_dir.join("netns");
    drop(bare);
    world.networks().shutdown();
    assert!(!netns.exists());
}
