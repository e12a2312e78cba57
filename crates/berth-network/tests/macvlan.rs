//! Networks of the `macvlan` driver, each test on a host of its own (a network namespace).
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::process::Command;

use berth_network::{
    Driver, Endpoint, EndpointRequest, Error, HostPort, NetworkSpec, Sandbox, SandboxRecord,
};

mod world;
use world::{Neighbour, World, from, kept_from, request, run, serve, serve_in, tcp, within};

fn on_a_host(test: impl FnOnce() + Send + 'static) {
    let host = || {
        berth_sys::netns::unshare_network().unwrap();
        run("ip link set lo up");
        run("ip link add base type bridge");
        let made = Command::new("ip")
            .args(["link", "add", "probe", "link", "base", "type", "macvlan"])
            .output()
            .unwrap();
        if !made.status.success() {
            return testkit::skipped("this kernel has no macvlan");
        }
        run("ip link del base");
        test();
    };
    std::thread::spawn(host).join().unwrap();
}

fn spec(name: &str, options: &[(&str, &str)], subnet: &str) -> NetworkSpec {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    NetworkSpec {
        name: name.into(),
        driver: Driver::Macvlan,
        subnet: Some(subnet.parse().unwrap()),
        options: options.iter().map(pair).collect::<BTreeMap<_, _>>(),
        ..NetworkSpec::default()
    }
}

fn join(world: &World, network: &str, request: EndpointRequest) -> (Sandbox, Endpoint) {
    let sandbox = world.networks().sandbox_none().unwrap();
    let endpoint = world.networks().attach(&sandbox, network, request).unwrap();
    (sandbox, endpoint)
}

fn links() -> String {
    let out = Command::new("ip").args(["-o", "link"]).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn endpoints_are_machines_of_the_parents_network() {
    on_a_host(|| {
        let mut world = World::new();
        let neighbour = Neighbour::new(&world);
        within(neighbour.as_fd(), || {
            let out = Command::new("ip").args(["-o", "link"]).output().unwrap();
            let text = String::from_utf8(out.stdout).unwrap();
            let far = text
                .lines()
                .find_map(|l| l.split(": ").nth(1)?.strip_prefix("bt"));
            let far = format!("bt{}", far.unwrap().split('@').next().unwrap());
            run(&format!("ip addr add 192.0.2.1/24 dev {far}"));
        });
        let wish = spec("lan", &[("parent", &neighbour.link)], "192.0.2.0/24");
        let record = world.networks().create(wish).unwrap();
        assert_eq!(
            (record.driver, record.made_parent),
            (Driver::Macvlan, false)
        );
        let again = spec("lan2", &[("parent", &neighbour.link)], "192.0.3.0/24");
        assert!(matches!(
            world.networks().create(again),
            Err(Error::Forbidden(_))
        ));
        // Ports are not published: there is nothing of the host in between.
        let (web, at) = join(
            &world,
            "lan",
            request("web", vec![tcp(80, None, HostPort::Any)]),
        );
        let (client, there) = join(&world, "lan", request("client", vec![]));
        assert_eq!(at.ip, Ipv4Addr::new(192, 0, 2, 2));
        assert!(at.ports.is_empty() && at.host_interface.is_empty());
        serve(&web, 80);
        serve_in(&neighbour, 81);
        let router = Ipv4Addr::new(192, 0, 2, 1);
        let seen = from(client.netns(), (at.ip, 80)).unwrap();
        assert_eq!(seen, IpAddr::V4(there.ip));
        assert_eq!(from(&neighbour, (at.ip, 80)).unwrap(), IpAddr::V4(router));
        // The parent's network is the way out.
        let seen = from(client.netns(), (neighbour.own, 81)).unwrap();
        assert_eq!(seen, IpAddr::V4(there.ip));
        let publish = world
            .networks()
            .publish(&at.id, &[tcp(80, None, HostPort::Any)]);
        assert!(matches!(publish, Err(Error::Invalid(_))));
        // An engine that starts again finds it all.
        world.restart(vec![SandboxRecord {
            id: web.id().to_owned(),
            endpoints: vec![at.clone()],
        }]);
        let found = world.networks().endpoints("lan").unwrap();
        assert_eq!(found, std::slice::from_ref(&at));
        assert_eq!(from(&neighbour, (at.ip, 80)).unwrap(), IpAddr::V4(router));
        world.networks().detach(web.id(), "lan").unwrap();
        within(web.netns(), || assert!(!links().contains("eth0")));
        world.networks().remove("lan").unwrap();
        assert!(
            links().contains(&neighbour.link),
            "the user's own link stays"
        );
    });
}

#[test]
fn without_a_parent_a_network_is_alone_and_private_ones_do_not_talk() {
    on_a_host(|| {
        let world = World::with(|options| options.ready = 0);
        let before = links().lines().count();
        world
            .networks()
            .create(spec("alone", &[], "192.0.2.0/24"))
            .unwrap();
        let private = [("macvlan_mode", "private")];
        world
            .networks()
            .create(spec("private", &private, "192.0.3.0/24"))
            .unwrap();
        assert!(links().lines().count() > before);
        for (network, talk) in [("alone", true), ("private", false)] {
            let (web, at) = join(&world, network, request("web", vec![]));
            let (client, _) = join(&world, network, request("client", vec![]));
            serve(&web, 80);
            if talk {
                assert!(from(client.netns(), (at.ip, 80)).is_ok());
            } else {
                assert!(kept_from(client.netns(), (at.ip, 80)));
            }
            for sandbox in [web, client] {
                world.networks().release(sandbox.id()).unwrap();
            }
            world.networks().remove(network).unwrap();
        }
        assert_eq!(links().lines().count(), before);
        for (options, words) in [
            (&[("parent", "nowhere0")][..], "no such interface"),
            (&[("parent", "nowhere0.10")], "no such interface"),
            (&[("parent", "lo")], "not a valid macvlan parent"),
            (
                &[("macvlan_mode", "odd")],
                "macvlan mode 'odd' is not valid",
            ),
        ] {
            let error = world.networks().create(spec("x", options, "192.0.2.0/24"));
            let error = error.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    });
}

#[test]
fn a_vlan_is_made_on_demand() {
    on_a_host(|| {
        let world = World::new();
        let neighbour = Neighbour::new(&world);
        let name = format!("{}.10", neighbour.link);
        let wish = spec("lan", &[("parent", &name)], "192.0.2.0/24");
        match world.networks().create(wish) {
            Err(e) if e.to_string().contains("CONFIG_VLAN_8021Q") => {
                testkit::skipped("this kernel has no VLANs");
            }
            made => {
                assert!(made.unwrap().made_parent && links().contains(&name));
                world.networks().remove("lan").unwrap();
                assert!(!links().contains(&name));
            }
        }
    });
}
