//! Where content comes from: `hosts.toml`, mirrors by prefix, who may be spoken to without TLS.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use berth_distribution::{
    Client, ClientOptions, Error, ErrorKind, ProgressSender, PullOptions, Pulled, PushOptions,
};
use berth_spec::oci::image::media_type;
use berth_store::Store;

use crate::bench::{TestStore, busybox, client_with, reference};
use crate::quirky::{Quirks, Quirky};

/// A directory of `hosts.toml` files.
struct Certs(tempfile::TempDir);

impl Certs {
    fn new(host: &str, hosts_toml: &str) -> Certs {
        let certs = Certs(tempfile::tempdir().unwrap());
        let dir = certs.0.path().join(host);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("hosts.toml"), hosts_toml).unwrap();
        certs
    }

    fn client(&self) -> Client {
        client(|options| options.certs_dirs = vec![PathBuf::from(self.0.path())])
    }
}

fn client(change: impl FnOnce(&mut ClientOptions)) -> Client {
    let mut options = ClientOptions {
        retry_pause: Some(Duration::ZERO),
        ..ClientOptions::default()
    };
    change(&mut options);
    client_with(options)
}

async fn pull(client: &Client, store: &Store, name: &str) -> Result<Pulled, Error> {
    let options = PullOptions::default();
    client
        .pull(store, &reference(name), options, ProgressSender::none())
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_from_the_registry_content_from_the_mirror() {
    let tar = testkit::rootfs::busybox_tar();
    let (quirks, id, layer) = Quirks::with_image(&tar);
    let origin = Quirky::start(quirks).await;
    let (mut quirks, ..) = Quirks::with_image(&tar);
    // The mirror would say something else of the tag.
    quirks.put_manifest("latest", media_type::OCI_MANIFEST, b"{}".to_vec());
    let mirror = Quirky::start(quirks).await;
    let host = origin.host().to_owned();
    let certs = Certs::new(
        &host,
        &format!(
            "server = \"http://{host}\"\n\
             [host.\"http://{}/cache/ours\"]\ncapabilities = [\"pull\"]\noverride_path = true\n\
             [host.\"http://{}/cache/ours\".header]\nauthorization = \"Key 5\"\n",
            mirror.host(),
            mirror.host()
        ),
    );
    let here = TestStore::new();
    let pulled = pull(&certs.client(), &here.store, &format!("{host}/x")).await;
    assert_eq!(pulled.unwrap().image_id, id);
    let seen = mirror.seen("");
    assert!(!seen.is_empty());
    let namespace = format!("?ns={}", host.replace(':', "%3A"));
    for (_, path, authorization, _) in &seen {
        assert!(path.starts_with("/cache/ours/x/"), "{path}");
        assert!(path.ends_with(&namespace), "{path}");
        assert_eq!(authorization.as_deref(), Some("Key 5"));
    }
    assert_eq!(mirror.seen(layer.as_str()).len(), 1);
    assert!(mirror.seen("latest").is_empty());
    assert!(origin.seen(layer.as_str()).is_empty());
    assert!(!origin.seen("/v2/x/manifests/latest").is_empty());
    assert!(origin.seen("ns=").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_lacks_it_or_is_gone_is_passed_over() {
    let tar = testkit::rootfs::busybox_tar();
    let (quirks, id, layer) = Quirks::with_image(&tar);
    let origin = Quirky::start(quirks).await;
    let empty = Quirky::start(Quirks::default()).await;
    let gone = testkit::http::free_port();
    let host = origin.host().to_owned();
    let certs = Certs::new(
        &host,
        &format!(
            "server = \"http://{host}\"\n[host.\"http://127.0.0.1:{gone}\"]\n[host.\"http://{}\"]\n",
            empty.host()
        ),
    );
    let here = TestStore::new();
    let pulled = pull(&certs.client(), &here.store, &format!("{host}/x")).await;
    assert_eq!(pulled.unwrap().image_id, id);
    assert!(!empty.seen("/v2/x/manifests/latest").is_empty());
    assert_eq!(origin.seen(layer.as_str()).len(), 1);
    // Nobody is asked in vain where the file allows nobody.
    let certs = Certs::new(
        &host,
        &format!("server = \"http://{host}\"\ncapabilities = [\"push\"]\n"),
    );
    let error = pull(&certs.client(), &here.store, &format!("{host}/y")).await;
    assert!(error.unwrap_err().to_string().contains("hosts.toml"));
    let broken = Certs::new(&host, "server = 5");
    let error = pull(&broken.client(), &here.store, &format!("{host}/y")).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("hosts.toml"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_go_where_the_file_says() {
    let origin = Quirky::start(Quirks::default()).await;
    let other = Quirky::start(Quirks::default()).await;
    let host = origin.host().to_owned();
    let certs = Certs::new(
        &host,
        &format!(
            "server = \"http://{host}\"\ncapabilities = [\"pull\", \"resolve\"]\n\
             [host.\"http://{}\"]\ncapabilities = [\"push\"]\n",
            other.host()
        ),
    );
    let here = TestStore::new();
    let name = format!("{host}/x:1");
    let image = busybox(&here.store, &name);
    let pushed = certs
        .client()
        .push(
            &here.store,
            &reference(&name),
            &image.id,
            PushOptions::default(),
            ProgressSender::none(),
        )
        .await
        .unwrap();
    assert!(other.seen("/manifests/1").len() == 1 && origin.seen("").is_empty());
    assert!(
        other
            .quirks
            .lock()
            .unwrap()
            .manifests
            .contains_key(pushed.digest.as_str())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_are_chosen_by_prefix() {
    let tar = testkit::rootfs::busybox_tar();
    let (quirks, id, _) = Quirks::with_image(&tar);
    let mirror = Quirky::start(quirks).await;
    let client = client(|options| {
        options.prefix_mirrors = vec![(
            "registry.invalid/team".to_owned(),
            vec![format!("http://{}/cache/team", mirror.host())],
        )];
    });
    let here = TestStore::new();
    let name = "registry.invalid/team/app:latest";
    let pulled = pull(&client, &here.store, name).await.unwrap();
    assert_eq!(pulled.image_id, id);
    let seen = mirror.seen("/v2/cache/team/app/");
    assert_eq!(seen.len() + 1, mirror.seen("").len(), "{seen:?}");
    // It is called what it was asked for as.
    let image = here.store.images().resolve(name).unwrap();
    assert_eq!(image.tags, [reference(name)]);
    let other = pull(&client, &here.store, "registry.invalid/other/app").await;
    assert_eq!(other.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn loopback_needs_tls_once_registries_are_named() {
    let (quirks, id, _) = Quirks::with_image(&testkit::rootfs::busybox_tar());
    let registry = Quirky::start(quirks).await;
    let here = TestStore::new();
    let name = format!("{}/x", registry.host());
    let named = client(|options| options.insecure_registries = vec!["reg.lan".to_owned()]);
    let error = pull(&named, &here.store, &name).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("HTTPS client"), "{error}");
    let with_loopback =
        client(|options| options.insecure_registries = vec!["127.0.0.0/8".to_owned()]);
    for client in [with_loopback, client(|_| ())] {
        let pulled = pull(&client, &here.store, &name).await.unwrap();
        assert_eq!(pulled.image_id, id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_quota_is_known() {
    let (mut quirks, ..) = Quirks::with_image(&testkit::rootfs::busybox_tar());
    quirks.ratelimit = Some(("100;w=21600".to_owned(), "76;w=21600".to_owned()));
    let registry = Quirky::start(quirks).await;
    let here = TestStore::new();
    let client = client(|_| ());
    assert!(client.quotas().is_empty());
    let name = format!("{}/x", registry.host());
    pull(&client, &here.store, &name).await.unwrap();
    let quotas = client.quotas();
    assert_eq!(quotas.len(), 1);
    assert_eq!(
        (quotas[0].limit, quotas[0].remaining, quotas[0].window),
        (100, 76, Some(Duration::from_secs(21_600)))
    );
    assert_eq!(quotas[0].registry, registry.host());
}
