//! `RUN`: what the process is given, what becomes of what it wrote.

use std::collections::BTreeMap;
use std::io::Read;

use berth_build::{BuildRequest, Context, ErrorKind, HostAccess, StepMount};
use berth_distribution::Secret;
use berth_sys::root::RootFd;

use crate::bench::{Bench, File, context, request};

#[test]
fn what_a_step_gets() {
    let Some(bench) = Bench::new() else { return };
    let mut with = request();
    with.extra_hosts = vec!["db:10.0.0.1".into()];
    with.network = "none".into();
    with.shm_size = 1 << 20;
    with.limits.memory = 1 << 30;
    bench
        .build_with(
            "FROM busybox\nENV E=1\nARG A=2\nWORKDIR /w\nUSER alice\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN echo \"$A\"\n",
            &[],
            with,
        )
        .id();
    let step = bench.executor.last();
    assert_eq!(step.args, ["/bin/sh", "-ec", "echo \"$A\""]);
    assert_eq!(step.env, ["PATH=/bin", "E=1", "A=2"]);
    assert_eq!((step.cwd.as_str(), step.user.as_str()), ("/w", "alice"));
    assert_eq!((step.network.as_str(), step.shm_size), ("none", 1 << 20));
    assert_eq!(step.extra_hosts, ["db:10.0.0.1"]);
    assert_eq!(step.limits.memory, 1 << 30);
    assert_eq!(step.id.len(), 64);
}

#[test]
fn mount_points_leave_no_trace() {
    let Some(bench) = Bench::new() else { return };
    let id = bench.ok(
        "FROM busybox\nRUN --mount=type=cache,target=/var/cache/deep/pip --mount=type=tmpfs,target=/t \
         ls -d /proc /sys /dev /etc/resolv.conf /var/cache/deep/pip /t && touch /made\n",
        &[],
    );
    assert_eq!(bench.last_layer(&id), ["made"]);
    assert_eq!(bench.config(&id).rootfs.diff_ids.len(), 2);
    for path in ["/proc", "/sys", "/etc/resolv.conf", "/var/cache", "/t"] {
        assert!(!bench.has(&id, path), "{path}");
    }
    bench.assert_clean();
}

#[test]
fn mount_points_behind_links_leave_no_trace_either() {
    let Some(bench) = Bench::new() else { return };
    let links = [
        File::Link("r/etc/resolv.conf", "../run/resolve/stub.conf"),
        File::Link("r/x", "/var/lib/x"),
    ];
    let id = bench.ok(
        "FROM busybox\nCOPY r /\nRUN --mount=type=tmpfs,target=/x/y \
         ls -d /run/resolve/stub.conf /var/lib/x/y && touch /made\n",
        &links,
    );
    assert_eq!(bench.last_layer(&id), ["made"]);
    assert!(!bench.has(&id, "/run") && !bench.has(&id, "/var/lib"));
}

#[test]
fn changes_become_a_layer() {
    let Some(bench) = Bench::new() else { return };
    let id = bench.ok(
        "FROM busybox\nRUN mkdir /d && echo 1 > /d/a && echo 2 > /d/b\nRUN rm /d/a && chmod 700 /d/b\n",
        &[],
    );
    assert!(!bench.has(&id, "/d/a"));
    assert_eq!(bench.owner(&id, "/d/b").0, 0o700);
    assert_eq!(bench.last_layer(&id), ["d/", "d/.wh.a", "d/b"]);
}

#[test]
fn heredocs() {
    let Some(bench) = Bench::new() else { return };
    let id = bench.ok(
        "FROM busybox\nRUN <<EOF\nset -e\necho one > /1\necho two > /2\nEOF\nRUN cat <<A > /3\nthree $PATH\nA\n",
        &[],
    );
    assert_eq!(bench.read(&id, "/2"), "two\n");
    assert_eq!(bench.read(&id, "/3"), "three /bin\n");
}

fn content(mount: &StepMount) -> Option<String> {
    let StepMount::Bind { source, .. } = mount else {
        return None;
    };
    let fd = source.try_clone().unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
    std::fs::read_to_string(path).ok()
}

fn inside(mount: &StepMount, path: &str) -> String {
    let StepMount::Bind { source, .. } = mount else {
        panic!("{mount:?}");
    };
    let root = RootFd::new(source.try_clone().unwrap()).unwrap();
    let mut text = String::new();
    root.open_file(path.as_ref())
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    text
}

#[test]
fn mounts_of_every_kind() {
    let Some(bench) = Bench::new() else { return };
    let mut with = request();
    with.secrets = [("token".to_owned(), Secret::new("hush"))].into();
    let ended = bench.build_with(
        "FROM busybox AS one\nRUN echo built > /out\nFROM busybox\nRUN --mount=target=/ctx \
         --mount=source=sub/f,target=/file --mount=from=one,source=/out,target=/out \
         --mount=type=cache,id=c,target=/cache,mode=0700,uid=5 --mount=type=tmpfs,target=/t,size=1m \
         --mount=type=secret,id=token --mount=type=secret,id=other \
         --mount=type=secret,id=token,env=TOKEN --mount=type=bind,target=/rw,rw true\n",
        &[File::Text("a", "1"), File::Text("sub/f", "2")],
        with,
    );
    ended.id();
    let step = bench.executor.last();
    let targets: Vec<&str> = step.mounts.iter().map(StepMount::target).collect();
    assert_eq!(
        targets,
        [
            "/ctx",
            "/file",
            "/out",
            "/cache",
            "/t",
            "/run/secrets/token",
            "/rw"
        ]
    );
    assert_eq!(inside(&step.mounts[0], "sub/f"), "2");
    assert_eq!(content(&step.mounts[1]).unwrap(), "2");
    assert_eq!(content(&step.mounts[2]).unwrap(), "built\n");
    assert_eq!(content(&step.mounts[5]).unwrap(), "hush");
    assert!(step.env.contains(&"TOKEN=hush".to_owned()));
    let writable: Vec<bool> = step
        .mounts
        .iter()
        .map(|m| {
            matches!(
                m,
                StepMount::Bind {
                    read_only: false,
                    ..
                }
            )
        })
        .collect();
    assert_eq!(writable, [false, false, false, true, false, false, true]);
    let text = format!("{}{:?}", ended.text(), bench.config(&ended.id()));
    assert!(!text.contains("hush"));
    assert_eq!(bench.config(&ended.id()).rootfs.diff_ids.len(), 1);
    for (mount, error) in [
        ("type=secret,id=nope,required", "secret nope: not found"),
        (
            "type=cache,target=/x,from=busybox",
            "a cache mount cannot begin with the content of an image: from and source are not supported",
        ),
        (
            "source=nope,target=/x",
            "failed to compute cache key: /nope: not found in the build context or excluded by .dockerignore",
        ),
    ] {
        assert_eq!(
            bench.fails(&format!("FROM busybox\nRUN --mount={mount} true\n"), &[]),
            error
        );
    }
    assert_eq!(
        bench.fails("FROM busybox\nRUN --network=host true\n", &[]),
        "RUN --network=host is allowed only in builds with --network=host"
    );
    bench.assert_clean();
}

#[test]
fn the_hosts_proxy_and_certificates_stay_outside() {
    let bundle = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(bundle.path(), "PEM").unwrap();
    let host = HostAccess {
        env: BTreeMap::from([("HTTPS_PROXY".to_owned(), "http://proxy:1".to_owned())]),
        ca_bundle: Some(bundle.path().to_owned()),
    };
    let Some(bench) = Bench::with_host(host) else {
        return;
    };
    let id = bench.ok("FROM busybox\nENV PIP_CERT=mine\nRUN touch /x\n", &[]);
    let step = bench.executor.last();
    for variable in [
        "HTTPS_PROXY=http://proxy:1",
        "SSL_CERT_FILE=/dev/berth/ca-certificates.crt",
        "REQUESTS_CA_BUNDLE=/dev/berth/ca-certificates.crt",
        "PIP_CERT=mine",
    ] {
        assert!(step.env.contains(&variable.to_owned()), "{variable}");
    }
    assert_eq!(step.mounts[0].target(), "/dev/berth/ca-certificates.crt");
    assert_eq!(content(&step.mounts[0]).unwrap(), "PEM");
    let config = serde_json::to_string(&bench.config(&id)).unwrap();
    assert!(
        !config.contains("proxy:1") && !config.contains("SSL_CERT_FILE"),
        "{config}"
    );
    assert_eq!(bench.last_layer(&id), ["x"]);
    // Neither is part of a key.
    let again = bench.build("FROM busybox\nENV PIP_CERT=mine\nRUN touch /x\n", &[]);
    assert_eq!(again.hits(), 2);
}

#[test]
fn a_failed_step_leaves_nothing() {
    let Some(bench) = Bench::new() else { return };
    let forced = BuildRequest {
        force_remove: true,
        ..request()
    };
    let ended = bench.build_with("FROM busybox\nRUN touch /x && exit 9\n", &[], forced);
    assert_eq!(
        ended.result.as_ref().unwrap_err().kind(),
        ErrorKind::StepFailed
    );
    assert!(
        ended.text().ends_with('\n')
            && ended
                .text()
                .contains(" ---> Removed intermediate container ")
    );
    bench.assert_clean();
    assert_eq!(
        bench
            .build("FROM busybox\nRUN touch /x && exit 9\n", &[])
            .hits(),
        0
    );
}

#[test]
fn a_reader_that_leaves_stops_the_build() {
    let Some(bench) = Bench::new() else { return };
    let tar = context(&[File::Text(
        "Dockerfile",
        "FROM busybox\nRUN echo started && sleep 1000 && touch /never\n",
    )]);
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    bench.runtime().block_on(async {
        let build = bench.builder.build(
            request(),
            Context::Tar(Box::new(std::io::Cursor::new(tar))),
            sender,
        );
        let leave = async {
            while let Some(event) = receiver.recv().await {
                if matches!(event, berth_build::BuildEvent::Output { .. }) {
                    break;
                }
            }
            drop(receiver);
        };
        let (result, ()) = tokio::join!(build, leave);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
    });
    bench.assert_clean();
}

#[test]
fn a_dropped_build_is_cleaned_up() {
    let Some(bench) = Bench::new() else { return };
    let tar = context(&[File::Text(
        "Dockerfile",
        "FROM busybox\nRUN echo started && sleep 1000\n",
    )]);
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    bench.runtime().block_on(async {
        let context = Context::Tar(Box::new(std::io::Cursor::new(tar)));
        tokio::select! {
            _ = bench.builder.build(request(), context, sender) => panic!("it ended"),
            () = async {
                while let Some(event) = receiver.recv().await {
                    if matches!(event, berth_build::BuildEvent::Output { .. }) {
                        break;
                    }
                }
            } => {}
        }
        // The channel closes once the thread that built has gone.
        while receiver.recv().await.is_some() {}
    });
    testkit::wait::until("the snapshot to go", || {
        bench
            .store
            .snapshots()
            .list()
            .unwrap()
            .is_empty()
            .then_some(())
    });
}
