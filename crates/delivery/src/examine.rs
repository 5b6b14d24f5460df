//! What a connection to a receiver shows, for a person who looks for a fault.
//!
//! [`Client::examine`] connects as an attempt does, sends no request, and tells what the receiver's certificates say even if they are
//! rejected.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use postrider_core::{ErrorKind, TargetUrl, Timestamp};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::time::Instant;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::client::{Client, Trail};
use crate::failure::Failure;
use crate::origin::Origin;
use crate::progress::Progress;
use crate::tls::{Handshakes, Tls, Versions, provider};

/// The most certificates of a chain that are read.
const MAX_CHAIN: usize = 10;
/// The most names of a certificate that are read.
const MAX_NAMES: usize = 100;

/// What a connection showed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Examined {
    /// The receiver's address, and how long each phase took.
    pub trail: Trail,
    /// The certificates that the receiver presented, its own first. Empty without TLS, and for what cannot be read.
    pub certificates: Vec<Certificate>,
    /// Whether a request could have been sent.
    pub result: Result<(), Failure>,
}

/// What a certificate says. The texts are the receiver's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Certificate {
    /// Names and addresses for which it was issued.
    pub names: Vec<String>,
    /// Who issued it.
    pub issuer: String,
    /// From when on it is valid.
    pub not_before: Timestamp,
    /// Until when it is valid.
    pub not_after: Timestamp,
}

impl Client {
    /// Connects to a URL's receiver as an attempt does, within the same limits and rules, and sends no request.
    ///
    /// Neither a proxy nor a client certificate is used.
    pub async fn examine(&self, url: &TargetUrl) -> Examined {
        let (connector, roots, config) = self.parts();
        let progress = Progress::until(Instant::now() + config.request_timeout);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connecting = async {
            config.targets.check(url)?;
            let handshakes = Handshakes::verified_by(observer(roots, &seen)?).map_err(|_| unusable())?;
            let connector = connector.with_tls(Tls { roots: roots.clone(), handshakes });
            connector.connect(&Origin::of(url, None, None), Versions::Both, &progress).await
        };
        let opened = connecting.await;
        let remote: Option<SocketAddr> = opened.as_ref().ok().and_then(|opened| opened.remote);
        let trail = Trail { remote, timings: progress.end(), ..Trail::default() };
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let certificates = seen.iter().filter_map(read).collect();
        Examined { trail, certificates, result: opened.map(|_| ()) }
    }
}

fn unusable() -> Failure {
    Failure::new(ErrorKind::Internal, "TLS could not be set up")
}

type Seen = Mutex<Vec<CertificateDer<'static>>>;

/// Takes note of certificates, and leaves the verdict on them to the verifier of all attempts.
#[derive(Debug)]
struct Observer {
    verifier: Arc<WebPkiServerVerifier>,
    seen: Arc<Seen>,
}

fn observer(
    roots: &Arc<rustls::RootCertStore>,
    seen: &Arc<Seen>,
) -> Result<Arc<dyn ServerCertVerifier>, Failure> {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider());
    let verifier = verifier.build().map_err(|_| unusable())?;
    Ok(Arc::new(Observer { verifier, seen: seen.clone() }))
}

impl ServerCertVerifier for Observer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = [end_entity].into_iter().chain(intermediates).take(MAX_CHAIN);
        let chain = chain.map(|certificate| certificate.clone().into_owned()).collect();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = chain;
        self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

fn read(der: &CertificateDer<'static>) -> Option<Certificate> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let at = |seconds: i64| Timestamp::from_seconds(seconds);
    Some(Certificate {
        names: names.iter().filter_map(name).take(MAX_NAMES).collect(),
        issuer: certificate.issuer().to_string(),
        not_before: at(certificate.validity().not_before.timestamp()),
        not_after: at(certificate.validity().not_after.timestamp()),
    })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok().map(|ip| ip.to_string())
        }
        _ => None,
    }
}
