//! Containers that join and leave networks, and limits that change while they run.

use std::net::SocketAddr;

use berth_engine::container::{self, ListOptions};
use berth_engine::{ErrorKind, Filters, network};
use berth_spec::docker::network::{Ipam, IpamConfig, NetworkConnectBody, NetworkDisconnectBody};
use berth_spec::docker::{EndpointSettings, NetworkCreateBody, PortBinding, Resources};

use crate::world::{World, words};

fn asked(name: &str, subnet: &str, gateway: &str) -> NetworkCreateBody {
    NetworkCreateBody {
        name: name.to_owned(),
        ipam: Some(Ipam {
            config: Some(vec![IpamConfig {
                subnet: subnet.to_owned(),
                gateway: gateway.to_owned(),
                ..IpamConfig::default()
            }]),
            ..Ipam::default()
        }),
        ..NetworkCreateBody::default()
    }
}

async fn connect(world: &World, name: &str, id: &str, settings: EndpointSettings) {
    let body = NetworkConnectBody {
        container: id.to_owned(),
        endpoint_config: Some(settings),
    };
    network::connect(&world.engine, name, body).await.unwrap();
}

async fn disconnect(world: &World, name: &str, id: &str) {
    let body = NetworkDisconnectBody {
        container: id.to_owned(),
        force: false,
    };
    network::disconnect(&world.engine, name, body)
        .await
        .unwrap();
}

pub async fn networks_are_made_as_asked(world: &World) {
    let engine = &world.engine;
    let body = asked("made", "10.214.7.0/24", "10.214.7.254");
    let id = network::create(engine, body).await.unwrap().id;
    let found = network::inspect(engine, &id[..12]).await.unwrap();
    let ipam = &found.ipam.config.as_ref().unwrap()[0];
    assert_eq!(
        (&*ipam.subnet, &*ipam.gateway),
        ("10.214.7.0/24", "10.214.7.254")
    );
    assert_eq!(
        (&*found.name, &*found.driver, &*found.scope),
        ("made", "bridge", "local")
    );
    for (body, kind, text) in [
        (
            asked("made", "", ""),
            ErrorKind::Conflict,
            "network with name made already exists",
        ),
        (
            asked("over", "10.214.7.128/25", ""),
            ErrorKind::Forbidden,
            "invalid pool request: Pool overlaps",
        ),
        (
            asked("text", "10.214.7.0", ""),
            ErrorKind::Invalid,
            "invalid subnet",
        ),
        (asked("", "", ""), ErrorKind::Invalid, "invalid name"),
    ] {
        let error = network::create(engine, body).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
    let error = network::remove(engine, "bridge").await.unwrap_err();
    assert_eq!(
        (error.kind(), &*error.to_string()),
        (
            ErrorKind::Forbidden,
            "bridge is a pre-defined network and cannot be removed"
        )
    );
    let error = network::inspect(engine, "none such").await.unwrap_err();
    assert_eq!(error.to_string(), "network none such not found");
    let list = network::list(engine, Filters::default().with("type", "custom"));
    assert_eq!(list.await.unwrap().len(), 1);
    let list = network::list(engine, Filters::default()).await.unwrap();
    let mut names: Vec<_> = list.iter().map(|n| &*n.name).collect();
    names.sort_unstable();
    assert_eq!(names, ["bridge", "host", "made", "none"]);
    let pruned = network::prune(engine, Filters::default()).await.unwrap();
    assert_eq!(pruned.networks_deleted.unwrap(), ["made"]);
}

pub async fn a_container_moves_between_networks(world: &World) {
    let engine = &world.engine;
    for (name, subnet) in [("one", "10.214.8.0/24"), ("two", "10.214.9.0/24")] {
        network::create(engine, asked(name, subnet, ""))
            .await
            .unwrap();
    }
    let serve = "echo page > /tmp/index.html; exec httpd -f -p 80 -h /tmp";
    let id = world
        .start("mover", |b| {
            b.config.cmd = words(&["sh", "-c", serve]);
            b.host_config.network_mode = "one".to_owned();
            let binding = PortBinding {
                host_ip: "127.0.0.1".to_owned(),
                host_port: String::new(),
            };
            b.host_config.port_bindings = Some([("80/tcp".to_owned(), Some(vec![binding]))].into());
        })
        .await;
    let settings = EndpointSettings {
        aliases: Some(vec!["other".to_owned()]),
        ipam_config: Some(berth_spec::docker::network::EndpointIpam {
            ipv4_address: "10.214.9.77".to_owned(),
            ..Default::default()
        }),
        ..EndpointSettings::default()
    };
    connect(world, "two", &id, settings).await;
    let ran = world.exec(&id, &["cat", "/etc/hosts"]).await;
    assert!(
        ran.out.contains("10.214.9.77") && ran.out.contains("10.214.8."),
        "{}",
        ran.out
    );
    let ran = world.exec(&id, &["ip", "route"]).await;
    assert!(ran.out.contains("default via 10.214.8.1"), "{}", ran.out);
    let ran = world
        .run(|b| {
            b.config.cmd = words(&["wget", "-qO-", "http://other/index.html"]);
            b.host_config.network_mode = "two".to_owned();
        })
        .await;
    assert_eq!(ran.out, "page\n", "{}", ran.err);
    let body = NetworkConnectBody {
        container: id.clone(),
        endpoint_config: None,
    };
    let error = network::connect(engine, "two", body).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "endpoint with name mover already exists in network two"
    );
    // The network with the default route and the ports goes: both move.
    disconnect(world, "one", &id).await;
    let found = container::inspect(engine, &id, false).await.unwrap();
    let settings = &found.network_settings;
    assert_eq!(settings.networks.keys().collect::<Vec<_>>(), ["two"]);
    assert_eq!(settings.networks["two"].ip_address, "10.214.9.77");
    let ports = settings.ports["80/tcp"].as_ref().unwrap();
    let port: u16 = ports[0].host_port.parse().unwrap();
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let page = tokio::task::spawn_blocking(move || testkit::http::get_when_up(at, "/index.html"));
    assert_eq!(page.await.unwrap(), "page\n");
    let ran = world
        .exec(&id, &["sh", "-c", "ip route; cat /etc/hosts"])
        .await;
    assert!(ran.out.contains("default via 10.214.9.1"), "{}", ran.out);
    assert!(!ran.out.contains("10.214.8."), "{}", ran.out);
    // From none at all to one: the same again.
    disconnect(world, "two", &id).await;
    let ran = world.exec(&id, &["ip", "route"]).await;
    assert_eq!(ran.out, "");
    connect(world, "one", &id, EndpointSettings::default()).await;
    let ran = world.exec(&id, &["ip", "route"]).await;
    assert!(ran.out.contains("default via 10.214.8.1"), "{}", ran.out);
    let list = ListOptions {
        filters: Filters::default().with("network", "one"),
        ..ListOptions::default()
    };
    assert_eq!(container::list(engine, list).await.unwrap().len(), 1);
    world.remove_all().await;
    for name in ["one", "two"] {
        network::remove(engine, name).await.unwrap();
    }
}

pub async fn an_internal_network_does_not_take_the_default_route(world: &World) {
    let engine = &world.engine;
    let inner = NetworkCreateBody {
        internal: true,
        ..asked("aa-inner", "10.214.10.0/24", "")
    };
    network::create(engine, inner).await.unwrap();
    network::create(engine, asked("outer", "10.214.11.0/24", ""))
        .await
        .unwrap();
    let ran = world
        .run(|b| {
            b.config.cmd = words(&["ip", "route"]);
            b.host_config.network_mode = "aa-inner".to_owned();
            let endpoints = &mut b.networking_config.endpoints_config;
            endpoints.insert("aa-inner".to_owned(), None);
            endpoints.insert("outer".to_owned(), None);
        })
        .await;
    assert!(ran.out.contains("default via 10.214.11.1"), "{ran:?}");
    world.remove_all().await;
    for name in ["aa-inner", "outer"] {
        network::remove(engine, name).await.unwrap();
    }
}

pub async fn containers_that_cannot_join(world: &World) {
    let engine = &world.engine;
    network::create(engine, asked("net", "10.214.12.0/24", ""))
        .await
        .unwrap();
    let host = world
        .create("", |b| {
            b.config.cmd = words(&["true"]);
            b.host_config.network_mode = "host".to_owned();
        })
        .await;
    let owner = world
        .start("", |b| b.config.cmd = words(&["sleep", "1000"]))
        .await;
    let sharer = world
        .create("", |b| {
            b.config.cmd = words(&["true"]);
            b.host_config.network_mode = format!("container:{owner}");
        })
        .await;
    for id in [&host, &sharer] {
        let body = NetworkConnectBody {
            container: id.clone(),
            endpoint_config: None,
        };
        let error = network::connect(engine, "net", body).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    let body = NetworkDisconnectBody {
        container: owner.clone(),
        force: false,
    };
    let error = network::disconnect(engine, "net", body).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("container {owner} is not connected to network net")
    );
    // One that does not run joins when it starts.
    let idle = world
        .create("", |b| b.config.cmd = words(&["ip", "addr"]))
        .await;
    connect(world, "net", &idle, EndpointSettings::default()).await;
    let ran = world.run_created(&idle).await;
    assert!(ran.out.contains("10.214.12.2/24"), "{ran:?}");
    world.remove_all().await;
    network::remove(engine, "net").await.unwrap();
}

pub async fn limits_are_given_and_taken(world: &World) {
    let engine = &world.engine;
    let id = world
        .start("", |b| {
            b.config.cmd = words(&["sleep", "1000"]);
            b.host_config.pids_limit = Some(40);
            b.host_config.memory = 64 << 20;
        })
        .await;
    let limit = async |id: &str| {
        let options = container::StatsOptions {
            one_shot: true,
            stream: false,
        };
        let mut stats = container::stats(engine, id, options).await.unwrap();
        futures_util::StreamExt::next(&mut stats)
            .await
            .unwrap()
            .pids_stats
            .limit
    };
    assert_eq!(limit(&id).await, Some(40));
    let update = |changes| container::update(engine, &id, changes);
    update(Resources {
        pids_limit: Some(-1),
        ..Resources::default()
    })
    .await
    .unwrap();
    assert_eq!(limit(&id).await, None);
    let error = update(Resources {
        memory: 1 << 30,
        ..Resources::default()
    })
    .await
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("update the memoryswap at the same time"),
        "{error}"
    );
    update(Resources {
        memory: 1 << 30,
        memory_swap: -1,
        cpu_shares: 512,
        ..Resources::default()
    })
    .await
    .unwrap();
    let host = container::inspect(engine, &id, false)
        .await
        .unwrap()
        .host_config;
    assert_eq!(
        (host.memory, host.memory_swap, host.cpu_shares),
        (1 << 30, -1, 512)
    );
    let error = update(Resources {
        memory: 1,
        ..Resources::default()
    })
    .await
    .unwrap_err();
    assert_eq!(error.to_string(), "Minimum memory limit allowed is 6MB");
}

pub async fn top_shows_the_columns_of_ps(world: &World) {
    let engine = &world.engine;
    let id = world
        .start("", |b| {
            b.config.cmd = words(&["sh", "-c", "sleep 1001 & sleep 1002; :"]);
            b.config.user = "1000".to_owned();
        })
        .await;
    world
        .until_running(&id, &["sh", "-c", "ps | grep -q '[s]leep 1002$'"])
        .await;
    let table = container::top(engine, &id, "").await.unwrap();
    assert_eq!(
        table.titles,
        ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    );
    let mut commands: Vec<_> = table.processes.iter().map(|p| &*p[7]).collect();
    commands.sort_unstable();
    assert_eq!(
        commands,
        [
            "sh -c sleep 1001 & sleep 1002; :",
            "sleep 1001",
            "sleep 1002"
        ]
    );
    let table = container::top(engine, &id, "-o pid,comm").await.unwrap();
    assert_eq!(table.titles, ["PID", "COMMAND"]);
    assert!(container::top(engine, &id, "-o nonsense").await.is_err());
    world.remove_all().await;
    let idle = world.create("", |b| b.config.cmd = words(&["true"])).await;
    let error = container::top(engine, &idle, "").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("container {idle} is not running")
    );
}
