//! Who may do what: users, robots, roles, anonymous pulls, tokens.

use berth_store::hash::sha256;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Server, expect, header};

async fn start(method: &str) -> (Server, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let users: Vec<String> = ["alice", "bob"]
        .iter()
        .map(|name| {
            format!(
                "{name}:{}",
                bcrypt::hash(format!("{name}-secret"), 4).unwrap()
            )
        })
        .collect();
    std::fs::write(file.path(), users.join("\n")).unwrap();
    let path = file.path().display().to_string();
    let (_, kept) = file.keep().unwrap();
    let server = Server::start(json!({"auth": {
        "method": method,
        "htpasswd": path,
        "groups": {"writers": ["alice"]},
        "robots": [
            {"name": "ci", "secret-sha256": sha256(b"long and random").hex()},
            {"name": "old", "secret-sha256": sha256(b"x").hex(), "expires": "2001-01-01T00:00:00Z"}],
        "rules": [
            {"who": ["@writers"], "repositories": ["team/**", "public/*"], "allow": ["pull", "push"]},
            {"who": ["bob"], "repositories": ["team/*"], "allow": ["pull"]},
            {"who": ["robot+ci"], "repositories": ["team/ci"], "allow": ["pull", "push", "delete"]},
            {"who": ["anonymous"], "repositories": ["public/*"], "allow": ["pull"]}]}}))
    .await;
    (server, kept.display().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_user_may_what_the_rules_say() {
    let (server, file) = start("basic").await;
    let status = |who: &'static str, method: Method, path: &str| {
        let mut request = server.request(method, path);
        if !who.is_empty() {
            let secret = match who {
                "robot+ci" => "long and random".into(),
                "robot+old" => "x".into(),
                who => format!("{who}-secret"),
            };
            request = request.basic_auth(who, Some(secret));
        }
        async move { request.send().await.unwrap().status().as_u16() }
    };
    let upload = |repository: &str| format!("/v2/{repository}/blobs/uploads/");
    let tags = |repository: &str| format!("/v2/{repository}/tags/list");
    let manifest = |repository: &str| format!("/v2/{repository}/manifests/x");
    // 404 means that the request was let in.
    for (who, method, path, expected) in [
        ("", Method::GET, "/v2/".to_owned(), 401),
        ("alice", Method::GET, "/v2/".into(), 200),
        ("robot+ci", Method::GET, "/v2/".into(), 200),
        ("robot+old", Method::GET, "/v2/".into(), 401),
        ("robot+none", Method::GET, "/v2/".into(), 401),
        ("mallory", Method::GET, "/v2/".into(), 401),
        ("alice", Method::POST, upload("team/a/b"), 202),
        ("alice", Method::DELETE, manifest("team/a"), 403),
        ("alice", Method::GET, tags("other"), 403),
        ("bob", Method::GET, tags("team/a"), 404),
        ("bob", Method::POST, upload("team/a"), 403),
        ("bob", Method::GET, tags("team/a/b"), 403),
        ("robot+ci", Method::DELETE, manifest("team/ci"), 404),
        ("robot+ci", Method::POST, upload("team/a"), 403),
        ("", Method::GET, tags("public/a"), 404),
        ("", Method::GET, tags("team/a"), 401),
        ("", Method::POST, upload("public/a"), 401),
        ("", Method::GET, "/v2/_catalog".into(), 401),
    ] {
        assert_eq!(
            status(who, method.clone(), &path).await,
            expected,
            "{who} {method} {path}"
        );
    }
    let wrong = server
        .request(Method::GET, "/v2/")
        .basic_auth("alice", Some("no"))
        .send();
    let wrong = wrong.await.unwrap();
    assert_eq!(
        header(&wrong, "www-authenticate"),
        "Basic realm=\"berth registry\""
    );
    expect(wrong, StatusCode::UNAUTHORIZED, "UNAUTHORIZED").await;
    std::fs::remove_file(file).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_for_what_was_asked_and_allowed() {
    let (server, file) = start("token").await;
    let refused = server.get("/v2/team/a/tags/list").await;
    let challenge = header(&refused, "www-authenticate");
    assert!(
        challenge.starts_with(&format!("Bearer realm=\"{}/token\"", server.base))
            && challenge.contains("scope=\"repository:team/a:pull\""),
        "{challenge}"
    );
    let ask = |who: &'static str, scope: &'static str| {
        let url = format!("/token?service=berth%20registry&offline_token=true&scope={scope}");
        let mut request = server.request(Method::GET, &url);
        if !who.is_empty() {
            request = request.basic_auth(who, Some(format!("{who}-secret")));
        }
        async move { request.send().await.unwrap() }
    };
    let with = |token: &Value, method: Method, path: &'static str| {
        let request = server
            .request(method, path)
            .bearer_auth(token.as_str().unwrap());
        async move { request.send().await.unwrap() }
    };
    let alice: Value = ask("alice", "repository:team/a:pull,push,delete")
        .await
        .json()
        .await
        .unwrap();
    let token = &alice["token"];
    let upload = "/v2/team/a/blobs/uploads/";
    expect(
        with(token, Method::POST, upload).await,
        StatusCode::ACCEPTED,
        "",
    )
    .await;
    // Not asked for, then asked for but not allowed.
    let other = with(token, Method::POST, "/v2/team/b/blobs/uploads/").await;
    assert!(header(&other, "www-authenticate").contains("insufficient_scope"));
    expect(other, StatusCode::UNAUTHORIZED, "UNAUTHORIZED").await;
    let delete = with(token, Method::DELETE, "/v2/team/a/manifests/x").await;
    expect(delete, StatusCode::FORBIDDEN, "DENIED").await;
    // Nobody in particular gets a token too, for what is public.
    let nobody: Value = ask("", "repository:public/a:pull,push")
        .await
        .json()
        .await
        .unwrap();
    let token = &nobody["token"];
    let tags = with(token, Method::GET, "/v2/public/a/tags/list").await;
    expect(tags, StatusCode::NOT_FOUND, "NAME_UNKNOWN").await;
    let push = with(token, Method::POST, "/v2/public/a/blobs/uploads/").await;
    expect(push, StatusCode::UNAUTHORIZED, "UNAUTHORIZED").await;
    expect(
        ask("mallory", "").await,
        StatusCode::UNAUTHORIZED,
        "UNAUTHORIZED",
    )
    .await;
    // A refresh token is one for tokens only, and ends with the password.
    let refresh = alice["refresh_token"].as_str().unwrap().to_owned();
    let as_access = with(&json!(refresh), Method::GET, "/v2/").await;
    expect(as_access, StatusCode::UNAUTHORIZED, "UNAUTHORIZED").await;
    let renew = || {
        let form = format!(
            "grant_type=refresh_token&service=berth%20registry&scope=repository:team/a:pull&refresh_token={refresh}"
        );
        server.request(Method::POST, "/token").body(form).send()
    };
    let renewed: Value = renew().await.unwrap().json().await.unwrap();
    let read = with(
        &renewed["access_token"],
        Method::GET,
        "/v2/team/a/tags/list",
    )
    .await;
    expect(read, StatusCode::NOT_FOUND, "NAME_UNKNOWN").await;
    let changed = format!("alice:{}\n", bcrypt::hash("new", 4).unwrap());
    std::fs::write(&file, changed).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    std::fs::File::open(&file)
        .unwrap()
        .set_modified(later)
        .unwrap();
    expect(
        renew().await.unwrap(),
        StatusCode::UNAUTHORIZED,
        "UNAUTHORIZED",
    )
    .await;
    std::fs::remove_file(file).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_needs_the_right_to_pull() {
    let (server, file) = start("basic").await;
    let send =
        |who: &'static str, secret: &'static str, method, path: String, body: &'static str| {
            let request = server
                .request(method, &path)
                .basic_auth(who, Some(secret))
                .body(body);
            async move { request.send().await.unwrap().status() }
        };
    let digest = sha256(b"private");
    let push = format!("/v2/team/a/blobs/uploads/?digest={digest}");
    let pushed = send("alice", "alice-secret", Method::POST, push, "private").await;
    assert_eq!(pushed, StatusCode::CREATED);
    for from in ["", "&from=team/a"] {
        let path = format!("/v2/team/ci/blobs/uploads/?mount={digest}{from}");
        let mounted = send(
            "robot+ci",
            "long and random",
            Method::POST,
            path.clone(),
            "",
        )
        .await;
        assert_eq!(
            mounted,
            StatusCode::ACCEPTED,
            "{from}: the robot may not pull team/a"
        );
        let mounted = send("alice", "alice-secret", Method::POST, path, "").await;
        assert_eq!(mounted, StatusCode::CREATED);
    }
    std::fs::remove_file(file).unwrap();
}
