//! The few requests of S3 that blobs need.
//!
//! What is sent is signed with its hash, so that the store refuses bytes that changed on the way. What
//! fails for a reason that passes is tried again.

use std::time::Duration;

use berth_store::hash::sha256;
use bytes::Bytes;
use reqwest::{Method, Response, StatusCode, header};

use super::settings::S3Settings;
use super::sign::{self, Keys, Target};
use crate::ClientOptions;
use crate::server::fault::{Code, Fault, Reply, causes};

/// Times that a request is sent before it is given up.
const TRIES: u32 = 5;
/// The pause after the first failure; it doubles each time.
const PAUSE: Duration = Duration::from_millis(100);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The store has this long to send its next byte.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// The most that is read of an answer that is XML.
const ANSWER_MAX: usize = 64 << 10;

/// A bucket's client.
pub(crate) struct S3 {
    http: reqwest::Client,
    keys: Keys,
    inside: Place,
    outside: Place,
    prefix: String,
}

/// How the bucket is reached.
struct Place {
    /// `https://`
    scheme: String,
    host: String,
    /// `/bucket` or nothing.
    path: String,
}

/// The store's refusal.
struct Refusal {
    status: StatusCode,
    /// `NoSuchKey` and the like; empty where the store did not say.
    code: String,
}

impl S3 {
    pub(crate) fn open(settings: &S3Settings, options: &ClientOptions) -> Reply<Self> {
        let endpoint = match &settings.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => format!("https://s3.{}.amazonaws.com", settings.region),
        };
        let in_path = settings.path_style.unwrap_or(settings.endpoint.is_some());
        let inside = Place::new(&endpoint, &settings.bucket, in_path)?;
        let outside = settings.public_endpoint.as_ref().unwrap_or(&endpoint);
        let outside = Place::new(outside, &settings.bucket, in_path)?;
        let secret = match &settings.secret_key_file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|e| unusable(format!("cannot read {}: {e}", path.display())))?
                .trim_end()
                .to_owned(),
            None => settings.secret_key.expose().to_owned(),
        };
        if settings.access_key.is_empty() || secret.is_empty() {
            return Err(unusable("access-key and secret-key are needed".into()));
        }
        Ok(Self {
            http: http_client(settings, options)?,
            keys: Keys {
                access: settings.access_key.clone(),
                secret,
                token: settings.session_token.expose().to_owned(),
                region: settings.region.clone(),
            },
            inside,
            outside,
            prefix: settings.prefix.trim_matches('/').to_owned(),
        })
    }

    fn path(&self, place: &Place, key: &str) -> String {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        let name = format!("{}{slash}{key}", self.prefix);
        format!("{}/{}", place.path, sign::encode(&name, true))
    }

    /// Sends a request until it is answered for good.
    async fn send(
        &self,
        method: Method,
        key: &str,
        query: &[(&str, &str)],
        range: Option<String>,
        body: Bytes,
    ) -> Reply<Result<Response, Refusal>> {
        let path = self.path(&self.inside, key);
        let target = Target {
            method: method.as_str(),
            host: &self.inside.host,
            path: &path,
            query,
        };
        let payload = sha256(&body).hex().to_owned();
        let mut url = format!("{}{}{path}", self.inside.scheme, self.inside.host);
        if !query.is_empty() {
            url.push('?');
            url.push_str(&sign::query_text(query));
        }
        let mut tried = 0;
        loop {
            tried += 1;
            let mut request = self.http.request(method.clone(), &url).body(body.clone());
            for (name, value) in self.keys.headers(&target, &sign::now(), &payload) {
                request = request.header(name, value);
            }
            if let Some(range) = &range {
                request = request.header(header::RANGE, range);
            }
            let why = match request.send().await {
                Ok(response) if response.status().is_success() => return Ok(Ok(response)),
                Ok(response) => {
                    let refusal = Refusal::read(response).await;
                    if !refusal.passes() {
                        return Ok(Err(refusal));
                    }
                    refusal.to_string()
                }
                Err(e) => causes(&e),
            };
            if tried == TRIES {
                tracing::error!(%method, key, error = why, "the object store does not answer");
                return Err(Fault::new(
                    Code::Unavailable,
                    "the registry's object store does not answer",
                ));
            }
            tokio::time::sleep(PAUSE * 2_u32.pow(tried - 1)).await;
        }
    }

    async fn done(
        &self,
        method: Method,
        key: &str,
        query: &[(&str, &str)],
        body: Bytes,
    ) -> Reply<Response> {
        let what = format!("{method} of {key}");
        match self.send(method, key, query, None, body).await? {
            Ok(response) => Ok(response),
            Err(refusal) => Err(refused(&what, &refusal)),
        }
    }

    /// Stores an object whole.
    pub(crate) async fn put(&self, key: &str, bytes: Bytes) -> Reply<()> {
        self.done(Method::PUT, key, &[], bytes).await.map(drop)
    }

    /// Begins an object of several parts; the store's name for it.
    pub(crate) async fn begin_parts(&self, key: &str) -> Reply<String> {
        let answer = self
            .done(Method::POST, key, &[("uploads", "")], Bytes::new())
            .await?;
        let text = text(answer).await?;
        let id = element(&text, "UploadId").ok_or_else(|| {
            Fault::internal("the object store began no upload", format_args!("{text:?}"))
        })?;
        Ok(id
            .replace("&quot;", "\"")
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&amp;", "&"))
    }

    /// Stores the part `number`, from 1; what the store calls it.
    pub(crate) async fn put_part(
        &self,
        key: &str,
        multipart: &str,
        number: usize,
        bytes: Bytes,
    ) -> Reply<String> {
        let number = number.to_string();
        let query = [("partNumber", number.as_str()), ("uploadId", multipart)];
        let answer = self.done(Method::PUT, key, &query, bytes).await?;
        let tag = answer
            .headers()
            .get(header::ETAG)
            .and_then(|value| value.to_str().ok());
        match tag {
            Some(tag) => Ok(tag.to_owned()),
            None => Err(Fault::internal("the object store", "a part has no ETag")),
        }
    }

    /// Makes an object of `size` bytes out of its parts.
    pub(crate) async fn complete(
        &self,
        key: &str,
        multipart: &str,
        parts: &[String],
        size: u64,
    ) -> Reply<()> {
        let mut body = String::from("<CompleteMultipartUpload>");
        for (place, tag) in parts.iter().enumerate() {
            let tag = tag.replace('&', "&amp;").replace('<', "&lt;");
            body.push_str(&format!(
                "<Part><PartNumber>{}</PartNumber><ETag>{tag}</ETag></Part>",
                place + 1
            ));
        }
        body.push_str("</CompleteMultipartUpload>");
        let query = [("uploadId", multipart)];
        match self
            .send(Method::POST, key, &query, None, body.into())
            .await?
        {
            // The store may find out that it cannot after it has said 200.
            Ok(answer) => {
                let text = text(answer).await?;
                if let Some(code) = element(&text, "Code") {
                    return Err(Fault::internal("the object store made no object", code));
                }
            }
            // An earlier try may have been done without an answer: the size will tell.
            Err(refusal) if refusal.code == "NoSuchUpload" => {}
            Err(refusal) => return Err(refused("completing an upload", &refusal)),
        }
        self.expect(key, size).await
    }

    /// Makes sure that the object has `size` bytes.
    pub(crate) async fn expect(&self, key: &str, size: u64) -> Reply<()> {
        match self
            .send(Method::HEAD, key, &[], None, Bytes::new())
            .await?
        {
            Ok(answer) if length(&answer) == Some(size) => Ok(()),
            Ok(answer) => {
                let found = length(&answer);
                tracing::error!(key, ?found, size, "the object store lost bytes");
                Err(Fault::new(
                    Code::Unavailable,
                    "the registry's object store lost bytes: push again",
                ))
            }
            Err(refusal) => Err(refused(&format!("HEAD of {key}"), &refusal)),
        }
    }

    /// Throws the parts of an object away that was never completed.
    pub(crate) async fn abort(&self, key: &str, multipart: &str) -> Reply<()> {
        let query = [("uploadId", multipart)];
        self.removed(Method::DELETE, key, &query).await
    }

    /// Removes an object.
    pub(crate) async fn delete(&self, key: &str) -> Reply<()> {
        self.removed(Method::DELETE, key, &[]).await
    }

    async fn removed(&self, method: Method, key: &str, query: &[(&str, &str)]) -> Reply<()> {
        match self.send(method, key, query, None, Bytes::new()).await? {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.status == StatusCode::NOT_FOUND => Ok(()),
            // Small stores cannot abort; what they do with forgotten parts is their own affair.
            Err(refusal)
                if !query.is_empty()
                    && matches!(
                        refusal.status,
                        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED
                    ) =>
            {
                Ok(())
            }
            Err(refusal) => Err(refused(&format!("removing {key}"), &refusal)),
        }
    }

    /// `length` bytes of an object from `from`; nothing where there is no such object.
    pub(crate) async fn get(&self, key: &str, from: u64, length: u64) -> Reply<Option<Response>> {
        let range = (length > 0).then(|| format!("bytes={from}-{}", from + length - 1));
        let sent = self.send(Method::GET, key, &[], range, Bytes::new());
        match sent.await? {
            Ok(answer) => Ok(Some(answer)),
            Err(refusal) if refusal.code == "NoSuchKey" => Ok(None),
            Err(refusal) if refusal.status == StatusCode::NOT_FOUND => Ok(None),
            Err(refusal) => Err(refused(&format!("GET of {key}"), &refusal)),
        }
    }

    /// An address of the object that is good for `lifetime` seconds.
    pub(crate) fn address(&self, key: &str, lifetime: i64) -> String {
        let path = self.path(&self.outside, key);
        let target = Target {
            method: "GET",
            host: &self.outside.host,
            path: &path,
            query: &[],
        };
        let query = self.keys.presign(&target, &sign::now(), lifetime);
        format!("{}{}{path}?{query}", self.outside.scheme, self.outside.host)
    }
}

impl Place {
    fn new(endpoint: &str, bucket: &str, in_path: bool) -> Reply<Self> {
        let url = reqwest::Url::parse(endpoint)
            .map_err(|e| unusable(format!("invalid endpoint {endpoint:?}: {e}")))?;
        let (Some(host), "http" | "https") = (url.host_str(), url.scheme()) else {
            return Err(unusable(format!(
                "invalid endpoint {endpoint:?}: https://HOST[:PORT] is wanted"
            )));
        };
        let host = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let base = url.path().trim_end_matches('/');
        Ok(match in_path {
            true => Self {
                scheme: format!("{}://", url.scheme()),
                host,
                path: format!("{base}/{}", sign::encode(bucket, false)),
            },
            false => Self {
                scheme: format!("{}://", url.scheme()),
                host: format!("{bucket}.{host}"),
                path: base.to_owned(),
            },
        })
    }
}

impl Refusal {
    async fn read(response: Response) -> Self {
        let status = response.status();
        // Without the text there is still the status.
        let text = text(response).await.unwrap_or_default();
        Self {
            status,
            code: element(&text, "Code").unwrap_or_default().to_owned(),
        }
    }

    /// Whether it is worth another try.
    fn passes(&self) -> bool {
        (self.status.is_server_error() && self.status != StatusCode::NOT_IMPLEMENTED)
            || self.status == StatusCode::TOO_MANY_REQUESTS
            || self.code == "RequestTimeout"
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status.as_u16(), self.code)
    }
}

fn refused(what: &str, refusal: &Refusal) -> Fault {
    Fault::internal(
        "the registry's object store refused",
        format_args!("{what}: {refusal}"),
    )
}

fn unusable(why: String) -> Fault {
    Fault::new(Code::Unknown, format!("s3: {why}"))
}

fn length(answer: &Response) -> Option<u64> {
    let value = answer.headers().get(header::CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}

async fn text(mut answer: Response) -> Reply<String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer
        .chunk()
        .await
        .map_err(|e| Fault::internal("the object store's answer broke off", e))?
    {
        if bytes.len() + chunk.len() > ANSWER_MAX {
            break;
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What stands in the first element of this name.
fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>"))
        .map(|(value, _)| value)
}

fn http_client(settings: &S3Settings, options: &ClientOptions) -> Reply<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .user_agent(options.user_agent.clone())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy();
    let exempt = options
        .no_proxy
        .as_deref()
        .and_then(reqwest::NoProxy::from_string);
    if let Some(url) = options.https_proxy.as_deref().filter(|u| !u.is_empty()) {
        let proxy = reqwest::Proxy::https(url)
            .map_err(|e| unusable(format!("invalid proxy URL {url:?}: {e}")))?;
        builder = builder.proxy(proxy.no_proxy(exempt));
    }
    if let Some(path) = &settings.ca {
        let pem = std::fs::read(path)
            .map_err(|e| unusable(format!("cannot read {}: {e}", path.display())))?;
        let authorities = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|e| unusable(format!("{}: {e}", path.display())))?;
        builder = builder.tls_certs_merge(authorities);
    }
    builder.build().map_err(|e| unusable(causes(&e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_stands_in_the_path_or_before_the_host() {
        let place = |endpoint, in_path| {
            let place = Place::new(endpoint, "layers", in_path).ok().unwrap();
            format!("{}{}{}", place.scheme, place.host, place.path)
        };
        assert_eq!(
            place("http://127.0.0.1:9000/", true),
            "http://127.0.0.1:9000/layers"
        );
        assert_eq!(
            place("https://s3.eu-west-1.amazonaws.com", false),
            "https://layers.s3.eu-west-1.amazonaws.com"
        );
        assert!(Place::new("ftp://host", "layers", true).is_err());
        assert!(Place::new("host:9000", "layers", true).is_err());
    }

    #[test]
    fn answers_are_read_by_element() {
        let text = "<A><UploadId>x&amp;y</UploadId></A>";
        assert_eq!(element(text, "UploadId"), Some("x&amp;y"));
        assert_eq!(element(text, "Code"), None);
    }
}
