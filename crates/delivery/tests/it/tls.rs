//! TLS: trusted certificates, and the kinds of failure of the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use postrider_core::ErrorKind;
use postrider_delivery::{Client, Config, Sent};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};

use crate::receiver::{Connection, Receiver};
use crate::setup::*;

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("Authority of the tests")
    }

    pub(crate) fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Returns `config` with this authority's certificate as an extra root.
    pub(crate) fn trusted(&self, config: Config) -> Config {
        Config { extra_roots_pem: vec![self.0.pem().into_bytes()], ..config }
    }

    /// Returns its own certificate.
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(crate) fn ca_pem(&self) -> String {
        self.0.pem()
    }

    /// Returns a certificate for `host` and its key as PEM.
    pub(crate) fn pem(&self, host: &str) -> (String, String) {
        self.pem_until(host, 4000)
    }

    /// Returns a certificate for `host` that expires at the beginning of a year, and its key, as PEM.
    pub(crate) fn pem_until(&self, host: &str, year: i32) -> (String, String) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// Returns a server configuration that offers `alpn` and verifies client certificates.
    pub(crate) fn server_verifying(
        &self,
        host: &str,
        alpn: &[&[u8]],
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> ServerConfig {
        let (certificate, key) = self.pem(host);
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_client_cert_verifier(verifier)
                .with_single_cert(
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config
    }

    /// Returns a server configuration that offers `alpn`, with a certificate for `host` that `change` has altered.
    pub(crate) fn server(
        &self,
        host: &str,
        alpn: &[&[u8]],
        change: impl FnOnce(&mut CertificateParams),
    ) -> ServerConfig {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)
                .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config
    }
}

async fn ok(mut connection: Connection) {
    while connection.request().await.is_some() {
        let _ = connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    }
}

async fn send_to(receiver: &Receiver, config: Config) -> Sent {
    let client = Client::with_resolver(config, Names::new("receiver.test", &[&["127.0.0.1"]])).unwrap();
    client.send(post(&format!("https://receiver.test:{}/", receiver.address.port()))).await
}

#[tokio::test]
async fn an_extra_root_is_trusted() {
    let authority = Authority::new();
    for alpn in [&[][..], &[&b"http/1.1"[..]]] {
        let receiver = Receiver::start_tls(authority.server("receiver.test", alpn, |_| {}), ok).await;
        let response = send_to(&receiver, authority.trusted(long_timeout())).await.result.unwrap();
        assert_eq!((response.status, &response.body[..]), (200, &b"ok"[..]));
        let host = format!("receiver.test:{}", receiver.address.port());
        assert_eq!(receiver.requests()[0].header("host"), Some(host.as_str()));
    }
}

#[tokio::test]
async fn a_certificate_for_an_ip_address_is_accepted() {
    let authority = Authority::new();
    let receiver = Receiver::start_tls(authority.server("127.0.0.1", &[], |_| {}), ok).await;
    let url = format!("https://{}/", receiver.address);
    assert!(send(authority.trusted(long_timeout()), &url).await.is_success());
}

#[tokio::test]
async fn an_unknown_issuer_has_its_own_kind() {
    let receiver = Receiver::start_tls(Authority::new().server("receiver.test", &[], |_| {}), ok).await;
    assert_eq!(failure_of(send_to(&receiver, long_timeout()).await).kind, ErrorKind::TlsUnknownIssuer);
    let another = Authority::named("Another authority").trusted(long_timeout());
    assert_eq!(failure_of(send_to(&receiver, another).await).kind, ErrorKind::TlsUnknownIssuer);
    assert!(receiver.requests().is_empty());
}

#[tokio::test]
async fn an_expired_or_premature_certificate_has_its_own_kind() {
    let authority = Authority::new();
    let expired = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
    let early = |params: &mut CertificateParams| params.not_before = date_time_ymd(2999, 1, 1);
    let expired = Receiver::start_tls(authority.server("receiver.test", &[], expired), ok).await;
    let early = Receiver::start_tls(authority.server("receiver.test", &[], early), ok).await;
    for receiver in [expired, early] {
        assert_eq!(
            failure_of(send_to(&receiver, authority.trusted(long_timeout())).await).kind,
            ErrorKind::TlsExpired
        );
        assert!(receiver.requests().is_empty());
    }
}

#[tokio::test]
async fn a_certificate_for_another_host_has_its_own_kind() {
    let authority = Authority::new();
    let receiver = Receiver::start_tls(authority.server("another.test", &[], |_| {}), ok).await;
    assert_eq!(
        failure_of(send_to(&receiver, authority.trusted(long_timeout())).await).kind,
        ErrorKind::TlsWrongHost
    );
    assert!(receiver.requests().is_empty());
}

#[tokio::test]
async fn a_plain_text_port_is_a_tls_failure() {
    let plain = Receiver::start(|mut connection| async move {
        let _ = connection.write(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        connection.hang().await;
    })
    .await;
    let failure = failure_of(send_to(&plain, long_timeout()).await);
    assert_eq!(
        (failure.kind, &*failure.to_string()),
        (ErrorKind::Tls, "the receiver does not speak TLS on this port")
    );

    let closed = Receiver::start(|connection| async move { drop(connection) }).await;
    assert_eq!(failure_of(send_to(&closed, long_timeout()).await).kind, ErrorKind::Tls);
}

/// A server's memory of sessions, which counts those that clients have resumed.
#[derive(Debug)]
struct Sessions {
    kept: Arc<ServerSessionMemoryCache>,
    resumed: AtomicUsize,
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.kept.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.kept.get(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let session = self.kept.take(key);
        self.resumed.fetch_add(usize::from(session.is_some()), Ordering::SeqCst);
        session
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_new_connection_resumes_a_tls_session() {
    let authority = Authority::new();
    let mut server = authority.server("receiver.test", &[], |_| {});
    let sessions =
        Arc::new(Sessions { kept: ServerSessionMemoryCache::new(16), resumed: AtomicUsize::new(0) });
    server.session_storage = sessions.clone();
    let receiver = Receiver::start_tls(server, |mut connection| async move {
        connection.request().await;
        let _ = connection.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
    })
    .await;
    let names = Names::new("receiver.test", &[&["127.0.0.1"]]);
    let url = format!("https://receiver.test:{}/", receiver.address.port());
    let client = Client::with_resolver(authority.trusted(long_timeout()), names.clone()).unwrap();
    for resumed in [0, 1, 2] {
        assert!(client.send(post(&url)).await.is_success());
        assert_eq!(sessions.resumed.load(Ordering::SeqCst), resumed);
    }
    // Another client has sessions of its own.
    let another = Client::with_resolver(authority.trusted(long_timeout()), names).unwrap();
    assert!(another.send(post(&url)).await.is_success());
    assert_eq!((receiver.accepted(), sessions.resumed.load(Ordering::SeqCst)), (4, 2));
}
