//! TLS: the trusted roots, the handshake, and the meaning of its errors.

use std::io;
use std::sync::{Arc, LazyLock};

use postrider_core::ErrorKind;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::cause::client_certificate;
use crate::config::ConfigError;
use crate::failure::Failure;

/// The number of sessions that are remembered to be resumed: of all connections, and of those with a client certificate or
/// roots of their own.
const SESSIONS: usize = 4096;
const SESSIONS_OF_ONE: usize = 16;
/// The text of [`ErrorKind::TlsUnsupported`].
const UNSUPPORTED: &str = "Postrider and the receiver share no TLS version, cipher suite or type of key: Postrider needs TLS 1.2 or 1.3 with AES-GCM or ChaCha20-Poly1305 and does not support P-521; some receivers also end the handshake this way if they require a client certificate";

/// The roots that all connections trust, and the handshakes of those without a client certificate or roots of their own.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) handshakes: Handshakes,
}

/// Makes TLS handshakes.
#[derive(Clone)]
pub(crate) struct Handshakes {
    both: TlsConnector,
    http1: TlsConnector,
}

/// A certificate with those that lead to its authority, and its private key.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The versions of HTTP that a handshake offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Versions {
    /// HTTP/2 and HTTP/1.1.
    Both,
    /// HTTP/1.1, for a receiver that has asked for it.
    Http1,
}

impl Tls {
    /// Trusts Mozilla's root certificates and those in `extra_roots_pem`.
    pub(crate) fn new(extra_roots_pem: &[Vec<u8>]) -> Result<Self, ConfigError> {
        let mut roots: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
        for (index, pem) in (1..).zip(extra_roots_pem) {
            let mut found = false;
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|source| ConfigError::RootPem { index, source })?;
                roots.add(certificate).map_err(|source| ConfigError::Root { index, source })?;
                found = true;
            }
            if !found {
                return Err(ConfigError::NoRoot { index });
            }
        }
        let roots = Arc::new(roots);
        let handshakes = Handshakes::of(roots.clone(), None, SESSIONS).map_err(ConfigError::Tls)?;
        Ok(Self { roots, handshakes })
    }
}

/// The cryptography. Explicit, so that the process-wide default provider does not matter.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    PROVIDER.clone()
}

impl Handshakes {
    /// Handshakes that trust `roots`, and present a client certificate if a receiver asks for it.
    pub(crate) fn new(roots: RootCertStore, identity: Option<Identity>) -> Result<Self, rustls::Error> {
        Self::of(Arc::new(roots), identity, SESSIONS_OF_ONE)
    }

    fn of(
        roots: Arc<RootCertStore>,
        identity: Option<Identity>,
        sessions: usize,
    ) -> Result<Self, rustls::Error> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
            None => builder.with_no_client_auth(),
        };
        Ok(Self::with(config, sessions))
    }

    /// Handshakes in which `verifier` judges the receiver's certificate.
    pub(crate) fn verified_by(verifier: Arc<dyn ServerCertVerifier>) -> Result<Self, rustls::Error> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Self::with(config, SESSIONS_OF_ONE))
    }

    fn with(mut config: ClientConfig, sessions: usize) -> Self {
        // The configurations for both versions of HTTP are alike but for ALPN, and share what is remembered.
        config.resumption = Resumption::in_memory_sessions(sessions);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http1 = TlsConnector::from(Arc::new(config.clone()));
        config.alpn_protocols.insert(0, b"h2".to_vec());
        Self { both: TlsConnector::from(Arc::new(config)), http1 }
    }

    /// Makes a handshake on `stream`. The receiver's certificate must be valid for `host`.
    pub(crate) async fn handshake(
        &self,
        host: &str,
        versions: Versions,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(bare.to_owned())
            .map_err(|_| Failure::new(ErrorKind::Tls, "no certificate can be issued for this host name"))?;
        let connector = match versions {
            Versions::Both => &self.both,
            Versions::Http1 => &self.http1,
        };
        connector.connect(name, stream).await.map_err(|error| failure(&error))
    }
}

/// Returns whether both ends agreed on HTTP/2.
pub(crate) fn is_h2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}

fn failure(error: &io::Error) -> Failure {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let (kind, detail) = match inner {
        Some(rustls::Error::InvalidCertificate(certificate)) => certificate_failure(certificate),
        Some(rustls::Error::NoCertificatesPresented) => {
            (ErrorKind::Tls, "the receiver presented no certificate")
        }
        Some(
            rustls::Error::PeerIncompatible(_)
            | rustls::Error::AlertReceived(
                AlertDescription::HandshakeFailure
                | AlertDescription::ProtocolVersion
                | AlertDescription::InsufficientSecurity,
            ),
        ) => (ErrorKind::TlsUnsupported, UNSUPPORTED),
        Some(rustls::Error::AlertReceived(alert)) => {
            (ErrorKind::Tls, client_certificate(*alert).unwrap_or("the receiver aborted the TLS handshake"))
        }
        Some(rustls::Error::InvalidMessage(_)) => {
            (ErrorKind::Tls, "the receiver does not speak TLS on this port")
        }
        Some(_) => (ErrorKind::Tls, "the receiver violated the TLS protocol"),
        None => (ErrorKind::Tls, "the connection was closed during the TLS handshake"),
    };
    Failure::new(kind, detail)
}

fn certificate_failure(error: &CertificateError) -> (ErrorKind, &'static str) {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            (ErrorKind::TlsExpired, "the receiver's certificate has expired")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            (ErrorKind::TlsExpired, "the receiver's certificate is not valid yet")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            (ErrorKind::TlsWrongHost, "the receiver's certificate was issued for another host")
        }
        CertificateError::UnknownIssuer => (
            ErrorKind::TlsUnknownIssuer,
            "the issuer of the receiver's certificate is not trusted: the certificate may be self-signed, or an intermediate certificate may be missing",
        ),
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            (ErrorKind::TlsUnsupported, UNSUPPORTED)
        }
        CertificateError::Revoked => (ErrorKind::Tls, "the receiver's certificate was revoked"),
        _ => (ErrorKind::Tls, "the receiver's certificate is not valid"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_without_a_usable_root_is_rejected() {
        let rejected = |pem: &[u8]| Tls::new(&[pem.to_vec()]).map(|_| ()).unwrap_err();
        assert!(matches!(rejected(b""), ConfigError::NoRoot { index: 1 }));
        assert!(matches!(rejected(b"no PEM at all"), ConfigError::NoRoot { index: 1 }));
        let body = |text: &str| {
            format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n").into_bytes()
        };
        assert!(matches!(rejected(&body("!!!!")), ConfigError::RootPem { index: 1, .. }));
        assert!(matches!(rejected(&body("AAAA")), ConfigError::Root { index: 1, .. }));
        assert!(Tls::new(&[]).is_ok());
    }

    #[test]
    fn certificate_errors_have_distinct_kinds() {
        let kind = |error: CertificateError| {
            failure(&io::Error::new(io::ErrorKind::InvalidData, rustls::Error::InvalidCertificate(error)))
                .kind
        };
        assert_eq!(kind(CertificateError::Expired), ErrorKind::TlsExpired);
        assert_eq!(kind(CertificateError::NotValidYet), ErrorKind::TlsExpired);
        assert_eq!(kind(CertificateError::NotValidForName), ErrorKind::TlsWrongHost);
        assert_eq!(kind(CertificateError::UnknownIssuer), ErrorKind::TlsUnknownIssuer);
        assert_eq!(kind(CertificateError::BadEncoding), ErrorKind::Tls);
        let unsupported = CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: Vec::new(),
            supported_algorithms: Vec::new(),
        };
        assert_eq!(kind(unsupported), ErrorKind::TlsUnsupported);
        assert_eq!(failure(&io::ErrorKind::UnexpectedEof.into()).kind, ErrorKind::Tls);
    }
}
