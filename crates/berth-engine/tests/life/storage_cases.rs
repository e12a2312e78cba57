//! Volumes, files copied in and out, images made of containers, and what prune takes.

use std::os::unix::fs::MetadataExt;

use berth_engine::container::{self, CommitRequest, CopyInOptions, RemoveOptions};
use berth_engine::{ByteStream, ErrorKind, Filters, image, system, volume};
use berth_spec::docker::config::Mount;
use berth_spec::docker::{ContainerCreateBody, Empty, VolumeCreateBody};
use futures_util::StreamExt;

use crate::world::{World, words};

fn sh(script: &str) -> impl FnOnce(&mut ContainerCreateBody) + use<'_> {
    move |body| body.config.cmd = words(&["sh", "-c", script])
}

fn bind(script: &str, binds: &[&str]) -> impl FnOnce(&mut ContainerCreateBody) {
    let (script, binds) = (
        script.to_owned(),
        binds.iter().map(|b| (*b).to_owned()).collect(),
    );
    move |body| {
        body.config.cmd = words(&["sh", "-c", &script]);
        body.host_config.binds = Some(binds);
    }
}

fn named(name: &str) -> VolumeCreateBody {
    VolumeCreateBody {
        name: name.to_owned(),
        ..VolumeCreateBody::default()
    }
}

fn filter(name: &str, value: &str) -> Filters {
    Filters::default().with(name, value)
}

async fn volumes(world: &World, filters: Filters) -> Vec<String> {
    let list = volume::list(&world.engine, filters).await.unwrap();
    list.volumes.into_iter().map(|v| v.name).collect()
}

pub async fn volumes_live_and_go(world: &World) {
    let engine = &world.engine;
    let mut body = named("data");
    body.labels.insert("team".to_owned(), "a".to_owned());
    let made = volume::create(engine, body).await.unwrap();
    assert_eq!((&*made.driver, &*made.scope), ("local", "local"));
    assert!(made.mountpoint.ends_with("/volumes/data/_data"));
    // Once more is the same one; with other options it is another.
    volume::create(engine, named("data")).await.unwrap();
    let mut other = named("data");
    other
        .driver_opts
        .insert("type".to_owned(), "tmpfs".to_owned());
    other
        .driver_opts
        .insert("device".to_owned(), "tmpfs".to_owned());
    let error = volume::create(engine, other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let ran = world.run(bind("echo kept > /v/file", &["data:/v"])).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let users = container::list(
        engine,
        container::ListOptions {
            all: true,
            filters: filter("volume", "data"),
            ..container::ListOptions::default()
        },
    );
    let user = users.await.unwrap().remove(0).id;
    let error = volume::remove(engine, "data", true).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (
            ErrorKind::Conflict,
            format!("remove data: volume is in use - [{user}]")
        )
    );
    let anonymous = volume::create(engine, VolumeCreateBody::default())
        .await
        .unwrap();
    assert_eq!(anonymous.name.len(), 64);
    assert_eq!(
        volumes(world, filter("dangling", "true")).await,
        [&*anonymous.name]
    );
    assert_eq!(volumes(world, filter("label", "team=a")).await, ["data"]);
    assert_eq!(volumes(world, filter("name", "dat")).await, ["data"]);
    world.remove_all().await;
    // What a container wrote is there for the next one.
    let ran = world.run(bind("cat /v/file", &["data:/v:ro"])).await;
    assert_eq!(ran.out, "kept\n");
    let ran = world.run(bind("echo no > /v/file", &["data:/v:ro"])).await;
    assert!(ran.err.contains("Read-only file system"), "{}", ran.err);
    world.remove_all().await;
    let pruned = volume::prune(engine, Filters::default()).await.unwrap();
    assert_eq!(pruned.volumes_deleted.unwrap(), [anonymous.name]);
    let pruned = volume::prune(engine, filter("all", "1")).await.unwrap();
    assert_eq!(pruned.volumes_deleted.unwrap(), ["data"]);
    assert!(pruned.space_reclaimed >= 4096, "{}", pruned.space_reclaimed);
    let error = volume::inspect(engine, "data").await.unwrap_err();
    assert_eq!(error.to_string(), "get data: no such volume");
    volume::remove(engine, "data", true).await.unwrap();
    for (name, word) in [("x", "too short"), ("../up", "includes invalid characters")] {
        let error = volume::create(engine, named(name)).await.unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
}

/// While containers are made with a volume, others remove what nobody uses.
pub async fn a_volume_is_not_pruned_from_under_a_container(world: &World) {
    let engine = &world.engine;
    let (done, pruning) = tokio::sync::watch::channel(false);
    let pruner = tokio::spawn({
        let engine = engine.clone();
        async move {
            while !*pruning.borrow() {
                let all = Filters::default().with("all", "true");
                volume::prune(&engine, all).await.unwrap();
            }
        }
    });
    let mut lost = Vec::new();
    for _ in 0..40 {
        let id = world.create("", bind("true", &["shared:/data"])).await;
        if volume::inspect(engine, "shared").await.is_err() {
            lost.push(id.clone());
        }
        container::remove(engine, &id, RemoveOptions::default())
            .await
            .unwrap();
    }
    done.send(true).unwrap();
    pruner.await.unwrap();
    assert!(lost.is_empty(), "without their volume: {lost:?}");
}

pub async fn volumes_are_filled_from_the_image(world: &World) {
    let engine = &world.engine;
    let ran = world.run(bind(
        "cat /etc/passwd; stat -c %a /tmp",
        &["filled:/etc", "sticky:/tmp"],
    ));
    let ran = ran.await;
    assert!(
        ran.out.starts_with("root:") && ran.out.ends_with("\n1777\n"),
        "{ran:?}"
    );
    // Only the first use fills it.
    let ran = world.run(bind("rm /v/passwd", &["filled:/v"])).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let ran = world
        .run(bind("test ! -e /etc/passwd", &["filled:/etc"]))
        .await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let ran = world
        .run(bind("ls /etc/passwd", &["empty:/etc:nocopy"]))
        .await;
    assert_ne!(ran.code, 0);
    // What an image declares is anonymous, and goes with its container.
    let id = world
        .create("", |b| {
            b.config.volumes = Some([("/data".to_owned(), Empty {})].into());
            b.config.cmd = words(&["touch", "/data/x"]);
        })
        .await;
    world.run_created(&id).await;
    let found = container::inspect(engine, &id, false).await.unwrap();
    let name = found.mounts[0].name.clone();
    assert_eq!(name.len(), 64);
    let with_volumes = RemoveOptions {
        volumes: true,
        ..RemoveOptions::default()
    };
    container::remove(engine, &id, with_volumes).await.unwrap();
    assert!(volume::inspect(engine, &name).await.is_err());
    world.remove_all().await;
    volume::prune(engine, filter("all", "true")).await.unwrap();
}

pub async fn volumes_of_the_local_drivers_kinds(world: &World) {
    let engine = &world.engine;
    let host = world.dir.path().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("file"), "of the host").unwrap();
    let device = host.display().to_string();
    for (name, kind, options, device) in [
        ("memory", "tmpfs", "size=1m,mode=0700", "tmpfs"),
        ("bound", "none", "bind", &*device),
    ] {
        let mut body = named(name);
        for (option, value) in [("type", kind), ("o", options), ("device", device)] {
            body.driver_opts.insert(option.to_owned(), value.to_owned());
        }
        volume::create(engine, body).await.unwrap();
    }
    let script = "grep ' /m ' /proc/mounts; stat -c %a /m; cat /b/file; echo back > /b/new";
    let ran = world.run(bind(script, &["memory:/m", "bound:/b"])).await;
    let tmpfs = ran.out.starts_with("tmpfs /m tmpfs rw") && ran.out.contains("size=1024k");
    assert!(tmpfs && ran.out.ends_with("\n700\nof the host"), "{ran:?}");
    assert_eq!(std::fs::read_to_string(host.join("new")).unwrap(), "back\n");
    let mut body = named("wrong");
    body.driver_opts
        .insert("colour".to_owned(), "blue".to_owned());
    let error = volume::create(engine, body).await.unwrap_err();
    assert_eq!(error.to_string(), "invalid option: \"colour\"");
    world.remove_all().await;
    volume::prune(engine, filter("all", "true")).await.unwrap();
    assert!(host.join("file").exists(), "files of the host stay");
}

async fn collect(mut stream: ByteStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    bytes
}

/// Names, owners and contents of an archive.
fn entries(bytes: &[u8]) -> Vec<(String, u64, String)> {
    let mut archive = tar::Archive::new(bytes);
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
        (name, entry.header().uid().unwrap(), text)
    };
    archive.entries().unwrap().map(read).collect()
}

fn names(bytes: &[u8]) -> Vec<String> {
    entries(bytes).into_iter().map(|(name, ..)| name).collect()
}

fn archive(name: &str, uid: u64, content: &str) -> std::io::Cursor<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(uid);
    header.set_gid(uid);
    // As it is: the writer would refuse a name that climbs.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
    tar.append(&header, content.as_bytes()).unwrap();
    std::io::Cursor::new(tar.into_inner().unwrap())
}

pub async fn files_are_copied_as_docker_names_them(world: &World) {
    let engine = &world.engine;
    let setup =
        "mkdir -p /d/sub; echo one > /d/file; ln -s d /link; ln -s /etc/passwd /d/abs; sleep 1000";
    for running in [true, false] {
        let id = world
            .start("", bind(setup, &["copied:/vol", "fixed:/ro:ro"]))
            .await;
        world.until_running(&id, &["test", "-L", "/d/abs"]).await;
        if !running {
            let options = container::StopOptions {
                timeout: Some(0),
                ..container::StopOptions::default()
            };
            container::stop(engine, &id, options).await.unwrap();
        }
        for (path, expected) in [
            ("/d", &["d/", "d/abs", "d/file", "d/sub/"][..]),
            ("d/", &["d/", "d/abs", "d/file", "d/sub/"]),
            ("/d/.", &["./", "./abs", "./file", "./sub/"]),
            ("/link", &["link"]),
            ("/link/.", &["./", "./abs", "./file", "./sub/"]),
            ("/d/../d/file", &["file"]),
        ] {
            let (_, stream) = container::copy_out(engine, &id, path).await.unwrap();
            assert_eq!(names(&collect(stream).await), expected, "{path}");
        }
        let stat = container::stat_path(engine, &id, "/d/abs").await.unwrap();
        assert_eq!((&*stat.name, &*stat.link_target), ("abs", "/etc/passwd"));
        let keep = CopyInOptions::default();
        let copy = |path: &'static str, tar| container::copy_in(engine, &id, path, keep, tar);
        copy("/vol", archive("in", 1234, "volume")).await.unwrap();
        copy("/link", archive("in", 1234, "through a link"))
            .await
            .unwrap();
        let (_, stream) = container::copy_out(engine, &id, "/d/in").await.unwrap();
        let found = entries(&collect(stream).await);
        assert_eq!(
            found,
            [("in".to_owned(), 1234, "through a link".to_owned())]
        );
        let data = volume::inspect(engine, "copied").await.unwrap().mountpoint;
        let meta = std::fs::metadata(format!("{data}/in")).unwrap();
        assert_eq!((meta.uid(), meta.len()), (1234, 6));
        for (path, kind, text) in [
            (
                "/none",
                ErrorKind::NotFound,
                "Could not find the file /none in container ",
            ),
            (
                "/d/file",
                ErrorKind::Invalid,
                "extraction point is not a directory",
            ),
            (
                "/ro",
                ErrorKind::Forbidden,
                "mounted volume is marked read-only",
            ),
        ] {
            let error = copy(path, archive("in", 0, "")).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{path}: {error}");
            assert!(error.to_string().starts_with(text), "{error}");
        }
        let strict = CopyInOptions {
            no_overwrite_dir_non_dir: true,
            ..keep
        };
        let tar = archive("sub", 0, "no directory");
        assert!(
            container::copy_in(engine, &id, "/d", strict, tar)
                .await
                .is_err()
        );
        // A name that climbs stays inside.
        let tar = archive("x/../../../../../../escaped", 0, "");
        let _ = container::copy_in(engine, &id, "/d", keep, tar).await;
        assert!(!std::path::Path::new("/escaped").exists());
        world.remove_all().await;
        volume::prune(engine, filter("all", "true")).await.unwrap();
    }
}

pub async fn copies_belong_to_the_containers_user_if_asked(world: &World) {
    let engine = &world.engine;
    let id = world
        .create("", |b| {
            b.config.user = "1000:100".to_owned();
            b.host_config.readonly_rootfs = true;
            b.config.cmd = words(&["sleep", "1000"]);
            b.host_config.mounts = Some(vec![Mount {
                kind: "volume".to_owned(),
                source: "owned".to_owned(),
                target: "/v".to_owned(),
                ..Mount::default()
            }]);
        })
        .await;
    let asked = CopyInOptions {
        copy_uid_gid: true,
        ..CopyInOptions::default()
    };
    let tar = archive("file", 7, "x");
    container::copy_in(engine, &id, "/v", asked, tar)
        .await
        .unwrap();
    let data = volume::inspect(engine, "owned").await.unwrap().mountpoint;
    let meta = std::fs::metadata(format!("{data}/file")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (1000, 100));
    let refused = container::copy_in(engine, &id, "/tmp", asked, archive("file", 7, "x")).await;
    assert_eq!(
        refused.unwrap_err().to_string(),
        "container rootfs is marked read-only"
    );
    world.remove_all().await;
    volume::prune(engine, filter("all", "true")).await.unwrap();
}

pub async fn commit_of_nothing_has_no_layer_more(world: &World) {
    let engine = &world.engine;
    let id = world.create("", sh("exit 3")).await;
    let commit = |repo: &str| CommitRequest {
        container: id.clone(),
        repo: repo.to_owned(),
        author: "A. Uthor".to_owned(),
        comment: "why".to_owned(),
        pause: true,
        ..CommitRequest::default()
    };
    container::commit(engine, commit("same")).await.unwrap();
    let base = image::inspect(engine, "busybox").await.unwrap();
    let same = image::inspect(engine, "same").await.unwrap();
    assert_eq!(same.root_fs.layers, base.root_fs.layers);
    assert_eq!(
        (&*same.author, &*same.comment, &*same.parent),
        ("A. Uthor", "why", &*base.id)
    );
    let history = image::history(engine, "same").await.unwrap();
    assert_eq!(
        (&*history[0].created_by, history[0].size),
        ("sh -c exit 3", 0)
    );
    let tar = archive("file", 0, "content");
    let plain = CopyInOptions::default();
    container::copy_in(engine, &id, "/", plain, tar)
        .await
        .unwrap();
    container::commit(engine, commit("more:one")).await.unwrap();
    let more = image::inspect(engine, "more:one").await.unwrap();
    assert_eq!(more.root_fs.layers.len(), base.root_fs.layers.len() + 1);
    let ran = world.run(|b| b.config.image = "more:one".to_owned()).await;
    assert_eq!(ran.code, 3);
    let bad = CommitRequest {
        tag: "-bad".to_owned(),
        ..commit("more")
    };
    assert_eq!(
        container::commit(engine, bad).await.unwrap_err().kind(),
        ErrorKind::Invalid
    );
    world.remove_all().await;
    for name in ["same", "more:one"] {
        image::remove(engine, name, false, true).await.unwrap();
    }
}

pub async fn prune_takes_what_nobody_uses(world: &World) {
    let engine = &world.engine;
    let kept = world.start("", sh("sleep 1000")).await;
    let gone = world.create("", sh("true")).await;
    let labelled = world
        .create("", |b| {
            b.config.cmd = words(&["true"]);
            b.config.labels = Some([("keep".to_owned(), "1".to_owned())].into());
        })
        .await;
    let pruned = container::prune(engine, filter("until", "1h"))
        .await
        .unwrap();
    assert_eq!(pruned.containers_deleted, None);
    let pruned = container::prune(engine, filter("label!", "keep"))
        .await
        .unwrap();
    assert_eq!(pruned.containers_deleted.unwrap(), [gone]);
    let left = container::list(
        engine,
        container::ListOptions {
            all: true,
            size: true,
            ..container::ListOptions::default()
        },
    );
    let mut left: Vec<_> = left.await.unwrap().into_iter().map(|c| c.id).collect();
    let mut expected = vec![kept, labelled];
    left.sort();
    expected.sort();
    assert_eq!(left, expected);
    let usage = system::df(engine).await.unwrap();
    assert_eq!(usage.containers.len(), 2);
    let busybox = &usage.images[0];
    assert!(usage.layers_size > 0 && busybox.size > 0, "{usage:?}");
    assert_eq!(busybox.containers, 2);
    // An image without a name goes; one in use, or with a name, stays.
    image::tag(engine, "busybox", "other", "tag").await.unwrap();
    let pruned = image::prune(engine, Filters::default()).await.unwrap();
    assert_eq!(pruned.images_deleted, None);
    image::remove(engine, "other:tag", false, true)
        .await
        .unwrap();
    let wrong = container::prune(engine, filter("colour", "blue"))
        .await
        .unwrap_err();
    assert_eq!(wrong.to_string(), "invalid filter 'colour'");
}
