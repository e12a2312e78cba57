//! Containers from their creation to their removal.

use std::time::{Duration, Instant};

use berth_engine::container::{
    self, AttachOptions, LogOptions, RemoveOptions, StopOptions, WaitCondition,
};
use berth_engine::{ErrorKind, volume};
use berth_spec::docker::config::RestartPolicy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{World, soon, words};

fn both() -> LogOptions {
    LogOptions {
        stdout: true,
        stderr: true,
        ..LogOptions::default()
    }
}

pub async fn output_and_exit_code(world: &World) {
    let ran = world.sh("echo out; echo err >&2; exit 3").await;
    assert_eq!((&*ran.out, &*ran.err, ran.code), ("out\n", "err\n", 3));
    let id = world
        .create("kept", |b| {
            b.config.cmd = words(&["sh", "-c", "echo one; echo two >&2"])
        })
        .await;
    world.run_created(&id).await;
    assert_eq!(
        world.logs("kept", both()).await,
        ("one\n".into(), "two\n".into())
    );
    let tail = LogOptions {
        tail: Some(1),
        ..both()
    };
    assert_eq!(
        world.logs("kept", tail).await,
        (String::new(), "two\n".into())
    );
    let found = container::inspect(&world.engine, "kept", true)
        .await
        .unwrap();
    assert_eq!((&*found.state.status, found.state.exit_code), ("exited", 0));
    assert_eq!((found.name.as_str(), found.path.as_str()), ("/kept", "sh"));
    assert!(found.network_settings.ports.is_empty() && found.state.pid == 0);
    // It runs again.
    assert_eq!(world.run_created(&id).await.out, "one\n");
}

pub async fn programs_that_cannot_run(world: &World) {
    for (command, code, text) in [
        (vec!["/absent"], 127, "no such file or directory"),
        (vec!["absent"], 127, "executable file not found in $PATH"),
        (vec!["/etc"], 126, "is a directory"),
        (vec!["/etc/passwd"], 126, "permission denied"),
    ] {
        let id = world.create("", |b| b.config.cmd = words(&command)).await;
        let error = container::start(&world.engine, &id).await.unwrap_err();
        assert!(
            error.to_string().contains(text) || command[0] == "/etc",
            "{command:?}: {error}"
        );
        let found = container::inspect(&world.engine, &id, false).await.unwrap();
        assert_eq!(found.state.exit_code, code, "{command:?}: {error}");
        assert_eq!(found.state.status, "created");
        assert_eq!(found.state.error, error.to_string());
    }
}

pub async fn names_and_refusals(world: &World) {
    let id = world
        .start("web", |b| b.config.cmd = words(&["sleep", "1000"]))
        .await;
    let mut body = berth_spec::docker::ContainerCreateBody::default();
    body.config.image = "busybox".to_owned();
    body.config.cmd = words(&["true"]);
    let request = container::CreateRequest {
        name: Some("web".to_owned()),
        platform: None,
        body,
    };
    let error = container::create(&world.engine, request.clone())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "Conflict. The container name \"/web\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
        )
    );
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let mut unknown = request;
    unknown.name = None;
    unknown.body.config.image = "absent".to_owned();
    let error = container::create(&world.engine, unknown).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::NotFound, "No such image: absent:latest")
    );

    let error = container::remove(&world.engine, "web", RemoveOptions::default())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot remove container \"/web\": container is running: stop the container before removing or force remove"
    );
    let error = container::start(&world.engine, &id[..12])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotModified);
    container::rename(&world.engine, "web", "site")
        .await
        .unwrap();
    let error = container::inspect(&world.engine, "web", false)
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "No such container: web");
    container::kill(&world.engine, "site", None).await.unwrap();
    let error = container::kill(&world.engine, "site", None)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot kill container: site: container {id} is not running")
    );
    let error = container::stop(&world.engine, "site", StopOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotModified);
    container::remove(&world.engine, "site", RemoveOptions::default())
        .await
        .unwrap();
    let left = world.dir.path().join("data/containers").join(&id);
    assert!(!left.exists());
}

pub async fn a_deaf_process_is_killed_at_once(world: &World) {
    let id = world
        .start("", |b| b.config.cmd = words(&["sleep", "1000"]))
        .await;
    let began = Instant::now();
    let stopped = container::stop(&world.engine, &id, StopOptions::default())
        .await
        .unwrap();
    assert!(stopped.note.is_some());
    // Far below the ten seconds of patience; no other bound is meant.
    assert!(began.elapsed() < Duration::from_secs(9));
    let found = container::inspect(&world.engine, &id, false).await.unwrap();
    assert_eq!(found.state.exit_code, 137);
    // One that listens ends by itself.
    let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done";
    let id = world
        .start("", |b| b.config.cmd = words(&["sh", "-c", script]))
        .await;
    let follow = LogOptions {
        follow: true,
        ..both()
    };
    let mut logs = container::logs(&world.engine, &id, follow).await.unwrap();
    soon(
        "the handler",
        futures_util::StreamExt::next(&mut logs.stream),
    )
    .await;
    let stopped = container::stop(&world.engine, &id, StopOptions::default())
        .await
        .unwrap();
    assert_eq!(stopped.note, None);
    let found = container::inspect(&world.engine, &id, false).await.unwrap();
    assert_eq!(found.state.exit_code, 7);
}

pub async fn exec_in_a_running_container(world: &World) {
    let id = world
        .start("", |b| b.config.cmd = words(&["sleep", "1000"]))
        .await;
    let ran = world
        .exec(&id, &["sh", "-c", "echo $HOSTNAME; pwd >&2; exit 5"])
        .await;
    assert_eq!(
        (ran.out.trim(), ran.err.trim(), ran.code),
        (&id[..12], "/", 5)
    );
    let ran = world.exec(&id, &["ps"]).await;
    assert!(ran.out.contains("sleep 1000"), "{}", ran.out);
    // Clients read the reason as its output, then ask for the code.
    let ran = world.exec(&id, &["absent"]).await;
    assert_eq!(ran.code, 127);
    assert_eq!(
        ran.out,
        "OCI runtime exec failed: exec failed: unable to start container process: exec: \"absent\": executable file not found in $PATH\r\n"
    );
    container::stop(&world.engine, &id, StopOptions::default())
        .await
        .unwrap();
    let error = berth_engine::exec::create(&world.engine, &id, Default::default())
        .await
        .err()
        .unwrap();
    assert_eq!(error.to_string(), format!("container {id} is not running"));
}

pub async fn input_reaches_the_process(world: &World) {
    let id = world
        .create("", |b| {
            b.config.cmd = words(&["cat"]);
            b.config.open_stdin = true;
            b.config.stdin_once = true;
        })
        .await;
    let options = AttachOptions {
        stream: true,
        stdin: true,
        stdout: true,
        stderr: true,
        ..AttachOptions::default()
    };
    let session = container::attach(&world.engine, &id, options)
        .await
        .unwrap();
    let (near, far) = tokio::io::duplex(1 << 16);
    let moving = tokio::spawn(session.run(far));
    let waiting = container::wait(&world.engine, &id, WaitCondition::NextExit)
        .await
        .unwrap();
    container::start(&world.engine, &id).await.unwrap();
    let (mut reading, mut writing) = tokio::io::split(near);
    writing.write_all(b"typed\n").await.unwrap();
    writing.shutdown().await.unwrap();
    let mut bytes = Vec::new();
    soon("output", reading.read_to_end(&mut bytes))
        .await
        .unwrap();
    assert_eq!(crate::world::unframe(&bytes).0, "typed\n");
    assert_eq!(
        soon("its end", waiting.outcome())
            .await
            .unwrap()
            .status_code,
        0
    );
    moving.await.unwrap().unwrap();
}

pub async fn mounts_and_users(world: &World) {
    let shared = world.dir.path().join("shared");
    std::fs::create_dir_all(&shared).unwrap();
    std::fs::write(shared.join("file"), "from the host").unwrap();
    let bind = format!("{}:/shared:ro", shared.display());
    let ran = world
        .run(|b| {
            b.config.cmd = words(&["sh", "-c", "cat /shared/file; echo x > /shared/no || echo refused; df /t | tail -1 | awk '{print $2}'"]);
            b.host_config.binds = Some(vec![bind, "filled:/etc".to_owned()]);
            b.host_config.tmpfs = Some([("/t".to_owned(), "size=1m".to_owned())].into());
        })
        .await;
    assert_eq!(ran.out, "from the hostrefused\n1024\n", "{}", ran.err);
    // What the image has at its place fills a fresh volume.
    let found = volume::inspect(&world.engine, "filled").await.unwrap();
    assert!(
        std::path::Path::new(&found.mountpoint)
            .join("passwd")
            .exists()
    );
    let error = volume::remove(&world.engine, "filled", false)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let ran = world
        .run(|b| {
            b.config.cmd = words(&[
                "sh",
                "-c",
                "id -u; id -g; pwd; echo $HOME; touch /x || echo refused",
            ]);
            b.config.user = "1234:5".to_owned();
            b.config.working_dir = "/made/here".to_owned();
            b.host_config.readonly_rootfs = true;
        })
        .await;
    assert_eq!(ran.out, "1234\n5\n/made/here\n/\nrefused\n", "{}", ran.err);
    world.remove_all().await;
    volume::remove(&world.engine, "filled", false)
        .await
        .unwrap();
}

pub async fn logs_are_followed(world: &World) {
    let script = "for i in 1 2 3; do echo line $i; sleep 0.1; done";
    let id = world
        .start("", |b| b.config.cmd = words(&["sh", "-c", script]))
        .await;
    let follow = LogOptions {
        follow: true,
        ..both()
    };
    let (out, _) = world.logs(&id, follow).await;
    assert_eq!(out, "line 1\nline 2\nline 3\n");
}

pub async fn restart_on_failure(world: &World) {
    let id = world
        .start("", |b| {
            b.config.cmd = words(&["sh", "-c", "echo run; exit 9"]);
            b.host_config.restart_policy = RestartPolicy {
                name: "on-failure".to_owned(),
                maximum_retry_count: 2,
            };
        })
        .await;
    let found = world
        .until(&id, "the last restart", |c| {
            c.state.status == "exited" && c.restart_count == 2
        })
        .await;
    assert_eq!(found.state.exit_code, 9);
    assert_eq!(world.logs(&id, both()).await.0, "run\nrun\nrun\n");
}

pub async fn auto_remove(world: &World) {
    let id = world
        .create("", |b| {
            b.config.cmd = words(&["sh", "-c", "exit 4"]);
            b.config.volumes = Some([("/v".to_owned(), Default::default())].into());
            b.host_config.auto_remove = true;
        })
        .await;
    let waiting = container::wait(&world.engine, &id, WaitCondition::Removed)
        .await
        .unwrap();
    container::start(&world.engine, &id).await.unwrap();
    assert_eq!(
        soon("its removal", waiting.outcome())
            .await
            .unwrap()
            .status_code,
        4
    );
    let error = container::inspect(&world.engine, &id, false)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

pub async fn a_failed_start_leaves_nothing(world: &World) {
    let id = world
        .create("", |b| {
            b.config.cmd = words(&["absent"]);
            b.host_config.auto_remove = true;
        })
        .await;
    container::start(&world.engine, &id).await.unwrap_err();
    assert!(container::inspect(&world.engine, &id, false).await.is_err());
    // Out of sight at once; what it was in memory goes behind the scenes.
    let place = |dir: &str| world.dir.path().join(dir).join("containers").join(&id);
    assert!(!place("data").exists());
    testkit::wait::until("the directory of its run to go", || {
        (!place("run").exists()).then_some(())
    });
}
