//! Replicas: blobs in a real S3-compatible server, the record in a real PostgreSQL.

use berth_distribution::server::{Registry, Settings};
use berth_store::hash::sha256;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::postgres::Postgres;
use testkit::s3::{BUCKET, KEY, S3};

use crate::harness::{MANIFEST, Server, expect, header};

/// What replicas share.
struct Shared {
    postgres: Postgres,
    s3: S3,
    url: String,
}

impl Shared {
    /// Nothing where one of the two is missing, which was said then.
    fn start() -> Option<Self> {
        let postgres = Postgres::start()?;
        let url = postgres.database("registry");
        Some(Self {
            s3: S3::start()?,
            postgres,
            url,
        })
    }

    async fn replica(&self, more: Value) -> Server {
        let mut settings = json!({
            "postgres": {"url": self.url},
            "s3": {
                "endpoint": self.s3.endpoint(), "bucket": BUCKET,
                "access-key": KEY, "secret-key": KEY, "part-size": "5MiB",
            },
        });
        for (name, value) in more.as_object().unwrap() {
            settings[name] = value.clone();
        }
        Server::start(settings).await
    }

    fn count(&self, table: &str) -> String {
        self.postgres
            .run("registry", &format!("SELECT count(*) FROM {table}"))
    }
}

/// Bytes that do not repeat, so that a part in another's place is noticed.
fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        bytes.extend((state >> 24).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Sends a chunk to `server`, for the upload at `location` (a path).
async fn chunk(server: &Server, location: &str, from: usize, bytes: &[u8]) -> StatusCode {
    let path = location.split_once("/v2/").unwrap().1;
    let range = format!("{from}-{}", from + bytes.len() - 1);
    let answer = server
        .request(Method::PATCH, &format!("/v2/{path}"))
        .header("content-range", range)
        .body(bytes.to_vec())
        .send()
        .await
        .unwrap();
    answer.status()
}

async fn finish(server: &Server, location: &str, digest: &str, last: &[u8]) -> reqwest::Response {
    let path = location.split_once("/v2/").unwrap().1;
    server
        .request(Method::PUT, &format!("/v2/{path}?digest={digest}"))
        .body(last.to_vec())
        .send()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_takes_every_replica_has() {
    let Some(shared) = Shared::start() else {
        return;
    };
    let (a, b) = (
        shared.replica(json!({})).await,
        shared.replica(json!({})).await,
    );
    let digest = a.image("team/app", "v1", "a layer").await;
    let there = b.get("/v2/team/app/manifests/v1").await;
    assert_eq!(header(&there, "docker-content-digest"), digest);
    // A tag moves, and goes, for all at once.
    let second = b.image("team/app", "v1", "another layer").await;
    let there = a.get("/v2/team/app/manifests/v1").await;
    assert_eq!(header(&there, "docker-content-digest"), second);
    let gone = a.delete("/v2/team/app/manifests/v1").await;
    assert_eq!(gone.status(), StatusCode::ACCEPTED);
    let there = b.get("/v2/team/app/manifests/v1").await;
    assert_eq!(there.status(), StatusCode::NOT_FOUND);

    // Small blobs come from the registry, with ranges; for large ones it names the store.
    let layer = sha256(b"a layer").to_string();
    let path = format!("/v2/team/app/blobs/{layer}");
    let small = b.get(&path).await;
    assert_eq!(small.url().as_str(), format!("{}{path}", b.base));
    assert_eq!(small.bytes().await.unwrap(), "a layer");
    let part = b.request(Method::GET, &path).header("range", "bytes=2-4");
    let part = part.send().await.unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.bytes().await.unwrap(), "lay");
    let large = bytes(12 << 20, 1);
    let digest = a.blob("team/app", &large).await;
    let path = format!("/v2/team/app/blobs/{digest}");
    let told = b.request(Method::HEAD, &path).send().await.unwrap();
    assert_eq!(header(&told, "content-length"), large.len().to_string());
    let whole = b.get(&path).await;
    assert!(whole.url().as_str().starts_with(&shared.s3.endpoint()));
    assert!(whole.bytes().await.unwrap() == large);
    let part = b
        .request(Method::GET, &path)
        .header("range", "bytes=6000000-6000009");
    let part = part.send().await.unwrap().bytes().await.unwrap();
    assert!(part == large[6_000_000..6_000_010]);
    // The same without.
    let direct = shared.replica(json!({"s3": {
        "endpoint": shared.s3.endpoint(), "bucket": BUCKET,
        "access-key": KEY, "secret-key": KEY, "redirect": false,
    }}));
    let direct = direct.await;
    let whole = direct.get(&path).await;
    assert_eq!(whole.url().as_str(), format!("{}{path}", direct.base));
    assert!(whole.bytes().await.unwrap() == large);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_at_any_replica() {
    let Some(shared) = Shared::start() else {
        return;
    };
    let (a, b) = (
        shared.replica(json!({})).await,
        shared.replica(json!({})).await,
    );
    let all = bytes(14 << 20, 2);
    let digest = sha256(&all).to_string();
    let at = a.upload("app").await;
    // Chunks smaller than a part, and larger ones, by turns; the last with the request that ends it.
    let cuts = [0, 1 << 20, (8 << 20) + 17, (13 << 20) + 1];
    for (place, window) in cuts.windows(2).enumerate() {
        let server = if place % 2 == 0 { &a } else { &b };
        let piece = &all[window[0]..window[1]];
        assert_eq!(
            chunk(server, &at, window[0], piece).await,
            StatusCode::ACCEPTED
        );
    }
    // Who begins where the upload does not stand is told where it does, by the other one too.
    let behind = chunk(&a, &at, 1 << 20, &all[1 << 20..2 << 20]).await;
    assert_eq!(behind, StatusCode::RANGE_NOT_SATISFIABLE);
    let path = at.split_once("/v2/").unwrap().1;
    let stands = b.get(&format!("/v2/{path}")).await;
    assert_eq!(header(&stands, "range"), format!("0-{}", cuts[3] - 1));
    let made = finish(&b, &at, &digest, &all[cuts[3]..]).await;
    expect(made, StatusCode::CREATED, "").await;
    let whole = a.get(&format!("/v2/app/blobs/{digest}")).await;
    assert!(whole.bytes().await.unwrap() == all);

    // As the docker client does it: one stream, then the digest alone, elsewhere. Also where a part is
    // just full.
    for length in [0, 3, 5 << 20, (5 << 20) + 1] {
        let all = bytes(length, 3);
        let at = a.upload("app").await;
        if length > 0 {
            assert_eq!(chunk(&a, &at, 0, &all).await, StatusCode::ACCEPTED);
        }
        let digest = sha256(&all).to_string();
        expect(finish(&b, &at, &digest, b"").await, StatusCode::CREATED, "").await;
        let whole = a.get(&format!("/v2/app/blobs/{digest}")).await;
        assert!(whole.bytes().await.unwrap() == all, "{length} bytes");
    }

    // What is wrong ends, and leaves nothing.
    let before = shared.s3.objects();
    for length in [10, 6 << 20] {
        let at = a.upload("app").await;
        let all = bytes(length, 4);
        assert_eq!(
            chunk(&a, &at, 0, &all[..length / 2]).await,
            StatusCode::ACCEPTED
        );
        let wrong = finish(&b, &at, &digest, &all[length / 2..]).await;
        expect(wrong, StatusCode::BAD_REQUEST, "DIGEST_INVALID").await;
        let again = finish(&a, &at, &digest, b"").await;
        expect(again, StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN").await;
    }
    assert_eq!(shared.s3.objects(), before);
    assert_eq!(shared.count("upload"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_holds_what_the_record_tells_of_and_nothing_else() {
    let Some(shared) = Shared::start() else {
        return;
    };
    let collection = json!({"collection": {"interval": "0s", "grace": "0s", "uploads": "0s"}});
    let mut a = shared.replica(collection.clone()).await;
    let b = shared.replica(collection).await;
    // The same bytes at both at once, into two repositories: one object.
    let layer = bytes(6 << 20, 5);
    for _ in 0..3 {
        let (one, two) = tokio::join!(a.blob("one", &layer), b.blob("two", &layer));
        assert_eq!(one, two);
    }
    assert_eq!(shared.s3.objects().len(), 1);
    assert_eq!(shared.count("blob"), "1");
    // An upload that nobody ends, with parts and a rest; a blob that nobody needs.
    let at = a.upload("one").await;
    assert_eq!(chunk(&b, &at, 0, &layer).await, StatusCode::ACCEPTED);
    a.blob("one", b"not needed").await;
    // What is needed stays.
    let manifest = b.manifest("two", "kept").await.to_string();
    let put = b.put_manifest("two", "v1", MANIFEST, &manifest).await;
    expect(put, StatusCode::CREATED, "").await;
    assert_eq!(a.collect().await, 2, "the layer and what is not needed");
    assert_eq!(shared.s3.objects().len(), 2, "{:?}", shared.s3.objects());
    assert_eq!(shared.count("upload"), "0");
    assert_eq!(shared.count("doomed"), "0");
    for digest in [sha256(b"{}"), sha256(b"kept")] {
        let kept = a.get(&format!("/v2/two/blobs/{digest}")).await;
        assert_eq!(kept.status(), StatusCode::OK);
    }
    let gone = a.delete("/v2/two/manifests/v1").await;
    assert_eq!(gone.status(), StatusCode::ACCEPTED);
    let digest = sha256(manifest.as_bytes());
    let gone = b.delete(&format!("/v2/two/manifests/{digest}")).await;
    assert_eq!(gone.status(), StatusCode::ACCEPTED);
    assert_eq!(a.collect().await, 2);
    assert!(shared.s3.objects().is_empty(), "{:?}", shared.s3.objects());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_one_replica_is_good_at_the_other() {
    let Some(shared) = Shared::start() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("users");
    // "secret"
    let line = "user:$2y$05$c4WoMPo3SXsafkva.HHa6u7b1XOWKqA7XZANDrnv4IVny/8ABNR66\n";
    std::fs::write(&users, line).unwrap();
    let auth = json!({"auth": {"method": "token", "htpasswd": users}});
    let (a, b) = (
        shared.replica(auth.clone()).await,
        shared.replica(auth).await,
    );
    let path = "/token?service=berth%20registry&scope=repository:app:pull,push";
    let asked = a
        .request(Method::GET, path)
        .basic_auth("user", Some("secret"));
    let token: Value = asked.send().await.unwrap().json().await.unwrap();
    let token = token["token"].as_str().unwrap();
    for (server, good) in [(&a, true), (&b, true)] {
        let asked = server.request(Method::POST, "/v2/app/blobs/uploads/");
        let answer = asked.bearer_auth(token).send().await.unwrap();
        assert_eq!(answer.status() == StatusCode::ACCEPTED, good);
    }
    // Connections that the database has ended are noticed before they are used.
    shared.postgres.run(
        "postgres",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'registry'",
    );
    let left = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'registry'";
    testkit::wait::until("the connections' end", || {
        (shared.postgres.run("postgres", left) == "0").then_some(())
    });
    let answer = a.request(Method::POST, "/v2/app/blobs/uploads/");
    let answer = answer.bearer_auth(token).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_reached_by_tls_with_a_password() {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = made.signing_key.serialize_pem();
    let Some(postgres) = Postgres::start_encrypted(&made.cert.pem(), &key) else {
        return;
    };
    let Some(s3) = S3::start() else {
        return;
    };
    postgres.database("registry");
    let dir = tempfile::tempdir().unwrap();
    let (ca, password) = (dir.path().join("ca.pem"), dir.path().join("password"));
    std::fs::write(&ca, made.cert.pem()).unwrap();
    std::fs::write(&password, "secret\n").unwrap();
    let url = format!(
        "postgres://berth@{}/registry?sslmode=require",
        postgres.host()
    );
    let with = |postgres: Value| {
        json!({
            "postgres": postgres,
            "s3": {"endpoint": s3.endpoint(), "bucket": BUCKET, "access-key": KEY, "secret-key": KEY},
        })
    };
    let good = json!({"url": url, "password-file": password, "ca": ca});
    let server = Server::start(with(good)).await;
    server.image("app", "v1", "content").await;
    let encrypted = "SELECT count(*) > 0 FROM pg_stat_ssl s JOIN pg_stat_activity USING (pid)
        WHERE ssl AND datname = 'registry'";
    assert_eq!(postgres.run("registry", encrypted), "t");
    // Neither an unknown authority nor a wrong password gets as far, and each is named.
    let wrong = dir.path().join("wrong");
    std::fs::write(&wrong, "Secret").unwrap();
    for (settings, why) in [
        (
            json!({"url": url, "password-file": password}),
            "certificate",
        ),
        (
            json!({"url": url, "password-file": wrong, "ca": ca}),
            "password authentication failed",
        ),
    ] {
        let mut settings = Settings::parse(with(settings).to_string().as_bytes()).unwrap();
        settings.root = dir.path().join("root");
        settings.address = "127.0.0.1:0".into();
        let error = Registry::open(settings).await.err().unwrap().to_string();
        assert!(error.contains(why), "{error}");
    }
}
