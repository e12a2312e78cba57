//! A registry in a throw-away root, and a client that says what it thinks.

use berth_distribution::server::{Registry, Settings};
use berth_store::hash::sha256;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub struct Server {
    pub base: String,
    pub dir: tempfile::TempDir,
    pub http: reqwest::Client,
    settings: Value,
    running: Option<(watch::Sender<bool>, JoinHandle<()>)>,
}

impl Server {
    pub async fn start(settings: Value) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut server = Self {
            base: String::new(),
            dir: tempfile::tempdir().unwrap(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            settings,
            running: None,
        };
        server.launch().await;
        server
    }

    /// Its settings, with the root in the test's directory.
    pub fn settings(&self) -> Settings {
        let mut settings = Settings::parse(self.settings.to_string().as_bytes()).unwrap();
        settings.root = self.dir.path().join("root");
        settings.address = "127.0.0.1:0".into();
        settings
    }

    async fn launch(&mut self) {
        let registry = Registry::open(self.settings()).await.unwrap();
        self.base = format!("http://{}", registry.address().unwrap());
        let (end, ending) = watch::channel(false);
        self.running = Some((end, tokio::spawn(registry.serve(ending))));
    }

    /// Ends it.
    pub async fn stop(&mut self) {
        let (end, task) = self.running.take().unwrap();
        end.send(true).unwrap();
        // Connections that are kept alive end with the client that holds them.
        self.http = reqwest::Client::builder().no_proxy().build().unwrap();
        task.await.unwrap();
    }

    /// Ends it and starts it again on the same root.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.launch().await;
    }

    /// Ends it, collects once, and starts it again; how many blobs went.
    pub async fn collect(&mut self) -> usize {
        self.stop().await;
        let registry = Registry::open(self.settings()).await.unwrap();
        let collected = registry.collect().await.unwrap();
        drop(registry);
        self.launch().await;
        collected.blobs
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = match path.starts_with("http") {
            true => path.to_owned(),
            false => format!("{}{path}", self.base),
        };
        self.http.request(method, url)
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub async fn delete(&self, path: &str) -> Response {
        self.request(Method::DELETE, path).send().await.unwrap()
    }

    /// Pushes a blob whole; its digest.
    pub async fn blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = sha256(bytes).to_string();
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let answer = self
            .request(Method::POST, &path)
            .body(bytes.to_vec())
            .send()
            .await
            .unwrap();
        expect(answer, StatusCode::CREATED, "").await;
        digest
    }

    /// Begins an upload; its location.
    pub async fn upload(&self, repository: &str) -> String {
        let path = format!("/v2/{repository}/blobs/uploads/");
        let answer = self.request(Method::POST, &path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        header(&answer, "location")
    }

    pub async fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        manifest: &str,
    ) -> Response {
        self.request(
            Method::PUT,
            &format!("/v2/{repository}/manifests/{reference}"),
        )
        .header("content-type", media_type)
        .body(manifest.to_owned())
        .send()
        .await
        .unwrap()
    }

    /// Pushes an image of one layer with this content; its digest.
    pub async fn image(&self, repository: &str, tag: &str, content: &str) -> String {
        let manifest = self.manifest(repository, content).await.to_string();
        let answer = self
            .put_manifest(repository, tag, MANIFEST, &manifest)
            .await;
        expect(answer, StatusCode::CREATED, "").await;
        sha256(manifest.as_bytes()).to_string()
    }

    /// The manifest of such an image, whose blobs are pushed.
    pub async fn manifest(&self, repository: &str, content: &str) -> Value {
        let config = self.blob(repository, b"{}").await;
        let layer = self.blob(repository, content.as_bytes()).await;
        json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": content.len()}],
        })
    }
}

/// Status and error code (empty: none is looked for).
pub async fn expect(answer: Response, status: StatusCode, code: &str) -> String {
    let (found, url) = (answer.status(), answer.url().clone());
    let text = answer.text().await.unwrap();
    assert_eq!(found, status, "{url}: {text}");
    if !code.is_empty() {
        let body: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(body["errors"][0]["code"], code, "{url}: {text}");
    }
    text
}

pub fn header(answer: &Response, name: &str) -> String {
    let value = answer.headers().get(name);
    value.map_or(String::new(), |v| v.to_str().unwrap().to_owned())
}
