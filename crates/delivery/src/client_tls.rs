//! The client certificate of a subscriber, and the authorities that it trusts in addition to the public ones.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use postrider_core::auth::Credentials;
use postrider_core::signing::sha256;
use postrider_core::{ReceiverAuth, Timestamp};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::tls::{Handshakes, provider};

/// The most certificates in one text.
const MAX_CERTIFICATES: usize = 16;

/// How the TLS connections of some subscribers differ from all others. Clones are cheap. Connections with different ones
/// are never shared.
#[derive(Clone)]
pub struct ClientTls(Arc<Inner>);

struct Inner {
    /// The hash of what it was made of.
    digest: [u8; 32],
    handshakes: Handshakes,
    expires_at: Option<Timestamp>,
    /// Whether it has a client certificate.
    has_identity: bool,
}

/// Why a certificate or a key cannot be used. The message contains nothing of them.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct ClientTlsError {
    /// The field: `certificate`, `private_key` or `ca`.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: ClientTlsReason,
}

/// What is wrong with a certificate or a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientTlsReason {
    /// There is no certificate, or something that is not PEM.
    #[error("must be 1 to {MAX_CERTIFICATES} PEM certificates (BEGIN CERTIFICATE)")]
    Pem,
    /// A certificate is malformed.
    #[error("has a certificate that cannot be read")]
    Malformed,
    /// An authority cannot be used.
    #[error("has a certificate that cannot be used as a root")]
    Root(#[source] rustls::Error),
    /// The certificate has expired.
    #[error("has expired")]
    Expired,
    /// There is no private key, or it is encrypted.
    #[error("must be one PEM private key that is not encrypted (BEGIN PRIVATE KEY)")]
    Key,
    /// The key is of a kind that cannot sign.
    #[error("must be an RSA key of 2048 to 4096 bits, or an Ed25519, P-256 or P-384 key")]
    KeyKind,
    /// The key belongs to another certificate.
    #[error("does not belong to the certificate, which must be the first one in `certificate`")]
    Mismatch,
    /// TLS could not be set up.
    #[error("cannot be used for TLS")]
    Tls(#[source] rustls::Error),
}

impl ClientTls {
    /// Reads the certificates and the key. `None` if there are none.
    pub(crate) fn new(
        auth: &ReceiverAuth,
        public_roots: &RootCertStore,
    ) -> Result<Option<Self>, ClientTlsError> {
        let Some(digest) = digest(auth) else { return Ok(None) };
        let wrong = |field| move |reason| ClientTlsError { field, reason };
        let mut roots = public_roots.clone();
        let mut expires_at = None;
        if let Some(ca) = auth.ca() {
            let certificates = certificates(ca).map_err(wrong("ca"))?;
            expires_at = earliest(&certificates).map_err(wrong("ca"))?;
            for certificate in certificates {
                roots.add(certificate).map_err(|error| wrong("ca")(ClientTlsReason::Root(error)))?;
            }
        }
        let mut identity = None;
        if let Credentials::ClientCertificate { certificate, private_key } = auth.credentials() {
            let chain = certificates(certificate).map_err(wrong("certificate"))?;
            let ends = earliest(&chain).map_err(wrong("certificate"))?;
            expires_at = expires_at.into_iter().chain(ends).min();
            let key = PrivateKeyDer::from_pem_slice(private_key.as_bytes())
                .map_err(|_| wrong("private_key")(ClientTlsReason::Key))?;
            fits(&chain, &key).map_err(wrong("private_key"))?;
            identity = Some((chain, key));
        }
        let has_identity = identity.is_some();
        let field = if has_identity { "certificate" } else { "ca" };
        let handshakes =
            Handshakes::new(roots, identity).map_err(|error| wrong(field)(ClientTlsReason::Tls(error)))?;
        let inner = Inner { digest, handshakes, expires_at, has_identity };
        Ok(Some(Self(Arc::new(inner))))
    }

    /// Returns when the first of the certificates expires.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.0.expires_at
    }

    /// Fails if a certificate has expired.
    ///
    /// # Errors
    /// Fails with [`ClientTlsReason::Expired`].
    pub fn valid_at(&self, now: Timestamp) -> Result<(), ClientTlsError> {
        if self.0.expires_at.is_none_or(|end| now < end) {
            return Ok(());
        }
        let field = if self.0.has_identity { "certificate" } else { "ca" };
        Err(ClientTlsError { field, reason: ClientTlsReason::Expired })
    }

    pub(crate) fn digest(&self) -> [u8; 32] {
        self.0.digest
    }

    pub(crate) fn handshakes(&self) -> &Handshakes {
        &self.0.handshakes
    }
}

impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest
    }
}

impl Eq for ClientTls {}

impl Hash for ClientTls {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.digest.hash(state);
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("expires_at", &self.0.expires_at).finish_non_exhaustive()
    }
}

/// Returns the SHA-256 of the first certificate of a PEM text; `None` if there is none.
pub fn fingerprint(pem: &str) -> Option<[u8; 32]> {
    certificates(pem).ok()?.first().map(|first| sha256(first))
}

/// The hash of the certificates and the key; `None` if there are none.
pub(crate) fn digest(auth: &ReceiverAuth) -> Option<[u8; 32]> {
    let (certificate, key) = match auth.credentials() {
        Credentials::ClientCertificate { certificate, private_key } => {
            (certificate.as_bytes(), private_key.as_bytes())
        }
        _ => (&[][..], &[][..]),
    };
    if certificate.is_empty() && auth.ca().is_none() {
        return None;
    }
    // Hashes of the same length, so that no two lists of texts have the same hash.
    let parts = [certificate, key, auth.ca().unwrap_or_default().as_bytes()];
    Some(sha256(&parts.map(sha256).concat()))
}

fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, ClientTlsReason> {
    let read: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let read = read.map_err(|_| ClientTlsReason::Pem)?;
    if (1..=MAX_CERTIFICATES).contains(&read.len()) { Ok(read) } else { Err(ClientTlsReason::Pem) }
}

/// When the first of these certificates expires.
fn earliest(certificates: &[CertificateDer<'_>]) -> Result<Option<Timestamp>, ClientTlsReason> {
    let mut earliest = None;
    for der in certificates {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| ClientTlsReason::Malformed)?;
        if !rest.is_empty() {
            return Err(ClientTlsReason::Malformed);
        }
        let end = Timestamp::from_seconds(certificate.validity().not_after.timestamp());
        earliest = Some(earliest.map_or(end, |earliest: Timestamp| earliest.min(end)));
    }
    Ok(earliest)
}

/// Checks that the key can sign and belongs to the first certificate.
fn fits(chain: &[CertificateDer<'static>], key: &PrivateKeyDer<'static>) -> Result<(), ClientTlsReason> {
    let signing =
        provider().key_provider.load_private_key(key.clone_key()).map_err(|_| ClientTlsReason::KeyKind)?;
    match CertifiedKey::new(chain.to_vec(), signing).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err(ClientTlsReason::Mismatch),
        Err(_) => Err(ClientTlsReason::Malformed),
    }
}
