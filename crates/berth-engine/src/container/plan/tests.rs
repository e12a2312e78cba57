//! Requests and what becomes of them.

use berth_spec::docker::config::Mount;
use berth_spec::docker::{Empty, Words};
use berth_spec::oci::image::ExecConfig;

use super::spec::{self, Facts};
use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|t| (*t).to_owned()).collect()
}

fn words(list: &[&str]) -> Option<Words> {
    Some(Words(texts(list)))
}

fn defaults() -> Defaults {
    Defaults {
        log: LogConfig {
            kind: "json-file".to_owned(),
            config: BTreeMap::new(),
        },
        shm_size: 64 << 20,
        machine: Machine {
            cpus: 2,
            memory_node: 0,
            blkio_weight: true,
        },
        runtime: "berth".to_owned(),
        ..Defaults::default()
    }
}

fn image() -> ImageConfig {
    ImageConfig {
        config: ExecConfig {
            env: texts(&["PATH=/image", "A=image"]),
            entrypoint: Some(texts(&["/entry"])),
            cmd: Some(texts(&["one", "two"])),
            working_dir: "/app".to_owned(),
            volumes: Some(BTreeMap::from([(
                "/data".to_owned(),
                berth_spec::oci::image::Empty {},
            )])),
            exposed_ports: Some(BTreeMap::from([(
                "80/tcp".to_owned(),
                berth_spec::oci::image::Empty {},
            )])),
            ..ExecConfig::default()
        },
        ..ImageConfig::default()
    }
}

fn prepared(change: impl FnOnce(&mut ContainerCreateBody)) -> Result<Prepared> {
    let mut body = ContainerCreateBody::default();
    change(&mut body);
    prepare(ID, body, Some(&image()), &defaults())
}

#[test]
fn the_command_follows_dockers_rules() {
    let args = |entrypoint: Option<Words>, cmd: Option<Words>| {
        let prepared = prepared(|b| (b.config.entrypoint, b.config.cmd) = (entrypoint, cmd));
        prepared
            .map(|p| spec::args(&p.config).join(" "))
            .map_err(|e| e.to_string())
    };
    for (entrypoint, cmd, expected) in [
        (None, None, Ok("/entry one two")),
        (None, words(&["x"]), Ok("/entry x")),
        (words(&["/mine"]), None, Ok("/mine")),
        (words(&["/mine"]), words(&["x"]), Ok("/mine x")),
        (words(&[""]), words(&["x"]), Ok("x")),
        (words(&[""]), None, Err("no command specified")),
    ] {
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(
            args(entrypoint.clone(), cmd.clone()),
            expected,
            "{entrypoint:?} {cmd:?}"
        );
    }
}

#[test]
fn the_image_is_below_the_request() {
    let p = prepared(|b| {
        b.config.env = Some(texts(&["A=mine"]));
        b.host_config.port_bindings = Some(BTreeMap::from([("53/udp".to_owned(), None)]));
    })
    .unwrap();
    assert_eq!(p.config.env.as_ref().unwrap(), &["A=mine", "PATH=/image"]);
    assert_eq!(p.config.working_dir, "/app");
    assert_eq!(p.config.hostname, &ID[..12]);
    let exposed: Vec<_> = p.config.exposed_ports.keys().cloned().collect();
    assert_eq!(exposed, ["53/udp", "80/tcp"]);
    assert_eq!(p.mounts.len(), 1);
    assert!(p.mounts[0].anonymous && p.mounts[0].target == "/data");
    assert_eq!(p.host.network_mode, "bridge");
    assert!(p.networks.contains_key("bridge"));
    assert_eq!(p.host.restart_policy.name, "no");
}

#[test]
fn requests_that_are_refused() {
    type Change = fn(&mut ContainerCreateBody);
    let cases: [(Change, &str); 14] = [
        (
            |b| b.config.working_dir = "app".to_owned(),
            "the working directory 'app' is invalid, it needs to be an absolute path",
        ),
        (
            |b| b.config.stop_signal = "SIGNOPE".to_owned(),
            "invalid signal: SIGNOPE",
        ),
        (
            |b| b.config.env = Some(texts(&["=x"])),
            "invalid environment variable: =x",
        ),
        (
            |b| b.config.cmd = words(&["a\0b"]),
            "invalid command: contains a NUL byte",
        ),
        (
            |b| b.host_config.dns = Some(texts(&["1.1.1.1\nnameserver 6.6.6.6"])),
            "invalid dns \"1.1.1.1\\nnameserver 6.6.6.6\": contains a line end",
        ),
        (
            |b| b.host_config.dns = Some(texts(&["nope"])),
            "nope is not an ip address",
        ),
        (
            |b| b.host_config.restart_policy.name = "sometimes".to_owned(),
            "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
        ),
        (
            |b| {
                b.host_config.auto_remove = true;
                b.host_config.restart_policy.name = "always".to_owned();
            },
            "can't create 'AutoRemove' container with restart policy",
        ),
        (
            |b| b.host_config.binds = Some(texts(&["/a:b"])),
            "invalid volume specification: '/a:b': invalid mount path: 'b' mount path must be absolute",
        ),
        (
            |b| b.host_config.binds = Some(texts(&["/a:/x", "/b:/x/"])),
            "Duplicate mount point: /x",
        ),
        (
            |b| b.host_config.binds = Some(texts(&["/a:/"])),
            "invalid volume specification: '/a:/': invalid specification: destination can't be '/'",
        ),
        (
            |b| b.host_config.cap_add = words(&["NOPE"]),
            "invalid capability: \"CAP_NOPE\"",
        ),
        (
            |b| b.host_config.network_mode = "container:".to_owned(),
            "Invalid container format container:<name|id>",
        ),
        (
            |b| b.host_config.security_opt = Some(texts(&["nope"])),
            "invalid --security-opt 1: \"nope\"",
        ),
    ];
    for (change, text) in cases {
        let error = prepared(change).map(drop).unwrap_err();
        if !text.contains("CAP_NOPE") {
            assert_eq!(error.to_string(), text);
        }
        assert_eq!(error.kind(), crate::ErrorKind::Invalid, "{text}");
    }
}

#[test]
fn binds_are_read() {
    let one = |text: &str| {
        let p = prepared(|b| b.host_config.binds = Some(texts(&[text]))).unwrap();
        p.mounts.into_iter().find(|m| m.target != "/data").unwrap()
    };
    let bind = one("/a/../b:/x//y/:ro,rshared");
    assert_eq!(
        (bind.kind, &*bind.source, &*bind.target),
        (MountKind::Bind, "/b", "/x/y")
    );
    assert!(bind.read_only && bind.create_source && bind.propagation == "rshared");
    let named = one("cache:/cache:nocopy");
    assert_eq!((named.kind, &*named.name), (MountKind::Volume, "cache"));
    assert!(named.no_copy && !named.anonymous);
    let anonymous = one("/only");
    assert!(anonymous.anonymous && anonymous.target == "/only");
}

#[test]
fn mounts_are_read() {
    let read = |mount: Mount| {
        prepared(|b| b.host_config.mounts = Some(vec![mount]))
            .map(|p| p.mounts.into_iter().find(|m| m.target == "/t").unwrap())
            .map_err(|e| e.to_string())
    };
    let mount = |kind: &str, source: &str| Mount {
        kind: kind.to_owned(),
        source: source.to_owned(),
        target: "/t".to_owned(),
        ..Mount::default()
    };
    assert!(!read(mount("bind", "/a")).unwrap().create_source);
    assert_eq!(read(mount("tmpfs", "")).unwrap().kind, MountKind::Tmpfs);
    assert_eq!(
        read(mount("bind", "")).unwrap_err(),
        "invalid mount config for type \"bind\": field Source must not be empty"
    );
    assert_eq!(
        read(mount("nope", "")).unwrap_err(),
        "invalid mount config for type \"nope\": mount type unknown"
    );
    assert!(
        read(mount("tmpfs", "/x"))
            .unwrap_err()
            .contains("Source must not be specified")
    );
}

#[test]
fn signals_are_read() {
    for (text, number) in [
        ("TERM", 15),
        ("SIGTERM", 15),
        ("sigkill", 9),
        ("9", 9),
        ("SIGRTMIN+3", 37),
        ("RTMAX", 64),
        ("SIGRTMAX-14", 50),
        ("WINCH", 28),
    ] {
        assert_eq!(parse_signal(text).unwrap(), number, "{text}");
    }
    for bad in ["", "0", "65", "SIG", "NOPE", "RTMIN+31", "-9"] {
        assert!(parse_signal(bad).is_err(), "{bad}");
    }
}

#[test]
fn ports_are_read() {
    use berth_network::HostPort;
    use berth_spec::docker::PortBinding;
    let p = prepared(|b| {
        b.config
            .exposed_ports
            .insert("90-91/udp".to_owned(), Empty {});
        b.host_config.publish_all_ports = true;
        let binding = |ip: &str, port: &str| PortBinding {
            host_ip: ip.to_owned(),
            host_port: port.to_owned(),
        };
        b.host_config.port_bindings = Some(BTreeMap::from([(
            "80/tcp".to_owned(),
            Some(vec![binding("127.0.0.1", "8080"), binding("", "8000-8010")]),
        )]));
    })
    .unwrap();
    let ports = requested(&p.config, &p.host).unwrap();
    let shown: Vec<_> = ports
        .iter()
        .map(|p| (p.container_port, p.host_port))
        .collect();
    assert_eq!(
        shown,
        [
            (80, HostPort::Exact(8080)),
            (80, HostPort::Range(8000, 8010)),
            (90, HostPort::Any),
            (91, HostPort::Any),
        ]
    );
    for bad in ["0", "65536/tcp", "x", "80/nope", "-1"] {
        assert!(port::parse_port(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_document_of_a_plain_container() {
    let p = prepared(|b| {
        b.host_config.tmpfs = Some(BTreeMap::from([(
            "/t".to_owned(),
            "exec,size=1m".to_owned(),
        )]))
    })
    .unwrap();
    let tmpfs = p.mounts.iter().find(|m| m.target == "/t").unwrap();
    let facts = Facts {
        mounts: vec![spec::oci_mount(tmpfs, "")],
        cgroup_path: format!("/berth/{ID}"),
        ..Facts::default()
    };
    let spec = spec::build(&p.config, &p.host, facts).unwrap();
    let process = spec.process.unwrap();
    assert_eq!(process.args, ["/entry", "one", "two"]);
    assert_eq!(process.cwd, "/app");
    assert!(process.env.contains(&"PATH=/image".to_owned()));
    let caps = process.capabilities.unwrap();
    assert_eq!(caps.bounding.len(), 14);
    assert!(caps.inheritable.is_empty() && caps.ambient.is_empty());
    let linux = spec.linux.unwrap();
    assert!(linux.masked_paths.contains(&"/proc/kcore".to_owned()));
    assert_eq!(linux.sysctl["net.ipv4.ip_unprivileged_port_start"], "0");
    let last = spec.mounts.last().unwrap();
    assert_eq!(last.options, ["nosuid", "nodev", "size=1m"]);
    assert_eq!(spec.hostname, &ID[..12]);
}

#[test]
fn the_document_of_a_privileged_container_in_the_hosts_namespaces() {
    let p = prepared(|b| {
        let h = &mut b.host_config;
        h.privileged = true;
        for mode in [
            &mut h.network_mode,
            &mut h.pid_mode,
            &mut h.ipc_mode,
            &mut h.uts_mode,
        ] {
            *mode = "host".to_owned();
        }
    })
    .unwrap();
    let spec = spec::build(&p.config, &p.host, Facts::default()).unwrap();
    let linux = spec.linux.unwrap();
    let kinds: Vec<_> = linux.namespaces.iter().map(|n| n.kind).collect();
    assert_eq!(kinds, [berth_spec::oci::runtime::NamespaceKind::Mount]);
    assert!(linux.masked_paths.is_empty() && linux.sysctl.is_empty());
    assert!(!spec.mounts.iter().any(|m| m.destination == "/dev/shm"));
    assert!(linux.resources.unwrap().devices[0].allow);
}

#[test]
fn no_volumes_are_null() {
    let mut body = ContainerCreateBody::default();
    body.config.cmd = words(&["true"]);
    body.config.volumes = Some(BTreeMap::new());
    let p = prepare(ID, body, None, &defaults()).unwrap();
    assert_eq!(p.config.volumes, None);
}
