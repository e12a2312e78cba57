//! Rule C: who a process is, and whose words are orders.

use serde_json::{Value, json};
use testkit::engine::Engine;

use crate::root::Root;
use crate::{BERTH, sh, stays};

/// CVE-2016-3697: the image has a user called by another's number.
#[test]
fn a_number_is_never_a_name() {
    let engine = Engine::start_empty(BERTH, &[]);
    Root::default()
        .file(
            "etc/passwd",
            "1000:x:0:0::/:/bin/sh\nroot:x:0:0::/:/bin/sh\n",
        )
        .file("etc/group", "1000:x:0:\n")
        .image(&engine, "bad", &["USER 1000:1000"]);
    assert_eq!(sh(&engine, &[], "bad", "id -u; id -G"), "1000\n1000");
    stays(&engine, &[], "bad");
    let id = engine.ok(&["exec", "-u", "1000:1000", "box", "id", "-u"]);
    assert_eq!(id, "1000");
}

/// CVE-2024-40635 and CVE-2026-30892: `exec -u 4294967296` was uid 0.
#[test]
fn numbers_do_not_wrap() {
    let engine = Engine::start(BERTH);
    stays(&engine, &[], "busybox");
    for user in [
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "-1",
        "+0",
        "0:4294967296",
        "0:-1",
        "0x0",
        " 0",
    ] {
        engine.fails(125, &["run", "--rm", "-u", user, "busybox", "true"]);
        let ran = engine.run(&["exec", "-u", user, "box", "true"]);
        assert_eq!(ran.code, 126, "{user}: {ran:?}");
        Root::default().image(&engine, "bad", &[&format!("USER {user}")]);
        if user.trim() == user {
            engine.fails(125, &["run", "--rm", "bad", "true"]);
        }
    }
}

/// CVE-2022-2989, CVE-2022-36109, CVE-2023-25173: supplementary groups are those of the user, not the
/// engine's, and none more.
#[test]
fn groups_are_set() {
    let engine = Engine::start(BERTH);
    stays(&engine, &["--group-add", "77"], "busybox");
    for (user, groups) in [
        ("0", "0 77"),
        ("alice", "1000 50 77"),
        ("1000", "1000 50 77"),
        ("4000", "0 77"),
        ("4000:50", "50 77"),
    ] {
        let said = engine.ok(&[
            "exec",
            "-u",
            user,
            "box",
            "grep",
            "Groups",
            "/proc/self/status",
        ]);
        let mut said: Vec<_> = said.split_whitespace().skip(1).collect();
        let mut groups: Vec<_> = groups.split(' ').collect();
        said.sort_unstable();
        groups.sort_unstable();
        assert_eq!(said, groups, "{user}");
    }
}

/// CVE-2022-24769 and its five siblings: no process begins with inheritable or ambient capabilities.
#[test]
fn capabilities_are_not_inherited() {
    let engine = Engine::start(BERTH);
    let script = "grep -E '^Cap(Inh|Amb)' /proc/self/status | grep -vc 0000000000000000; true";
    for flags in [
        &[][..],
        &["--privileged"],
        &["-u", "alice", "--cap-add", "ALL"],
    ] {
        assert_eq!(sh(&engine, flags, "busybox", script), "0", "{flags:?}");
    }
    stays(&engine, &[], "busybox");
    for flags in [&["exec"][..], &["exec", "--privileged"]] {
        let args = [flags, &["box", "sh", "-c", script]].concat();
        assert_eq!(engine.ok(&args), "0", "{flags:?}");
    }
    // What an exec may do is what the container's first process may.
    let asked = [
        "grep",
        "-E",
        "^(CapBnd|CapEff|Seccomp):",
        "/proc/self/status",
    ];
    let first = engine.ok(&[&["run", "--rm", "busybox"], &asked[..]].concat());
    let next = engine.ok(&[&["exec", "box"], &asked[..]].concat());
    assert_eq!(first, next);
    assert!(first.contains("Seccomp:\t2"), "{first}");
}

/// CVE-2022-4318, and `Dns` with a line end: text from outside does not become another line, or end
/// before its end.
#[test]
fn texts_are_of_one_line_and_whole() {
    let engine = Engine::start(BERTH);
    let api = engine.api();
    let create = |more: Value| {
        let mut body = json!({"Image": "busybox", "Cmd": ["true"]});
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let body = body.to_string();
        let answer = api.call("POST", "/containers/create", body.as_bytes());
        answer.expect("an answer")
    };
    for bad in [
        json!({"Cmd": ["a\0b"]}),
        json!({"Entrypoint": ["a\0b"]}),
        json!({"Env": ["A=\0"]}),
        json!({"User": "0\n0"}),
        json!({"WorkingDir": "/a\0"}),
        json!({"Hostname": "a\nb"}),
        json!({"Domainname": "a\nb"}),
        json!({"Volumes": {"/a\0": {}}}),
        json!({"Healthcheck": {"Test": ["CMD", "a\0"]}}),
        json!({"HostConfig": {"Dns": ["1.1.1.1\nnameserver 6.6.6.6"]}}),
        json!({"HostConfig": {"DnsSearch": ["a\nnameserver 6.6.6.6"]}}),
        json!({"HostConfig": {"DnsOptions": ["a\nnameserver 6.6.6.6"]}}),
        json!({"HostConfig": {"ExtraHosts": ["a:1.2.3.4\n6.6.6.6 b"]}}),
        json!({"HostConfig": {"Binds": ["/tmp\0:/a"]}}),
        json!({"HostConfig": {"MaskedPaths": ["/a\0"]}}),
        json!({"HostConfig": {"CgroupParent": "../../x"}}),
        json!({"HostConfig": {"Devices": [{"PathOnHost": "/dev/null\0"}]}}),
        json!({"HostConfig": {"ConsoleSize": [99999, 1]}}),
    ] {
        let answer = create(bad.clone());
        assert_eq!(answer.status, 400, "{bad}: {}", answer.text());
    }
    let out = sh(
        &engine,
        &["-e", "HOME=/\nevil:x:0:0"],
        "busybox",
        "cat /etc/passwd",
    );
    assert!(!out.contains("evil"), "{out}");
}

/// CVE-2014-6408, CVE-2022-0811, CVE-2024-3154, CVE-2026-53488, CVE-2026-53492: an image's labels,
/// annotations and unknown fields are data.
#[test]
fn an_image_orders_nothing() {
    let engine = Engine::start(BERTH);
    let labels = [
        "LABEL com.docker.security.privileged=true",
        "LABEL io.kubernetes.cri-o.userns-mode=host run.oci.handler=krun",
        "LABEL io.containerd.runc.v2.group=x org.systemd.property.ExecStart=/x",
        "LABEL io.katacontainers.config.hypervisor.path=/x",
    ];
    Root::default().image(&engine, "labels", &labels);
    let plain = "grep -E '^(CapEff|Seccomp|NoNewPrivs):' /proc/self/status";
    let expected = sh(&engine, &[], "busybox", plain);
    assert_eq!(sh(&engine, &[], "labels", plain), expected);
    // Fields that no image has, and that a container's configuration has.
    let saved = engine.path("saved.tar").display().to_string();
    engine.ok(&["save", "-o", &saved, "labels"]);
    let bytes = std::fs::read(&saved).expect("an archive");
    let mut members = Vec::new();
    for entry in tar::Archive::new(&bytes[..]).entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").display().to_string();
        let mut data = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut data).expect("its bytes");
        members.push((path, data));
    }
    let of = |name: &str| {
        members
            .iter()
            .find(|(path, _)| path == name)
            .expect("a member")
    };
    let mut manifest: Value = serde_json::from_slice(&of("manifest.json").1).expect("JSON");
    let config = manifest[0]["Config"].as_str().expect("its name").to_owned();
    let mut config: Value = serde_json::from_slice(&of(&config).1).expect("JSON");
    let host = json!({"Privileged": true, "PidMode": "host", "Binds": ["/:/host"], "CapAdd": ["ALL"],
        "SecurityOpt": ["seccomp=unconfined"]});
    config["HostConfig"] = host.clone();
    config["config"]["HostConfig"] = host;
    config["config"]["Privileged"] = true.into();
    config["config"]["NetworkDisabled"] = false.into();
    config["annotations"] = json!({"org.systemd.property.x": "y"});
    manifest[0]["Config"] = "c.json".into();
    manifest[0]["RepoTags"] = json!(["orders:1"]);
    let layer = manifest[0]["Layers"][0]
        .as_str()
        .expect("a layer")
        .to_owned();
    let mut made = tar::Builder::new(Vec::new());
    let (config, manifest) = (config.to_string(), manifest.to_string());
    for (name, data) in [
        ("c.json", config.as_bytes()),
        ("manifest.json", manifest.as_bytes()),
        (&layer[..], &of(&layer).1[..]),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        made.append_data(&mut header, name, data).expect("an entry");
    }
    let made = made.into_inner().expect("a tar");
    let ran = engine.run_with_input(&["load"], &made);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(sh(&engine, &[], "orders:1", plain), expected);
    assert_eq!(
        sh(&engine, &[], "orders:1", "ls -d /host 2>/dev/null; echo $$"),
        "1"
    );
}
