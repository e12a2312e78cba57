//! Against registries that break off, redirect, lie, or reach for passwords.

use std::time::Duration;

use crate::bench::{TestStore, busybox, client_with, config, reference, small_tar};
use crate::quirky::{Quirks, Quirky};
use axum::http::Method;
use berth_distribution::{
    Client, ClientOptions, Credentials, Error, ErrorKind, ProgressSender, PullOptions, Pulled,
    PushOptions,
};
use berth_spec::oci::image::media_type;
use berth_store::Store;
use berth_store::hash::sha256;

fn client() -> Client {
    client_with(ClientOptions {
        retry_pause: Some(Duration::ZERO),
        ..ClientOptions::default()
    })
}

async fn pull_with(
    store: &Store,
    registry: &Quirky,
    auth: Option<Credentials>,
) -> Result<Pulled, Error> {
    let name = reference(&format!("{}/x", registry.host()));
    let options = PullOptions {
        platform: None,
        auth,
    };
    client()
        .pull(store, &name, options, ProgressSender::none())
        .await
}

async fn pull(store: &Store, registry: &Quirky) -> Result<Pulled, Error> {
    pull_with(store, registry, None).await
}

/// Nothing of a failed pull is to be seen.
fn nothing_left(here: &TestStore) {
    assert!(here.store.images().list().unwrap().is_empty());
    assert_eq!(here.unfinished(), 0);
    here.store.collect().unwrap();
    let usage = here.store.usage().unwrap();
    assert_eq!((usage.content, usage.layers), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_line_is_resumed() {
    for ranges in [true, false] {
        let here = TestStore::new();
        let tar = testkit::rootfs::busybox_tar();
        let (mut quirks, id, layer) = Quirks::with_image(&tar);
        quirks.breaks = Some((layer.clone(), 300_000, 3));
        quirks.ranges = ranges;
        let registry = Quirky::start(quirks).await;
        assert_eq!(pull(&here.store, &registry).await.unwrap().image_id, id);
        let asked: Vec<_> = registry
            .seen(layer.as_str())
            .into_iter()
            .map(|(.., range)| range)
            .collect();
        assert!(asked.len() > 2, "{asked:?}");
        assert_eq!(asked[0], None);
        assert!(
            asked[1].as_ref().unwrap().starts_with("bytes="),
            "{asked:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_pull_goes_on_where_the_last_one_failed() {
    // Long enough to be worth keeping, and of bytes that do not repeat.
    let text: String = (0..400_000).map(|n| format!("{n:06x}")).collect();
    let tar = small_tar(&text);
    for spoiled in [false, true] {
        let mut here = TestStore::new();
        let (mut quirks, id, layer) = Quirks::with_image(&tar);
        quirks.breaks = Some((layer.clone(), 1_500_000, 1));
        let registry = Quirky::start(quirks).await;
        let then_nothing = registry.quirks.clone();
        // After the first break the blob is gone for a while.
        let bytes = then_nothing.lock().unwrap().blobs[&layer].clone();
        then_nothing.lock().unwrap().vanish = true;
        let error = pull(&here.store, &registry).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert_eq!(here.unfinished(), 1);
        registry.set(|q| {
            q.vanish = false;
            q.blobs.insert(layer.clone(), bytes);
        });
        here.reopen();
        if spoiled {
            here.spoil_unfinished();
        }
        let before = registry.seen(layer.as_str()).len();
        assert_eq!(pull(&here.store, &registry).await.unwrap().image_id, id);
        let asked: Vec<_> = registry.seen(layer.as_str())[before..]
            .iter()
            .map(|(.., range)| range.clone())
            .collect();
        let resumed = Some("bytes=1500000-".to_owned());
        match spoiled {
            false => assert_eq!(asked, [resumed]),
            true => assert_eq!(asked, [resumed, None]),
        }
        assert_eq!(here.unfinished(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_delivers_nothing_is_given_up() {
    let here = TestStore::new();
    let (mut quirks, _, layer) = Quirks::with_image(&small_tar("x"));
    quirks.breaks = Some((layer.clone(), 0, 1000));
    let registry = Quirky::start(quirks).await;
    let error = pull(&here.store, &registry).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(registry.seen(layer.as_str()).len(), 5);
    nothing_left(&here);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_busy_is_asked_again() {
    let here = TestStore::new();
    let (mut quirks, id, _) = Quirks::with_image(&small_tar("x"));
    quirks.unavailable = 3;
    let registry = Quirky::start(quirks).await;
    assert_eq!(pull(&here.store, &registry).await.unwrap().image_id, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_another_host_takes_no_credentials_along() {
    let here = TestStore::new();
    let (quirks, id, layer) = Quirks::with_image(&small_tar("x"));
    let storage = Quirky::start(quirks).await;
    let (mut quirks, ..) = Quirks::with_image(&small_tar("x"));
    quirks.challenge = Some(r#"Basic realm="x""#.into());
    quirks.authorization = Some("Basic dXNlcjpzZWNyZXQ=".into());
    quirks.blobs_elsewhere = Some(storage.host().to_owned());
    let registry = Quirky::start(quirks).await;
    let auth = Some(Credentials::basic("user", "secret"));
    let pulled = pull_with(&here.store, &registry, auth).await.unwrap();
    assert_eq!(pulled.image_id, id);
    let asked = storage.seen(layer.as_str());
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].2, None, "the storage saw the password");
    assert!(registry.seen(layer.as_str())[0].2.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_fetched_for_what_is_done() {
    let here = TestStore::new();
    let (mut quirks, id, _) = Quirks::with_image(&small_tar("x"));
    quirks.token = Some("abc".into());
    quirks.authorization = Some("Bearer abc".into());
    let registry = Quirky::start(quirks).await;
    let challenge = format!(
        r#"Bearer realm="http://{}/token",service="a, b",scope="registry:catalog:*""#,
        registry.host()
    );
    registry.set(|q| q.challenge = Some(challenge));
    assert_eq!(pull(&here.store, &registry).await.unwrap().image_id, id);
    let tokens = registry.seen("/token");
    assert_eq!(tokens.len(), 1, "one token does for a pull");
    assert!(
        tokens[0].1.contains("scope=repository%3Ax%3Apull&"),
        "{}",
        tokens[0].1
    );
    assert!(tokens[0].1.contains("service=a%2C%20b"), "{}", tokens[0].1);
    assert_eq!(tokens[0].2, None);

    let outcome = client()
        .login(registry.host(), &Credentials::basic("user", "secret"))
        .await
        .unwrap();
    assert_eq!(outcome.identity_token.unwrap().expose(), "refresh");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_does_not_go_to_a_foreign_realm_by_http() {
    let here = TestStore::new();
    let (quirks, ..) = Quirks::with_image(&small_tar("x"));
    let thief = Quirky::start(quirks).await;
    let (mut quirks, ..) = Quirks::with_image(&small_tar("x"));
    // The same machine, but not the host that the password was given for.
    let realm = format!(
        "http://{}/token",
        thief.host().replace("127.0.0.1", "127.0.0.2")
    );
    quirks.challenge = Some(format!(r#"Bearer realm="{realm}",service="s""#));
    let registry = Quirky::start(quirks).await;
    let auth = Some(Credentials::basic("user", "secret"));
    let error = pull_with(&here.store, &registry, auth).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(
        error.to_string().contains("refusing to send credentials"),
        "{error}"
    );
    assert!(!error.to_string().contains("secret"));
    assert!(thief.seen("/token").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_what_its_digest_says_is_not_taken() {
    let tar = small_tar("right");
    let (good, id, layer) = Quirks::with_image(&tar);
    let manifest = good.manifests["latest"].1.clone();
    type Lie = fn(&mut Quirks, &berth_spec::Digest, &berth_spec::Digest);
    let lies: [(&str, Lie, &str); 6] = [
        (
            "other layer",
            |q, _, l| drop(q.blobs.insert(l.clone(), small_tar("wrong"))),
            "filesystem layer verification failed for digest",
        ),
        (
            "longer layer",
            |q, _, l| q.blobs.get_mut(l).unwrap().extend([0; 512]),
            "filesystem layer verification failed for digest",
        ),
        (
            "other config",
            |q, c, _| drop(q.blobs.insert(c.clone(), config(&[]))),
            "other bytes than its digest",
        ),
        (
            "oversized manifest",
            |q, _, _| q.put_manifest("latest", media_type::OCI_MANIFEST, vec![b' '; 5 << 20]),
            "the answer is longer than",
        ),
        (
            "two shapes",
            |q, _, _| {
                q.put_manifest(
                    "latest",
                    "",
                    br#"{"schemaVersion":2,"layers":[],"manifests":[]}"#.to_vec(),
                )
            },
            "both layers and manifests",
        ),
        (
            "schema 1",
            |q, _, _| q.put_manifest("latest", "", br#"{"schemaVersion":1}"#.to_vec()),
            "schema 1",
        ),
    ];
    for (what, lie, why) in lies {
        let here = TestStore::new();
        let (mut quirks, ..) = Quirks::with_image(&tar);
        lie(&mut quirks, &id, &layer);
        let registry = Quirky::start(quirks).await;
        let error = pull(&here.store, &registry).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error}");
        assert!(error.to_string().contains(why), "{what}: {error}");
        nothing_left(&here);
    }
    // By digest: the registry answers with another manifest.
    let here = TestStore::new();
    let (mut quirks, ..) = Quirks::with_image(&tar);
    let wanted = sha256(&manifest);
    let other = quirks.manifests["latest"]
        .1
        .iter()
        .chain(b" ")
        .copied()
        .collect();
    quirks
        .manifests
        .insert(wanted.to_string(), (media_type::OCI_MANIFEST.into(), other));
    let registry = Quirky::start(quirks).await;
    let name = reference(&format!("{}/x@{wanted}", registry.host()));
    let error = client()
        .pull(
            &here.store,
            &name,
            PullOptions::default(),
            ProgressSender::none(),
        )
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("manifest verification failed"),
        "{error}"
    );
    nothing_left(&here);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_takes_chunks_only() {
    let (here, there) = (TestStore::new(), TestStore::new());
    let registry = Quirky::start(Quirks {
        chunks_only: true,
        ranges: true,
        ..Quirks::default()
    })
    .await;
    let name = reference(&format!("{}/x", registry.host()));
    let image = busybox(&here.store, &format!("{}:latest", name.familiar()));
    client()
        .push(
            &here.store,
            &name,
            &image.id,
            PushOptions::default(),
            ProgressSender::none(),
        )
        .await
        .unwrap();
    assert!(
        registry
            .seen("/uploads/")
            .iter()
            .any(|(m, ..)| *m == Method::PATCH)
    );
    assert_eq!(
        pull(&there.store, &registry).await.unwrap().image_id,
        image.id
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pulls_fetch_a_layer_once() {
    let here = TestStore::new();
    let tar = testkit::rootfs::busybox_tar();
    let (quirks, id, layer) = Quirks::with_image(&tar);
    let registry = Quirky::start(quirks).await;
    let name = reference(&format!("{}/x", registry.host()));
    let client = client();
    let pull = || {
        client.pull(
            &here.store,
            &name,
            PullOptions::default(),
            ProgressSender::none(),
        )
    };
    let (one, two) = tokio::join!(pull(), pull());
    assert_eq!(
        (one.unwrap().image_id, two.unwrap().image_id),
        (id.clone(), id)
    );
    assert_eq!(registry.seen(layer.as_str()).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_is_broken_off_leaves_nothing() {
    let here = TestStore::new();
    let tar = testkit::rootfs::busybox_tar();
    let (mut quirks, _, layer) = Quirks::with_image(&tar);
    quirks.breaks = Some((layer, 300_000, usize::MAX));
    let registry = Quirky::start(quirks).await;
    let (sender, mut receiver) = tokio::sync::mpsc::channel(64);
    let name = reference(&format!("{}/x", registry.host()));
    let client = client();
    let pull = client.pull(
        &here.store,
        &name,
        PullOptions::default(),
        ProgressSender::new(sender),
    );
    tokio::select! {
        outcome = pull => panic!("{outcome:?}"),
        // The first layer is on its way.
        _ = async {
            while let Some(line) = receiver.recv().await {
                if matches!(line, berth_distribution::Progress::Layer { phase: berth_distribution::LayerPhase::PullingFsLayer, .. }) {
                    break;
                }
            }
        } => {}
    }
    // The import's thread sees its source end and tidies up.
    testkit::wait::until("the ingest to go", || {
        (here.unfinished() == 0).then_some(())
    });
    assert!(here.store.images().list().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_stands_in_for_the_hub_and_sees_no_password() {
    let here = TestStore::new();
    let (quirks, id, _) = Quirks::with_image(&small_tar("x"));
    let mirror = Quirky::start(quirks).await;
    let client = client_with(ClientOptions {
        mirrors: vec![format!("http://{}/", mirror.host())],
        ..ClientOptions::default()
    });
    let options = PullOptions {
        platform: None,
        auth: Some(Credentials::basic("user", "secret")),
    };
    let name = reference("box:latest");
    let pulled = client
        .pull(&here.store, &name, options, ProgressSender::none())
        .await
        .unwrap();
    assert_eq!(pulled.image_id, id);
    assert_eq!(here.store.images().resolve("box").unwrap().id, id);
    let seen = mirror.seen("");
    assert!(seen.iter().all(|(_, _, auth, _)| auth.is_none()));
    assert!(!mirror.seen("/v2/library/box/manifests/latest").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_token_is_exchanged_and_not_shown_to_the_registry() {
    let here = TestStore::new();
    let (mut quirks, id, _) = Quirks::with_image(&small_tar("x"));
    quirks.token = Some("abc".into());
    quirks.authorization = Some("Bearer abc".into());
    let registry = Quirky::start(quirks).await;
    let challenge = format!(
        r#"Bearer realm="http://{}/token",service="s""#,
        registry.host()
    );
    registry.set(|q| q.challenge = Some(challenge));
    let auth = Credentials {
        identity_token: berth_distribution::Secret::new("refresh me"),
        ..Credentials::default()
    };
    let pulled = pull_with(&here.store, &registry, Some(auth)).await.unwrap();
    assert_eq!(pulled.image_id, id);
    let asked = registry.seen("/token");
    assert_eq!((asked.len(), &asked[0].0), (1, &Method::POST));
    let body = String::from_utf8(registry.quirks.lock().unwrap().token_form.clone()).unwrap();
    assert!(body.contains("grant_type=refresh_token"), "{body}");
    assert!(body.contains("refresh_token=refresh%20me"), "{body}");
    assert!(body.contains("scope=repository%3Ax%3Apull"), "{body}");
}

#[tokio::test]
async fn a_host_without_an_address() {
    let error = client()
        .login("no-such-host.invalid", &Credentials::basic("a", "b"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(
        error.to_string(),
        "Get \"https://no-such-host.invalid/v2/\": dial tcp: lookup no-such-host.invalid: no such host"
    );
}
