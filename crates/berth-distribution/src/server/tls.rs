//! TLS: the certificate that clients see, and whose certificates they must show. The files are read again
//! when they have changed: the next connection sees the new certificate, those that are open stay.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::fault::{Code, Fault, Reply};
use super::settings::TlsSettings;

/// Device, inode, length and time of change of each file; nothing for one that cannot be seen.
type Marks = Vec<Option<(u64, u64, u64, i64, i64)>>;

/// Certificates that may be exchanged while they are in use.
pub(crate) struct Tls {
    settings: TlsSettings,
    current: RwLock<TlsAcceptor>,
    seen: Mutex<Marks>,
}

impl Tls {
    /// Reads the files that `settings` name.
    pub(crate) fn open(settings: &TlsSettings) -> Reply<Self> {
        let seen = marks(settings);
        Ok(Self {
            current: RwLock::new(acceptor(settings)?),
            seen: Mutex::new(seen),
            settings: settings.clone(),
        })
    }

    /// What the next connection is met with. Files that do not fit together, as in the middle of an
    /// exchange, leave what was.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let now = marks(&self.settings);
        let changed = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let changed = *seen != now;
            *seen = now;
            changed
        };
        if changed {
            match acceptor(&self.settings) {
                Ok(fresh) => {
                    tracing::info!(
                        "certificates have changed: the next connection sees the new ones"
                    );
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                }
                Err(error) => tracing::error!(%error, "the certificates stay as they were"),
            }
        }
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn marks(settings: &TlsSettings) -> Marks {
    [&settings.certificate, &settings.key]
        .into_iter()
        .chain(&settings.client_ca)
        .map(|path| {
            let m = fs::metadata(path).ok()?;
            Some((m.dev(), m.ino(), m.len(), m.mtime(), m.mtime_nsec()))
        })
        .collect()
}

/// Makes TLS out of the files that `settings` name.
fn acceptor(settings: &TlsSettings) -> Reply<TlsAcceptor> {
    let chain = certificates(&settings.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&settings.key)
        .map_err(|e| unusable("key", &settings.key, e))?;
    let builder = ServerConfig::builder();
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|e| unusable("authority", path, e))?;
            }
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
                .build()
                .map_err(|e| unusable("authority", path, e))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|e| unusable("certificate", &settings.certificate, e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}

fn certificates(path: &Path) -> Reply<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|e| unusable("certificate", path, e))
}

fn unusable(what: &str, path: &Path, why: impl std::fmt::Display) -> Fault {
    Fault::new(
        Code::Unknown,
        format!("cannot use the TLS {what} {}: {why}", path.display()),
    )
}
