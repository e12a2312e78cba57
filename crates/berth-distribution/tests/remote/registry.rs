//! Against a real registry: what was pushed comes back as it was.

use std::io::Read;

use crate::bench::{TestStore, busybox, client, progress, reference, status_lines};
use berth_distribution::{
    Credentials, ErrorKind, LayerPhase, Progress, ProgressSender, PullOptions, PushOptions,
};
use berth_store::Store;
use testkit::registry::Registry;

fn tar_bytes(store: &Store, diff_id: &berth_spec::Digest) -> Vec<u8> {
    let mut bytes = Vec::new();
    store
        .layers()
        .open_tar(diff_id)
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

fn phases(lines: &[Progress]) -> Vec<&LayerPhase> {
    lines
        .iter()
        .filter_map(|line| match line {
            Progress::Layer { phase, .. } => Some(phase),
            Progress::Status { .. } => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn push_then_pull_gives_the_same_image() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let (here, there, client) = (TestStore::new(), TestStore::new(), client());
    let name = reference(&format!("{}/team/box:1", registry.host()));
    let image = busybox(&here.store, &name.to_string());

    let (sender, lines) = progress();
    let pushed = client
        .push(
            &here.store,
            &name,
            &image.id,
            PushOptions::default(),
            sender,
        )
        .await
        .unwrap();
    let lines = lines.await.unwrap();
    let told = status_lines(&lines);
    assert_eq!(
        told[0],
        format!("1: digest: {} size: {}", pushed.digest, pushed.size)
    );
    assert_eq!(
        phases(&lines)
            .iter()
            .filter(|p| ***p == LayerPhase::Pushed)
            .count(),
        2
    );
    let shown = name.without_tag().with_digest(pushed.digest.clone());
    assert_eq!(
        here.store.images().get(&image.id).unwrap().digests,
        std::slice::from_ref(&shown)
    );

    let (sender, lines) = progress();
    let pulled = client
        .pull(&there.store, &name, PullOptions::default(), sender)
        .await
        .unwrap();
    assert_eq!(pulled.image_id, image.id);
    assert_eq!(pulled.digest, pushed.digest);
    assert!(!pulled.up_to_date);
    let lines = lines.await.unwrap();
    assert_eq!(
        status_lines(&lines),
        [
            "1: Pulling from team/box".to_owned(),
            format!("Digest: {}", pushed.digest),
            format!("Status: Downloaded newer image for {name}"),
        ]
    );
    assert_eq!(
        phases(&lines)
            .iter()
            .filter(|p| ***p == LayerPhase::PullComplete)
            .count(),
        2
    );
    let found = there.store.images().resolve(&name.to_string()).unwrap();
    assert_eq!(found.id, image.id);
    assert_eq!(found.digests, [shown]);
    for diff_id in image.layers() {
        assert!(tar_bytes(&here.store, diff_id) == tar_bytes(&there.store, diff_id));
    }
    assert_eq!(there.unfinished(), 0);
    // Nothing was left loose, and nothing needed is loose.
    assert_eq!(
        there.store.collect().unwrap(),
        berth_store::Collected::default()
    );

    let (sender, lines) = progress();
    let again = client
        .pull(&there.store, &name, PullOptions::default(), sender)
        .await
        .unwrap();
    assert!(again.up_to_date);
    let told = status_lines(&lines.await.unwrap());
    assert_eq!(told[2], format!("Status: Image is up to date for {name}"));

    // Pulled, tagged otherwise, pushed: the manifest is the same, and no blob travels.
    let copy = reference(&format!("{}/other/copy:2", registry.host()));
    let (sender, lines) = progress();
    let copied = client
        .push(
            &there.store,
            &copy,
            &image.id,
            PushOptions::default(),
            sender,
        )
        .await
        .unwrap();
    assert_eq!(copied, pushed);
    let lines = lines.await.unwrap();
    let mounted = LayerPhase::MountedFrom("team/box".into());
    assert_eq!(phases(&lines).iter().filter(|p| ***p == mounted).count(), 2);

    // By digest.
    let by_digest = copy.without_tag().with_digest(copied.digest.clone());
    let third = TestStore::new();
    let pulled = client
        .pull(
            &third.store,
            &by_digest,
            PullOptions::default(),
            ProgressSender::none(),
        )
        .await
        .unwrap();
    assert_eq!(pulled.image_id, image.id);
    assert!(third.store.images().get(&image.id).unwrap().tags.is_empty());

    let more = name.with_tag("2").unwrap();
    let outcome = client.push(
        &here.store,
        &more,
        &image.id,
        PushOptions::default(),
        ProgressSender::none(),
    );
    assert_eq!(outcome.await.unwrap().digest, pushed.digest);
    assert_eq!(client.tags(&name, None).await.unwrap(), ["1", "2"]);

    let inspected = client.inspect(&name, None).await.unwrap();
    assert_eq!(inspected.descriptor.digest, pushed.digest);
    assert_eq!(inspected.platforms.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_with_a_password() {
    let Some(registry) = Registry::start_with_password() else {
        return;
    };
    let (here, there, client) = (TestStore::new(), TestStore::new(), client());
    let name = reference(&format!("{}/box:1", registry.host()));
    let image = busybox(&here.store, &name.to_string());
    let right = Credentials::basic("user", "secret");
    let wrong = Credentials::basic("user", "guess");

    client.login(&registry.host(), &right).await.unwrap();
    let error = client.login(&registry.host(), &wrong).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert_eq!(
        error.to_string(),
        format!(
            "login attempt to http://{}/v2/ failed with status: 401 Unauthorized",
            registry.host()
        )
    );
    let push = |auth| {
        client.push(
            &here.store,
            &name,
            &image.id,
            PushOptions { auth },
            ProgressSender::none(),
        )
    };
    let error = push(None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(
        error.to_string().ends_with("no basic auth credentials"),
        "{error}"
    );
    let error = push(Some(wrong.clone())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(!error.to_string().contains("guess"));
    push(Some(right.clone())).await.unwrap();

    let pull = |auth| {
        let options = PullOptions {
            platform: None,
            auth,
        };
        client.pull(&there.store, &name, options, ProgressSender::none())
    };
    assert_eq!(
        pull(None).await.unwrap_err().kind(),
        ErrorKind::Unauthorized
    );
    let error = pull(Some(wrong)).await.unwrap_err();
    assert!(
        error.to_string().starts_with("pull access denied for "),
        "{error}"
    );
    assert!(there.store.images().list().unwrap().is_empty());
    assert_eq!(pull(Some(right)).await.unwrap().image_id, image.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_as_docker_says_it() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let (here, client) = (TestStore::new(), client());
    let name = reference(&format!("{}/box:1", registry.host()));
    let image = busybox(&here.store, &name.to_string());
    client
        .push(
            &here.store,
            &name,
            &image.id,
            PushOptions::default(),
            ProgressSender::none(),
        )
        .await
        .unwrap();
    let pull = |text: String| {
        let (client, store) = (client.clone(), here.store.clone());
        async move {
            client
                .pull(
                    &store,
                    &reference(&text),
                    PullOptions::default(),
                    ProgressSender::none(),
                )
                .await
                .unwrap_err()
        }
    };
    let error = pull(format!("{}/box:2", registry.host())).await;
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(
        error.to_string(),
        format!(
            "manifest for {}/box:2 not found: manifest unknown: manifest unknown",
            registry.host()
        )
    );
    let error = pull(format!("{}/nobody:1", registry.host())).await;
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");

    let options = PullOptions {
        platform: Some("linux/s390x".into()),
        auth: None,
    };
    let error = client
        .pull(
            &TestStore::new().store,
            &name,
            options,
            ProgressSender::none(),
        )
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("does not match the specified platform: wanted linux/s390x"),
        "{error}"
    );
}

#[tokio::test]
async fn nobody_listens() {
    let port = testkit::http::free_port();
    let error = client()
        .login(&format!("127.0.0.1:{port}"), &Credentials::basic("a", "b"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(
        error.to_string(),
        format!(
            "Get \"http://127.0.0.1:{port}/v2/\": dial tcp 127.0.0.1:{port}: connect: connection refused"
        )
    );
}
