//! A client with repositories of its own, which remembers what it was told and complains where that turns out
//! to be untrue.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_store::hash::sha256;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Tags that a client moves.
const TAGS: u64 = 4;
/// A blob without a manifest may go after the time of grace; a little less than that.
const GRACE: Duration = Duration::from_secs(8);

/// xorshift64*: the same numbers for the same seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }
}

/// What a request came to. Without an answer, or with one that says so, nobody knows.
type Told<T> = Option<T>;

pub struct Client {
    repository: String,
    dice: Dice,
    bases: Arc<Vec<String>>,
    turn: usize,
    http: reqwest::Client,
    /// Counts the answers of all clients.
    answers: Arc<watch::Sender<u64>>,
    /// How often a registry was started again.
    launches: watch::Receiver<u64>,
    /// What each tag may mean: one digest, or none, after an answer; more where there was none.
    tags: BTreeMap<String, Vec<Option<String>>>,
    /// Manifests by digest.
    manifests: BTreeMap<String, String>,
    pub made: usize,
    pub read: usize,
}

impl Client {
    pub fn new(
        number: u64,
        seed: u64,
        bases: Arc<Vec<String>>,
        answers: Arc<watch::Sender<u64>>,
        launches: watch::Receiver<u64>,
    ) -> Self {
        Self {
            repository: format!("team/client-{number}"),
            dice: Dice::new(seed + number + 1),
            turn: number as usize,
            bases,
            answers,
            launches,
            http: reqwest::Client::builder()
                .no_proxy()
                .timeout(Duration::from_secs(60))
                .build()
                .expect("a client"),
            tags: BTreeMap::new(),
            manifests: BTreeMap::new(),
            made: 0,
            read: 0,
        }
    }

    /// Pushes, pulls and deletes until told to end.
    pub async fn work(mut self, ending: watch::Receiver<bool>) -> Self {
        while !*ending.borrow() {
            let tag = format!("t{}", self.dice.roll(TAGS));
            match self.dice.roll(6) {
                0 => self.delete(&tag).await,
                1 | 2 => self.check(&tag).await,
                _ => self.push(&tag).await,
            };
        }
        self
    }

    /// A request at the next replica; nothing where it was not answered, or with a failure that a kill
    /// elsewhere may explain.
    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Told<reqwest::Response> {
        self.turn += 1;
        let base = &self.bases[self.turn % self.bases.len()];
        let url = match path.split_once("/v2/") {
            Some((_, rest)) => format!("{base}/v2/{rest}"),
            None => format!("{base}{path}"),
        };
        let mut request = self.http.request(method, url).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let launched = *self.launches.borrow();
        match request.send().await {
            Ok(answer) if answer.status() == StatusCode::SERVICE_UNAVAILABLE => None,
            Ok(answer) if answer.status().is_server_error() => {
                let what = format!("{}: {}", answer.url(), answer.status());
                panic!("{what}: {}", answer.text().await.unwrap_or_default());
            }
            Ok(answer) => {
                self.answers.send_modify(|n| *n += 1);
                Some(answer)
            }
            Err(e) if e.is_connect() => {
                if self.bases.len() == 1 {
                    // It is being started again. That nobody does so any more means the end.
                    let _ = self.launches.wait_for(|n| *n > launched).await.is_ok();
                }
                None
            }
            Err(_) => None,
        }
    }

    /// Bytes that nobody else has: a few, or so many that they are written piece by piece.
    fn bytes(&mut self) -> Vec<u8> {
        let length = [40, 20_000, 700_000][self.dice.roll(3) as usize];
        let mut bytes = format!("{} {} ", self.repository, self.dice.0).into_bytes();
        while bytes.len() < length {
            bytes.extend(self.dice.roll(1 << 31).to_le_bytes());
        }
        bytes
    }

    /// Pushes a blob, in one of three ways; whether it was answered with 201.
    async fn blob(&mut self, bytes: &[u8]) -> Told<String> {
        let digest = sha256(bytes).to_string();
        let uploads = format!("/v2/{}/blobs/uploads/", self.repository);
        let way = self.dice.roll(3);
        if way == 0 {
            let path = format!("{uploads}?digest={digest}");
            let made = self.ask(Method::POST, &path, &[], bytes.to_vec()).await?;
            return (made.status() == StatusCode::CREATED).then_some(digest);
        }
        let begun = self.ask(Method::POST, &uploads, &[], Vec::new()).await?;
        let mut at = location(&begun)?;
        let cut = match way {
            1 => bytes.len(),
            _ => self.dice.roll(bytes.len() as u64) as usize,
        };
        let (first, last) = bytes.split_at(cut);
        if !first.is_empty() {
            let range = format!("0-{}", cut - 1);
            let headers = [("content-range", range.as_str())];
            let came = self
                .ask(Method::PATCH, &at, &headers, first.to_vec())
                .await?;
            if came.status() != StatusCode::ACCEPTED {
                return None;
            }
            at = location(&came)?;
        }
        let path = format!("{at}?digest={digest}");
        let made = self.ask(Method::PUT, &path, &[], last.to_vec()).await?;
        (made.status() == StatusCode::CREATED).then_some(digest)
    }

    async fn push(&mut self, tag: &str) -> Told<()> {
        let layer = self.bytes();
        let begun = Instant::now();
        let config = self.blob(b"{}").await?;
        let digest = self.blob(&layer).await?;
        // It is there at once, whoever is asked.
        self.check_blob(&digest, Some(begun)).await;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": layer.len()}],
        })
        .to_string();
        let of = sha256(manifest.as_bytes()).to_string();
        self.manifests.insert(of.clone(), manifest.clone());
        let may_be = self
            .tags
            .entry(tag.to_owned())
            .or_insert_with(|| vec![None]);
        may_be.push(Some(of.clone()));
        let path = format!("/v2/{}/manifests/{tag}", self.repository);
        let headers = [("content-type", MANIFEST)];
        let put = self
            .ask(Method::PUT, &path, &headers, manifest.into())
            .await?;
        if put.status() == StatusCode::CREATED {
            self.tags.insert(tag.to_owned(), vec![Some(of)]);
            self.made += 1;
        } else {
            // The kills took so long that the blobs went.
            let late = begun.elapsed() >= GRACE;
            assert!(late, "{tag}: {}", put.text().await.unwrap_or_default());
        }
        Some(())
    }

    async fn delete(&mut self, tag: &str) -> Told<()> {
        let may_be = self
            .tags
            .entry(tag.to_owned())
            .or_insert_with(|| vec![None]);
        may_be.push(None);
        let path = format!("/v2/{}/manifests/{tag}", self.repository);
        let gone = self.ask(Method::DELETE, &path, &[], Vec::new()).await?;
        match gone.status() {
            StatusCode::ACCEPTED | StatusCode::NOT_FOUND => {
                self.tags.insert(tag.to_owned(), vec![None]);
            }
            status => panic!("{tag}: {status}"),
        }
        Some(())
    }

    /// Pulls what the tag means, all of it.
    async fn check(&mut self, tag: &str) -> Told<()> {
        let path = format!("/v2/{}/manifests/{tag}", self.repository);
        let answer = self.ask(Method::GET, &path, &[], Vec::new()).await?;
        let found = match answer.status() {
            StatusCode::OK => Some(answer.text().await.ok()?),
            StatusCode::NOT_FOUND => None,
            status => panic!("{tag}: {status}"),
        };
        let digest = found
            .as_ref()
            .map(|text| sha256(text.as_bytes()).to_string());
        let may_be = self.tags.get(tag).cloned().unwrap_or_else(|| vec![None]);
        assert!(
            may_be.contains(&digest),
            "{}:{tag} is {digest:?}, which is none of {may_be:?}",
            self.repository
        );
        if let (Some(text), Some(digest)) = (found, digest) {
            assert_eq!(self.manifests.get(&digest), Some(&text));
            let manifest: Value = serde_json::from_str(&text).expect("a manifest");
            for part in [&manifest["config"], &manifest["layers"][0]] {
                let part = part["digest"].as_str().expect("a digest").to_owned();
                self.check_blob(&part, None).await;
            }
            self.read += 1;
        }
        Some(())
    }

    /// Reads a blob. Without a manifest, since `begun`, it may be gone after the time of grace.
    async fn check_blob(&mut self, digest: &str, begun: Option<Instant>) -> Told<()> {
        let path = format!("/v2/{}/blobs/{digest}", self.repository);
        let answer = self.ask(Method::GET, &path, &[], Vec::new()).await?;
        if begun.is_some_and(|begun| begun.elapsed() >= GRACE) {
            return None;
        }
        assert_eq!(answer.status(), StatusCode::OK, "{}", answer.url());
        let bytes = answer.bytes().await.ok()?;
        assert_eq!(sha256(&bytes).as_str(), digest);
        Some(())
    }

    /// Pulls everything, until it was answered.
    pub async fn check_all(&mut self) {
        for tag in self.tags.keys().cloned().collect::<Vec<_>>() {
            while self.check(&tag).await.is_none() {}
        }
    }
}

fn location(answer: &reqwest::Response) -> Told<String> {
    let value = answer.headers().get("location")?;
    value.to_str().ok().map(str::to_owned)
}
