//! Certificates of the API's TCP sockets: `--tls`, `--tlsverify` and their files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::settings::Settings;

const DIR: &str = "/etc/docker";

/// The server's side of TLS; `None` where none is asked for.
pub fn server_config(settings: &Settings) -> anyhow::Result<Option<Arc<ServerConfig>>> {
    let verify = settings.tlsverify == Some(true);
    if !verify && settings.tls != Some(true) {
        return Ok(None);
    }
    let file = |given: &Option<PathBuf>, name: &str| {
        given.clone().unwrap_or_else(|| Path::new(DIR).join(name))
    };
    let certificate = file(&settings.tlscert, "cert.pem");
    let chain = certificates(&certificate)?;
    let key_file = file(&settings.tlskey, "key.pem");
    let key = PrivateKeyDer::from_pem_file(&key_file)
        .with_context(|| format!("cannot read the TLS key {}", key_file.display()))?;
    let builder = ServerConfig::builder();
    let builder = if verify {
        let ca = file(&settings.tlscacert, "ca.pem");
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&ca)? {
            roots
                .add(certificate)
                .with_context(|| format!("cannot use the CA certificate {}", ca.display()))?;
        }
        builder.with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build()?)
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .with_context(|| format!("cannot use the TLS certificate {}", certificate.display()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read the TLS certificate {}", path.display()))
}
