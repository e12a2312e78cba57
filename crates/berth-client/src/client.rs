//! The client: where the engine is, which version of the API both speak.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use berth_spec::docker::API_VERSION;
use http::Method;
use tokio::sync::OnceCell;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::request::Request;
use crate::tls::TlsFiles;
use crate::transport::{Stream, Transport};

/// The version spoken to an engine that tells none, as Docker has it.
const OLDEST: (u32, u32) = (1, 24);

/// How an engine is reached.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it is.
    pub host: Host,
    /// TLS, for `tcp://` only.
    pub tls: Option<TlsFiles>,
    /// A fixed API version (`1.43`); `None` negotiates.
    pub api_version: Option<String>,
    /// Headers of every request (`HttpHeaders` of config.json).
    pub headers: Vec<(String, String)>,
    /// What this program calls itself.
    pub user_agent: String,
}

/// What an engine tells when it is pinged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ping {
    /// The newest API version it speaks.
    pub api_version: String,
    /// `linux` or `windows`.
    pub os_type: String,
    /// `1` classic, `2` BuildKit.
    pub builder_version: String,
    /// Whether it has experimental features on.
    pub experimental: bool,
}

/// A client of one engine. Cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) transport: Transport,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) user_agent: String,
    fixed: Option<String>,
    negotiated: OnceCell<(String, Ping)>,
    /// Whether the engine took a request in our newest version.
    understood: AtomicBool,
}

impl Client {
    /// A client; nothing is connected to yet. Fails where TLS files cannot be read.
    pub fn new(options: Options) -> Result<Self> {
        let tls = match (&options.host, &options.tls) {
            (Host::Tcp { .. }, Some(files)) => {
                Some(files.load().map_err(|message| Error::Connect {
                    host: options.host.to_string(),
                    message,
                })?)
            }
            _ => None,
        };
        Ok(Client(Arc::new(Inner {
            transport: Transport {
                host: options.host,
                tls,
            },
            headers: options.headers,
            user_agent: options.user_agent,
            fixed: options.api_version,
            negotiated: OnceCell::new(),
            understood: AtomicBool::new(false),
        })))
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    /// Where the engine is.
    pub fn host(&self) -> &Host {
        &self.0.transport.host
    }

    /// A request: `path` begins with a slash and has neither version nor query.
    pub fn request(&self, method: Method, path: impl AsRef<str>) -> Request {
        Request::new(self.clone(), method, path.as_ref())
    }

    /// A `GET`.
    pub fn get(&self, path: impl AsRef<str>) -> Request {
        self.request(Method::GET, path)
    }

    /// A `POST`.
    pub fn post(&self, path: impl AsRef<str>) -> Request {
        self.request(Method::POST, path)
    }

    /// A `DELETE`.
    pub fn delete(&self, path: impl AsRef<str>) -> Request {
        self.request(Method::DELETE, path)
    }

    /// A bare connection to the engine, for whoever speaks HTTP over it themselves.
    pub async fn dial(&self) -> Result<Stream> {
        self.0.transport.connect().await
    }

    /// The API version spoken: the fixed one, or the newest that both sides know.
    pub async fn api_version(&self) -> Result<String> {
        if let Some(version) = self.settled_version() {
            return Ok(version);
        }
        self.negotiated_version().await
    }

    /// The newest version that both sides know; the engine is asked, once.
    pub(crate) async fn negotiated_version(&self) -> Result<String> {
        Ok(self.negotiate().await?.0.clone())
    }

    /// The version spoken, if that is known by now.
    pub(crate) fn settled_version(&self) -> Option<String> {
        let inner = &self.0;
        if let Some(version) = &inner.fixed {
            return Some(version.clone());
        }
        if let Some((version, _)) = inner.negotiated.get() {
            return Some(version.clone());
        }
        let understood = inner.understood.load(Ordering::Relaxed);
        understood.then(|| API_VERSION.to_owned())
    }

    /// The engine took a request in our newest version.
    pub(crate) fn note_understood(&self) {
        self.0.understood.store(true, Ordering::Relaxed);
    }

    /// What the engine tells of itself; asked once.
    pub async fn ping(&self) -> Result<Ping> {
        Ok(self.negotiate().await?.1.clone())
    }

    async fn negotiate(&self) -> Result<&(String, Ping)> {
        self.0
            .negotiated
            .get_or_try_init(|| async {
                let ping = match self.ask(Method::HEAD).await {
                    // Engines of before 2018 know no HEAD here.
                    Err(Error::Engine { .. }) => self.ask(Method::GET).await?,
                    other => other?,
                };
                Ok((common_version(&ping.api_version), ping))
            })
            .await
    }

    async fn ask(&self, method: Method) -> Result<Ping> {
        // Boxed: sending is what asks for the version, and this request has none.
        let response = Box::pin(self.request(method, "/_ping").unversioned().send()).await?;
        let header = |name: &str| response.header(name).unwrap_or_default().to_owned();
        Ok(Ping {
            api_version: header("api-version"),
            os_type: header("ostype"),
            builder_version: header("builder-version"),
            experimental: header("docker-experimental") == "true",
        })
    }
}

/// The newest version both know, given the engine's newest.
fn common_version(engine: &str) -> String {
    let ours = parse_version(API_VERSION).unwrap_or(OLDEST);
    let theirs = parse_version(engine).unwrap_or(OLDEST);
    let (major, minor) = ours.min(theirs);
    format!("{major}.{minor}")
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_side_decides_the_version() {
        for (engine, version) in [
            ("1.43", "1.43"),
            ("1.99", API_VERSION),
            ("", "1.24"),
            ("1.9", "1.9"),
        ] {
            assert_eq!(common_version(engine), version, "{engine}");
        }
    }
}
