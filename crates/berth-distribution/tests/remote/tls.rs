//! TLS: whose certificates count, and where their authorities are looked for.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use axum::Router;
use axum::serve::Listener;
use berth_distribution::{ClientOptions, Credentials, ErrorKind};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::bench::client_with;

/// An address of this machine that is not loopback: loopback is trusted as it is.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent; the kernel picks the address that would be used.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

struct TlsListener {
    tcp: TcpListener,
    tls: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, peer)) = self.tcp.accept().await else {
                continue;
            };
            // A client that does not trust us ends the handshake.
            if let Ok(stream) = self.tls.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

/// A registry at `address` with a certificate from an authority of its own; its host and port, and
/// the authority's certificate.
async fn start(address: IpAddr) -> (String, String) {
    let mut authority = CertificateParams::new(Vec::<String>::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![address.to_string()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let tcp = TcpListener::bind((address, 0)).await.unwrap();
    let host = tcp.local_addr().unwrap().to_string();
    let listener = TlsListener {
        tcp,
        tls: TlsAcceptor::from(Arc::new(config)),
    };
    let router = Router::new().fallback(|| async { "{}" });
    tokio::spawn(async move {
        axum::serve(listener, router).await.unwrap();
    });
    (host, authority.pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_in_certs_d_is_trusted_for_its_host() {
    let Some(address) = own_address() else {
        testkit::skipped("this machine has no address but loopback");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    // Also installs the provider that the server needs.
    let client = client_with(ClientOptions {
        certs_dirs: vec![dir.path().to_owned()],
        ..ClientOptions::default()
    });
    let (host, authority) = start(address).await;
    let nobody = Credentials::default();
    let login = || client.login(&host, &nobody);
    let error = login().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let text = error.to_string();
    assert!(
        text.starts_with(&format!(
            "Get \"https://{host}/v2/\": tls: failed to verify certificate: "
        )),
        "{text}"
    );

    let own = dir.path().join(&host);
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("ca.crt"), authority).unwrap();
    login().await.unwrap();

    std::fs::write(own.join("ca.crt"), "no certificate").unwrap();
    assert_eq!(login().await.unwrap_err().kind(), ErrorKind::Invalid);
    std::fs::remove_file(own.join("ca.crt")).unwrap();

    let insecure = client_with(ClientOptions {
        insecure_registries: vec![host.clone()],
        ..ClientOptions::default()
    });
    insecure
        .login(&host, &Credentials::default())
        .await
        .unwrap();
}
