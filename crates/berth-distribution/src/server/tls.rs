//! TLS: the certificate that clients see, and whose certificates they must show.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::fault::{Code, Fault, Reply};
use super::settings::TlsSettings;

/// Makes TLS out of the files that `settings` name.
pub(crate) fn acceptor(settings: &TlsSettings) -> Reply<TlsAcceptor> {
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
